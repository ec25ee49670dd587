"""What the two captioning stages share: batches of clip views, one bad clip apart from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidcap.backends.roles import ClipView
from vidcap.errors import ItemError
from vidcap.prompts import Prompt, plain
from vidcap.reasons import REASONS
from vidcap.records import Verdict
from vidcap.seeds import seed_of
from vidcap.stages.base import ClipStage, EvidenceOf, Row

CLIPS_PER_BATCH = 8
"""Where the backend names no `clips_per_batch`: decoded frames of a batch stay around 100 MB."""


def view_of(row: Row, evidence: EvidenceOf, frames: int) -> ClipView | ItemError:
    """The clip as a backend sees it, or why it cannot be seen."""
    try:
        return evidence(row["source_id"]).clip_view(row["key"], row["first_frame"], row["last_frame"], frames)
    except ItemError as error:
        return error


def batches_of(backend: Any, rows: Sequence[Row]) -> list[range]:
    """Positions of `rows`, cut into batches of the backend's liking."""
    size = max(1, int(getattr(backend, "clips_per_batch", CLIPS_PER_BATCH)))
    return [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]


def quarantined(error: ItemError, otherwise: str) -> Verdict:
    """The verdict of a clip that a backend, or reading its evidence, failed on."""
    known = error.reason in REASONS and REASONS[error.reason].kind == "quarantined"
    return Verdict("quarantined", error.reason if known else otherwise, error.value, error.detail or error.reason)


def captions_of(
    stage: ClipStage, rows: Sequence[Row], evidence: EvidenceOf, frames: int, prompt: Prompt | None
) -> tuple[list[str], dict[int, Verdict]]:
    """One line of text per row, "" where there is none, and the rows that failed."""
    texts = [""] * len(rows)
    verdicts: dict[int, Verdict] = {}
    backend = stage.context.backend
    for batch in batches_of(backend, rows):
        views: dict[int, ClipView] = {}
        for at in batch:
            view = view_of(rows[at], evidence, frames)
            if isinstance(view, ItemError):
                verdicts[at] = quarantined(view, "caption.failed")
            else:
                views[at] = view
        seeds = [seed_of(stage.context.seed, rows[at]["key"], stage.name) for at in views]
        outcomes = backend.caption(list(views.values()), prompt=prompt.body if prompt else "", seeds=seeds)
        for at, outcome in zip(views, outcomes, strict=True):
            if isinstance(outcome, ItemError):
                verdicts[at] = quarantined(outcome, "caption.failed")
            else:
                # A caption is one line of a table and of a text file; models also write line breaks.
                texts[at] = plain(outcome)
    return texts, verdicts


def captions_by(backend: Any, prompt: Prompt | None) -> str:
    """Who wrote a caption: the backend, and the prompt where it reads one (embedded backends read none)."""
    identity: str = backend.identity()
    return f"{identity}+{prompt.name}@{prompt.digest[:12]}" if prompt and not backend.embedded else identity
