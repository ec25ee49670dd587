"""Captioned sounds: annotations in WavCaps' JSON format, the lists of what to keep out, and where the files lie.

    {"num_captions_per_audio": 1, "data": [{"id": "…", "caption": "…", "duration": 9.2, "audio": "…", …}]}

With more captions per sound they are `caption_1`, `caption_2` …; a blacklist is `{"AudioSet": [ids], …}`.
Which source a file of annotations is of stands in its name, as in WavCaps. The paths under `audio` are of the authors'
machines; a sound is found by its id.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidcap.errors import UsageError
from vidcap.prompts import plain

SOURCES = ("AudioSet", "BBC", "FreeSound", "SoundBible")
SUFFIXES = (".flac", ".wav", ".mp3")
"""The order in which they are preferred where a sound is there in several."""
LEFT_OUT = {
    "malformed_entry": "an entry without an id or a caption as text",
    "repeated_id": "an id that its file had before",
    "blacklisted": "on a blacklist given",
    "no_words": "no words in the caption",
    "missing_file": "no file of that id in the folders given",
    "ambiguous_file": "several files of that id, and none in a folder named after the source",
    "unreadable_file": "a file that cannot be opened or decoded",
    "silent": "nothing above -60 dBFS, or less than 25 ms",
}
"""Why a sound is not learned from. Every one that is left out has one of these."""


@dataclass(frozen=True, slots=True)
class CaptionedSound:
    source: str
    id: str
    captions: tuple[str, ...]
    path: Path

    @property
    def name(self) -> str:
        """What seeds are made from: the same on every machine."""
        return f"{self.source}/{self.id}"


@dataclass(slots=True)
class LeftOut:
    """Sounds not learned from, each with its reason; nothing is dropped without an entry here."""

    entries: list[tuple[str, str, str]] = field(default_factory=list)
    """(source/id, reason, detail)"""

    def add(self, name: str, reason: str, detail: str = "") -> None:
        assert reason in LEFT_OUT, reason
        self.entries.append((name, reason, detail))

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(reason for _, reason, _ in self.entries).items()))


@dataclass(frozen=True, slots=True)
class Corpus:
    sounds: list[CaptionedSound]
    left_out: LeftOut
    entries: int
    """Of all annotations: `sounds` and `left_out` together."""

    def by_source(self) -> dict[str, int]:
        return dict(sorted(Counter(sound.source for sound in self.sounds).items()))


def read_corpus(annotations: Sequence[Path], folders: Sequence[Path], blacklists: Sequence[Path]) -> Corpus:
    """All annotated sounds whose files lie somewhere below `folders`. Raises `UsageError` for what is no such file."""
    banned = _banned(blacklists)
    files = _files_below(folders)
    left_out, sounds, entries = LeftOut(), list[CaptionedSound](), 0
    seen: set[tuple[str, str]] = set()
    for path in annotations:
        source = source_of(path)
        for number, entry in enumerate(_entries(path)):
            entries += 1
            outcome = _judged(entry, source, banned, files)
            where = f"{source}/{_id_of(entry) or f'entry {number} of {path.name}'}"
            if isinstance(outcome, CaptionedSound) and (source, outcome.id) in seen:
                outcome = ("repeated_id", path.name)
            if isinstance(outcome, CaptionedSound):
                seen.add((source, outcome.id))
                sounds.append(outcome)
            else:
                left_out.add(where, *outcome)
    return Corpus(sounds, left_out, entries)


def source_of(path: Path) -> str:
    """The source whose name stands in the file's name, else the file's name."""
    return next((source for source in SOURCES if source.lower() in path.stem.lower()), path.stem)


def _judged(
    entry: Any, source: str, banned: Mapping[str, frozenset[str]], files: Mapping[str, Sequence[Path]]
) -> CaptionedSound | tuple[str, str]:
    """The sound, or why it is left out and the detail."""
    identifier = _id_of(entry)
    captions = _captions_of(entry)
    if not identifier or captions is None:
        return "malformed_entry", ""
    if identifier in banned.get(source.lower(), ()):
        return "blacklisted", ""
    if not captions:
        return "no_words", ""
    found = files.get(identifier, ())
    if not found:
        return "missing_file", ""
    if len({path.parent for path in found}) > 1:
        own = [path for path in found if any(source.lower() in part.lower() for part in path.parent.parts)]
        if len({path.parent for path in own}) != 1:
            return "ambiguous_file", ", ".join(map(str, found[:3]))
        found = own
    return CaptionedSound(
        source, identifier, captions, min(found, key=lambda path: SUFFIXES.index(path.suffix.lower()))
    )


def _captions_of(entry: Any) -> tuple[str, ...] | None:
    """Captions with words in them, each on one line; None where there is no such field of the right type."""
    if not isinstance(entry, Mapping):
        return None
    given = [entry[key] for key in entry if key == "caption" or (key.startswith("caption_") and key[8:].isdigit())]
    if not given or not all(isinstance(text, str) for text in given):
        return None
    return tuple(text for text in map(plain, given) if any(letter.isalnum() for letter in text))


def _id_of(entry: Any) -> str:
    """Without the suffix that AudioSet's ids have in WavCaps; "" where it is none."""
    found = entry.get("id") if isinstance(entry, Mapping) else None
    return _bare(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else ""


def _bare(identifier: str | int) -> str:
    text = str(identifier).strip()
    stem, dot, suffix = text.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else text


def _banned(paths: Sequence[Path]) -> dict[str, frozenset[str]]:
    """Source in lower case → ids."""
    found: dict[str, frozenset[str]] = {}
    for path in paths:
        content = _json(path)
        if not isinstance(content, Mapping) or not all(isinstance(ids, list) for ids in content.values()):
            raise UsageError(
                f"`{path}` is no blacklist",
                hint='it should hold {"AudioSet": [ids], "FreeSound": [ids]}, as WavCaps\' do',
            )
        for source, ids in content.items():
            found[source.lower()] = found.get(source.lower(), frozenset()) | {_bare(each) for each in ids}
    return found


def _entries(path: Path) -> Iterator[Any]:
    content = _json(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("data"), list):
        raise UsageError(
            f"`{path}` holds no captions in WavCaps' format",
            hint='it should hold {"num_captions_per_audio": 1, "data": [{"id": …, "caption": …}, …]}',
        )
    yield from content["data"]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", hint="give an existing JSON file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"`{path}` is no JSON: {error}", hint="give the file as it was published") from error


def _files_below(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Id → the sound files of that name, sorted."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no folder `{folder}`", hint="give the folder that holds ID.flac, .wav or .mp3")
        for parent, _, names in os.walk(folder):
            for name in names:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in SUFFIXES:
                    found.setdefault(stem, []).append(Path(parent, name))
    return {stem: sorted(paths) for stem, paths in found.items()}
