"""Which spans of a source can be stream-copied without hiding a frame, and how to snap a span inward onto one."""

from __future__ import annotations

from collections.abc import Iterator
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
    tables: SourceTables,
    first: int,
    last: int,
    *,
    max_seconds: float,
    min_seconds: float = 0.0,
    copyable: bool = True,
    order: Order | None = None,
) -> Span:
    """Move both ends inward, each by at most `max_seconds`, so that a stream copy of the span hides nothing.

    Of all such spans the longest is taken, the earliest of equals; it stays strictly longer than `min_seconds`.
    Where there is none, or the stream is not to be copied anyway (`copyable` false), the span comes back as it is.
    `order`: that of the tables, where many spans of one source are snapped.
    """
    frames = tables.frames
    asked = Span(first, last)
    if not copyable or first > last:
        return asked
    order = order or Order(tables)
    shown = order.shown
    origin, end = frames.start(first), frames.end(last)
    best = asked
    for packet in order.starts_within(first, last):
        start = int(shown[packet])
        if frames.start(start) - origin > max_seconds + _ROUNDING:
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


def snap_end(order: Order, span: Span, *, max_seconds: float, min_seconds: float, least: int) -> Span:
    """Where `snap` found nothing: move the end inward by at most `max_seconds`, so that only the head is encoded.

    That is to where the first run of at least `least` frames inside the span may end; without one the span comes back.
    """
    frames = order.tables.frames
    for inner in order.inner(span.first, span.last, least):
        near = frames.end(span.last) - frames.end(inner.last) <= max_seconds + _ROUNDING
        long = frames.end(inner.last) - frames.start(span.first) > min_seconds + _ROUNDING
        return Span(span.first, inner.last) if near and long else span
    return span


@dataclass(frozen=True, slots=True)
class Inner:
    """Packets that are the frames `first` to `last` of a longer span, and nothing else."""

    run: range
    first: int
    last: int


class Order:
    """What the order of a source's packets says of its spans; made once per source, because it looks at all packets."""

    def __init__(self, tables: SourceTables) -> None:
        self.tables = tables
        self.shown = _frame_of_packets(tables)
        """Per packet the frame that it is presented as, or −1."""
        self.starts = np.flatnonzero(_starts(tables, self.shown))
        """Key packets that a decoder can start on, as far as order tells."""
        self.keys = np.flatnonzero(tables.packets.key & (self.shown >= 0))

    def starts_within(self, first: int, last: int) -> Int64:
        """Those of `starts` whose frames lie between the two, both inclusive."""
        shown = self.shown[self.starts]
        return self.starts[(shown >= first) & (shown <= last)]

    def run(self, first: int, last: int) -> range | None:
        """As `copy_run`."""
        if not 0 <= first <= last < len(self.shown):
            return None
        at = self.starts[self.shown[self.starts] == first]
        if len(at) != 1:
            return None
        start = int(at[0])
        return range(start, start + last - first + 1) if last in _stops(self.shown, start, last) else None

    def inner(self, first: int, last: int, least: int) -> Iterator[Inner]:
        """Every run of at least `least` frames inside the span that can be copied: by start, to its latest end.

        The criterion is that of `copy_run`.
        """
        for packet in self.starts_within(first, last):
            start = int(self.shown[packet])
            if start + least - 1 <= last:
                stops = _stops(self.shown, int(packet), last)
                if stops and stops[0] - start + 1 >= least:
                    yield Inner(range(int(packet), int(packet) + stops[0] - start + 1), start, stops[0])

    def key(self, first: int) -> int | None:
        """The key packet whose frame is the last at or before `first`; None where there is none."""
        before = self.keys[self.shown[self.keys] <= first]
        return int(before[np.argmax(self.shown[before])]) if len(before) else None

    def final(self, last: int) -> int | None:
        """The last packet, in decode order, that frames up to `last` can need; None where the order does not tell."""
        (at,) = np.nonzero((self.shown >= 0) & (self.shown <= last))
        return int(at[-1]) if len(at) and bool(np.any(self.shown[at] == last)) else None


def copy_run(tables: SourceTables, first: int, last: int) -> range | None:
    """The packets, in decode order, that are frames `first` to `last` and nothing else; None if there is no such run.

    The criterion uses order alone: the run starts on the key packet of `first`, and every packet after it in decode
    order, up to as many as there are frames, is presented inside the span. Then no frame of the span can need a packet
    after the run, and (the key packet has no leading pictures) none before it.
    """
    return Order(tables).run(first, last)


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
