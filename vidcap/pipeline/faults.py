"""What becomes of an exception: a verdict on the item, or another try of the part."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from vidcap.errors import ItemError, TransientError, VidcapError
from vidcap.reasons import REASONS
from vidcap.records import StageResult, Verdict
from vidcap.stages.base import EvidenceOf, Row
from vidcap.store import HINTS

PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED})
"""The store that the item is read from is in trouble, not the item."""


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


def guarded(stage: Any, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
    """Run a clip stage; if it raises, find the clip that makes it raise and quarantine that one alone."""
    if not rows:
        return StageResult({name: [] for name in stage.gives})
    try:
        result: StageResult = stage.run(rows, evidence)
        return result
    except Exception as error:
        verdict = verdict_of(stage.name, error)
        if len(rows) == 1:
            from vidcap.pipeline.columns import default

            return StageResult({name: [default(kind)] for name, kind in stage.gives.items()}, {0: verdict})
    columns: dict[str, list[Any]] = {name: [] for name in stage.gives}
    verdicts: dict[int, Verdict] = {}
    for position, row in enumerate(rows):
        single = guarded(stage, [row], evidence)
        for name, values in single.columns.items():
            columns[name].extend(values)
        if 0 in single.verdicts:
            verdicts[position] = single.verdicts[0]
    return StageResult(columns, verdicts)
