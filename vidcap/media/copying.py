"""The copy of a run of packets into a clip, without decoding them; and which streams a copy is worth anything of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidcap.media.frames import NO_TIME, FrameTable, Int64, SourceTables
from vidcap.media.h264 import starts_clean
from vidcap.media.mp4 import ClipFile
from vidcap.media.source import SourceReader

MP4_CODECS = frozenset({"h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg"})
"""Video codecs that MP4 can hold; VP8, H.263 and GIF are among those it cannot."""


class NotCopyableError(Exception):
    """The bytes say that a decoder cannot start here, or would need more than the packets hold."""


def begins_clean(packet: Any, context: Any) -> bool:
    """Whether a decoder of the stream `context` needs nothing from before this key packet, as far as its bytes tell."""
    return context.codec.canonical_name != "h264" or starts_clean(bytes(packet), context.extradata)


def copyable_packets(source: SourceReader, run: range, *, clean: bool = True) -> list[Any]:
    """The packets of `run`. Raises `NotCopyableError` where they cannot stand alone.

    `clean` false also lets them begin with a key packet that pictures after it may reach past.
    """
    packets = source.packets(run)
    if clean and not begins_clean(packets[0], source.video.codec_context):
        raise NotCopyableError("the key packet is a recovery point, not a clean start")
    if any(packet.has_sidedata("new_extradata") for packet in packets):
        raise NotCopyableError("the stream's parameters change within the span")
    return packets


def copy_video(source: SourceReader, run: range, first: int, last: int, out: ClipFile) -> None:
    """Copy the packets of `run`, which hold the frames `first` to `last`, with times counted from the first frame.

    Raises `NotCopyableError` before anything is written.
    """
    write_copy(source, copyable_packets(source, run), run, first, last, out)


def write_copy(source: SourceReader, packets: Sequence[Any], run: range, first: int, last: int, out: ClipFile) -> None:
    """As `copy_video`, of packets that were looked at."""
    tables = source.tables
    track = out.copied(source.video)
    pts, durations = span_times(tables.frames, tables.packets.pts[run.start : run.stop], first)
    dts = _decode_times(tables, run, first, pts)
    # MP4 sums durations in decode order, where the last packet need not be the last frame: it gets what is left of the
    # span, so that the track is as long as its frames are shown.
    origin = int(tables.frames.pts[first])
    durations[-1] = max(1, tables.frames.end_pts(last) - origin - (dts[-1] - dts[0]))
    for packet, at, decoded, duration in zip(packets, pts.tolist(), dts, durations, strict=True):
        track.add(packet, pts=at, dts=decoded, duration=duration)


def span_times(table: FrameTable, pts: Int64, first: int) -> tuple[Int64, list[int]]:
    """Times counted from frame `first`, and how long the frame at each of `pts` is shown."""
    at = np.searchsorted(table.pts, pts)
    following = np.append(table.pts[1:], table.end_pts(len(table) - 1))
    return pts - int(table.pts[first]), (following[at] - pts).tolist()


def latest_decode_times(pts: Int64) -> list[int]:
    """The latest that fit: those of presentation, in order, moved back by as much as reordering needs."""
    ordered = np.sort(pts)
    times: list[int] = (ordered - int((ordered - pts).max())).tolist()
    return times


def _decode_times(tables: SourceTables, run: range, first: int, pts: Int64) -> list[int]:
    """The source's own decode times; where they are missing, unordered or do not span the frames, the latest that fit.

    MP4 holds only differences of decode times: unless they add up to the span of the frames, as they need not where
    frames come at a variable rate, readers disagree about how long the clip is.
    """
    raw = tables.packets.dts[run.start : run.stop]
    dts = np.where(raw == NO_TIME, 0, raw) - int(tables.frames.pts[first])
    ascending = bool(np.all(raw != NO_TIME)) and bool(np.all(np.diff(dts) > 0) and np.all(dts <= pts))
    if ascending and dts[-1] - dts[0] == pts.max() - pts.min():
        return [int(value) for value in dts]
    return latest_decode_times(pts)
