"""What is trained on: samples of shards, and entries of annotation files in the released format."""

from __future__ import annotations

import glob
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from vidcap.errors import ConfigError, ItemError, ShardError
from vidcap.shards.reader import RawSample, find_shards
from vidcap.train.batch import KINDS, SOUNDING, MediaType
from vidcap.train.shard_index import ShardIndex, indexed

READ_AT_ONCE = 64 * 2**20
"""A larger file is not held in memory but read where the decoder looks."""
MOST_LISTED = 2**30
"""Bytes of an annotation file."""
LEADING_SECONDS = 30.0
"""Of a video that counts where a data set is known to be described by its beginning."""


@dataclass(frozen=True)
class Content:
    """One sample before decoding. Its files are opened when asked for."""

    key: str
    identity: str
    """Equal for equal media, whatever the caption."""
    captions: Mapping[str, Sequence[str]]
    """Caption kind → its texts, not empty; a kind that the sample lacks is absent."""
    picture: Any = None
    """What `opened` takes, or None."""
    sound: Any = None
    still: bool = False
    """The picture file is one picture, not a film."""
    expected: int = 0
    """Frames that the film is known to have; 0 where nobody says."""
    span: tuple[int, int | None] = (0, None)
    """First and last frame of the film that belong to the sample."""
    seconds: float | None = None
    """Only so much of its beginning belongs to the sample."""
    choices: tuple[str, ...] = ()
    answer: int = -1
    """Multiple choice: which of `choices` is right."""

    def opened(self, what: Any) -> BinaryIO:
        if isinstance(what, Path):
            return _opened_file(what)
        sample, suffix = what
        if sample.members[suffix].size > READ_AT_ONCE:
            return sample.open(suffix)
        return io.BytesIO(sample.read(suffix))


class Source(Protocol):
    """Samples of one media type in units (shards; an annotation file is one) that are shuffled as wholes."""

    name: str
    media_type: MediaType

    @property
    def counts(self) -> Sequence[int]:
        """Samples per unit."""

    @property
    def faults(self) -> Mapping[str, int]:
        """What is wrong with the units themselves, by code."""

    def content(self, unit: int, item: int) -> Content:
        """Raises `ItemError` where the sample is not what it should be."""


@dataclass
class ShardSource:
    """Shards of VidCap. `kinds` are the captions that may be used."""

    name: str
    media_type: MediaType
    shards: Sequence[Path]
    kinds: Sequence[str] = KINDS
    index_folder: Path | None = None
    _counts: list[int] = field(default_factory=list)
    _faults: dict[str, int] = field(default_factory=dict)

    def index(self, unit: int) -> ShardIndex:
        try:
            return indexed(self.shards[unit], self.index_folder)
        except OSError as error:
            raise ShardError(f"cannot read `{self.shards[unit]}`: {error}", hint="check the file") from error

    @property
    def counts(self) -> Sequence[int]:
        if not self._counts:
            for unit in range(len(self.shards)):
                index = self.index(unit)
                self._counts.append(len(index))
                for code, count in index.faults.items():
                    self._faults[code] = self._faults.get(code, 0) + count
        return self._counts

    @property
    def faults(self) -> Mapping[str, int]:
        _ = self.counts
        return self._faults

    def content(self, unit: int, item: int) -> Content:
        sample = self.index(unit).sample(item)
        try:
            record = sample.record()
        except ShardError as error:
            raise ItemError("sample.record", error.message) from None
        if "mp4" not in sample.members:
            raise ItemError("sample.record", "the sample has no .mp4")
        texts = record.captions.model_dump()
        heard = record.audio.present and not record.audio.silent
        return Content(
            key=sample.key,
            identity=sample.key,
            captions={kind: (texts[kind],) for kind in self.kinds if texts[kind].strip()},
            picture=(sample, "mp4"),
            sound=_sound_of(sample) if heard and self.media_type in SOUNDING else None,
            expected=record.video.frames,
        )


def _sound_of(sample: RawSample) -> tuple[RawSample, str]:
    return (sample, "flac") if "flac" in sample.members else (sample, "mp4")


@dataclass
class AnnotationSource:
    """A JSON array of entries `{"image" | "video" | "audio": file, "caption": text, …}`, files below `root`.

    `kinds`: caption kind → the entry's key; without it every key with "caption" in it is taken by its name. `paragraph`
    joins the captions of an entry; `first_seconds` leaves out what comes later.
    """

    name: str
    media_type: MediaType
    path: Path
    root: Path
    kinds: Mapping[str, str] = field(default_factory=dict)
    paragraph: bool = False
    first_seconds: float | None = None
    _entries: list[Any] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the file itself: faster than pickling millions of entries, and only once it needs one.
        return self.__dict__ | {"_entries": []}

    @property
    def entries(self) -> list[Any]:
        if not self._entries:
            self._entries = _listed(self.path)
        return self._entries

    @property
    def counts(self) -> Sequence[int]:
        return [len(self.entries)]

    @property
    def faults(self) -> Mapping[str, int]:
        return {}

    def content(self, unit: int, item: int) -> Content:
        del unit
        entry = self.entries[item]
        if not isinstance(entry, dict):
            raise ItemError("sample.record", f"entry {item} is no object")
        main = {"image": "image", "audio": "audio"}.get(self.media_type, "video")
        file = self._file(entry, main, item)
        span = (_frame(entry, "video_start_frame", 0), _frame(entry, "video_end_frame", None))
        sound = None
        if self.media_type in SOUNDING:
            sound = self._file(entry, "audio", item) if "audio" in entry else file
        choices, answer = self._choices(entry, item)
        return Content(
            key=f"{self.name}-{item:08d}",
            identity=f"{file}\0{span}",
            captions={} if choices else self._captions(entry),
            picture=None if self.media_type == "audio" else file,
            sound=sound,
            still=self.media_type == "image",
            span=(span[0] or 0, span[1]),
            seconds=self.first_seconds,
            choices=choices,
            answer=answer,
        )

    def _file(self, entry: Mapping[str, Any], key: str, item: int) -> Path:
        named = entry.get(key)
        if not isinstance(named, str) or not named:
            raise ItemError("sample.record", f"entry {item} names no `{key}`")
        path = self.root / named
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ItemError("sample.record", f"entry {item} names a file outside of `root`")
        return path

    def _captions(self, entry: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        keys = dict(self.kinds) or {
            kind: key for key in entry if "caption" in key and (kind := kind_of(key, self.media_type))
        }
        found: dict[str, tuple[str, ...]] = {}
        for kind, key in keys.items():
            value = entry.get(key)
            texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
            texts = [text for text in texts if isinstance(text, str) and text.strip()]
            if texts:
                found[kind] = (" ".join(texts),) if self.paragraph else tuple(texts)
        return found

    def _choices(self, entry: Mapping[str, Any], item: int) -> tuple[tuple[str, ...], int]:
        if "answer" not in entry:
            return (), -1
        answer, choices = entry["answer"], entry.get("option", entry.get("caption"))
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise ItemError("sample.record", f"entry {item} has an answer but no list of choices")
        if type(answer) is not int or not 0 <= answer < len(choices):
            raise ItemError("sample.record", f"entry {item} answers with none of its {len(choices)} choices")
        return tuple(choices), answer


_NAMED_KINDS = {"": "", "video": "v", "image": "v", "visual": "v", "audio": "a", "speech": "s", "asr": "s"}


def kind_of(key: str, media_type: MediaType) -> str:
    """The caption kind that a key such as `caption`, `avs_captions` or `audio_caption` stands for; "" for none."""
    name = re.sub(r"captions?", "", key.lower()).strip("_- ")
    kind = _NAMED_KINDS.get(name, name if name in KINDS else "")
    return kind or ("a" if media_type == "audio" else "v") if name == "" or kind else ""


def _frame(entry: Mapping[str, Any], key: str, default: int | None) -> int | None:
    value = entry.get(key, default)
    if value is not None and (type(value) is not int or value < 0):
        raise ItemError("sample.record", f"`{key}` is no frame number")
    return value


def _listed(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MOST_LISTED:
            raise ConfigError(f"`{path}` is larger than {MOST_LISTED} bytes", hint="split it into several sources")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read `{path}`: {error}", hint="check `annotations`") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"`{path}` is not JSON: {error}", hint="give a JSON array of entries") from error
    if not isinstance(value, list) or not value:
        raise ConfigError(f"`{path}` holds no array of entries", hint="give a JSON array of entries")
    return value


def _opened_file(path: Path) -> BinaryIO:
    if not path.is_file():
        there = path.exists()
        raise ItemError("media.not_a_file" if there else "source.missing", path.name)
    try:
        return path.open("rb")
    except OSError as error:
        raise ItemError("media.unreadable", str(error)) from error


def tars_of(patterns: Sequence[str]) -> list[Path]:
    """The shards that folders, tars, globs and lists in braces (`demo-{000000..000041}-00.tar`) stand for, in order.

    Raises `UsageError` where there are none.
    """
    paths: list[Path] = []
    for pattern in patterns:
        for text in expanded(pattern):
            matched = sorted(glob.glob(text)) if any(sign in text for sign in "*?[") else [text]
            if not matched:
                raise ConfigError(f"nothing matches `{text}`", hint="give a shards folder, tars or a glob")
            paths += [Path(name) for name in matched]
    return find_shards(paths)


_BRACES = re.compile(r"\{([^{}]*)\}")
MOST_EXPANDED = 1_000_000


def expanded(pattern: str) -> list[str]:
    """`a-{00..02}` → a-00 a-01 a-02; `{x,y}` → x y; as shells do, for as many braces as there are."""
    pieces = _BRACES.split(pattern)
    choices = [[piece] if place % 2 == 0 else _choices_of(piece) for place, piece in enumerate(pieces)]
    count = 1
    for several in choices:
        count *= len(several)
    if count > MOST_EXPANDED:
        raise ConfigError(f"`{pattern}` stands for {count} names", hint="use a glob or several sources")
    return ["".join(parts) for parts in product(*choices)]


def _choices_of(inside: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if not numbers:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = numbers[1], numbers[2]
    low, high = int(first), int(last)
    if not 0 <= high - low < MOST_EXPANDED:
        raise ConfigError(f"`{{{inside}}}` is no range of numbers to expand", hint="as in {000000..000041}, or a glob")
    width = len(first) if first.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(low, high + 1)]
