"""Whether a language model's answer is a usable fused caption, after taking off what models like to put around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vidcap.backends.sentences import sentences, without_quoted, words
from vidcap.backends.served.answer_text import trimmed
from vidcap.prompts import PLACEHOLDER, Prompt

MISSING = "(none)"
"""What stands in a prompt for a caption that the clip does not have."""
ECHO_WORDS = 8
"""As many words in a row out of the prompt's own text are an echo; ordinary sentences share fewer."""

_OPENING_TALK = re.compile(
    r"(sure|certainly|of course|okay|ok|absolutely|great|understood|no problem|sorry)\s*[,.!:–—-]\s"
    r"|here(['’]s| is| are)\b[^.]{0,60}(\b(sentence|caption|description|summary|version|result)\b|:)"
    r"|(the )?((fused|combined|merged|final|resulting|following) )?"
    r"(sentence|caption|answer|output|response|result|summary|note|translation|assistant|human|user)\s*:"
    r"|based on the (given|provided|above|two|three|descriptions?|captions?|inputs?|information)"
    r"|(i['’]m|i am|we are) (sorry|unable|an ai)|i (can ?not|can['’]t|apologi[sz]e)|as an? (ai|expert|language model)\b"
    r"|please (provide|note)|without (more|further|additional) (information|context)",
    re.IGNORECASE,
)
_TALK = re.compile(
    r"\b(language model|as an ai|i hope this|let me know"
    r"|(these|both|two|three|given|provided|above) (captions|descriptions|instructions|inputs)"
    r"|(picture|sound|audio|vision|visual|video) (caption|description)s?)\b",
    re.IGNORECASE,
)
_FINISHED = re.compile(r"""[.!?…]["'”’»)]*\Z""")


@dataclass(frozen=True)
class AnswerCheck:
    """The rules for the answers to one prompt. `max_words` 0 means no limit."""

    prompt: Prompt
    min_words: int
    max_words: int

    def clean(self, answer: str) -> str:
        """The answer without lead-in, end marks, surrounding quotes and line breaks at its ends; lines stay lines."""
        return trimmed(answer, self.prompt.lead_in)

    def fault(self, text: str, inputs: Mapping[str, str]) -> str:
        """What is wrong with a cleaned answer, or "". `inputs`: slot → caption the prompt was rendered with."""
        said = words(text)
        if not said:
            return "empty"
        if self._echoes(text, said):
            return "repeats the prompt"
        bare = without_quoted(text)
        if _OPENING_TALK.match(bare) or _TALK.search(bare):
            return "talks about the task"
        if "\n" in text or len(sentences(text)) != 1:
            return "not one sentence"
        if not _FINISHED.search(text):
            return "breaks off"
        given = [words(value) for value in inputs.values() if value and value != MISSING]
        if said in given:
            return "copies one caption"
        if len(given) > 1 and _concatenates(said, given):
            return "joins the captions"
        if len(said) < self.min_words:
            return f"only {len(said)} words"
        if self.max_words and len(said) > self.max_words:
            return f"{len(said)} words"
        return ""

    def _echoes(self, text: str, said: list[str]) -> bool:
        folded = text.casefold()
        if MISSING in folded or any(label in folded for label in self._labels):
            return True
        runs = (tuple(said[at : at + ECHO_WORDS]) for at in range(len(said) - ECHO_WORDS + 1))
        return any(run in self._runs for run in runs)

    @cached_property
    def _runs(self) -> frozenset[tuple[str, ...]]:
        """Every run of `ECHO_WORDS` words of the body; none reaches over a slot, whose words may be used."""
        found: set[tuple[str, ...]] = set()
        # `split` with one group gives text, slot, text, slot …
        for piece in PLACEHOLDER.split(self.prompt.body)[::2]:
            said = words(piece)
            found.update(tuple(said[at : at + ECHO_WORDS]) for at in range(len(said) - ECHO_WORDS + 1))
        return frozenset(found)

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        """What stands before a slot on its line, e.g. `picture description:`."""
        lines = (line for line in self.prompt.body.splitlines() if PLACEHOLDER.search(line))
        labels = (PLACEHOLDER.split(line)[0].strip().casefold() for line in lines)
        return tuple(label for label in labels if label.endswith(":"))


def _concatenates(said: list[str], given: list[list[str]]) -> bool:
    """Whether the answer is the captions in any order with at most "and" between them."""
    left = [word for word in said if word != "and"]
    rest = sorted(([word for word in item if word != "and"] for item in given if item), key=len, reverse=True)
    while rest:
        head = next((item for item in rest if left[: len(item)] == item), None)
        if head is None:
            return False
        left = left[len(head) :]
        rest.remove(head)
    return not left
