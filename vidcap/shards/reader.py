"""Find shards and read samples out of them without trusting them: nothing is decoded, unpacked to disk or executed."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vidcap.errors import ShardError, UsageError
from vidcap.shards.headers import Entry, Member, entries
from vidcap.shards.metadata import read_keys
from vidcap.shards.schema import KEY, SampleJson, parse

LIMITS = {"mp4": 2 * 2**30, "flac": 2 * 2**30, "json": 16 * 2**20, "txt": 4 * 2**20}
"""The members there are, and the most bytes that each may have."""

SHARD_NAME = re.compile(r"(?P<run>[A-Za-z0-9][A-Za-z0-9_-]{0,63})-(?P<part>\d{6})-(?P<number>\d{2})\.tar")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a shard or one of its samples. `fault` is `code: detail`, printable ASCII plus backticks."""

    shard: str
    key: str
    fault: str


@dataclass(frozen=True, slots=True)
class RawSample:
    """A sample as it lies in a tar: members by suffix; contents are read when asked for."""

    path: Path
    key: str
    members: dict[str, Member] = field(default_factory=dict)

    def read(self, suffix: str) -> bytes:
        """The whole member. Raises `KeyError` for one that is not there."""
        member = self.members[suffix]
        # In one read: through `open` it would come in pieces of 8 kB.
        with self.path.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)

    def open(self, suffix: str) -> BinaryIO:
        """A seekable view of the member, without holding it in memory."""
        return io.BufferedReader(_Window(self.path, self.members[suffix]))

    def record(self) -> SampleJson:
        """The parsed `.json`. Raises `ShardError` where it is missing or not of this schema."""
        if "json" not in self.members:
            raise ShardError(f"sample `{self.key}` has no .json", hint=f"run `vidcap validate {self.path}`")
        try:
            return parse(self.read("json"))
        except ValueError as error:
            raise ShardError(f"sample `{self.key}`: {error}", hint=f"run `vidcap validate {self.path}`") from None


class _Window(io.RawIOBase):
    """The bytes of one member as a file of their own."""

    def __init__(self, path: Path, member: Member) -> None:
        self._file = path.open("rb")
        self._member = member
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._member.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed says WriteableBuffer, private
        left = max(0, min(len(buffer), self._member.size - self._at))
        self._file.seek(self._member.offset + self._at)
        data = self._file.read(left)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def scan(path: Path) -> Iterator[RawSample | Fault]:
    """The samples of one tar in order, and what is wrong with it in between; never raises for what the tar holds.

    A faulty member is left out of its sample, and a sample whose key came before is left out whole. Raises `OSError`
    where the file cannot be read.
    """
    current: RawSample | None = None
    seen: set[str] = set()
    for entry in entries(path):
        key, suffix, fault = _named(entry)
        if fault:
            yield Fault(path.name, key, fault)
            continue
        if current is None or current.key != key:
            if current is not None:
                yield current
            current = None
            if key in seen:
                yield Fault(path.name, key, f"key.repeated: .{suffix} does not stand beside the sample's other members")
                continue
            seen.add(key)
            current = RawSample(path, key)
        if suffix in current.members:
            yield Fault(path.name, key, f"member.repeated: two .{suffix}")
        else:
            current.members[suffix] = entry.content
    if current is not None:
        yield current


def _named(entry: Entry) -> tuple[str, str, str]:
    """Key, suffix and fault of an entry."""
    shown = ascii(entry.name)[1:-1]
    key, _, suffix = entry.name.partition(".")
    safe = key if KEY.fullmatch(key) else ""
    if entry.fault:
        return safe, suffix, entry.fault
    if entry.name.startswith("/") or "\\" in entry.name or ".." in entry.name.split("/"):
        return "", "", f"member.path: `{shown}` leads out of the shard"
    if "/" in entry.name or not safe:
        return "", "", f"key.malformed: `{shown}`"
    if "." in suffix:
        return safe, "", f"key.dotted: `{shown}`"
    if suffix not in LIMITS:
        return safe, suffix, f"member.unexpected: `{shown}`"
    if entry.content.size > LIMITS[suffix]:
        return safe, suffix, f"member.too_large: .{suffix} has {entry.content.size} bytes"
    return safe, suffix, ""


def shards_folder(folder: Path) -> Path:
    """`folder/shards` for a run's output folder, else `folder` itself."""
    inner = folder / "shards"
    return inner if inner.is_dir() else folder


def read_sizes(folder: Path) -> dict[str, int] | None:
    """`sizes.json` of a shards folder; None where there is none. Raises `ShardError` for one that is malformed."""
    path = folder / "sizes.json"
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict) or not all(type(count) is int and count >= 0 for count in value.values()):
            raise ValueError("not an object of counts")
        if not all(name.endswith(".tar") and Path(name).name == name for name in value):
            raise ValueError("a name is not that of a tar beside it")
    except (ValueError, RecursionError) as error:
        raise ShardError(f"`{path}` is malformed: {error}", hint="run the pack stage again") from None
    return value


def find_shards(paths: Sequence[Path]) -> list[Path]:
    """The tars that are meant: files as given, folders (a run's output or its `shards`) in order of name.

    In a folder with `sizes.json` only the shards listed there count. Raises `UsageError` for a path that is not there
    or holds no shard, `ShardError` for a listed shard that is gone.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        if not path.is_dir():
            raise UsageError(f"`{path}` is not there", hint="give a run's output folder, a shards folder or a .tar")
        folder = shards_folder(path)
        sizes = read_sizes(folder)
        if sizes is None:
            tars = sorted(tar for tar in folder.glob("*.tar") if tar.is_file() and not tar.name.startswith("."))
        else:
            tars = [folder / name for name in sorted(sizes)]
            gone = [tar.name for tar in tars if not tar.is_file()]
            if gone:
                raise ShardError(f"`{gone[0]}` is in sizes.json but not in `{folder}`", hint="run the pack stage again")
        if not tars:
            raise UsageError(f"no shards in `{path}`", hint="run a pipeline with a pack stage first")
        found += tars
    return list(dict.fromkeys(found))


def iter_samples(paths: Sequence[Path]) -> Iterator[RawSample]:
    """All samples of the shards `find_shards` finds. The first fault raises `ShardError`."""
    for path in find_shards(paths):
        yield from _sound(scan(path), path)


def _sound(items: Iterable[RawSample | Fault], path: Path) -> Iterator[RawSample]:
    for item in items:
        if isinstance(item, Fault):
            raise ShardError(f"`{path}`: {item.fault}", hint=f"run `vidcap validate {path}`")
        yield item


def read_sample(paths: Sequence[Path], key: str) -> RawSample:
    """The sample of that key; shards whose metadata file does not list it are not opened. Raises `UsageError`."""
    for path in find_shards(paths):
        metadata = path.with_suffix(".parquet")
        if metadata.is_file():
            try:
                if key not in read_keys(metadata):
                    continue
            except ValueError:
                pass  # damaged metadata is for `validate`; the tar itself can still be searched
        for sample in _sound(scan(path), path):
            if sample.key == key:
                return sample
    raise UsageError(f"no sample `{key}`", hint="list keys with `vidcap inspect DIR --json`")
