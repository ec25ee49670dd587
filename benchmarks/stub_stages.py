"""Stages that do nothing, so that what is left of a part is what VidCap itself spends on it.

`stub_step` is the real `run_step`: the real plan, part lock, journal, in-flight file, column files and ledger records,
only that every stage puts out its declared columns without looking at anything: `SHOTS` shots per source, each with a
caption and a score. `pack` writes real shards, with a few bytes where the clip would be. `empty_step` does not even
do that: it returns at once, which leaves the driver, the scheduler and the way there and back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

from vidcap.media.clip_sound import Sound
from vidcap.media.cut import CutResult
from vidcap.pipeline import packing, part
from vidcap.pipeline.columns import default
from vidcap.pipeline.part import Outcome, Task
from vidcap.pipeline.plan import Plan
from vidcap.records import Shot, StageResult
from vidcap.shards.schema import Sample
from vidcap.shards.writer import ShardWriter
from vidcap.stages.pack import Pack, Packed, sample_json
from vidcap.stages.registry import stage_class

SHOTS = 4
FRAMES = 250
"""Of each shot."""
_CUT = CutResult("copy", "exact", "h264", 320, 180, FRAMES, Fraction(25), Sound())


_synced = 0
_fsync = os.fsync


def _counted(handle: int) -> None:
    global _synced
    _synced += 1
    _fsync(handle)


def syncs() -> int:
    """How often this process has synced a file or folder since its first stub."""
    return _synced


def empty_step(task: Task) -> Outcome:
    return Outcome(task.part.number, task.stages, {"found": SHOTS}, dict.fromkeys(task.stages, 0.0))


def stub_step(task: Task) -> Outcome:
    os.fsync = _counted
    for module in (part, packing):  # this process works on stubs only
        vars(module)["ready_stage"] = _ready
    return part.run_step(task)


def _ready(plan: Plan, name: str, *, embeddings: Any = None) -> Any:
    del embeddings
    if name == "pack":
        return _Pack(plan)
    return {"decode": _Decode, "detect_shots": _DetectShots}.get(name, _ClipStage)(name)


class _Decode:
    def __init__(self, name: str) -> None:
        self.gives = stage_class(name).gives

    def run(self, source: Any, folder: Path, on_progress: Any = None) -> dict[str, Any]:
        del folder, on_progress
        known = {"id": source.id, "row": source.row, "uri": source.uri, "bytes": source.bytes, "meta": source.meta}
        facts = {"sha256": hashlib.sha256(source.id.encode()).hexdigest(), "fps": "25/1", "video_codec": "h264"}
        return {name: default(kind) for name, kind in self.gives.items()} | known | facts


class _DetectShots:
    def __init__(self, name: str) -> None:
        del name

    def run(self, evidence: Any) -> list[Shot]:
        del evidence
        return [Shot(FRAMES * n, FRAMES * (n + 1) - 1) for n in range(SHOTS)]


class _ClipStage:
    def __init__(self, name: str) -> None:
        self.name = name
        self.gives = stage_class(name).gives

    def run(self, rows: Sequence[Any], evidence: Any) -> StageResult:
        del evidence
        columns: dict[str, list[Any]] = {name: [_value(name, kind)] * len(rows) for name, kind in self.gives.items()}
        if self.name == "trim":
            columns["first_frame"] = [row["shot_first"] for row in rows]
            columns["last_frame"] = [row["shot_last"] for row in rows]
            columns["start"] = [row["shot_first"] / 25 for row in rows]
            columns["end"] = [(row["shot_last"] + 1) / 25 for row in rows]
        return StageResult(columns)


def _value(name: str, kind: Any) -> Any:
    if name == "caption_v":
        return "A person walks along the shore while the camera follows."
    return 0.5 if name == "similarity_v" else default(kind)


class _Pack:
    """The real shard writer and samples; each source is marked as worked on, as for cutting."""

    gives = Pack.gives

    def __init__(self, plan: Plan) -> None:
        self.version = plan.classes["pack"].version
        self.options = plan.options_of(next(stage for stage in plan.config.stages if stage.stage == "pack"))

    def run(self, rows: Sequence[Any], sources: Any, evidence: Any, **given: Any) -> Packed:
        del evidence
        given["scratch"].mkdir(parents=True, exist_ok=True)
        clip = given["scratch"] / "clip.mp4"
        clip.write_bytes(b"no media")
        shards = []
        with ShardWriter(
            given["folder"], given["name"], given["part"], max_bytes=self.options.max_bytes, flac=False
        ) as writer:
            for source_id, members in groupby(rows, key=lambda row: str(row["source_id"])):
                given["check_stop"]()
                with given["local"](sources[source_id][0]):
                    for row in members:
                        record = sample_json({**row, "silent": True}, sources[source_id][1], _CUT, given["provenance"])
                        writer.add(Sample(record, clip, None))
                        shards.append(writer.current)
            infos = writer.commit()
        columns: dict[str, list[Any]] = {name: ["copy"] * len(rows) for name in self.gives}
        return Packed(StageResult(columns | {"shard": shards}), infos)
