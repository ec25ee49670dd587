"""Writes down what is said: over the whole source, each clip getting its words, or clip by clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from vidcap.backends.roles import Sound
from vidcap.errors import ItemError
from vidcap.records import WORD_TYPE, StageResult, Transcript, Word
from vidcap.seeds import seed_of
from vidcap.speech import join_words
from vidcap.stages.base import ClipStage, EvidenceOf, Row, StageOptions
from vidcap.stages.captioning import quarantined

DOUBT_WORDS, DOUBT = 3, 0.3
"""A few sure words prove little: what surrounds a clip is judged as if it held three more words of this posterior,
which is the mean where a recogniser hears a language it does not know."""


class TranscribeOptions(StageOptions):
    scope: Literal["source", "clip"] = "source"
    """`source` hears the context of every clip and is transcribed once; `clip` is what the paper does."""
    min_word_confidence: float = Field(default=0.6, ge=0.0, le=1.0)
    """Mean word posterior from which on a transcript is trusted; 0 trusts every one."""
    context_seconds: float = Field(default=15.0, ge=0.0)
    """Scope `source`: the words so far around a clip count as its surroundings, which must reach that mean too."""


class Transcribe(ClipStage):
    """Rows come with all rows of their source or without; the result for a row is the same.

    A clip is `silent` or has no audio: no words. A transcript that is not trusted is kept and marked so.
    """

    name = "transcribe"
    version = 1
    role = "transcriber"
    sees = frozenset({"sound"})
    needs = frozenset({"first_frame", "last_frame", "start", "end", "has_audio", "silent", "evidence"})
    gives: ClassVar[dict[str, pa.DataType]] = {
        "transcript_text": pa.string(),
        "words": pa.list_(WORD_TYPE),
        "transcript_confidence": pa.float64(),
        "transcript_language": pa.string(),
        "transcript_languages": pa.list_(pa.string()),
        "transcript_trusted": pa.bool_(),
        "transcript_reason": pa.string(),
    }
    Options = TranscribeOptions

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        result = StageResult({name: [] for name in self.gives})
        of_source: dict[str, _Whole | ItemError] = {}
        for at, row in enumerate(rows):
            heard = self._heard(row, of_source, evidence)
            if isinstance(heard, ItemError):
                result.verdicts[at] = quarantined(heard, "transcribe.failed")
                heard = (Transcript(), 0.0)
            for name, value in self._columns(*heard).items():
                result.columns[name].append(value)
        return result

    def _heard(
        self, row: Row, of_source: dict[str, _Whole | ItemError], evidence: EvidenceOf
    ) -> tuple[Transcript, float] | ItemError:
        """What was heard in the clip, and how sure the recogniser is in its surroundings."""
        if row["silent"] or not row["has_audio"]:
            return Transcript(), 0.0
        source_id = row["source_id"]
        if self.options.scope == "clip":
            seed = seed_of(self.context.seed, row["key"], self.name)
            own = self._transcribe(evidence, source_id, (row["first_frame"], row["last_frame"]), seed)
            if isinstance(own, ItemError):
                return own
            return own, _doubted(own.words) if own.words else own.confidence
        if source_id not in of_source:
            seed = seed_of(self.context.seed, source_id, self.name)
            heard = self._transcribe(evidence, source_id, None, seed)
            of_source[source_id] = heard if isinstance(heard, ItemError) else _Whole(heard)
        whole = of_source[source_id]
        if isinstance(whole, ItemError):
            return whole
        if whole.transcript.text and not whole.transcript.words:
            return ItemError("transcribe.failed", "the recogniser gives no word times; use `scope: clip`")
        reach = self.options.context_seconds
        around = whole.words(row["start"] - reach, row["end"] + reach)
        return _part(whole, row["start"], row["end"]), _doubted(around)

    def _transcribe(
        self, evidence: EvidenceOf, source_id: str, frames: tuple[int, int] | None, seed: int
    ) -> Transcript | ItemError:
        """One recording at a time. A whole one stays in its file where the recogniser takes it in windows."""
        backend = self.context.backend
        try:
            kept = evidence(source_id)
            if frames is not None:
                audio: Sound = kept.audio(*frames)
            else:
                audio = kept.sound() if getattr(backend, "in_windows", False) else kept.audio_all()
            outcome: Transcript | ItemError = backend.transcribe([audio], seeds=[seed])[0]
        except ItemError as error:
            return error
        return outcome

    def _columns(self, transcript: Transcript, around: float) -> dict[str, Any]:
        languages = self.context.backend.languages
        believed = not transcript.language or not languages or transcript.language in languages
        least = self.options.min_word_confidence
        sure = not least or min(transcript.confidence, around) >= least
        trusted = bool(transcript.text) and believed and sure
        return {
            "transcript_text": transcript.text,
            "words": [{"start": w.start, "end": w.end, "word": w.word.strip(), "p": w.p} for w in transcript.words],
            "transcript_confidence": transcript.confidence,
            "transcript_language": transcript.language,
            "transcript_languages": sorted(languages),
            "transcript_trusted": trusted,
            "transcript_reason": "" if trusted else "speech.uncertain" if transcript.text else "speech.none",
        }


class _Whole:
    """What was heard in a source: of hours of talk tens of thousands of words, which thousands of clips ask for."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self._middles = np.array([(word.start + word.end) / 2 for word in transcript.words], np.float64)

    def words(self, start: float, end: float) -> list[Word]:
        """Those whose midpoint lies in [start, end)."""
        inside = np.flatnonzero((start <= self._middles) & (self._middles < end))
        return [self.transcript.words[at] for at in inside.tolist()]


def _mean(words: Sequence[Word]) -> float:
    return sum(word.p for word in words) / len(words) if words else 0.0


def _doubted(words: Sequence[Word]) -> float:
    return (sum(word.p for word in words) + DOUBT_WORDS * DOUBT) / (len(words) + DOUBT_WORDS)


def _part(whole: _Whole, start: float, end: float) -> Transcript:
    """The words whose midpoint lies in [start, end), timed from `start`."""
    words = tuple(
        Word(round(word.start - start, 6), round(word.end - start, 6), word.word, word.p)
        for word in whole.words(start, end)
    )
    if not words:
        return Transcript()
    return Transcript(join_words([word.word for word in words]), words, _mean(words), whole.transcript.language)
