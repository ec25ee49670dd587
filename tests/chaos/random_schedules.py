"""A schedule of one to four faults for every seed, and whether the run survives it without a trace."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from pathlib import Path

from chaos_harness import CLUSTER, INLINE, Chaos, Fault, Survival, in_stage, same
from repertoire import STAGES

PLACES = (
    r"lock\.json", r"plan\.jsonl", r"run\.json", r"journal\.jsonl", r"inflight\.json", r"ledger/", r"parts/.*\.parquet",
    r"evidence/", r"embeddings/", r"statistics\.json", r"duplicates\.json", r"selections/", r"shards/.*\.tar",
    r"shards/.*\.parquet", r"sizes\.json", r"README\.md", r"DATA_CARD\.md", r"",
)  # fmt: skip
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE")
POINTS = ("replace", "fsync", "open", "write", "unlink")


def schedule_of(seed: int) -> tuple[tuple[str, ...], list[Fault]]:
    """How to run, and what happens. At most one fault counts as a death on an item: two of them would be poison."""
    draw = random.Random(seed)
    runner = CLUSTER if draw.random() < 0.2 else INLINE
    faults: list[Fault] = []
    deadly = False
    for _ in range(draw.randint(1, 4)):
        fault = _fault(draw, runner)
        counts = fault.does == "memory" or (fault.does == "kill" and runner == CLUSTER)
        if not (counts and deadly):
            faults.append(fault)
            deadly = deadly or counts
    return runner, faults


def _fault(draw: random.Random, runner: tuple[str, ...]) -> Fault:
    kind = draw.random()
    if kind < 0.05:
        does = draw.choice(["forward", "back", "shake"])
        return Fault("clock", does, nth=draw.randint(1, 300), value=draw.choice([60, 3600, 86_400]))
    if kind < 0.3:
        stage = draw.choice([*STAGES, "select"])
        does = draw.choice(["kill", "kill_group", "memory", "stall", "signal"])
        if stage == "select" and does == "memory":
            does = "kill"
        value = {"stall": 0.5, "signal": int(draw.choice([signal.SIGTERM, signal.SIGINT]))}.get(does)
        # A signal asks the driver to stop; a worker that gets one is ended by its nanny.
        who = "driver" if does == "signal" and runner == CLUSTER else "any"
        return in_stage(stage, does, nth=draw.randint(1, 4), value=value, who=who)
    point, place, nth = draw.choice(POINTS), draw.choice(PLACES), draw.choice([1, 1, 2, 3, 5, 8, 13, 21, 34])
    if kind < 0.65:
        return Fault(point, draw.choice(["kill", "kill", "kill_group"]), place, nth)  # type: ignore[arg-type]
    if point == "unlink":
        point = "replace"
    return Fault(point, "errno", place, nth, draw.randint(1, 6), value=draw.choice(ERRORS))  # type: ignore[arg-type]


def survive_seed(
    seed: int, repository: Path, folder: Path, corpus: Path, undisturbed: Mapping[str, str]
) -> tuple[Survival, list[int]]:
    """Raises `ViolationError` where the schedule of this seed leaves a trace; else what happened, and which fired."""
    runner, faults = schedule_of(seed)
    chaos = Chaos(repository, folder, corpus)
    try:
        chaos.schedule(faults)
        found = chaos.survive(runner)
        same(found.digests, undisturbed)
        return found, [count for count, fault in zip(chaos.fired(), faults, strict=True) if count >= fault.nth]
    finally:
        chaos.close()
