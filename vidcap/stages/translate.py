"""Decides what becomes of each transcript, brings it into English, and writes the speech caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from vidcap.backends.roles import Outcome, Request
from vidcap.errors import ItemError, PromptError
from vidcap.languages import english_name
from vidcap.prompts import plain
from vidcap.records import StageResult
from vidcap.seeds import seed_of
from vidcap.speech import MIN_CONFIDENCE, Route, Routing, clean, route, sentence
from vidcap.stages.answers import AnswerCheck
from vidcap.stages.base import ClipStage, Context, EvidenceOf, Row, StageOptions
from vidcap.stages.captioning import quarantined

TASK = "translate"
UNKNOWN = "(unknown)"
"""What stands in the prompt for a language that was not identified."""


class TranslateOptions(StageOptions):
    to: str = Field(default="eng", pattern=r"^[a-z]{3}(_[A-Z][a-z]{3})?$")
    """ISO 639-3 code of the language of the captions."""
    min_words: int = Field(default=3, ge=1)
    min_confidence: float = Field(default=MIN_CONFIDENCE, ge=0.0, le=1.0)
    """Of language identification; below it the language model is asked."""
    english_min_confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    """The same for English, which the small identification model is unsure of in short sentences."""
    retries: int = Field(default=2, ge=0, le=20)
    """How often the language model is asked again after an empty answer, each time with another seed."""


class Translate(ClipStage):
    """The speech caption `s` is the trusted transcript in English, in the form of a sentence.

    Routes (`vidcap.speech.route`): `none` and `passthrough` have no caption, and `speech_reason` says why.
    """

    name = "translate"
    version = 2
    role = "translator"
    wants_llm = True
    prompt_slots: ClassVar[dict[str, str]] = {TASK: "translate"}
    needs = frozenset(
        {
            "transcript_text",
            "transcript_trusted",
            "transcript_languages",
            "language",
            "language_confidence",
            "language_majority",
        }
    )
    gives: ClassVar[dict[str, pa.DataType]] = {
        "speech_route": pa.string(),
        "speech_reason": pa.string(),
        "transcript_english": pa.string(),
        "translated": pa.bool_(),
        "caption_s": pa.string(),
        "caption_s_by": pa.string(),
    }
    Options = TranslateOptions

    def __init__(self, options: TranslateOptions, context: Context) -> None:
        super().__init__(options, context)
        if context.llm is not None:
            if TASK not in context.prompts:
                raise PromptError("`translate` has a language model but no prompt", hint="give it `prompts.translate`")
            context.prompts[TASK].check(("text", "language"))

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        texts = [clean(row["transcript_text"] or "") for row in rows]
        routings = [self._route(row, text) for row, text in zip(rows, texts, strict=True)]
        english: dict[int, Outcome[str]] = {
            at: texts[at] for at, routing in enumerate(routings) if routing.route is Route.KEEP
        }
        english |= self._translated(texts, routings)
        english |= self._asked(rows, texts, routings)
        result = StageResult({name: [] for name in self.gives})
        for at, (text, routing) in enumerate(zip(texts, routings, strict=True)):
            outcome = english.get(at, "")
            if isinstance(outcome, ItemError):
                result.verdicts[at] = quarantined(outcome, "translate.failed")
                outcome = ""
            values = self._columns(routing, text, plain(outcome))
            for name, value in values.items():
                result.columns[name].append(value)
        return result

    def _route(self, row: Row, text: str) -> Routing:
        o = self.options
        return route(
            text,
            row["language"] or "",
            row["language_confidence"] or 0.0,
            trusted=bool(row["transcript_trusted"]),
            source_majority=row["language"] if row["language_majority"] else "",
            supported=lambda language: self.context.backend.supports(language, o.to),
            llm=self.context.llm is not None,
            recognised=frozenset(row["transcript_languages"] or ()),
            target=o.to,
            min_words=o.min_words,
            min_confidence=o.min_confidence,
            english_min_confidence=o.english_min_confidence,
        )

    def _translated(self, texts: Sequence[str], routings: Sequence[Routing]) -> dict[int, Outcome[str]]:
        at = [i for i, routing in enumerate(routings) if routing.route is Route.TRANSLATE]
        if not at:
            return {}
        languages = [routings[i].language for i in at]
        outcomes = self.context.backend.translate([texts[i] for i in at], languages=languages, to=self.options.to)
        return {i: _filled(outcome) for i, outcome in zip(at, outcomes, strict=True)}

    def _asked(self, rows: Sequence[Row], texts: Sequence[str], routings: Sequence[Routing]) -> dict[int, Outcome[str]]:
        """The language model's answers; an empty one is asked again."""
        at = [i for i, routing in enumerate(routings) if routing.route is Route.LLM]
        found: dict[int, Outcome[str]] = {}
        if not at:
            return found
        prompt = self.context.prompts[TASK]
        check = AnswerCheck(prompt, 1, prompt.max_words)
        for attempt in range(self.options.retries + 1):
            requests, seeds = [], []
            for i in at:
                key = rows[i]["key"]
                slots = {"text": texts[i], "language": english_name(routings[i].language) or UNKNOWN}
                requests.append(Request(key, TASK, prompt.render(slots), slots, attempt))
                seeds.append(seed_of(self.context.seed, key, f"{self.name}.{attempt}"))
            outcomes = self.context.llm.complete(requests, seeds=seeds)
            for i, outcome in zip(at, outcomes, strict=True):
                found[i] = _filled(outcome if isinstance(outcome, ItemError) else check.clean(outcome))
            at = [i for i in at if isinstance(found[i], ItemError)]
            if not at:
                break
        return found

    def _columns(self, routing: Routing, text: str, english: str) -> dict[str, Any]:
        caption = sentence(english)
        return {
            "speech_route": str(routing.route),
            "speech_reason": routing.reason,
            "transcript_english": caption,
            "translated": routing.route in (Route.TRANSLATE, Route.LLM) and bool(english) and english != text,
            "caption_s": caption,
            "caption_s_by": self._by(routing.route) if caption else "",
        }

    def _by(self, taken: Route) -> str:
        """Who wrote the caption: the recogniser alone (`transcript`), the translator, or the model and its prompt."""
        if taken is Route.LLM:
            prompt = self.context.prompts[TASK]
            return f"{self.context.llm.identity()}+{prompt.name}@{prompt.digest[:12]}"
        return str(self.context.backend.identity()) if taken is Route.TRANSLATE else "transcript"


def _filled(outcome: Outcome[str]) -> Outcome[str]:
    """An empty answer is an error: the transcript it came from was not."""
    if not isinstance(outcome, ItemError) and not plain(outcome):
        return ItemError("translate.failed", "the answer is empty")
    return outcome
