"""Files beside a video that tell of it: captions (`.vtt .srt .json`), licence (`.license`), description (`.info.json`).

They come from anywhere: their size, encoding and nesting are checked, and what is wrong with one is told, not raised.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidcap.errors import ManifestError
from vidcap.languages import SEAMLESS, is_language
from vidcap.media.cues import MAX_CUES, MAX_TEXT, Cue, TimedText, in_order, parse_srt, parse_vtt, plain, to_vtt

MAX_BYTES = 16_000_000
"""A day of captions is about 4 MB, a downloader's description with comments rarely as much."""
LICENSE_LENGTH, INFO_LENGTH, INFO_ITEMS = 200, 1_000, 20
"""Characters of a licence, of a described value, and entries of a described list: a row's `meta` ends at 64 kB."""

INFO = ("id title uploader channel webpage_url upload_date extractor language description tags categories").split()
"""What of a description (as download programs write it) goes into `meta`."""

_SUFFIXES: dict[str, Literal["captions", "json", "license"]] = {
    ".vtt": "captions",
    ".srt": "captions",
    ".json": "json",
    ".license": "license",
}
_TAG = re.compile(r"([A-Za-z]{2,3})(?:-[A-Za-z0-9]{2,8})*")
_SHORT = {seamless: code for code, seamless in reversed(SEAMLESS.items())}
_SPDX = re.compile(r"SPDX-License-Identifier:\s*(\S.*)")


@dataclass(frozen=True, slots=True, order=True)
class Sidecar:
    """A file beside a video: its name, what it may hold, and the language that its name says ("" for none)."""

    name: str
    kind: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class GivenTranscript:
    """What somebody says is spoken. `text`: WebVTT where the file had times, else the words alone."""

    file: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong with a file; `line` counts from 1, 0 where it is about the whole file."""

    file: str
    line: int
    what: str


@dataclass(slots=True)
class Gathered:
    """All that the files beside one video gave."""

    license: str = ""
    transcripts: list[GivenTranscript] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def by_video(names: Iterable[str]) -> dict[str, list[Sidecar]]:
    """Name of a video, with or without its suffix → the files of its folder that may tell of it, sorted."""
    found: dict[str, list[Sidecar]] = {}
    for name in sorted(names):
        base, suffix = os.path.splitext(name)
        if suffix.lower() == ".txt" and base.lower().endswith(".license"):
            base, suffix = os.path.splitext(base)
        kind = _SUFFIXES.get(suffix.lower())
        if kind is None:
            continue
        found.setdefault(base, []).append(Sidecar(name, kind))
        stem, _, tag = base.rpartition(".")
        if kind == "json" and tag == "info":
            found.setdefault(stem, []).append(Sidecar(name, "json"))
        elif kind != "license" and stem and (language := language_of(tag)):
            found.setdefault(stem, []).append(Sidecar(name, kind, language))
    return found


def of_video(sidecars: dict[str, list[Sidecar]], name: str) -> list[Sidecar]:
    """The sidecars of the video `name`: `a.vtt`, `a.en.vtt` and `a.mp4.vtt` for `a.mp4`."""
    stem = os.path.splitext(name)[0]
    return [*sidecars.get(stem, ()), *(sidecars.get(name, ()) if name != stem else ())]


def language_of(tag: str) -> str:
    """ISO 639-1 (639-3 where there is none) of a language tag such as `en`, `en-US` or `eng`; "" for anything else."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return ""
    primary = match[1].lower()
    if len(primary) == 3:
        return _SHORT.get(primary, primary if primary in SEAMLESS else "")
    return "" if primary == "cc" else primary  # closed captions, no language


def gather(folder: Path, sidecars: Sequence[Sidecar]) -> Gathered:
    """Read the sidecars of one video. A licence file goes before a description, `.vtt` before `.srt` before `.json`."""
    found = Gathered()
    described = ""
    order = {".vtt": 0, ".srt": 1}
    for sidecar in sorted(sidecars, key=lambda s: (order.get(os.path.splitext(s.name)[1].lower(), 2), s)):
        faults: list[tuple[int, str]] = []
        try:
            text = _read(folder / sidecar.name, faults)
            if sidecar.kind == "license":
                found.license = found.license or license_in(text)
            elif sidecar.kind == "captions":
                parse = parse_vtt if sidecar.name.lower().endswith(".vtt") else parse_srt
                _add(found, sidecar, parse(text), faults)
            else:
                value = _json(text)
                _add_described(found, sidecar, value, faults)
                described = described or _license_of(value)
        except ManifestError as error:
            line, what = _line_of(error.message)
            faults.append((line, what))
        found.faults += [Fault(sidecar.name, line, what) for line, what in faults]
    found.license = found.license or described
    return found


def spoken(transcripts: Sequence[GivenTranscript], languages: Sequence[str]) -> GivenTranscript | None:
    """The transcript of what is said, not its translations.

    `languages`: what the sound is said to be in, best first. Else one without a language, then English, then the first.
    """
    for language in languages:
        for given in transcripts:
            if given.language and (is_language(given.language, language) or given.language == language_of(language)):
                return given
    return min(transcripts, key=lambda t: (t.language != "", t.language != "en", t.file), default=None)


def license_in(text: str) -> str:
    """The SPDX expression of a licence file, or its first line. Raises `ManifestError` where there is none."""
    found = [match[1].strip() for line in text.splitlines() if (match := _SPDX.search(line))]
    lines = [plain(line) for line in text.splitlines() if not line.strip().startswith("SPDX-")]
    first = " AND ".join(dict.fromkeys(found)) or next((line for line in lines if line), "")
    if not first or len(first) > LICENSE_LENGTH:
        raise ManifestError("line 1: no licence in one line", hint="write its name or SPDX identifier into it")
    return plain(first)


def _read(path: Path, faults: list[tuple[int, str]]) -> str:
    """The text of a regular file of at most `MAX_BYTES`: UTF-8 or UTF-16 by its first bytes, UTF-8, else Latin-1."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ManifestError("no regular file", hint="remove it")
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", hint="check its permissions") from error
    if len(data) > MAX_BYTES:
        raise ManifestError(f"larger than {MAX_BYTES} bytes, left out", hint="this is no sidecar")
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        if wide:
            raise ManifestError(f"line {line}: damaged UTF-16", hint="save it as UTF-8") from error
        text = data.decode("latin-1")
        faults.append((line, "not UTF-8, read as Latin-1"))
    if "\0" in text:
        raise ManifestError(f"line {text[: text.index(chr(0))].count(chr(10)) + 1}: no text", hint="save it as UTF-8")
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ManifestError(f"line {error.lineno}: not JSON: {error.msg.lower()}", hint="mend that line") from error
    except RecursionError as error:
        raise ManifestError("nested too deeply", hint="this is no sidecar") from error
    except ValueError as error:  # a number of thousands of digits
        raise ManifestError("a number is too long", hint="this is no sidecar") from error


def _add(found: Gathered, sidecar: Sidecar, timed: TimedText, faults: list[tuple[int, str]], words: str = "") -> None:
    """Keep what a captions file says, unless a better file has said it in the same language."""
    faults += timed.faults
    language = sidecar.language or language_of(timed.language)
    text = to_vtt(timed.cues, language) if timed.cues else words
    if not text:
        faults.append((0, "no captions in it"))
    elif language not in {given.language for given in found.transcripts}:
        found.transcripts.append(GivenTranscript(sidecar.name, language, text))


def _add_described(found: Gathered, sidecar: Sidecar, value: Any, faults: list[tuple[int, str]]) -> None:
    """A transcript as recognisers write it, and a description as download programs do; other JSON is left alone."""
    described = value if isinstance(value, dict) else {}
    segments = value if isinstance(value, list) else described.get("segments")
    words = _string(described.get("text"))
    if isinstance(segments, list) or words:
        timed = _segments(segments if isinstance(segments, list) else [])
        timed.language = _string(described.get("language"))
        if timed.cues or described:  # a list of something else is no transcript
            _add(found, sidecar, timed, faults, plain(words)[: MAX_BYTES // 4])
    if not sidecar.language:
        for name in INFO:
            if (kept := _kept(described.get(name))) and name not in found.info:
                found.info[name] = kept


def _segments(segments: list[Any]) -> TimedText:
    found = TimedText([])
    for number, segment in enumerate(segments[: MAX_CUES + 1], 1):
        if number > MAX_CUES:
            raise ManifestError(f"more than {MAX_CUES} segments", hint="split the file, or leave it out")
        start, end, text = _timed(segment)
        if not 0 <= start < end:
            found.fault(0, f"segment {number} has no `start`, `end` (or `duration`) and `text`, left out")
        elif (said := plain(text)) and len(said) <= MAX_TEXT:
            found.cues.append(Cue(start, end, said))
    found.cues = in_order(found.cues)
    return found


def _timed(segment: Any) -> tuple[float, float, str]:
    """Start, end and text of a segment; NaN where they cannot be had."""
    if not isinstance(segment, dict) or not isinstance(segment.get("text"), str):
        return math.nan, math.nan, ""
    start = _number(segment.get("start"))
    end = _number(segment.get("end")) if "end" in segment else start + _number(segment.get("duration"))
    return start, round(end, 3), segment["text"]


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e7
    return round(float(value), 3) if fits else math.nan


def _kept(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)[:INFO_LENGTH]
    if isinstance(value, list):
        return [plain(item)[: INFO_LENGTH // 10] for item in value[:INFO_ITEMS] if isinstance(item, str)]
    return None


def _license_of(value: Any) -> str:
    given = value.get("license") if isinstance(value, dict) else None
    if isinstance(given, dict):
        given = given.get("name")
    return plain(given)[:LICENSE_LENGTH] if isinstance(given, str) else ""


def _line_of(message: str) -> tuple[int, str]:
    """The line that an error names, and the rest of it."""
    match = re.fullmatch(r"line (\d+): (.*)", message, re.DOTALL)
    return (int(match[1]), match[2]) if match else (0, message)
