"""Walk the headers of an untrusted tar within bounds.

`tarfile` only parses each header block: its own iterator follows links, extension headers and sizes as the archive
claims them.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = tarfile.BLOCKSIZE

_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
}
"""Entries without content; every other type has as many bytes as its header says."""


class Member(NamedTuple):
    """Where a member's content lies in its tar, in bytes."""

    offset: int
    size: int


class Entry(NamedTuple):
    """One header. `fault` is empty for a regular file; with a fault the name may be empty too."""

    name: str
    content: Member
    fault: str


def entries(path: Path) -> Iterator[Entry]:
    """Every header in order. What ends the walk early (damage, a cut-off file) is the last entry's fault.

    Raises `OSError` where the file cannot be read.
    """
    none = Member(0, 0)
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        offset = 0
        while True:
            file.seek(offset)
            header = file.read(BLOCK)
            if not header.strip(b"\0"):
                fault = _end_fault(header + file.read(tarfile.RECORDSIZE), total - offset)
                if fault:
                    yield Entry("", none, fault)
                return
            try:
                info = tarfile.TarInfo.frombuf(header, "ascii", "surrogateescape")
            except (tarfile.HeaderError, ValueError) as error:
                cut = len(header) < BLOCK
                yield Entry("", none, "shard.truncated: ends in a header" if cut else f"shard.damaged: header, {error}")
                return
            content = Member(offset + BLOCK, info.size)
            left = total - content.offset
            if not 0 <= info.size <= left:
                yield Entry(info.name, none, f"shard.truncated: {info.size} bytes promised, {left} left")
                return
            regular = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            kind = "" if regular else _KINDS.get(info.type, f"a tar extension {ascii(info.type)[2:-1]}")
            yield Entry(info.name, content, kind and f"member.kind: `{ascii(info.name)[1:-1]}` is {kind}")
            holds = regular or info.type not in _KINDS
            offset = content.offset + (-(-info.size // BLOCK) * BLOCK if holds else 0)


def _end_fault(tail: bytes, left: int) -> str:
    """What is wrong with the end of a tar: at least two zero blocks, at most a record, nothing hidden behind."""
    if left < 2 * BLOCK:
        return "shard.truncated: no end marker"
    if left > tarfile.RECORDSIZE + BLOCK or tail.strip(b"\0"):
        return "shard.trailing: bytes after the end marker"
    return ""
