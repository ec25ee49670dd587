"""The faults that a rerun makes undone, by name: the fault table goes through them, random schedules draw from them."""

from __future__ import annotations

import signal

from chaos_harness import CLUSTER, INLINE, Fault, in_stage

STAGES = (
    "decode", "detect_shots", "trim", "transcribe", "caption_video", "caption_audio", "identify_language", "translate",
    "fuse", "score", "pack",
)  # fmt: skip

Named = dict[str, tuple[tuple[str, ...], tuple[Fault, ...]]]
"""Name → how it is run, and the faults."""


def _inline(*faults: Fault) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    return INLINE, faults


def full(at: str, match: str, nth: int = 1, times: int = 1, error: str = "ENOSPC") -> Fault:
    return Fault(at, "errno", match, nth, times, value=error)  # type: ignore[arg-type]


WORKER_KILLED: Named = {
    f"worker killed in {stage}": (CLUSTER, (in_stage(stage, "kill", nth=2, who="worker"),)) for stage in STAGES
}

DRIVER_KILLED: Named = {
    "killed while it takes the lock": _inline(Fault("write", "kill", r"lock\.json")),
    "killed while it writes the plan": _inline(Fault("replace", "kill", r"plan\.jsonl")),
    "killed while it writes run.json": _inline(Fault("replace", "kill", r"run\.json", nth=2)),
    "killed between two ledger records": _inline(Fault("replace", "kill", r"ledger/.*trim\.json")),
    "killed before the journal goes": _inline(Fault("unlink", "kill", r"journal\.jsonl")),
    "killed in the middle of a journal line": _inline(Fault("write", "kill", r"journal\.jsonl", nth=2)),
    "killed while evidence is moved in": _inline(Fault("replace", "kill", r"evidence/[^/]+$", nth=2)),
    "killed in select": _inline(in_stage("select", "kill")),
    "killed between two keep-lists": _inline(Fault("replace", "kill", r"selections/.*\.parquet", nth=2)),
    "killed between a shard's table and its tar": _inline(Fault("replace", "kill", r"shards/.*\.tar")),
    "killed while shards are named": _inline(Fault("replace", "kill", r"sizes\.json")),
    "killed while the cards are written": _inline(Fault("replace", "kill", r"DATA_CARD\.md")),
    "machine lost in the middle of a run": (CLUSTER, (in_stage("fuse", "kill_group", nth=2),)),
    "stopped by SIGTERM in fuse": _inline(in_stage("fuse", "signal", nth=2, value=int(signal.SIGTERM))),
}

DISK: Named = {
    "disk full at the lock": _inline(full("write", r"lock\.json")),
    "disk full at the plan": _inline(full("write", r"plan\.jsonl")),
    "disk full at a journal line": _inline(full("write", r"journal\.jsonl", 2, 3)),
    "disk full at a column file": _inline(full("replace", r"fuse\.parquet", 1, 3)),
    "disk full at a ledger record": _inline(full("fsync", r"ledger/.*trim\.json", 1, 3)),
    "disk full in the evidence": _inline(full("write", r"evidence/.*thumbnails", 2, 3)),
    "disk full at a keep-list": _inline(full("fsync", r"selections/.*\.parquet")),
    "disk full in a shard": _inline(full("write", r"shards/.*\.tar", 1, 3)),
    "disk full at sizes.json": _inline(full("write", r"sizes\.json")),
    "disk full in a worker, again and again": (CLUSTER, (full("write", r"shards/.*\.tar", 1, 8),)),
    "input/output error at fsync": _inline(full("fsync", r"parts/", 3, 2, "EIO")),
    "file system goes read-only": _inline(full("open", r"_vidcap/parts", 6, 5, "EROFS")),
    "too many open files": _inline(full("open", r"_vidcap", 12, 2, "EMFILE")),
    "quota exceeded at run.json": _inline(full("write", r"run\.json", 2, 1, "EDQUOT")),
}

CLOCK: Named = {
    "clock a day ahead": (CLUSTER, (Fault("clock", "forward", nth=400, value=86_400),)),
    "clock a day back": (CLUSTER, (Fault("clock", "back", nth=400, value=86_400),)),
    "clock that shakes by a day": (CLUSTER, (Fault("clock", "shake", value=86_400),)),
    "clock that swings by an hour": (CLUSTER, (Fault("clock", "sawtooth", nth=400, value=3_600),)),
}

MEMORY: Named = {
    "memory error once in a stage": _inline(in_stage("caption_video", "memory", nth=2)),
    "memory error once in pack": _inline(Fault("call", "memory", target="vidcap.media.cut:Cutter.cut", nth=2)),
}

TRANSPARENT: Named = {**WORKER_KILLED, **DRIVER_KILLED, **DISK, **CLOCK, **MEMORY}
