"""Write samples into deterministic tars, split by size; nothing is visible before `commit`.

webdataset's TarWriter wants every member in memory and its ShardWriter writes in place, so the tars are made here, with
the headers of the standard library; a test holds their bytes equal to TarWriter's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

from vidcap.errors import InvariantError, ItemError, UsageError
from vidcap.shards.metadata import flat_row, write_metadata
from vidcap.shards.schema import Sample, broken_invariants
from vidcap.store import PosixStore, sync_folder

OWNER = "vidcap"
"""User and group name in every tar header; the ids are 0."""

MEMBER_LIMIT = 8 * 2**30 - 1
"""USTAR writes sizes with 11 octal digits."""

MAX_SHARDS = 100
"""Shards of a part: their number has two digits."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
Member = tuple[str, "bytes | Path", int]


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A committed shard: file name, number of samples, size in bytes, and the sha256 of the tar."""

    name: str
    samples: int
    bytes: int
    sha256: str


def shard_name(name: str, part: int, number: int) -> str:
    """`{name}-{part:06d}-{number:02d}.tar`"""
    return f"{name}-{part:06d}-{number:02d}.tar"


_PIECE = 1 << 20


class _Hashing:
    """The stream behind a tar: counts and hashes what goes to the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.bytes = 0
        self.state = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        self.state.update(data)
        self.bytes += len(data)
        self.file.write(data)

    def copy(self, content: bytes | Path, size: int) -> None:
        """Raises OSError where a file is not of that size: the headers after it would stand at the wrong places."""
        if isinstance(content, bytes):
            self.write(content)
            return
        piece = memoryview(bytearray(min(size, _PIECE)))
        left = size
        with content.open("rb", buffering=0) as file:
            while left:
                count = file.readinto(piece[: min(left, _PIECE)])
                if not count:
                    raise OSError(f"unexpected end of data: `{content.name}` lacks {left} bytes")
                self.write(piece[:count])
                left -= count


class _OpenShard:
    """One tar under a temporary name, and the metadata rows of its samples."""

    def __init__(self, folder: Path, name: str) -> None:
        self.target = folder / name
        self.temporary = folder / f".{name}.{os.getpid()}.tmp"
        self.metadata = folder / f".{self.target.stem}.parquet.{os.getpid()}.tmp"
        self.rows: list[dict[str, Any]] = []
        self.used = 0
        self.file = self.temporary.open("wb")
        self.stream = _Hashing(self.file)

    def add(self, members: list[Member], row: dict[str, Any]) -> None:
        for name, content, size in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime, info.uname, info.gname = size, 0o444, 0, OWNER, OWNER
            # As `TarFile.addfile`, which copies in small pieces and keeps the header of every member in memory.
            self.stream.write(info.tobuf(tarfile.USTAR_FORMAT, tarfile.ENCODING, "surrogateescape"))
            self.stream.copy(content, size)
            self.stream.write(b"\0" * (-size % tarfile.BLOCKSIZE))
        self.used += _blocks(members)
        self.rows.append(row)

    def finish(self) -> ShardInfo:
        """Close and sync both files under their temporary names."""
        self.stream.write(b"\0" * (2 * tarfile.BLOCKSIZE))
        self.stream.write(b"\0" * (-self.stream.bytes % tarfile.RECORDSIZE))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        write_metadata(self.rows, self.metadata)
        with self.metadata.open("rb") as written:
            os.fsync(written.fileno())
        return ShardInfo(self.target.name, len(self.rows), self.stream.bytes, self.stream.state.hexdigest())

    def publish(self) -> None:
        # Metadata first: a tar that is there always has its metadata beside it.
        self.metadata.replace(self.target.with_suffix(".parquet"))
        self.temporary.replace(self.target)

    def discard(self) -> None:
        self.file.close()
        self.temporary.unlink(missing_ok=True)
        self.metadata.unlink(missing_ok=True)


class ShardWriter:
    """The shards of one part, in ascending key order; a shard is closed before it would pass `max_bytes`.

    A sample larger than `max_bytes` gets a shard of its own. As a context manager it commits on leaving and aborts on
    an error. `add` raises `ItemError("pack.bad_sample")` for a sample that breaks the format, before a byte is written;
    after any other error the writer has aborted.
    """

    def __init__(
        self, folder: Path, name: str, part: int, *, max_bytes: int, flac: bool, max_samples: int | None = None
    ) -> None:
        if not NAME.fullmatch(name):
            raise UsageError(f"`{name}` cannot name shards", hint="use letters, digits, `_` and `-` in `name`")
        if not 0 <= part < 1_000_000:
            raise UsageError(f"part `{part}` does not fit the shard name", hint="use larger parts (`part_bytes`)")
        if max_bytes < 1 or (max_samples is not None and max_samples < 1):
            raise UsageError("a shard must hold something", hint="give a positive `max_bytes` and `max_samples`")
        self.folder, self.name, self.part = folder, name, part
        self.max_bytes, self.max_samples, self.flac = max_bytes, max_samples, flac
        self.infos: list[ShardInfo] = []
        self._shards: list[_OpenShard] = []
        self._open: _OpenShard | None = None
        self._last_key = ""
        self._state: Literal["open", "committed", "aborted"] = "open"
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, sample: Sample) -> None:
        """Append a sample; its key must be greater than the last one's."""
        self._must_be_open()
        members = self._members(sample)
        if sample.key <= self._last_key:
            raise InvariantError(f"sample `{sample.key}` comes after `{self._last_key}`: keys must ascend")
        row = flat_row(sample.json)
        with self._aborting():
            if self._open is None or not self._fits(self._open, members):
                self._next()
            assert self._open is not None
            self._open.add(members, row)
            self._last_key = sample.key

    @property
    def current(self) -> str:
        """The name of the shard that holds the sample added last; "" before the first."""
        return self._open.target.name if self._open is not None else ""

    def commit(self) -> list[ShardInfo]:
        """Make all shards visible, synced and whole, in order; returns them. A second call changes nothing."""
        if self._state == "committed":
            return self.infos
        self._must_be_open()
        with self._aborting():
            self._close()
            for shard in self._shards:
                shard.publish()
            sync_folder(self.folder)
        self._state = "committed"
        return self.infos

    def abort(self) -> None:
        """Remove every temporary file; after `commit` it does nothing."""
        if self._state == "open":
            self._state = "aborted"
            for shard in self._shards:
                shard.discard()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()
        elif self._state == "open":
            self.commit()

    def _must_be_open(self) -> None:
        if self._state != "open":
            raise InvariantError(f"the shard writer of part {self.part} is {self._state}")

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.abort()
            raise

    def _members(self, sample: Sample) -> list[Member]:
        """Name, content and size of each member, in the order webdataset writes them; raises for a bad sample."""
        broken = broken_invariants(sample.json)
        if (sample.flac is not None) != self.flac:
            broken.append("flac is there for all samples of a run or for none")
        contents: dict[str, bytes | Path] = {
            "json": sample.json.to_bytes(),
            "mp4": sample.mp4,
            "txt": sample.txt.encode(),
        }
        if sample.flac is not None:
            contents["flac"] = sample.flac
        members: list[Member] = []
        for suffix, content in sorted(contents.items()):
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            # The text is the primary caption: that it may be empty is for `broken_invariants` to say.
            if size > MEMBER_LIMIT or not (size or suffix == "txt"):
                broken.append(f"{suffix} has {size} bytes")
            members.append((f"{sample.key}.{suffix}", content, size))
        if broken:
            raise ItemError("pack.bad_sample", "; ".join(broken[:5]))
        return members

    def _fits(self, shard: _OpenShard, members: list[Member]) -> bool:
        total = shard.used + _blocks(members) + 2 * tarfile.BLOCKSIZE
        padded = -(-total // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        return padded <= self.max_bytes and (self.max_samples is None or len(shard.rows) < self.max_samples)

    def _next(self) -> None:
        self._close()
        if len(self._shards) == MAX_SHARDS:
            raise UsageError(f"part {self.part} needs more than {MAX_SHARDS} shards", hint="raise `max_bytes`")
        self._open = _OpenShard(self.folder, shard_name(self.name, self.part, len(self._shards)))
        self._shards.append(self._open)

    def _close(self) -> None:
        if self._open is not None:
            self.infos.append(self._open.finish())
            self._open = None


def _blocks(members: list[Member]) -> int:
    """Bytes that the members take in a tar: a header block each, and the content in whole blocks."""
    return sum(tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE)) for _, _, size in members)


def remove_stale(folder: Path, name: str, part: int, keep: Collection[str]) -> list[str]:
    """Remove what a re-pack left over: shards of this part that are not in `keep`, their metadata, temporary files.

    `keep` holds tar names. Call it after `commit`; returns the names that went.
    """
    stem = re.escape(f"{name}-{part:06d}-")
    ours = re.compile(rf"({stem}\d\d)\.(tar|parquet)|\.{stem}\d\d\.(tar|parquet)\.\d+\.tmp")
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = ours.fullmatch(path.name)
        if match and f"{match[1]}.tar" not in keep:
            path.unlink(missing_ok=True)
            removed.append(path.name)
    if removed:
        sync_folder(folder)
    return removed


def write_sizes(folder: Path, entries: Mapping[str, int]) -> None:
    """Write `sizes.json`, {tar name: samples}: the shards that count, as webdataset and open_clip read them.

    Raises `InvariantError` where a listed shard is not there.
    """
    missing = [name for name in sorted(entries) if not (folder / name).is_file()]
    if missing:
        raise InvariantError(f"`{missing[0]}` is listed in sizes.json but is not there ({len(missing)} in all)")
    PosixStore(folder).write("sizes.json", (json.dumps(dict(sorted(entries.items())), indent=1) + "\n").encode())
