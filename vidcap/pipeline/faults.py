"""What becomes of an exception: a verdict on the item, or another try of the part."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from vidcap.errors import ItemError, TransientError, VidcapError
from vidcap.reasons import REASONS
from vidcap.records import StageResult, Verdict
from vidcap.stages.base import EvidenceOf, Row
from vidcap.store import HINTS

PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED})
"""The store that the item is read from is in trouble, not the item."""

AT_ONCE = 32
"""Clips that a stage is given at a time: a source of hours has thousands, and the watchdog wants to hear of them."""


class OutOfMemoryError(TransientError):
    """No memory for an item. It counts like the death of a worker on it."""


def verdict_of(stage: str, error: BaseException) -> Verdict:
    """The verdict for an item whose processing raised. Raises `TransientError` where the item is not to blame."""
    if isinstance(error, ItemError):
        reason = REASONS.get(error.reason)
        rejected = reason is not None and reason.kind == "rejected"
        return Verdict("rejected" if rejected else "quarantined", error.reason, error.value, error.detail)
    if isinstance(error, VidcapError):
        raise error
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        hint = "give workers more memory (`runner.memory_limit`), or start fewer"
        raise OutOfMemoryError(f"stage `{stage}` ran out of memory", hint=hint) from error
    if number in PASSING:
        raise TransientError(f"stage `{stage}`: {error}", hint="check the disk and run again") from error
    if number in HINTS:
        raise error  # what a stage writes goes to the run folder: no item makes a disk full
    return Verdict("quarantined", "stage.error", detail=f"{stage}: {type(error).__name__}: {error}")


def guarded(stage: Any, rows: Sequence[Row], evidence: EvidenceOf, alive: Callable[[], None]) -> StageResult:
    """Run a clip stage; if it raises, find the clip that makes it raise and quarantine that one alone.

    `alive` is called before every `AT_ONCE` clips.
    """
    if not rows:
        return StageResult({name: [] for name in stage.gives})
    alive()
    at_once = AT_ONCE
    if len(rows) <= AT_ONCE:
        try:
            result: StageResult = stage.run(rows, evidence)
            return result
        except Exception as error:
            verdict = verdict_of(stage.name, error)
            if len(rows) == 1:
                from vidcap.pipeline.columns import default

                return StageResult({name: [default(kind)] for name, kind in stage.gives.items()}, {0: verdict})
        at_once = 1
    columns: dict[str, list[Any]] = {name: [] for name in stage.gives}
    verdicts: dict[int, Verdict] = {}
    for first in range(0, len(rows), at_once):
        found = guarded(stage, rows[first : first + at_once], evidence, alive)
        for name, values in found.columns.items():
            columns[name].extend(values)
        verdicts |= {first + position: verdict for position, verdict in found.verdicts.items()}
    return StageResult(columns, verdicts)
