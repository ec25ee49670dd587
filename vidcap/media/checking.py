"""Is a cut clip what it should be? Counts and times from its packets, pictures against the decode pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt

from vidcap.errors import MediaError
from vidcap.media.alignment import MISFIT, alignment
from vidcap.media.frames import FrameTable
from vidcap.media.opening import UNSMOOTHED
from vidcap.media.snap import Inner
from vidcap.media.thumbnails import Thumbnailer, resembles

Check = Literal["exact", "aligned", "indistinct"]
Thumbnails = npt.NDArray[np.uint8]

_LEAST, _CHANGES = 12, 8


class _Opened:
    """A clip, its video packets in decode order, and its container's own count."""

    def __init__(self, clip: Any) -> None:
        self.clip = clip
        self.video: Any = clip.streams.video[0]
        self.counted: int = self.video.frames
        self.packets: list[Any] = [packet for packet in clip.demux(self.video) if packet.size]

    def opening(self, count: int) -> Iterator[Any]:
        """The first `count` pictures shown: decoded with as few packets as that takes."""
        self.clip.seek(0, stream=self.video, backward=True)
        yield from itertools.islice(self.clip.decode(self.video), count)

    def alone(self, number: int) -> Any | None:
        """The picture of one packet that needs no other; hidden or not, and out of any order."""
        context = self.video.codec_context
        # A packet of its own: whatever the container marked on the other, to hide it, is not on this one.
        packet = av.Packet(bytes(self.packets[number]))
        packet.time_base = self.video.time_base
        decoded = [*context.decode(packet), *context.decode(None)]
        context.flush_buffers()
        if not decoded:
            return None
        decoded[0].time_base = self.video.time_base
        return decoded[0]

    def ending(self, at: int = -1) -> list[Any]:
        """The pictures from the last key packet at or before `at`, in ticks, to the end; by default the last such."""
        self.clip.seek(self.video.duration or 0 if at < 0 else at, stream=self.video, backward=True, any_frame=False)
        return list(self.clip.decode(self.video))


@contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    with av.open(str(path)) as clip:
        context = clip.streams.video[0].codec_context
        context.thread_count, context.options = 1, UNSMOOTHED
        yield _Opened(clip)


def check_times(path: Path, table: FrameTable, first: int, last: int) -> None:
    """The container's own count, the number of packets and every presentation time agree with the frame table.

    Demultiplexes only. Raises `MediaError("pack.cut_mismatch")`.
    """
    with _opened(path) as clip:
        _check_times(clip, table, first, last)


def _check_times(clip: _Opened, table: FrameTable, first: int, last: int, *, hidden: bool = False) -> None:
    count = last - first + 1
    shown = [packet for packet in clip.packets if not packet.is_discard]
    if not hidden and len(shown) != len(clip.packets):
        raise _mismatch("the clip hides frames")
    if len(shown) != count or clip.counted != len(clip.packets):
        raise _mismatch(f"{clip.counted} frames counted, {len(shown)} packets shown, {count} wanted")
    # Times as whole multiples of what both units are multiples of.
    base = clip.video.time_base
    ours, theirs = (
        unit.numerator * other.denominator for unit, other in ((table.time_base, base), (base, table.time_base))
    )
    wanted = (table.pts[first : last + 1] - table.pts[first]).astype(object) * ours
    found = np.array(sorted(packet.pts for packet in shown), object) * theirs
    wrong = np.flatnonzero(wanted != found)
    if len(wrong):
        at = int(wrong[0])
        raise _mismatch(f"frame {first + at} is shown at {float(Fraction(int(found[at]), theirs) * base):.6f} s")


def check_copy(path: Path, table: FrameTable, first: int, last: int, *, to_the_end: bool) -> Check:
    """ "exact": times and count agree, and the first frame's thumbnail is that of the decode pass, as its hash tells.

    `to_the_end` decodes up to the last frame and compares it too: some ten times the cost of the copy itself.
    """
    with _opened(path) as clip:
        _check_times(clip, table, first, last)
        _same([clip.alone(0)], table, first, "first")
        if to_the_end:
            _same(clip.ending()[-1:], table, last, "last")
    return "exact"


def check_edit_list(
    path: Path, table: FrameTable, first: int, last: int, shown: int | None, *, to_the_end: bool
) -> Check:
    """ "exact": shown times and their count agree; the first packet decodes to frame `shown`, wherever it is hidden.

    `to_the_end`, or without `shown`, it is decoded to the end and its first and last frame compared.
    """
    with _opened(path) as clip:
        _check_times(clip, table, first, last, hidden=True)
        if shown is not None:
            _same([clip.alone(0)], table, shown, "first hidden")
        if to_the_end or shown is None:
            pictures = list(clip.opening(last - first + 1))
            if len(pictures) != last - first + 1:
                raise _mismatch(f"{len(pictures)} frames decode, {last - first + 1} wanted")
            _same(pictures[:1], table, first, "first")
            _same(pictures[-1:], table, last, "last")
    return "exact"


def check_reencode(path: Path, table: FrameTable, first: int, last: int, given: Thumbnails) -> Check:
    """Times and count agree, and the pictures fit `given` best without a shift.

    `given`, N×27×48×3, is what the encoder got: of all frames, or of the first ones, and then only those are decoded.
    "indistinct" where a shift by one or two frames would look the same (stills, slides); else "aligned".
    """
    with _opened(path) as clip:
        _check_times(clip, table, first, last)
        return alignment(_thumbnails(clip.opening(len(given)), len(given)), given)


def check_hybrid(
    path: Path,
    table: FrameTable,
    first: int,
    last: int,
    inner: Inner,
    head: Thumbnails,
    tail: Thumbnails,
    *,
    to_the_end: bool,
) -> Check:
    """Times and count agree, both edges fit what was encoded best without a shift, and the copy begins and ends right.

    `inner` are the frames that were copied; the first and the last frame of the copy look as in the decode pass.
    `to_the_end` every frame of the copy is decoded and compared.
    """
    with _opened(path) as clip:
        _check_times(clip, table, first, last)
        before = inner.first - first
        copied = inner.last - inner.first + 1
        verdicts: list[Check] = []
        pictures = list(clip.opening(before + (copied if to_the_end else 1)))
        if len(head):
            verdicts.append(alignment(_thumbnails(pictures[:before], before), head))
        for offset, picture in enumerate(pictures[before:]):
            _same([picture], table, inner.first + offset, "copied")
        if len(pictures) != before + (copied if to_the_end else 1):
            raise _mismatch(f"{len(pictures)} frames decode up to the copy")
        if len(tail):
            at = int(table.pts[inner.last + 1] - table.pts[first]) * table.time_base / clip.video.time_base
            verdicts.append(alignment(_thumbnails(clip.ending(int(at)), len(tail)), tail))
    return "indistinct" if "indistinct" in verdicts else "aligned"


def frames_to_compare(table: FrameTable, first: int, last: int) -> int:
    """How many frames from the first on tell a shift apart: a dozen, or more until enough of them differ."""
    codes = table.hash[first : last + 1]
    changes = np.cumsum(codes[1:] != codes[:-1])
    enough = int(np.searchsorted(changes, _CHANGES)) + 2
    return min(len(codes), max(_LEAST, enough))


def _same(pictures: Iterable[Any], table: FrameTable, index: int, which: str) -> None:
    picture = next(iter(pictures), None)
    if picture is None or not resembles(Thumbnailer()(picture), table.hash[index]):
        raise _mismatch(f"the {which} frame is not frame {index}")


def _thumbnails(pictures: Iterable[Any], count: int) -> Thumbnails:
    thumbnail = Thumbnailer()
    shown = [thumbnail(picture) for picture in pictures]
    if len(shown) != count:
        raise _mismatch(f"{len(shown)} frames decode, {count} were encoded")
    return np.stack(shown)


def _mismatch(detail: str) -> MediaError:
    return MediaError(MISFIT, detail)


def rate_of(table: FrameTable, first: int, last: int) -> Fraction:
    """Frames per second of the span: `FrameTable.fps` of its frames. How long the last one is shown does not count."""
    return table.part(first, last).fps
