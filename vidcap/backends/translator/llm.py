"""Translates by asking a language model, for any language that identification names, with the prompt `translate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from vidcap import prompts
from vidcap.backends.reference import BackendRef
from vidcap.backends.roles import BackendConfig, Outcome, Request
from vidcap.backends.served.answer_text import trimmed
from vidcap.errors import ItemError
from vidcap.languages import english_name, is_language, is_named
from vidcap.prompts import PLACEHOLDER, Prompt
from vidcap.seeds import digest_of, seed_of
from vidcap.speech import letter_count, word_count

VERSION = 1
"""In the identity: raise it whenever other answers are used."""
SLOTS = ("text", "language")
MOST_TIMES, MOST_MORE = 3, 20
"""An answer of more than three times the words of its source and twenty more goes on about something."""
LEAST_SHARE, LONG = 0.2, 15
"""An answer of fewer than a fifth of the words of a source of at least fifteen leaves something out."""
LATIN_SHARE = 0.7
"""English has at least so many Latin letters among its letters: names in their own script are rare."""
ECHO_WORDS = 5
"""As many words in a row out of the prompt's own text, in a line of an answer, are an echo."""

_REASON = "translate.failed"
# Only what nobody says in a video is talk about the task: "sorry" and "here is" may well be the translation.
_TALK = re.compile(
    r"\A(here is|here's|this is|below is)\b[^.]{0,40}\b(translation|translated|transcript)\b"
    r"|\A\W*(the )?(english )?(translation|transcript|translated text)( (of|in|into|to)\b[^:.]{0,40})?\s*:"
    r"|\bas an? (ai|artificial intelligence|language model|expert translator)\b"
    r"|\b(unable|cannot|can't|can not|could not) (to )?(provide|give|offer) (a|an|the|you)?\s*\w* ?translation"
    r"|\b(the|this) (given |provided )?transcript (is|appears|seems|does|contains)\b",
    re.IGNORECASE,
)


class LlmTranslatorConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset({"llm", "prompt"})

    llm: BackendRef
    """The language model: a backend of the role `llm` with its options, `{name: openai, model: …, endpoints: …}`."""
    prompt: str = "translate"
    """A prompt by name or path, with the slots `text` and `language`."""
    to: str = Field(default="eng", pattern=r"^[a-z]{3}(_[A-Z][a-z]{3})?$")
    """ISO 639-3 code of the language that the prompt asks for."""
    retries: int = Field(default=2, ge=0, le=20)
    """How often it is asked again after an answer that is no translation, each time with another seed."""
    seed: int = Field(default=0, ge=0)
    """Decides, with the text, what is drawn by lot where the language model does so."""


class Backend:
    """Asks a language model for every language, so that no translation model is needed; answers are checked.

    An answer that is empty, in several lines, talks about the task, repeats the prompt, is not in the wanted script,
    returns the text as it was, or is far too long or short is asked for again, and at last an error in its place.
    """

    Config: ClassVar[type[BackendConfig]] = LlmTranslatorConfig
    embedded: ClassVar[bool] = False

    def __init__(self, config: LlmTranslatorConfig) -> None:
        self.config = config
        self._llm: Any = None

    def identity(self) -> str:
        """The prompt's digest and the language model's own identity; raises `PromptError` where there is no prompt."""
        prompt = self._prompt
        return f"{prompt.name}@{prompt.digest[:12]}/translator@{VERSION}/{self.config.llm.identity('llm')}"

    def load(self, device: str) -> None:
        """Makes the language model ready, with whatever it raises, and the prompt."""
        _ = self._prompt
        llm = self.config.llm.create("llm")
        llm.load(device)
        self._llm = llm

    def close(self) -> None:
        """Lets go of what the language model holds."""
        close = getattr(self._llm, "close", None)
        if close is not None:
            close()

    def supports(self, language: str, to: str) -> bool:
        """Any language that identification names, into the one that the prompt asks for."""
        return to == self.config.to and is_named(language)

    def translate(self, texts: Sequence[str], *, languages: Sequence[str], to: str) -> list[Outcome[str]]:
        """In the order of the texts, each independent of the others. An error of the language model stands as it is."""
        if self._llm is None:
            self.load("cpu")
        found: list[Outcome[str]] = [
            "" if self.supports(language, to) else ItemError(_REASON, f"nobody is asked about `{language}` into `{to}`")
            for language in languages
        ]
        at = [i for i, outcome in enumerate(found) if not isinstance(outcome, ItemError) and texts[i].strip()]
        for attempt in range(self.config.retries + 1):
            if not at:
                break
            asked = [self._request(texts[i], languages[i], attempt) for i in at]
            seeds = [seed_of(self.config.seed, request.key, f"translator.{attempt}") for request in asked]
            for i, answer in zip(at, self._llm.complete(asked, seeds=seeds), strict=True):
                found[i] = answer if isinstance(answer, ItemError) else self._checked(answer, texts[i], languages[i])
            at = [i for i in at if isinstance(found[i], ItemError)]
        return found

    def _request(self, text: str, language: str, attempt: int) -> Request:
        slots = {"text": text, "language": english_name(language)}
        # Texts have no key here; the same text in the same language is the same question.
        return Request(digest_of(language, text), "translate", self._prompt.render(slots), slots, attempt)

    def _checked(self, answer: str, text: str, language: str) -> Outcome[str]:
        translation = trimmed(answer, self._prompt.lead_in)
        fault = self._fault(translation, text, language)
        return ItemError(_REASON, f"the answer {fault}") if fault else translation

    def _fault(self, translation: str, text: str, language: str) -> str:
        """What is wrong with a trimmed answer, or ""."""
        said, given = word_count(translation), word_count(text)
        if said == 0:
            return "is empty"
        if "\n" in translation:
            return "has several lines"
        if _TALK.search(translation):
            return "talks about the task"
        if any(run in _runs(translation) for run in self._echoes - _runs(text)):
            return "repeats the prompt"
        if said > MOST_TIMES * given + MOST_MORE:
            return f"has {said} words for {given}"
        if given >= LONG and said < LEAST_SHARE * given:
            return f"has {said} words for {given}"
        if self.config.to == "eng" and _latin(translation) < LATIN_SHARE:
            return "is not in English letters"
        if _folded(translation) == _folded(text) and not is_language(language, self.config.to) and _is_prose(text):
            return "is the text as it was"
        return ""

    @cached_property
    def _prompt(self) -> Prompt:
        prompt = prompts.load(self.config.prompt)
        prompt.check(SLOTS)
        return prompt

    @cached_property
    def _echoes(self) -> frozenset[tuple[str, ...]]:
        """Runs of words of the prompt; none reaches over a slot or a line."""
        pieces = PLACEHOLDER.split(self._prompt.body)[::2]
        return frozenset(run for piece in pieces for line in piece.splitlines() for run in _runs(line))


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    said = _folded(text).split()
    return frozenset(tuple(said[at : at + ECHO_WORDS]) for at in range(len(said) - ECHO_WORDS + 1))


def _folded(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _latin(text: str) -> float:
    """The share of Latin letters (accents do not matter) among the letters; 1 where there are none."""
    letters = [c for c in text if c.isalpha()]
    return sum(c < "\u0250" or "\u1e00" <= c <= "\u1eff" for c in letters) / len(letters) if letters else 1.0


def _is_prose(text: str) -> bool:
    """Long enough that it cannot be names only, which stay what they are in any language."""
    return word_count(text) > 3 and letter_count(text) > 12
