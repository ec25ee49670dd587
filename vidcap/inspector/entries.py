"""What the pages show: samples, clips that a run stopped, and the thresholds between them, as plain data.

Loading the stopped clips of a run belongs to the floors above; they hand a `Borders` down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidcap.inspector.pictures import Picture
from vidcap.records import CAPTION_KINDS
from vidcap.shards.reader import RawSample
from vidcap.shards.schema import MISSING, SampleJson

Entry = dict[str, Any]
"""JSON of one card: the sample's record, and beside it `shard`, `bytes`, `clip`, `pictures` and for a clip that was
stopped `stopped`. Readers must take every text in it for hostile."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A clip that a stage rejected or quarantined. `value` is what was held against the threshold, where there is one.

    `captions` and `scores` by kind: those that had been made by then.
    """

    key: str
    source_id: str
    uri: str
    license: str
    kind: str
    stage: str
    reason: str
    value: float | None
    detail: str
    first_frame: int
    last_frame: int
    start: float
    end: float
    captions: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    motion: float = MISSING
    language: str = ""
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class Border:
    """One reason for which clips were stopped, and the clips nearest to its threshold on both sides.

    `threshold` is None for reasons that hold nothing against a number; then `kept` is empty, `stopped` a few examples
    in order of key. `keeps` says which side of the threshold goes on.
    """

    reason: str
    measure: str
    unit: str
    threshold: float | None
    keeps: str
    count: int
    stopped: tuple[Stopped, ...]
    kept: tuple[tuple[str, float], ...]
    """Key and value of the kept clips, nearest first."""


@dataclass(frozen=True, slots=True)
class Borders:
    """All borders of a run. `pictures(key)` gives those of a stopped clip, as far as they can still be had."""

    borders: tuple[Border, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    pictures: Callable[[str], list[Picture]] = lambda _: []

    @property
    def stopped(self) -> dict[str, Stopped]:
        return {clip.key: clip for border in self.borders for clip in border.stopped}

    @property
    def kept(self) -> list[str]:
        """Keys of the kept clips that stand beside a threshold, once each."""
        return list(dict.fromkeys(key for border in self.borders for key, _ in border.kept))


def sample_entry(sample: RawSample, record: SampleJson) -> Entry:
    """The record with its JSON-in-text fields opened, and what the tar says of its members."""
    entry: Entry = record.model_dump(by_alias=True)
    entry["source"]["meta"] = _opened(record.source.meta)
    for name in ("backends", "prompts", "stages"):
        entry["provenance"][name] = _opened(getattr(record.provenance, name))
    entry["seconds"] = record.seconds
    entry["shard"] = sample.path.name
    entry["bytes"] = {suffix: member.size for suffix, member in sample.members.items()}
    return entry


def stopped_entry(clip: Stopped) -> Entry:
    """The same shape as far as a stopped clip has it."""
    scores = {f"similarity_{kind}": clip.scores.get(kind, MISSING) for kind in CAPTION_KINDS}
    return {
        "key": clip.key,
        "source": {"id": clip.source_id, "uri": clip.uri, "license": clip.license, "sha256": "", "meta": {}},
        "span": {
            "start": clip.start,
            "end": clip.end,
            "first_frame": clip.first_frame,
            "last_frame": clip.last_frame,
        },
        "seconds": round(clip.end - clip.start, 6),
        "captions": {kind: clip.captions.get(kind, "") for kind in CAPTION_KINDS},
        "primary": next((kind for kind in ("avs", "av", "v") if clip.captions.get(kind)), "v"),
        "transcript": {"language": clip.language, "text": clip.transcript, "words": []},
        "scores": {"motion": clip.motion, **scores},
        "stopped": {
            "kind": clip.kind,
            "stage": clip.stage,
            "reason": clip.reason,
            "value": clip.value,
            "detail": clip.detail,
        },
        "pictures": [],
    }


def border_data(border: Border, stopped: Sequence[Entry]) -> dict[str, Any]:
    """A border for the page: its stopped clips as entries, its kept ones by key."""
    from vidcap.reasons import REASONS

    reason = REASONS.get(border.reason)
    return {
        "reason": border.reason,
        "measure": border.measure,
        "unit": border.unit,
        "threshold": border.threshold,
        "keeps": border.keeps,
        "count": border.count,
        "kind": reason.kind if reason else "",
        "meaning": reason.meaning if reason else "",
        "mend": reason.mend if reason else "",
        "stopped": list(stopped),
        "kept": [{"key": key, "value": value} for key, value in border.kept],
    }


def _opened(text: str) -> Any:
    """JSON text as data; the schema has checked that it is an object."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}
