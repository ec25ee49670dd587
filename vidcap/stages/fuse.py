"""Asks a language model for the captions of several senses at once: `av` of picture and sound, `avs` with speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from vidcap.backends.roles import Outcome, Request
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


_Identity = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Question:
    """One caption to be made: where it goes and what is asked."""

    row: int
    key: str
    task: str
    slots: dict[str, str]
    prompt: str

    @property
    def identity(self) -> _Identity:
        return self.key, self.task, self.prompt


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a question came to: a usable text, or what was wrong with the last attempt."""

    text: str = ""
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
        self._asked: dict[_Identity, Future[_Answer]] = {}

    @contextmanager
    def ahead(self, rows: Sequence[Row], evidence: EvidenceOf | None = None) -> Iterator[None]:
        """Inside, `run` over any of `rows` finds its answers asked for already, where the backend can do that.

        Whoever works through many sources opens it over all their rows: the servers stay busy from one to the next.
        """
        if not hasattr(self.context.backend, "conversations"):
            yield
            return
        with self.context.backend.conversations() as talk:
            self._asked = self._settled(talk, [q for at, row in enumerate(rows) for q in self._questions(at, row)])
            try:
                yield
            finally:
                self._asked = {}

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        columns: dict[str, list[Any]] = {name: [""] * len(rows) for name in self.gives}
        verdicts: dict[int, Verdict] = {}
        questions = [question for at, row in enumerate(rows) for question in self._questions(at, row)]
        for question, answer in zip(questions, self._answers(questions), strict=True):
            if answer.text:
                columns[f"caption_{question.task}"][question.row] = answer.text
                columns[f"caption_{question.task}_by"][question.row] = self._by(question.task)
            elif self.options.on_failure == "reject":
                verdicts.setdefault(question.row, self._verdict(question.task, answer))
        return StageResult(columns, verdicts)

    def _answers(self, questions: Sequence[_Question]) -> list[_Answer]:
        if not hasattr(self.context.backend, "conversations"):
            return self._answers_by_attempt(questions)
        new = [question for question in questions if question.identity not in self._asked]
        if not new:
            return [self._asked[question.identity].result() for question in questions]
        with self.context.backend.conversations() as talk:
            asked = {**self._asked, **self._settled(talk, new)}
            return [asked[question.identity].result() for question in questions]

    def _settled(self, talk: Any, questions: Sequence[_Question]) -> dict[_Identity, Future[_Answer]]:
        """What each question will come to. An answer that cannot be used is asked again at once, beside the others."""

        def settle(question: _Question) -> _Answer:
            answer = _Answer()
            for attempt in range(self.options.retries + 1):
                request, seed = self._request(question, attempt)
                answer = self._judged(question, talk.ask(request, seed))
                if answer.text:
                    break
            return answer

        return {question.identity: talk.add(partial(settle, question)) for question in questions}

    def _answers_by_attempt(self, questions: Sequence[_Question]) -> list[_Answer]:
        """All questions in one batch, then all whose answer cannot be used, and so on."""
        found = [_Answer() for _ in questions]
        left = list(range(len(questions)))
        for attempt in range(self.options.retries + 1):
            if not left:
                break
            asked = [self._request(questions[at], attempt) for at in left]
            requests, seeds = [request for request, _ in asked], [seed for _, seed in asked]
            for at, outcome in zip(left, self.context.backend.complete(requests, seeds=seeds), strict=True):
                found[at] = self._judged(questions[at], outcome)
            left = [at for at in left if not found[at].text]
        return found

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

    def _request(self, question: _Question, attempt: int) -> tuple[Request, int]:
        """The request and its seed."""
        request = Request(question.key, question.task, question.prompt, dict(question.slots), attempt)
        return request, seed_of(self.context.seed, question.key, f"fuse.{question.task}.{attempt}")

    def _judged(self, question: _Question, outcome: Outcome[str]) -> _Answer:
        if isinstance(outcome, ItemError):
            return _Answer(error=outcome)
        check = self._checks[question.task]
        text = check.clean(outcome)
        fault = check.fault(text, question.slots)
        return _Answer(fault=fault) if fault else _Answer(text)

    def _by(self, task: str) -> str:
        prompt = self.context.prompts[task]
        return f"{self.context.backend.identity()}+{prompt.name}@{prompt.digest[:12]}"

    def _verdict(self, task: str, answer: _Answer) -> Verdict:
        times = f"after {self.options.retries + 1} attempts"
        if answer.error is not None:
            # A backend that cannot answer is a fault of ours, not a policy about the clip.
            return Verdict("quarantined", "fuse.failed", detail=f"{task}: {answer.error.message} {times}")
        return Verdict("rejected", "fuse.bad_answer", detail=f"{task}: {answer.fault} {times}")
