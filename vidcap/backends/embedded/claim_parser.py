"""Finds the claims of the vocabulary in free English text: synonyms, denials, nothing inside what somebody says."""

from __future__ import annotations

import re

from vidcap.backends.embedded.claim_words import COLOUR, COLOUR_WORDS, PHRASES, PLACES, SAYING, SHADE
from vidcap.backends.embedded.claims import Claim


def _whole_words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{pattern})(?!\w)")


_PHRASES = tuple((type_, value, _whole_words("|".join(phrases))) for type_, value, phrases in PHRASES)
_PLACES = tuple((place, _whole_words(pattern)) for place, pattern in PLACES)
_COLOURS = tuple((name, _whole_words(words)) for name, words in COLOUR_WORDS.items())
# "dark black-and-white footage" is dark; "dark blue" is not.
_SHADE = re.compile(r"\b" + SHADE.format(colour=COLOUR) + "(?!black[ -]and[ -]white)")
_QUOTES = re.compile(
    r"""\"[^"]*(?:"|$)|“[^”]*(?:”|$)|«[^»]*(?:»|$)|(?<!\w)['‘](?:[^'’]|['’](?=\w))*['’](?!\w)""",
)
# After a quotation (a sign in its place) no more of what is said follows.
_INDIRECT = re.compile(
    rf"\b({SAYING})(?=[ :,])(?![ :,]*§)[^.;!?]*?(?=,? (?:while|as)\b|, (?:and|with|over)\b|[.;!?]|$)"
)
_DENIAL = re.compile(r"\b(?:no|not|without|never|neither|nor|lacks?|lacking|hardly|cannot|nobody|free of)\b|n't\b")
_DENIED_AFTER = re.compile(r"\W*(?:\w+ )?(?:(?:not|never|absent|missing)\b|\w+n't\b)")
_CLAUSE = re.compile(r"[,.;:!?]|\b(?:but|while|whereas|although|over|as|then)\b")
_WINDOW = 5
"""How many words before a phrase a denial may stand."""
_REACH = 100
"""In how many characters they are looked for, so that long texts take no longer than their length."""


def parse(text: str) -> list[Claim]:
    """The claims of `text`, each once, in the order of their first words. Words it does not know say nothing."""
    whole = without_quotations(text.lower())
    reader = _Reader(whole)
    reader.skip(_SHADE)
    for place, pattern in _PLACES:
        for match in reader.take(pattern):
            word = next(group for group in match.groups() if group)
            reader.claim(match, place, colour_of(word))
    for type_, value, pattern in _PHRASES:
        for match in reader.take(pattern):
            reader.claim(match, type_, value)
    for name, pattern in _COLOURS:
        for match in reader.take(pattern):
            reader.claim(match, "colour", name)
    return list(dict.fromkeys(claim for _, claim in sorted(reader.found, key=lambda item: item[0])))


def without_quotations(text: str) -> str:
    """`text` (lower case) without what somebody in it says; the word of saying stays."""
    return _INDIRECT.sub(r"\1", _QUOTES.sub(" § ", text.replace("§", " ")))


def colour_of(word: str) -> str:
    """The colour name that a colour word stands for."""
    return next(name for name, words in COLOUR_WORDS.items() if re.fullmatch(words, word))


class _Reader:
    """A text of which every word is taken once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.rest = text
        self.found: list[tuple[int, Claim]] = []

    def take(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        matches = list(pattern.finditer(self.rest))
        self.skip(pattern)
        return matches

    def skip(self, pattern: re.Pattern[str]) -> None:
        self.rest = pattern.sub(lambda match: "#" * len(match.group()), self.rest)

    def claim(self, match: re.Match[str], type_: str, value: str) -> None:
        if value == "absent":
            claim = Claim(type_, "present", denied=True)
        elif (type_, value) == ("sound", "none") or match.group().startswith("without"):
            claim = Claim(type_, value)  # the denial is part of the phrase
        else:
            claim = Claim(type_, value, denied=self._denied(*match.span()))
        self.found.append((match.start(), claim))

    def _denied(self, start: int, end: int) -> bool:
        """Whether a denial stands a few words before, or "is not" or "is absent" after, in the same clause."""
        before = _CLAUSE.split(self.text[max(0, start - _REACH) : start])[-1].split()[-_WINDOW:]
        after = _CLAUSE.split(self.text[end : end + _REACH])[0]
        return bool(_DENIAL.search(" ".join(before)) or _DENIED_AFTER.match(after))
