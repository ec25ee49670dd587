"""A pipeline without captions: only what is looked at is decoded, every clip is packed, captions can come later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import Command

from vidcap.errors import ConfigError
from vidcap.media.evidence import PARTS
from vidcap.pipeline.config import load_config
from vidcap.pipeline.plan import Plan
from vidcap.shards.reader import iter_samples
from vidcap.stages.decode import Decode

CAPTIONED = """
name: split
input: {manifest: videos}
stages:
  - {stage: decode, options: {threads: 1}}
  - {stage: detect_shots, backend: fast}
  - {stage: trim, options: {min_seconds: 1}}
  - {stage: caption_video, backend: descriptor}
  - {stage: pack}
output: {path: out}
"""
WORDLESS = CAPTIONED.replace("  - {stage: caption_video, backend: descriptor}\n", "")


def plan_of(folder: Path, text: str, *overrides: str) -> Plan:
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return Plan(load_config(path, overrides))


@pytest.mark.parametrize(
    ("stage", "made"),
    [
        ("caption_video, backend: descriptor", PARTS),
        ("transcribe, backend: pocketsphinx", {"sound"}),
        ("pack, options: {audio: flac}", {"sound"}),
        ("pack", frozenset()),
    ],
)
def test_decode_makes_what_a_later_stage_sees(tmp_path: Path, stage: str, made: set[str]) -> None:
    pack = "" if stage.startswith("pack") else "  - {stage: pack}\n"
    text = WORDLESS.replace("  - {stage: pack}\n", f"  - {{stage: {stage}}}\n{pack}")
    plan = plan_of(tmp_path, text)
    assert plan.evidence == made
    options = plan.options_of(plan.config.stages[0])
    assert {part for part in PARTS if getattr(options, part)} == made


def test_the_yaml_may_ask_for_more_and_not_for_less(tmp_path: Path) -> None:
    assert plan_of(tmp_path, WORDLESS, "stages.decode.options.pictures=true").evidence == {"pictures"}
    with pytest.raises(ConfigError, match="`caption_video` needs what `decode` is told not to make: pictures") as said:
        plan_of(tmp_path, CAPTIONED, "stages.decode.options.pictures=false")
    assert said.value.hint and "pictures: false" in said.value.hint


def test_only_what_depends_on_sound_has_another_fingerprint(tmp_path: Path) -> None:
    wordless, captioned = (json.loads(json.dumps(plan_of(tmp_path, text)._own)) for text in (WORDLESS, CAPTIONED))
    assert wordless["decode"] == captioned["decode"]
    assert wordless["detect_shots"] == captioned["detect_shots"]
    assert wordless["trim"] != captioned["trim"]


@pytest.fixture
def videos(demo_media: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("balloon.mp4", "wall.mkv"):
        shutil.copy(demo_media / name, folder)
    return folder


def run(command: Command, pipeline: Path, text: str, videos: Path, *options: str) -> dict[str, int]:
    """Stage → parts in which it ran."""
    pipeline.write_text(text)
    output = pipeline.parent / "run"
    command("run", pipeline, "--input", videos, "--output", output, "--runner", "inline", "--quiet", *options)
    ran: dict[str, int] = command.report(output)["stages_run"]
    return {stage: count for stage, count in ran.items() if count}


def test_clips_without_captions_and_captions_later(
    repository: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vidcap, pipeline, output = Command(repository), tmp_path / "pipeline.yaml", tmp_path / "run"
    assert run(vidcap, pipeline, WORDLESS, videos, "--set", "evidence.keep=always") == dict.fromkeys(
        ("decode", "detect_shots", "trim", "pack"), 1
    )
    left = {path.name for path in (output / "_vidcap" / "parts").rglob("evidence/*/*")}
    assert left == {"frames.parquet", "packets.parquet", "facts.json", "thumbnails.rgb"}
    counted = vidcap.report(output)
    assert counted["clips"]["kept"] > 0
    assert counted["clips"]["found"] == counted["clips"]["kept"] + counted["clips"]["rejected"]
    assert json.loads(vidcap("validate", output, "--media", "--json"))["ok"]
    records = {sample.record().key: sample.record() for sample in iter_samples([output / "shards"])}
    assert len(records) == counted["clips"]["kept"]
    trimmed = pq.read_table(output / "_vidcap/parts/000000/trim.parquet", columns=["silent", "has_audio"]).to_pylist()
    assert {row["silent"] for row in trimmed if row["has_audio"]} == {None}, "nobody listened"
    for record in records.values():
        assert set(record.captions.model_dump().values()) == {""}
        assert record.text == ""
    for name, said in (("README.md", "no-annotation"), ("DATA_CARD.md", "no stage that writes them")):
        assert said in (output / "shards" / name).read_text()

    ran = run(vidcap, pipeline, CAPTIONED, videos, "--set", "evidence.keep=always")
    assert set(ran) == {"decode", "trim", "caption_video", "pack"}, "shots do not depend on sound or pictures"
    later = {sample.record().key: sample.record() for sample in iter_samples([output / "shards"])}
    assert {key for key, record in later.items() if not record.captions.v} == set()
    assert later.keys() <= records.keys()
    heard = {key: record.audio.silent for key, record in later.items()}
    assert heard == {key: records[key].audio.silent for key in heard}, "the clip and the evidence say the same"
    assert False in heard.values()


def test_decode_stage_version_is_not_raised_by_what_evidence_it_leaves(tmp_path: Path) -> None:
    """`pictures` and `sound` are no part of what `decode` gives, so they are in no fingerprint."""
    fingerprints = {
        plan_of(tmp_path, WORDLESS, *more)._own["decode"] for more in ((), ("stages.decode.options.sound=true",))
    }
    assert len(fingerprints) == 1
    assert "pictures" in Decode.Options.model_fields
