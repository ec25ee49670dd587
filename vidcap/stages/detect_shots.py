"""detect_shots: the rows of a part are made here, one per shot that the detector finds in a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from vidcap.errors import ItemError
from vidcap.media.evidence import Evidence
from vidcap.records import Shot
from vidcap.stages.base import Context, StageOptions


class DetectShots:
    """Not a `ClipStage`: it takes a source and makes rows."""

    name: ClassVar[str] = "detect_shots"
    version: ClassVar[int] = 1
    role: ClassVar[str | None] = "shot_detector"
    prompt_slots: ClassVar[Mapping[str, str]] = {}
    wants_llm: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"evidence"})
    gives: ClassVar[Mapping[str, pa.DataType]] = {"shot_first": pa.int64(), "shot_last": pa.int64()}

    class Options(StageOptions):
        pass

    def __init__(self, options: Any, context: Context) -> None:
        self.options = options
        self.context = context

    def run(self, evidence: Evidence, window: tuple[int, int] | None = None) -> list[Shot]:
        """The shots of one source, in order and disjoint; frames of a transition belong to none.

        `window`: first and last frame (inclusive) that the manifest asks for, by default the evidence's own. The
        detector sees the whole source; its shots are cut down to the window. Raises `ItemError("shots.bad_answer")`
        where the backend's answer is no list of shots of this source.
        """
        thumbnails = evidence.thumbnails
        shots = self.context.backend.detect(thumbnails, evidence.times)
        _check(shots, len(thumbnails))
        first, last = window or evidence.facts.window
        inside = [Shot(max(shot.first, first), min(shot.last, last)) for shot in shots]
        return [shot for shot in inside if shot.first <= shot.last]


def _check(shots: list[Shot], frames: int) -> None:
    """In order, disjoint, inside the source. None at all is allowed: then every frame is part of a transition."""
    before = -1
    for shot in shots:
        if not before < shot.first <= shot.last < frames:
            raise ItemError(
                "shots.bad_answer",
                f"shot {shot.first} to {shot.last} of {frames} frames, after one that ends at {before}",
            )
        before = shot.last
