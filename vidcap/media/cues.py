"""Timed text: reads WebVTT and SubRip, cleans what they say, and writes plain WebVTT."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vidcap.errors import ManifestError

MAX_CUES = 100_000
"""A day of speech has about half as many."""
MAX_TEXT = 10_000
"""Characters of one cue; more is no caption."""
MAX_FAULTS = 100
"""Faults that are told of one file; who has more of them needs no list."""

_LINE_END = re.compile(r"\r\n|\n|\r")
# WebVTT wants two digits and a point, SubRip writes a comma; both are met in files of either name.
_TIME = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_TIMING = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t].*)?")
_WORD_TIME = re.compile(r"<(?:\d{1,4}:)?\d\d:\d\d\.\d{3}>")
_TAG = re.compile(r"<!--[^<>]{0,1000}-->|</?[A-Za-z][^<>]*>|<(?:\d{1,4}:)?\d\d:\d\d\.\d{3}>|\{\\[^{}]*\}")
_HEADER = re.compile(r"WEBVTT(?:[ \t].*)?")
_LANGUAGE = re.compile(r"Language:[ \t]*([A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)[ \t]*")
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp", "Zs"})
_SIDE_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION)(?:[ \t].*)?")


@dataclass(frozen=True, slots=True)
class Cue:
    """A line of captions: seconds from the start of the media (multiples of 1 ms), and its text without markup."""

    start: float
    end: float
    text: str


@dataclass(slots=True)
class TimedText:
    """Cues in order of time, the language the file itself names ("" for none), and what was wrong, by line."""

    cues: list[Cue]
    language: str = ""
    faults: list[tuple[int, str]] = field(default_factory=list)

    def fault(self, line: int, what: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append((line, what))


def parse_vtt(text: str) -> TimedText:
    """The cues of a WebVTT file. Raises `ManifestError` where it is none, or holds more than `MAX_CUES`."""
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    if not _HEADER.fullmatch(lines[0]):
        raise ManifestError("line 1: no `WEBVTT`", hint="a .vtt file begins with that word")
    start = next((i for i, line in enumerate(lines) if not line or "-->" in line), len(lines))
    found = next((m[1] for line in lines[1:start] if (m := _LANGUAGE.fullmatch(line))), "")
    return _parse(lines, start, found)


def parse_srt(text: str) -> TimedText:
    """The cues of a SubRip file. Raises `ManifestError` where no line has times, or it has more than `MAX_CUES`."""
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    if not any("-->" in line for line in lines) and any(line.strip() for line in lines):
        raise ManifestError("line 1: no times", hint="an .srt file has lines like `00:00:01,000 --> 00:00:02,500`")
    return _parse(lines, 0, "")


def plain(text: str) -> str:
    """One line without tags, entities, style overrides and control characters."""
    text = unicodedata.normalize("NFC", html.unescape(_TAG.sub("", text)))
    return " ".join("".join(c if unicodedata.category(c) not in _UNSEEN else " " for c in text).split())


def in_order(cues: Iterable[Cue]) -> list[Cue]:
    return sorted(cues, key=lambda cue: (cue.start, cue.end))


def to_vtt(cues: Sequence[Cue], language: str = "") -> str:
    """WebVTT that every reader reads, `parse_vtt` too: one line per cue, nothing but text."""
    head = f"WEBVTT\nLanguage: {language}\n" if language else "WEBVTT\n"
    blocks = (f"\n{_clock(cue.start)} --> {_clock(cue.end)}\n{html.escape(cue.text, quote=False)}\n" for cue in cues)
    return head + "".join(blocks)


def _parse(lines: list[str], at: int, language: str) -> TimedText:
    found = TimedText([], language)
    # Speech recognised while it was shown repeats the line above in each cue, and times every word.
    rolling = any(_WORD_TIME.search(line) for line in lines)
    above: set[str] = set()
    last = 0.0
    while at < len(lines):
        if "-->" not in lines[at]:
            at = _next(lines, at, found)
            continue
        number, timing = at + 1, lines[at]
        body: list[str] = []
        at += 1
        while at < len(lines) and lines[at] and "-->" not in lines[at]:  # a space is a line of the cue
            body.append(lines[at])
            at += 1
        if at < len(lines) and "-->" in lines[at] and body and body[-1].strip().isdecimal():
            body.pop()  # the number of the next cue, where the empty line between them is missing
        span = _span(timing)
        if isinstance(span, str):
            found.fault(number, span)
            continue
        said = [text for line in _joined(body) if (text := plain(line))]
        shown = [line for line in said if line not in above] if rolling else said
        above = set(said)
        if span[0] < last:
            found.fault(number, "a cue that starts before the one above it")
        last = span[0]
        if not shown:
            continue
        text = " ".join(shown)
        if len(text) > MAX_TEXT:
            found.fault(number, f"a cue of {len(text)} characters, left out")
            continue
        if len(found.cues) >= MAX_CUES:
            raise ManifestError(f"line {number}: more than {MAX_CUES} cues", hint="split the file, or leave it out")
        found.cues.append(Cue(*span, text))
    found.cues = in_order(found.cues)
    return found


def _next(lines: list[str], at: int, found: TimedText) -> int:
    """The line after what stands at `at` and is no cue: nothing, a comment, style sheet, or the name of a cue."""
    if not lines[at].strip():
        return at + 1
    end = at
    while end < len(lines) and lines[end] and "-->" not in lines[end]:
        end += 1
    named = end < len(lines) and "-->" in lines[end] and end == at + 1
    if not named and not _SIDE_BLOCK.fullmatch(lines[at]):
        found.fault(at + 1, "text without times, left out")
    return end


def _joined(body: list[str]) -> list[str]:
    """The lines of a cue; a tag that is broken over two lines joins them."""
    text = "\n".join(body)
    return _TAG.sub(lambda tag: tag[0].replace("\n", " "), text).split("\n")


def _span(timing: str) -> tuple[float, float] | str:
    """Start and end in seconds, or what is wrong with them."""
    match = _TIMING.fullmatch(timing)
    if match is None:
        return "times that cannot be read, the cue left out"
    start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    return (start, end) if end > start else "a cue that ends before it has begun, left out"


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return (whole * 1000 + int(fraction.ljust(3, "0"))) / 1000


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
