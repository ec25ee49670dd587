"""Tells the language of each transcript; a short one is taken for the language of its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from vidcap.records import StageResult
from vidcap.speech import MIN_CONFIDENCE, bound, clean, is_short, letter_count
from vidcap.stages.base import ClipStage, EvidenceOf, Row, StageOptions


class IdentifyLanguageOptions(StageOptions):
    min_confidence: float = Field(default=MIN_CONFIDENCE, ge=0.0, le=1.0)
    """From this confidence on a clip may speak for its source."""
    english_min_confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    """The same for English, which the small model is unsure of in short sentences."""


class IdentifyLanguage(ClipStage):
    """`language` and `language_confidence` of the cleaned transcript; "" and 0 where nothing was heard.

    A short trusted transcript takes both from the longest sure one of its source (`language_majority` true). So a
    row's result depends on the other rows of its source, and on those alone: a run hands over all rows of a source
    together.
    """

    name = "identify_language"
    version = 1
    role = "language_identifier"
    needs = frozenset({"transcript_text", "transcript_trusted"})
    gives: ClassVar[dict[str, pa.DataType]] = {
        "language": pa.string(),
        "language_confidence": pa.float64(),
        "language_majority": pa.bool_(),
    }
    Options = IdentifyLanguageOptions

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        texts = [clean(row["transcript_text"] or "") for row in rows]
        found = self.context.backend.identify(texts)
        majority = self._majority(rows, texts, found)
        columns: dict[str, list[object]] = {name: [] for name in self.gives}
        for row, text, own in zip(rows, texts, found, strict=True):
            borrows = bool(text) and row["transcript_trusted"] and is_short(text) and row["source_id"] in majority
            language, confidence = majority[row["source_id"]] if borrows else own
            columns["language"].append(language)
            columns["language_confidence"].append(confidence)
            columns["language_majority"].append(borrows)
        return StageResult(columns)

    def _majority(
        self, rows: Sequence[Row], texts: Sequence[str], found: Sequence[tuple[str, float]]
    ) -> dict[str, tuple[str, float]]:
        """Source → language and confidence of its longest trusted text that is neither short nor unsure."""
        best: dict[str, tuple[int, str, tuple[str, float]]] = {}
        for row, text, (language, confidence) in zip(rows, texts, found, strict=True):
            least = bound(language, self.options.min_confidence, self.options.english_min_confidence)
            if not row["transcript_trusted"] or is_short(text) or not language or confidence < least:
                continue
            # The longest; of equal ones that with the smallest key.
            candidate = (-letter_count(text), row["key"], (language, confidence))
            best[row["source_id"]] = min(best.get(row["source_id"], candidate), candidate)
        return {source: choice[2] for source, choice in best.items()}
