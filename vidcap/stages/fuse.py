"""Asks a language model for the captions of several senses at once: `av` of picture and sound, `avs` with speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from vidcap.backends.roles import Request
from vidcap.errors import ItemError
from vidcap.records import StageResult, Verdict
from vidcap.seeds import seed_of
from vidcap.stages.answers import MISSING, AnswerCheck
from vidcap.stages.base import ClipStage, Context, EvidenceOf, Row, StageOptions

SLOTS: Mapping[str, Mapping[str, str]] = {
    "av": {"video": "caption_v", "audio": "caption_a"},
    "avs": {"video": "caption_v", "audio": "caption_a", "speech": "caption_s"},
}
"""Task → slot of its prompt → the column that fills it."""


class FuseOptions(StageOptions):
    retries: int = Field(default=2, ge=0, le=20)
    """How often an unusable answer is asked again, each time with another seed."""
    on_failure: Literal["reject", "fallback"] = "reject"
    """`fallback` leaves the caption empty, so that the primary caption is the next kind; `reject` drops the clip."""
    min_words: int = Field(default=4, ge=1)
    max_words: int | None = Field(default=None, ge=1)
    """Words of a usable answer at most; default: the prompt's own `max_words`."""


@dataclass(slots=True)
class _Question:
    """One caption to be made: where it goes, what is asked, and what the last attempt came to."""

    row: int
    key: str
    task: str
    slots: dict[str, str]
    prompt: str
    fault: str = ""
    error: ItemError | None = None


class Fuse(ClipStage):
    """`av` needs a video and an audio caption; `avs` a video caption, and an audio caption or speech.

    An answer is used when it is one finished sentence of the asked length that neither repeats the prompt, nor talks
    about the task, nor copies or merely joins the captions (`vidcap.stages.answers`).
    """

    name = "fuse"
    version = 1
    role = "llm"
    prompt_slots: ClassVar[Mapping[str, str]] = {"av": "fuse_av", "avs": "fuse_avs"}
    needs = frozenset({"caption_v"})
    uses: ClassVar[frozenset[str]] = frozenset({"caption_a", "caption_s"})
    gives: ClassVar[Mapping[str, pa.DataType]] = {
        "caption_av": pa.string(),
        "caption_av_by": pa.string(),
        "caption_avs": pa.string(),
        "caption_avs_by": pa.string(),
    }
    Options = FuseOptions

    def __init__(self, options: FuseOptions, context: Context) -> None:
        super().__init__(options, context)
        self._checks = {}
        for task, slots in SLOTS.items():
            prompt = context.prompts[task]
            prompt.check(slots)
            limit = options.max_words if options.max_words is not None else prompt.max_words
            self._checks[task] = AnswerCheck(prompt, options.min_words, limit)

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        columns: dict[str, list[Any]] = {name: [""] * len(rows) for name in self.gives}
        open_questions = [question for at, row in enumerate(rows) for question in self._questions(at, row)]
        for attempt in range(self.options.retries + 1):
            if not open_questions:
                break
            answers = self._ask(open_questions, attempt)
            unanswered = []
            for question, answer in zip(open_questions, answers, strict=True):
                if answer:
                    columns[f"caption_{question.task}"][question.row] = answer
                    columns[f"caption_{question.task}_by"][question.row] = self._by(question.task)
                else:
                    unanswered.append(question)
            open_questions = unanswered
        verdicts: dict[int, Verdict] = {}
        if self.options.on_failure == "reject":
            for question in open_questions:
                verdicts.setdefault(question.row, self._verdict(question))
        return StageResult(columns, verdicts)

    def _questions(self, at: int, row: Row) -> list[_Question]:
        video, audio, speech = (row.get(name) or "" for name in ("caption_v", "caption_a", "caption_s"))
        tasks = []
        if video and audio:
            tasks.append("av")
        if video and (audio or speech):
            tasks.append("avs")
        found = []
        for task in tasks:
            slots = {slot: row.get(column) or MISSING for slot, column in SLOTS[task].items()}
            found.append(_Question(at, row["key"], task, slots, self.context.prompts[task].render(slots)))
        return found

    def _ask(self, questions: list[_Question], attempt: int) -> list[str]:
        """A usable answer per question, or "" with the reason noted in the question."""
        requests = [Request(q.key, q.task, q.prompt, dict(q.slots), attempt) for q in questions]
        seeds = [seed_of(self.context.seed, q.key, f"fuse.{q.task}.{attempt}") for q in questions]
        answers = []
        for question, outcome in zip(questions, self.context.backend.complete(requests, seeds=seeds), strict=True):
            text = ""
            question.error = outcome if isinstance(outcome, ItemError) else None
            if not isinstance(outcome, ItemError):
                check = self._checks[question.task]
                text = check.clean(outcome)
                question.fault = check.fault(text, question.slots)
            answers.append("" if question.error or question.fault else text)
        return answers

    def _by(self, task: str) -> str:
        prompt = self.context.prompts[task]
        return f"{self.context.backend.identity()}+{prompt.name}@{prompt.digest[:12]}"

    def _verdict(self, question: _Question) -> Verdict:
        times = f"after {self.options.retries + 1} attempts"
        if question.error is not None:
            # A backend that cannot answer is a fault of ours, not a policy about the clip.
            return Verdict("quarantined", "fuse.failed", detail=f"{question.task}: {question.error.message} {times}")
        return Verdict("rejected", "fuse.bad_answer", detail=f"{question.task}: {question.fault} {times}")
