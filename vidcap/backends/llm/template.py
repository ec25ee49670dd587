"""Composes fused captions from sentence patterns: no model, no understanding, the same words for the same seed.

It keeps the rules of the fusion prompts that need no understanding: exactly one complete sentence in the present tense,
not the inputs in a row, sound left out where it is no readable text. Spoken words stand shortened in double quotes,
and nothing else does, so that a reader can tell what was said from what was seen and heard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from vidcap.backends.roles import BackendConfig, Outcome, Request
from vidcap.backends.sentences import lower_first, sentences, shorten, words
from vidcap.errors import ItemError

VERSION = 2
"""In the identity: raise it whenever the same request gives another sentence."""
FEWEST, MOST = 15, 45
"""The words of a sentence where the captions allow it: the range of the paper's printed examples."""

_NONE = "(none)"
_SPEAKS = re.compile(
    r"\b(speaks?|speaking|speech|talks?|talking|voices?|says?|saying|narrat\w+|sings?|singing)\b", re.I
)
_PERSON = re.compile(
    r"(an? |the |two |some )?\w*(person|people|someone|somebody|man|men|woman|women|child|speaker)\b", re.I
)
_SHOT = re.compile(r"\b(shot|view|picture|close-up|footage|recording|clip|take)\b", re.I)
_SINGULAR = re.compile(r"(an?|the|someone|somebody|one|he|she|it)\b", re.I)
_FINITE = re.compile(
    r"\b(is|are|has|have|can|does|do|there's|(appear|bark|beep|blow|clap|cheer|chirp|dance|dominate|drive|fill|hold|hum|"
    r"laugh|look|move|play|ring|run|say|show|sing|sit|speak|stand|talk|turn|walk|work)s?)\b",
    re.I,
)

# {v}: the picture, a clause or a noun phrase ({V} where it comes first); {h}: the sound, always a clause.
_PHRASE_PATTERNS = ("The video shows {v} while {h}", "The video shows {v} as {h}", "As {h}, the video shows {v}")
_SHOT_PATTERNS = (*_PHRASE_PATTERNS, "{V} plays out while {h}", "{V} is on screen as {h}")
_CLAUSE_PATTERNS = ("{V} while {h}", "{V}, and at the same time {h}", "As {h}, {v}", "While {h}, {v}")
_LONGER = ("In the few seconds that this clip lasts, ", "In this short clip cut out of a video, ")
_SAYING = (', saying "{s}"', ', with the words "{s}"')
_WORDS = (', with the words "{s}"', ', and the words are "{s}"')
_VOICE = ('and a voice says "{s}"', 'and someone says "{s}"')
_VOICE_ALONE = ('a voice says "{s}"', 'someone is heard saying "{s}"')


class Backend:
    """Answers the tasks `av` (slots `video`, `audio`) and `avs` (also `speech`); others give `llm.unknown_task`."""

    class Config(BackendConfig):
        max_speech_words: int = Field(default=16, ge=3, le=100)
        """How many spoken words are quoted at most."""

    embedded: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self.config = config

    def identity(self) -> str:
        return f"template@{VERSION}"

    def load(self, device: str) -> None:
        """Nothing to load; any device will do."""

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Outcome[str]]:
        return [self._answer(request, seed) for request, seed in zip(requests, seeds, strict=True)]

    def _answer(self, request: Request, seed: int) -> Outcome[str]:
        if request.task not in {"av", "avs"}:
            return ItemError("llm.unknown_task", f"template composes av and avs, not {request.task}")
        video = _phrase(request.slots.get("video", ""), 28)
        if not video:
            return ItemError("fuse.failed", "no video caption")
        audio = _phrase(request.slots.get("audio", ""), 16)
        speech = request.slots.get("speech", "") if request.task == "avs" else ""
        room = MOST - len(words(video)) - len(words(audio)) - 6
        quoted = _quotable(speech, max(5, min(self.config.max_speech_words, room)))
        return _compose(video, audio, quoted, seed)


def readable(text: str) -> bool:
    """Whether a caption looks like words: letters with vowels among them, and not one token over and over."""
    tokens = words(text)
    if not tokens or text.strip() == _NONE:
        return False
    wordy = [t for t in tokens if any(c.isalpha() for c in t) and (not t.isascii() or re.search("[aeiouy]", t))]
    often = max(tokens.count(token) for token in set(tokens[:50]))
    return len(wordy) * 2 > len(tokens) and (len(tokens) < 4 or often * 2 <= len(tokens))


def _phrase(text: str, limit: int) -> str:
    """A caption without its final stop, several sentences joined by semicolons; "" where it makes no sense."""
    folded = re.sub(r'["“”«»]', "'", " ".join(text.split()))
    if not readable(folded):
        return ""
    parts = [part.rstrip(" .!?…。！？;,:") for part in sentences(folded)]
    parts = [part for part in parts if part]
    joined = "; ".join([parts[0], *(lower_first(part) for part in parts[1:])]) if parts else ""
    return shorten(joined, limit)


def _quotable(text: str, limit: int) -> str:
    """Spoken words for double quotes: one piece of text, shortened at a word boundary; "" where there are none."""
    folded = re.sub(r'["“”«»]', "'", " ".join(text.split()))
    if folded == _NONE or not words(folded):
        return ""
    # A stop in the middle would read as the end of the whole sentence to a simpler splitter than ours.
    folded = re.sub(r"[.!?…]+(?=\s)", ",", folded).rstrip(" .!?…,;:")
    short = shorten(folded, limit)
    return short if short == folded else f"{short} …"


def _clause(text: str) -> bool:
    """Whether a caption reads as a clause with a verb rather than as a noun phrase; a guess from its words."""
    if _FINITE.search(text):
        return True
    verb = re.search(r"\s[a-z]+[^su\W]s\b", text)
    return bool(verb) and bool(_SINGULAR.match(text)) and not _SHOT.search(text)


def _compose(video: str, audio: str, quoted: str, seed: int) -> str:
    """A sentence of a fitting length, chosen by the seed; `audio` and `quoted` may be empty."""
    clause = _clause(video)
    heard = _heard(audio, quoted)
    patterns: tuple[str, ...]
    if heard:
        patterns = _CLAUSE_PATTERNS if clause else _SHOT_PATTERNS if _SHOT.search(video) else _PHRASE_PATTERNS
        plain = "{v} while {h}" if clause else "the video shows {v} while {h}"
    else:
        patterns = ("In the video, {v}", "The video shows how {v}") if clause else ("The video shows {v}",)
        plain, heard = "{v}" if clause else "the video shows {v}", [""]
    if quoted or _SPEAKS.search(audio) or ", then " in audio:
        # What somebody says comes last, so that the picture does not read as part of it; so does a sequence of sounds.
        patterns = tuple(p for p in patterns if not p.startswith(("As {h}", "While {h}")))
    if " while " in audio:
        patterns = tuple(p for p in patterns if "hile {h}" not in p)
    found = [_finish(pattern, video, sound) for pattern in patterns for sound in heard]
    longer = [_finish(begin + plain, video, sound) for begin in _LONGER for sound in heard]
    # Padding is only for captions so short that nothing else reaches the length.
    return min((*_turned(found, seed), *_turned(longer, seed)), key=_misses_by)


def _heard(audio: str, quoted: str) -> list[str]:
    """The ways to say what is heard, as clauses."""
    if audio:
        clause = lower_first(audio) if _clause(audio) else f"{lower_first(audio)} can be heard"
        if not quoted:
            return [clause]
        if not _SPEAKS.search(audio):
            # After the comma a "without" of the sound caption no longer reaches the voice.
            return [f"{clause}, " + voice.replace("{s}", quoted) for voice in _VOICE]
        # "saying" belongs to the last noun that could speak: only where the clause is nothing but that.
        tails = _SAYING if _PERSON.match(audio) and "," not in audio else _WORDS
        return [clause + tail.replace("{s}", quoted) for tail in tails]
    return [voice.replace("{s}", quoted) for voice in _VOICE_ALONE] if quoted else []


def _finish(pattern: str, video: str, heard: str) -> str:
    noun = _SHOT.search(video)
    if "," in video[noun.end() if noun else 0 :]:
        # An apposition opened by a comma is closed by one.
        pattern = re.sub(r"(\{[vV]\}) ", r"\1, ", pattern)
    values = {"v": lower_first(video), "V": video, "h": heard}
    text = re.sub(r"\{([vVh])\}", lambda match: values[match[1]], pattern)
    text = text[:1].upper() + text[1:]
    if text.endswith('…"'):
        return text
    # The stop goes inside a quote that ends the sentence.
    return f'{text[:-1]}."' if text.endswith('"') else f"{text}."


def _turned(candidates: list[str], seed: int) -> list[str]:
    at = seed % len(candidates)
    return candidates[at:] + candidates[:at]


def _misses_by(text: str) -> int:
    """By how many words a sentence is too short or too long."""
    count = len(text.split())
    return max(FEWEST - count, count - MOST, 0)
