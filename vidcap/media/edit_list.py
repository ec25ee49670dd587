"""The cut that hides: packets copied from the key packet before the first frame on, the surplus behind an edit list.

Only readers that follow edit lists show the right frames (docs/cutting.md names them); the hidden ones are still there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidcap.errors import InvariantError
from vidcap.media.frames import NO_TIME, SourceTables
from vidcap.media.snap import Order


@dataclass(frozen=True, slots=True)
class Hiding:
    """The packets of `run` hold a span and more. `hidden` and `bytes`: sizes of the packets not shown, and of all.

    `shown`: the frame that the first packet is.
    """

    run: range
    shown: int
    hidden: int
    bytes: int


def hiding(tables: SourceTables, order: Order, first: int, last: int) -> Hiding | None:
    """The least run that holds the frames `first` to `last` and begins on a key packet; None where order tells of none.

    What stands between in decode order is kept: leading pictures of an open group need nothing special.
    """
    packets, frames = tables.packets, tables.frames
    start, final = order.key(first), order.final(last)
    if start is None or final is None:
        return None
    run = range(start, final + 1)
    pts = packets.pts[start : final + 1]
    # A packet without a time, or one that the source itself hides, cannot be hidden or shown at will.
    if final < start or np.any(pts == NO_TIME) or np.any(order.shown[start : final + 1] < 0):
        return None
    inside = (pts >= frames.pts[first]) & (pts <= frames.pts[last])
    if int(inside.sum()) != last - first + 1:
        return None
    sizes = packets.size[start : final + 1]
    return Hiding(run, int(order.shown[start]), int(sizes[~inside].sum()), int(sizes.sum()))


_HOLDING = frozenset({b"moov", b"trak", b"edts", b"mdia"})


def shorten(path: Path, length: Fraction) -> None:
    """Make the video track of an MP4 that `ClipFile` wrote show `length` seconds; sizes and offsets stay as they are.

    The muxer's edit list says where the picture begins, but runs to the end of what is there.
    """
    with path.open("r+b") as file:
        where, size = _moov(file.fileno())
        file.seek(where)
        moov = bytearray(file.read(size))
        _shorten(moov, length)
        file.seek(where)
        file.write(moov)


def _moov(handle: int) -> tuple[int, int]:
    at, end = 0, os.fstat(handle).st_size
    while at + 8 <= end:
        head = os.pread(handle, 16, at)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8:
            break
        if head[4:8] == b"moov":
            return at, size
        at += size
    raise InvariantError("a clip without `moov`")


def _boxes(data: bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box; those that hold others come before what they hold."""
    at = start
    while at + 8 <= end:
        size, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        if size < 8 or at + size > end:
            raise InvariantError(f"a box `{kind!r}` of {size} bytes")
        yield kind, at + 8, at + size
        if kind in _HOLDING:
            yield from _boxes(data, at + 8, at + size)
        at += size


def _shorten(moov: bytearray, length: Fraction) -> None:
    scale = longest = movie = 0
    tracks: list[dict[bytes, int]] = []
    for kind, at, _ in _boxes(moov, 8, len(moov)):
        if kind == b"mvhd":
            movie = at
            scale = int.from_bytes(moov[at + (20 if moov[at] else 12) :][:4], "big")
        elif kind == b"trak":
            tracks.append({})
        elif kind in (b"tkhd", b"elst", b"hdlr") and tracks:
            tracks[-1][kind] = at
    for track in tracks:
        place, wide = track[b"tkhd"], bool(moov[track[b"tkhd"]])
        if moov[track[b"hdlr"] + 8 : track[b"hdlr"] + 12] == b"vide":
            ticks = round(length * scale)
            _put(moov, place + (28 if wide else 20), wide, ticks)
            if b"elst" not in track:
                raise InvariantError("a clip that hides frames without an edit list")
            _last_edit(moov, track[b"elst"], ticks)
        longest = max(longest, _get(moov, place + (28 if wide else 20), wide))
    _put(moov, movie + (24 if moov[movie] else 16), bool(moov[movie]), longest)


def _last_edit(moov: bytearray, at: int, ticks: int) -> None:
    """The last edit is the one that shows; those before it can only be empty and count too."""
    wide = bool(moov[at])
    size = 20 if wide else 12
    count = int.from_bytes(moov[at + 4 : at + 8], "big")
    edits = [at + 8 + number * size for number in range(count)]
    _put(moov, edits[-1], wide, ticks - sum(_get(moov, edit, wide) for edit in edits[:-1]))


def _get(data: bytearray, at: int, wide: bool) -> int:
    return int.from_bytes(data[at : at + (8 if wide else 4)], "big")


def _put(data: bytearray, at: int, wide: bool, value: int) -> None:
    width = 8 if wide else 4
    data[at : at + width] = value.to_bytes(width, "big")
