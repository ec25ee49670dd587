"""The copy of a run of packets into a clip, without decoding them; and which streams a copy is worth anything of."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidcap.media.frames import NO_TIME, SourceTables
from vidcap.media.mp4 import ClipFile
from vidcap.media.source import SourceReader

MP4_CODECS = frozenset({"h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg"})
"""Video codecs that MP4 can hold; VP8, H.263 and GIF are among those it cannot."""

_IDR = 5
_NAL_TYPE = 0x1F


class NotCopyableError(Exception):
    """The bytes say that a decoder cannot start here, or would need more than the packets hold."""


def copy_video(source: SourceReader, run: range, first: int, last: int, out: ClipFile) -> None:
    """Copy the packets of `run`, which are the frames `first` to `last`, with times counted from the first frame.

    Raises `NotCopyableError` before anything is written.
    """
    tables = source.tables
    packets = source.packets(run)
    context = source.video.codec_context
    if context.codec.canonical_name == "h264" and not starts_clean(bytes(packets[0]), context.extradata):
        raise NotCopyableError("the key packet is a recovery point, not a clean start")
    if any(packet.has_sidedata("new_extradata") for packet in packets):
        raise NotCopyableError("the stream's parameters change within the span")
    track = out.copied(source.video)
    origin = int(tables.frames.pts[first])
    pts = tables.packets.pts[run.start : run.stop] - origin
    dts = _decode_times(tables, run, origin, pts)
    durations = [_duration(tables, at + origin) for at in pts.tolist()]
    # MP4 sums durations in decode order, where the last packet need not be the last frame: it gets what is left of the
    # span, so that the track is as long as its frames are shown.
    durations[-1] = max(1, tables.frames.end_pts(last) - origin - (dts[-1] - dts[0]))
    for packet, at, decoded, duration in zip(packets, pts.tolist(), dts, durations, strict=True):
        track.add(packet, pts=at, dts=decoded, duration=duration)


def _decode_times(tables: SourceTables, run: range, origin: int, pts: Any) -> list[int]:
    """The source's own decode times; where they are missing, unordered or do not span the frames, the latest that fit.

    MP4 holds only differences of decode times: unless they add up to the span of the frames, as they need not where
    frames come at a variable rate, readers disagree about how long the clip is.
    """
    raw = tables.packets.dts[run.start : run.stop]
    dts = np.where(raw == NO_TIME, 0, raw) - origin
    ascending = bool(np.all(raw != NO_TIME)) and bool(np.all(np.diff(dts) > 0) and np.all(dts <= pts))
    if ascending and dts[-1] - dts[0] == pts.max() - pts.min():
        return [int(value) for value in dts]
    ordered = np.sort(pts)
    return [int(value) for value in ordered - int((ordered - pts).max())]


def _duration(tables: SourceTables, pts: int) -> int:
    """How long the frame at `pts` is shown."""
    return tables.frames.end_pts(int(np.searchsorted(tables.frames.pts, pts))) - pts


def starts_clean(data: bytes, extradata: bytes | None) -> bool:
    """Whether an H.264 access unit holds an IDR slice. Other key packets may need what stands before them.

    NAL units stand behind lengths where the stream's header is an `avcC` record (its first byte is 1; the fifth says
    how long a length is), else behind start codes.
    """
    if not extradata or extradata[0] != 1 or len(extradata) < 5:
        return any(part[0] & _NAL_TYPE == _IDR for part in data.split(b"\0\0\1")[1:] if part)
    width, at = (extradata[4] & 3) + 1, 0
    while at + width < len(data):
        if data[at + width] & _NAL_TYPE == _IDR:
            return True
        at += width + int.from_bytes(data[at : at + width], "big")
    return False
