"""Scores clips ahead of their turn, in batches that go over many sources."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidcap.backends.roles import ClipView
from vidcap.errors import ItemError
from vidcap.stages.base import Context, EvidenceOf, Row
from vidcap.stages.captioning import view_of

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ready:
    """A clip that is done: its embedding, and the score of each text that was asked about, by kind."""

    embedding: Float32
    texts: dict[str, str]
    scores: dict[str, float]


class ScoringAhead:
    """Goes through the rows as far as somebody needs them.

    What goes wrong on the way is left out, without a word: the stage then asks about that clip in its turn, meets the
    same again, and knows whose it is.
    """

    def __init__(
        self, context: Context, rows: Sequence[Row], evidence: EvidenceOf, texts_of: Callable[[Row], dict[str, str]]
    ) -> None:
        self._backend, self._kept = context.backend, context.embeddings
        self._evidence = evidence
        self._texts_of = texts_of
        self._rows = iter(rows)
        self._coming = {row["key"] for row in rows}
        self._asked: deque[tuple[str, dict[str, str]]] = deque()
        self._scoring: Any = None
        self.ready: dict[str, Ready] = {}
        """By key; whoever has used one takes it out."""

    def reach(self, keys: Collection[str]) -> None:
        """Go on until these clips are ready, or left out."""
        while not self._coming.isdisjoint(keys):
            row = next(self._rows, None)
            if row is not None:
                self._add(row)
                continue
            if self._scoring is not None:
                self._take(self._scoring.rest)
            self._coming.clear()

    def _add(self, row: Row) -> None:
        try:
            clip = self._clip(row)
        except Exception:  # of a source whose turn it is not
            clip = None
        if clip is None or isinstance(clip, ItemError):
            self._coming.discard(row["key"])
            return
        texts = self._texts_of(row)
        self._asked.append((row["key"], texts))
        self._take(lambda: self._with_backend().add(clip, texts))

    def _clip(self, row: Row) -> ClipView | Float32 | ItemError:
        vector: Float32 | None = self._kept.get(row["key"]) if self._kept is not None else None
        return view_of(row, self._evidence, self._backend.frames_per_clip) if vector is None else vector

    def _with_backend(self) -> Any:
        if self._scoring is None:
            self._scoring = self._backend.scoring()
        return self._scoring

    def _take(self, ask: Callable[[], Sequence[Any]]) -> None:
        try:
            found = ask()
        except Exception:  # whichever of the clips it was
            self._coming.difference_update(key for key, _ in self._asked)
            self._asked.clear()
            self._scoring = None
            return
        for embedding, scores in found:
            key, texts = self._asked.popleft()
            self._coming.discard(key)
            if not any(isinstance(outcome, ItemError) for outcome in (embedding, *scores.values())):
                self.ready[key] = Ready(embedding, texts, scores)
