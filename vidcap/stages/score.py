"""Measures how well each caption describes its clip. Looking at clips and reading captions are two halves.

Embeddings of clips are kept (`Context.embeddings`), so that new captions are scored without decoding anything.
Backends that compute in batches are given clip after clip of a whole part: only its last batch is filled up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator

from vidcap.backends.roles import Outcome
from vidcap.errors import ItemError
from vidcap.records import CAPTION_KINDS, StageResult, Verdict
from vidcap.stages.base import ClipStage, Context, EvidenceOf, Row, StageOptions
from vidcap.stages.captioning import batches_of, quarantined, view_of
from vidcap.stages.scoring_ahead import ScoringAhead

Float32 = npt.NDArray[np.float32]
Kind = Literal["v", "a", "s", "av", "avs"]


class ScoreOptions(StageOptions):
    kinds: list[Kind] = Field(default=["v", "avs"], min_length=1)
    """Which captions are scored; the others have no score."""

    @field_validator("kinds")
    @classmethod
    def _once_each(cls, kinds: list[Kind]) -> list[Kind]:
        if len(set(kinds)) < len(kinds):
            raise ValueError("a kind is named twice")
        return kinds


class Score(ClipStage):
    """`similarity_{kind}` in [-1, 1], rounded to 1e-4; NaN for an empty caption and for kinds not asked for."""

    name = "score"
    version = 2
    role = "similarity"
    needs = frozenset({"key", "first_frame", "last_frame", "caption_v", "evidence"})
    uses: ClassVar[frozenset[str]] = frozenset({"caption_a", "caption_s", "caption_av", "caption_avs"})
    """Columns it reads where an earlier stage gives them."""
    gives: ClassVar[Mapping[str, pa.DataType]] = {f"similarity_{kind}": pa.float64() for kind in CAPTION_KINDS}
    Options = ScoreOptions

    def __init__(self, options: ScoreOptions, context: Context) -> None:
        super().__init__(options, context)
        self._ahead: ScoringAhead | None = None

    @contextmanager
    def ahead(self, rows: Sequence[Row], evidence: EvidenceOf) -> Iterator[None]:
        """Inside, `run` over any of `rows` finds them scored in batches that go over all of them, where the backend can
        do that. Rows are looked at in their order, and only as far ahead as batches need."""
        if hasattr(self.context.backend, "scoring"):
            self._ahead = ScoringAhead(self.context, rows, evidence, self._texts)
        try:
            yield
        finally:
            self._ahead = None

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        if self._ahead is None:
            with self.ahead(rows, evidence):
                return self._scored(rows, evidence)
        return self._scored(rows, evidence)

    def embed(self, rows: Sequence[Row], evidence: EvidenceOf) -> list[Outcome[Float32]]:
        """The embedding of each clip, kept or new; frames are decoded for new ones only."""
        kept = self.context.embeddings
        found: dict[int, Outcome[Float32]] = {}
        old: set[int] = set()
        for at, row in enumerate(rows):
            vector = kept.get(row["key"]) if kept is not None else None
            if vector is not None:
                old.add(at)
                found[at] = vector
            elif self._ahead is not None and row["key"] in self._ahead.ready:
                found[at] = self._ahead.ready[row["key"]].embedding
        missing = [at for at in range(len(rows)) if at not in found]
        found.update(zip(missing, self._look([rows[at] for at in missing], evidence), strict=True))
        for at in sorted(found.keys() - old):
            outcome = found[at]
            if kept is not None and not isinstance(outcome, ItemError):
                kept.put(rows[at]["key"], outcome)
        return [found[at] for at in range(len(rows))]

    def compare(self, rows: Sequence[Row], embeddings: Sequence[Outcome[Float32]]) -> StageResult:
        """The scores of the rows' captions; a clip without an embedding is quarantined."""
        columns = {name: [math.nan] * len(rows) for name in self.gives}
        verdicts: dict[int, Verdict] = {}
        asked: list[tuple[int, str, str, Float32]] = []
        scored: list[tuple[int, str, float]] = []
        for at, (row, vector) in enumerate(zip(rows, embeddings, strict=True)):
            if isinstance(vector, ItemError):
                verdicts[at] = quarantined(vector, "score.failed")
                continue
            texts = self._texts(row)
            ready = self._ahead.ready.get(row["key"]) if self._ahead is not None else None
            if ready is not None and ready.texts == texts:
                scored += [(at, kind, score) for kind, score in ready.scores.items()]
            else:
                asked += [(at, kind, text, vector) for kind, text in texts.items()]
        scores = self.context.backend.score(
            [vector for *_, vector in asked], [text for _, _, text, _ in asked], kinds=[kind for _, kind, *_ in asked]
        )
        scored += [(at, kind, score) for (at, kind, *_), score in zip(asked, scores, strict=True)]
        for at, kind, score in scored:
            columns[f"similarity_{kind}"][at] = round(float(score), 4)
        return StageResult(columns, verdicts)

    def _scored(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        keys = [row["key"] for row in rows]
        if self._ahead is not None:
            self._ahead.reach(keys)
        result = self.compare(rows, self.embed(rows, evidence))
        if self._ahead is not None:
            for key in keys:
                self._ahead.ready.pop(key, None)
        return result

    def _texts(self, row: Row) -> dict[str, str]:
        """The captions that are scored and not empty, by kind."""
        texts = {kind: row.get(f"caption_{kind}") or "" for kind in self.options.kinds}
        return {kind: text for kind, text in texts.items() if text}

    def _look(self, rows: Sequence[Row], evidence: EvidenceOf) -> list[Outcome[Float32]]:
        backend = self.context.backend
        found: dict[int, Outcome[Float32]] = {}
        for batch in batches_of(backend, rows):
            views = {}
            for at in batch:
                view = view_of(rows[at], evidence, backend.frames_per_clip)
                if isinstance(view, ItemError):
                    found[at] = view
                else:
                    views[at] = view
            found.update(zip(views, backend.embed(list(views.values())), strict=True))
        return [found[at] for at in range(len(rows))]
