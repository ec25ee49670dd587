"""A few small pictures of a clip: grabbed from its container, or made from JPEGs that are already there."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.error
import numpy as np

from vidcap.inspector.clip_check import PIXEL_LIMIT
from vidcap.media.candidates import JpegMaker

COUNT = 6
HEIGHT = 180
"""Rows of a picture. With `QUALITY` a picture has some 4 to 10 kB."""

QUALITY = 72
FRAME_LIMIT = 36_000
"""Frames that are decoded for one clip at most: ten minutes at 60 a second."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG, and when it is shown: seconds from the clip's start."""

    time: float
    jpeg: bytes


def targets(seconds: float, count: int = COUNT) -> list[float]:
    """The middle of each of `count` equal stretches, in seconds."""
    return [round((2 * at + 1) * seconds / (2 * count), 6) for at in range(count)]


def clip_pictures(file: BinaryIO, seconds: float, *, count: int = COUNT, height: int = HEIGHT) -> list[Picture]:
    """`count` pictures of a clip in an MP4 container, evenly spaced over its `seconds`.

    Key frames serve where they lie close enough, because decoding all that stands before a picture is what costs. What
    cannot be decoded gives fewer pictures, or none; nothing is raised for what the file holds.
    """
    found: list[Picture] = []
    try:
        # The demuxer is named, so that a playlist or script posing as a clip is never followed.
        with av.open(file, "r", format="mp4", metadata_errors="replace") as box:
            stream = box.streams.video[0]
            if stream.width * stream.height > PIXEL_LIMIT or stream.time_base is None:
                return []
            found.extend(grabbed(box, stream, 0, targets(seconds, count), height=height))
    except (av.error.FFmpegError, OverflowError, ValueError, IndexError, MemoryError):
        pass
    return found


def grabbed(box: Any, stream: Any, zero: int, times: Sequence[float], *, height: int = HEIGHT) -> Iterator[Picture]:
    """The first picture shown at or after each of the ascending `times` (seconds after the pts `zero`).

    A key frame up to half the distance of two times away stands for the picture meant. Raises PyAV's errors.
    """
    base = Fraction(stream.time_base)
    stream.codec_context.thread_count = 1
    # Blocky at worst, and at times the picture after the one meant: nobody measures these.
    stream.codec_context.options = {"skip_loop_filter": "all"}
    stream.codec_context.skip_frame = "NONREF"
    near = (times[1] - times[0]) / 2 if len(times) > 1 else 0.0
    keys = _key_times(box, stream, zero, times[-1] + near)
    make = JpegMaker(height, Fraction(stream.sample_aspect_ratio or 1))
    decoded: Iterator[Any] = iter(())
    at, left = float("-inf"), FRAME_LIMIT
    for wanted in times:
        close = [key for key in keys if abs(key - wanted) <= near]
        target = min(close, key=lambda key: (abs(key - wanted), key)) if close else wanted
        before = bisect.bisect_right(keys, target + 1e-6) - 1
        start = keys[before] if before >= 0 else 0.0
        if at == float("-inf") or start > at:
            box.seek(zero + round(start / base), stream=stream, backward=True)
            decoded = box.decode(stream)
        for frame in decoded:
            left -= 1
            if left < 0:
                return
            if frame.pts is None:
                continue
            at = float((frame.pts - zero) * base)
            if at >= target - 1e-3:
                yield Picture(round(max(0.0, at), 3), small(make(frame), height))
                break


def _key_times(box: Any, stream: Any, zero: int, until: float) -> list[float]:
    """When the key frames up to `until` are shown: seconds after `zero`, ascending."""
    base = Fraction(stream.time_base)
    box.seek(zero, stream=stream, backward=True)
    found = set()
    for packet in box.demux(stream):
        if packet.pts is None:
            continue
        at = float((packet.pts - zero) * base)
        if at > until + 10:
            break
        if packet.is_keyframe and 0 <= at <= until:
            found.add(at)
    return sorted(found)


def small(jpeg: bytes, height: int = HEIGHT) -> bytes:
    """The JPEG at most `height` rows high, without metadata. Raises `ValueError` for what is no JPEG."""
    import cv2

    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("not a JPEG")
    rows, columns = picture.shape[:2]
    if rows > height:
        size = (max(1, round(columns * height / rows)), height)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ValueError("the JPEG encoder gave nothing")
    return bytes(data)
