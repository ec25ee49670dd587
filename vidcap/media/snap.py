"""Which spans of a source can be stream-copied without hiding a frame, and how to snap a span inward onto one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidcap.media.frames import NO_TIME, Int64, SourceTables

_ROUNDING = 5e-7  # Seconds of the frame table are rounded to 1e-6.


@dataclass(frozen=True, slots=True)
class Span:
    """Frame indices, both inclusive. `hides_nothing`: its packets are a run of their own, decodable without others."""

    first: int
    last: int
    hides_nothing: bool = False


def snap(
    tables: SourceTables, first: int, last: int, *, max_seconds: float, min_seconds: float = 0.0, copyable: bool = True
) -> Span:
    """Move both ends inward, each by at most `max_seconds`, so that a stream copy of the span hides nothing.

    Of all such spans the longest is taken, the earliest of equals; it stays strictly longer than `min_seconds`.
    Where there is none, or the stream is not to be copied anyway (`copyable` false), the span comes back as it is.
    """
    frames = tables.frames
    asked = Span(first, last)
    if not copyable or first > last:
        return asked
    shown = _frame_of_packets(tables)
    origin, end = frames.start(first), frames.end(last)
    best = asked
    for packet in np.flatnonzero(_starts(tables, shown)):
        start = int(shown[packet])
        if start < first or frames.start(start) - origin > max_seconds + _ROUNDING:
            continue
        if best.hides_nothing and last - start <= best.last - best.first:
            continue
        for stop in _stops(shown, int(packet), last):
            if end - frames.end(stop) > max_seconds + _ROUNDING:
                break
            if frames.end(stop) - frames.start(start) <= min_seconds + _ROUNDING:
                break
            if not best.hides_nothing or stop - start > best.last - best.first:
                best = Span(start, stop, True)
            break
    return best


def copy_run(tables: SourceTables, first: int, last: int) -> range | None:
    """The packets, in decode order, that are frames `first` to `last` and nothing else; None if there is no such run.

    The criterion uses order alone: the run starts on the key packet of `first`, and every packet after it in decode
    order, up to as many as there are frames, is presented inside the span. Then no frame of the span can need a packet
    after the run, and (the key packet has no leading pictures) none before it.
    """
    if not 0 <= first <= last < len(tables.frames):
        return None
    shown = _frame_of_packets(tables)
    (at,) = np.nonzero(shown == first)
    if len(at) != 1 or not _starts(tables, shown)[at[0]]:
        return None
    start = int(at[0])
    return range(start, start + last - first + 1) if last in _stops(shown, start, last) else None


def _frame_of_packets(tables: SourceTables) -> Int64:
    """Per packet the frame that it is presented as; −1 if discarded, untimed, or not exactly one frame has its pts."""
    packets, pts = tables.packets, tables.frames.pts
    if not len(pts):
        return np.full(len(packets), -1, np.int64)
    at = np.minimum(np.searchsorted(pts, packets.pts), len(pts) - 1).astype(np.int64)
    good = (pts[at] == packets.pts) & (packets.pts != NO_TIME) & ~packets.discard
    _, where, count = np.unique(packets.pts, return_inverse=True, return_counts=True)
    good &= count[where] == 1
    return np.where(good, at, -1)


def _starts(tables: SourceTables, shown: Int64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Key packets that a decoder can start on, and that agree with the frame table about being key frames."""
    return tables.packets.key & (shown >= 0) & tables.frames.key[shown]


def _stops(shown: Int64, packet: int, last: int) -> list[int]:
    """Frames ≤ `last`, latest first, at which a run that starts with `packet` may end."""
    start = int(shown[packet])
    run = shown[packet : packet + last - start + 1]
    # A packet that is no frame of the source (hidden, or presented before the start) ends every run.
    foreign = np.flatnonzero(run < start)
    if len(foreign):
        run = run[: foreign[0]]
    # After n packets the run is whole when the latest frame seen is the n-th: n distinct frames, none beyond it.
    whole = np.maximum.accumulate(run) == start + np.arange(len(run))
    return [start + int(i) for i in np.flatnonzero(whole)[::-1]]
