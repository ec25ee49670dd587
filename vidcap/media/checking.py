"""Is a cut clip what it should be? Counts and times from its packets, pictures against the decode pass."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt

from vidcap.errors import MediaError
from vidcap.media.frames import FrameTable
from vidcap.media.thumbnails import Thumbnailer, hashes

Check = Literal["exact", "aligned", "indistinct"]
Thumbnails = npt.NDArray[np.uint8]

LAGS = (-2, -1, 1, 2)
MARGIN = 0.02
"""Mean grey-level difference (0–255) by which one lag must beat another to be told apart."""
FAR = 24.0
"""Mean grey-level difference from its source above which a single re-encoded frame is not that frame."""


def check_times(path: Path, table: FrameTable, first: int, last: int) -> None:
    """The container's own count, the number of packets and every presentation time agree with the frame table.

    Demultiplexes only. Raises `MediaError("pack.cut_mismatch")`.
    """
    count = last - first + 1
    with av.open(str(path)) as clip:
        video = clip.streams.video[0]
        packets: list[Any] = [packet for packet in clip.demux(video) if packet.size]
        if video.frames != count or len(packets) != count:
            raise _mismatch(f"{video.frames} frames counted, {len(packets)} packets, {count} wanted")
        if any(packet.is_discard for packet in packets):
            raise _mismatch("the clip hides frames")
        times = sorted(packet.pts * packet.time_base for packet in packets)
    origin = int(table.pts[first])
    for index, time in zip(range(first, last + 1), times, strict=True):
        if time != (int(table.pts[index]) - origin) * table.time_base:
            raise _mismatch(f"frame {index} is shown at {float(time):.6f} s")


def check_copy(path: Path, table: FrameTable, first: int, last: int, *, to_the_end: bool) -> Check:
    """ "exact": times and count agree, and the first frame's thumbnail hashes as in the decode pass.

    `to_the_end` decodes up to the last frame and compares it too: some ten times the cost of the copy itself.
    """
    check_times(path, table, first, last)
    thumbnail = Thumbnailer()
    with av.open(str(path)) as clip:
        opening = next(clip.decode(video=0), None)
        if opening is None or hashes(thumbnail(opening)[None])[0] != table.hash[first]:
            raise _mismatch(f"the first frame is not frame {first}")
        if to_the_end:
            ending = _last_frame(clip)
            if ending is None or hashes(thumbnail(ending)[None])[0] != table.hash[last]:
                raise _mismatch(f"the last frame is not frame {last}")
    return "exact"


def check_reencode(path: Path, table: FrameTable, first: int, last: int, given: Thumbnails) -> Check:
    """Times and count agree, and the pictures fit `given` (N×27×48×3, what the encoder got) best without a shift.

    "indistinct" where a shift by one or two frames would look the same (stills, slides); else "aligned".
    """
    check_times(path, table, first, last)
    thumbnail = Thumbnailer()
    with av.open(str(path)) as clip:
        shown = np.stack([thumbnail(frame) for frame in clip.decode(video=0)])
    if len(shown) != len(given):
        raise _mismatch(f"{len(shown)} frames decode, {len(given)} were encoded")
    return alignment(shown, given)


def alignment(shown: Thumbnails, given: Thumbnails) -> Check:
    """Compare two sequences of N thumbnails at lag 0 against lags ±1 and ±2, as a whole and at both ends.

    Raises `MediaError("pack.cut_mismatch")` where a lag fits better than none, or a frame is far from its source.
    """
    here = _distance(shown, given)
    told_apart = True
    for lag in LAGS:
        if len(shown) <= abs(lag):
            told_apart = False
            continue
        pairs = slice(max(0, -lag), len(shown) - max(0, lag))
        there = _distance(shown[pairs], given[max(0, lag) : len(given) + min(0, lag)])
        gain = here[pairs] - there
        # A shift may show in the whole, or, where most of the clip stands still, only where something moves.
        for part in (gain.mean(), gain[np.abs(gain).argmax()]):
            if part > MARGIN and gain.mean() > 0:
                raise _mismatch(f"the clip fits its source better when shifted by {lag}")
        told_apart &= bool(gain.mean() < -MARGIN)
    if len(here) and here.max() > FAR:
        raise _mismatch(f"frame {int(here.argmax())} of the clip differs from its source by {here.max():.1f}")
    return "aligned" if told_apart else "indistinct"


def _distance(one: Thumbnails, other: Thumbnails) -> npt.NDArray[np.float64]:
    """Mean absolute difference of each pair of thumbnails."""
    distance: npt.NDArray[np.float64] = np.abs(one.astype(np.int16) - other).mean(axis=(1, 2, 3))
    return distance


def _last_frame(clip: Any) -> Any | None:
    """Decode from the last key packet to the end."""
    video = clip.streams.video[0]
    clip.seek(video.duration or 0, stream=video, backward=True, any_frame=False)
    ending = None
    for frame in clip.decode(video):
        ending = frame
    return ending


def _mismatch(detail: str) -> MediaError:
    return MediaError("pack.cut_mismatch", detail)


def rate_of(table: FrameTable, first: int, last: int) -> Fraction:
    """Frames per second of the span: `FrameTable.fps` of its frames. How long the last one is shown does not count."""
    return table.part(first, last).fps
