"""Spoken text: cleaned, counted, judged by length, and routed: kept, translated, asked of a language model, or left."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vidcap.languages import is_language

CAPITALS = 0.8
"""A larger share of capitals among the letters is all-caps writing, which breaks language identification."""
SHORT_LETTERS, SHORT_LETTERS_CJK = 20, 8
"""A text with fewer letters is too short to trust language identification on it."""
MIN_CONFIDENCE = 0.95
"""The paper's bound on the confidence of language identification."""

_URL = re.compile(r"(?:\b[a-z][a-z0-9+.-]*://|\bwww\.)\S+", re.IGNORECASE)
# Square and angle brackets hold no speech; round ones and asterisks may, so only up to three words of them are noise.
_NOISE = re.compile(
    r"\[[^\[\]]{0,80}\]|【[^【】]{0,80}】|<[^<>]{0,80}>|[(（]\s*[^\s()（）]{1,20}(?:\s+[^\s()（）]{1,20}){0,2}\s*[)）]"
    r"|\*[^\s*]{1,20}(?:\s[^\s*]{1,20}){0,2}\*|[♩-♯]+"
)
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d"
_HAN_OR_KANA = _HAN + _KANA
_SOUTH_EAST = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED = re.compile(f"[{_HAN_OR_KANA}]+|[{_SOUTH_EAST}]+")
_CJK = re.compile(f"[{_HAN_OR_KANA}\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_STOPPED = re.compile(r"""[.!?…。！？]["'”’»)\]]*\Z""")


class Route(StrEnum):
    """What becomes of a transcript."""

    NONE = "none"
    KEEP = "keep"
    TRANSLATE = "translate"
    LLM = "llm"
    PASSTHROUGH = "passthrough"


@dataclass(frozen=True, slots=True)
class Routing:
    """A route, the language it was taken for ("" where unknown), and why there is no `s` (a code of `reasons`)."""

    route: Route
    language: str = ""
    reason: str = ""


def clean(text: str) -> str:
    """NFC, one line, without URLs, bracketed noises and control characters; all-caps writing in lower case."""
    text = unicodedata.normalize("NFC", text)
    text = _NOISE.sub(" ", _URL.sub(" ", text))
    text = " ".join("".join(c for c in text if c.isspace() or unicodedata.category(c) not in {"Cc", "Cs"}).split())
    letters = [c for c in text if c.isalpha()]
    return text.lower() if sum(c.isupper() for c in letters) > CAPITALS * len(letters) else text


def word_count(text: str) -> int:
    """How many words a cleaned text has.

    Scripts without spaces are estimated by run: two characters a word for Han and kana, four for Thai, Lao, Khmer and
    Burmese (whose vowel signs count as characters). Elsewhere a word is what stands between spaces and holds a letter
    or digit.
    """
    unspaced = _UNSPACED.findall(text)
    estimated = sum(-(-len(run) // (2 if re.match(f"[{_HAN_OR_KANA}]", run) else 4)) for run in unspaced)
    rest = _UNSPACED.sub(" ", text).split()
    return estimated + sum(any(c.isalnum() for c in token) for token in rest)


def letter_count(text: str) -> int:
    """Letters and the vowel signs that some scripts write as marks."""
    return sum(unicodedata.category(c)[0] in "LM" for c in text)


def is_short(text: str) -> bool:
    """Under 20 letters, or under 8 where at least half of them are Han, kana or Hangul."""
    letters = letter_count(text)
    cjk = len(_CJK.findall(text))
    return letters < (SHORT_LETTERS_CJK if letters and 2 * cjk >= letters else SHORT_LETTERS)


def join_words(words: Sequence[str]) -> str:
    """Words as running text: spaces between them, but none between two Han or kana characters."""
    text = ""
    for word in (word.strip() for word in words):
        glued = text and word and re.match(f"[{_HAN_OR_KANA}]{{2}}", text[-1] + word[0])
        text += word if glued or not text else f" {word}" if word else ""
    return text


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop at its end; its words stay as they are."""
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if _STOPPED.search(text) else ".")


def bound(language: str, min_confidence: float, english_min_confidence: float | None) -> float:
    """The confidence from which on identification of this language is believed."""
    return english_min_confidence if language == "en" and english_min_confidence is not None else min_confidence


def route(
    text: str,
    language: str,
    confidence: float,
    *,
    trusted: bool,
    source_majority: str,
    supported: Callable[[str], bool],
    llm: bool,
    recognised: frozenset[str] = frozenset(),
    target: str = "eng",
    min_words: int = 3,
    min_confidence: float = MIN_CONFIDENCE,
    english_min_confidence: float | None = None,
) -> Routing:
    """Where a cleaned `text` goes: the routing table, row by row.

    `language`, `confidence`: of language identification. `source_majority`: the language a short text is taken for
    whatever its own says; "" where the source has none, and then its own counts as for a longer text.
    `supported(language)`: whether the translator takes it into `target`. `recognised`: the recogniser's languages,
    empty for any; a language is only held to be outside of them when identification is sure of it, because an
    unsure guess would drop the very texts that the language model is there for. `english_min_confidence`: the bound
    for English in place of `min_confidence`.
    """
    if word_count(text) == 0:
        return Routing(Route.NONE, reason="speech.none")
    if word_count(text) < min_words:
        return Routing(Route.NONE, language, "speech.few_words")
    if not trusted:
        return Routing(Route.NONE, language, "speech.uncertain")
    if source_majority and is_short(text):
        language, sure = source_majority, True
    else:
        sure = bool(language) and confidence >= bound(language, min_confidence, english_min_confidence)
    if sure and recognised and language not in recognised:
        return Routing(Route.NONE, language, "speech.uncertain")
    if sure and is_language(language, target):
        return Routing(Route.KEEP, language)
    if sure and supported(language):
        return Routing(Route.TRANSLATE, language)
    if llm:
        return Routing(Route.LLM, language)
    return Routing(Route.PASSTHROUGH, language, "speech.untranslated")
