"""A run whose texts all try to break out of the page, and a browser to show it to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import shard_factory as factory

from vidcap.inspector.entries import Border, Borders, Stopped
from vidcap.inspector.pictures import Picture
from vidcap.shards.schema import Sample, SampleJson
from vidcap.shards.writer import ShardWriter, write_sizes

EVIL = (
    "</script><script>window.owned=1</script><img src=x onerror=window.owned=1>"
    "<svg/onload=window.owned=1>\u2028\"'&amp;{{7*7}}]]>-->"
)
URI = "films/<img src=x onerror=window.owned=1>/<script>window.owned=1</script>.mp4"
SPEECH = "so it moves and then it stops"
SECONDS = 4


def hostile(number: int) -> dict[str, Any]:
    """A sound record that says `bar n3` and the like; number 0 is hostile in every free text."""
    tree = factory.raw_record(number * 40, v=f"bar n{number} moves", s=SPEECH, a="a hum", avs=f"bar n{number} hums")
    frames = SECONDS * factory.FPS
    tree["span"] |= {"last_frame": number * 40 + frames - 1, "end": number * 4.0 + SECONDS}
    tree["span"]["shot_last"] = tree["span"]["last_frame"]
    tree["key"] = f"{tree['source']['id']}_{number * 40:08d}_{tree['span']['last_frame']:08d}"
    tree["video"]["frames"] = frames
    tree["scores"] |= {"similarity_avs": round(0.1 * number, 4), "motion": float(10 - number)}
    tree["transcript"]["words"] = [
        {"start": 0.5 * at, "end": 0.5 * at + 0.4, "word": word, "p": 0.9} for at, word in enumerate(SPEECH.split())
    ]
    tree["transcript"]["language"] = "fr" if number % 2 else "en"
    if number == 0:
        evil = json.dumps({EVIL: EVIL})
        tree["source"] |= {"uri": URI, "license": EVIL, "meta": evil}
        tree["captions"] = dict.fromkeys(("v", "a", "s", "av", "avs"), EVIL)
        tree["transcript"] |= {"text": EVIL, "english": EVIL + "!", "language": EVIL}
        tree["transcript"]["words"][0]["word"] = EVIL
        tree["scores"]["similarity_av"] = 0.3
        tree["provenance"] |= {"backends": evil, "prompts": evil, "stages": evil}
    return tree


def write_hostile(folder: Path, count: int = 6) -> list[SampleJson]:
    """Shards of three samples, the first of them hostile; the clips last four seconds and have a key frame each."""
    records = [SampleJson.model_validate(hostile(number)) for number in range(count)]
    clip = factory.tiny_mp4(frames=SECONDS * factory.FPS)
    with ShardWriter(folder, "demo", 0, max_bytes=10**8, flac=False, max_samples=3) as writer:
        for record in records:
            writer.add(Sample(record, clip))
    write_sizes(folder, {info.name: info.samples for info in writer.infos})
    return records


def hostile_borders(records: list[SampleJson], jpeg: bytes) -> Borders:
    """One threshold with a stopped clip on its one side and two kept ones on the other, and one reason without."""
    stopped = Stopped(
        key="9f2c4e1ab07d3355_00009000_00009039",
        source_id="9f2c4e1ab07d3355",
        uri=URI,
        license=EVIL,
        kind="rejected",
        stage="select",
        reason="select.below_min",
        value=0.05,
        detail=EVIL,
        first_frame=9000,
        last_frame=9039,
        start=900.0,
        end=904.0,
        captions={"v": EVIL},
        scores={"v": 0.05},
        language="en",
        transcript=EVIL,
    )
    kept = tuple((record.key, 0.1 * at) for at, record in enumerate(records[1:3], start=1))
    return Borders(
        (
            Border("select.below_min", "similarity primary", "", 0.08, "above", 7, (stopped,), kept),
            Border("stage.error", "", "", None, "", 0, (), ()),
        ),
        {"kept": len(records), "rejected": 7},
        lambda key: [Picture(0.5, jpeg)] if key == stopped.key else [],
    )
