"""Which spans can be copied, on packet orders written out by hand, and against trying every span."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap.media.frames import NO_TIME, FrameTable, PacketIndex, SourceTables
from vidcap.media.snap import Order, Span, copy_run, snap, snap_end


def tables(order: list[int], keys: set[int], *, hidden: Collection[int] = (), fps: int = 10) -> SourceTables:
    """Packets in decode order, named by the frame they are presented as; −1 is a packet that shows no frame."""
    count = max(order) + 1
    frames = FrameTable(
        Fraction(1, fps),
        np.arange(count, dtype=np.int64),
        np.ones(count, np.int64),
        np.array([i in keys for i in range(count)]),
        np.zeros(count, bool),
        np.zeros(count, np.uint64),
    )
    pts = np.array([NO_TIME if frame < 0 else frame for frame in order], np.int64)
    packets = PacketIndex(
        pts,
        np.arange(len(order), dtype=np.int64) - 2,
        np.array([frame in keys for frame in order]),
        np.full(len(order), 100, np.int64),
        np.arange(len(order), dtype=np.int64) * 100,
        np.array([frame in hidden for frame in order]),
    )
    return SourceTables(frames, packets)


CLOSED = tables([0, 3, 1, 2, 6, 4, 5, 7, 10, 8, 9, 13, 11, 12], {0, 7})
OPEN = tables([0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11], {0, 9})
"""Frame 9 is a key frame, but 7 and 8 come after it in decode order and need it."""


@pytest.mark.parametrize(
    ("source", "first", "last", "run"),
    [
        (CLOSED, 0, 6, range(7)),
        (CLOSED, 0, 3, range(4)),
        (CLOSED, 7, 13, range(7, 14)),
        (CLOSED, 7, 7, range(7, 8)),
        (CLOSED, 0, 4, None),  # 4 needs 6
        (CLOSED, 1, 6, None),  # no key packet
        (CLOSED, 0, 8, None),  # 8 needs 10
        (CLOSED, 0, 13, range(14)),
        (CLOSED, 0, 14, None),  # no such frame
        (OPEN, 0, 6, range(7)),
        (OPEN, 0, 8, None),  # 8 needs 9
        (OPEN, 9, 9, range(7, 8)),
        (OPEN, 9, 12, None),  # 7 and 8 stand between
    ],
)
def test_copy_run(source: SourceTables, first: int, last: int, run: range | None) -> None:
    assert copy_run(source, first, last) == run


def test_a_packet_that_shows_no_frame_ends_every_run() -> None:
    source = tables([0, 1, -1, 2, 3], {0})
    assert copy_run(source, 0, 1) == range(2)
    assert copy_run(source, 0, 3) is None


def test_a_packet_that_the_source_hides_cannot_be_copied() -> None:
    assert copy_run(tables([0, 1, 2], {0}, hidden={1}), 0, 2) is None


def test_two_packets_of_one_time_cannot_be_copied() -> None:
    assert copy_run(tables([0, 1, 1, 2], {0}), 0, 2) is None


def test_a_key_packet_whose_frame_is_no_key_frame_is_no_start() -> None:
    source = tables([0, 1, 2], {0})
    source.frames.key[0] = False
    assert copy_run(source, 0, 2) is None


def test_both_ends_move_inward() -> None:
    assert snap(CLOSED, 5, 12, max_seconds=0.5) == Span(7, 10, True)


def test_an_end_that_would_cost_too_much_does_not_move() -> None:
    assert snap(CLOSED, 5, 12, max_seconds=0.1) == Span(5, 12, False)
    assert snap(CLOSED, 5, 13, max_seconds=0.2) == Span(7, 13, True)
    assert snap(CLOSED, 4, 13, max_seconds=0.2) == Span(4, 13, False)


def test_a_clip_stays_longer_than_the_least() -> None:
    assert snap(CLOSED, 5, 12, max_seconds=0.5, min_seconds=0.39) == Span(7, 10, True)
    assert snap(CLOSED, 5, 12, max_seconds=0.5, min_seconds=0.4) == Span(5, 12, False)


@pytest.mark.parametrize(
    ("first", "last", "seconds", "least", "end"),
    [
        (2, 12, 0.5, 4, 10),
        (2, 12, 0.1, 4, 12),  # two frames are more than that
        (2, 12, 0.5, 5, 12),  # too little to copy
        (2, 13, 0.5, 4, 13),  # nothing to save
        (2, 6, 0.5, 1, 6),  # no key packet inside
    ],
)
def test_an_end_moves_alone_where_only_the_head_is_encoded(
    first: int, last: int, seconds: float, least: int, end: int
) -> None:
    span = snap_end(Order(CLOSED), Span(first, last), max_seconds=seconds, min_seconds=0.0, least=least)
    assert span == Span(first, end)
    kept = snap_end(Order(CLOSED), Span(first, last), max_seconds=seconds, min_seconds=1.0, least=least)
    assert kept == Span(first, last if end - first < 10 else end)


def test_what_is_not_to_be_copied_stays_as_it_is() -> None:
    assert snap(CLOSED, 0, 6, max_seconds=1, copyable=False) == Span(0, 6, False)


@st.composite
def sources(draw: st.DrawFn) -> SourceTables:
    """Groups of pictures with reordering, some with leading pictures, now and then a packet without a frame."""
    order: list[int] = []
    keys: set[int] = set()
    at = 0
    for _ in range(draw(st.integers(1, 4))):
        leading = draw(st.integers(0, 2)) if order else 0
        keys.add(at + leading)
        order += [at + leading, *range(at, at + leading)]
        at += leading + 1
        for _ in range(draw(st.integers(0, 3))):
            between = draw(st.integers(0, 3))
            order += [at + between, *range(at, at + between)]
            at += between + 1
        if draw(st.booleans()) and draw(st.booleans()):
            order.append(-1)
    return tables(order, keys)


@settings(max_examples=300, deadline=None)
@given(sources(), st.data())
def test_snap_finds_the_longest_span_there_is(source: SourceTables, data: st.DataObject) -> None:
    count = len(source.frames)
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first, count - 1))
    ticks, least = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 3))
    shown = [None if pts == NO_TIME else int(pts) for pts in source.packets.pts]
    possible = []
    for one in range(first, last + 1):
        for other in range(one, last + 1):
            start = shown.index(one)
            if (
                source.packets.key[start]
                and sorted(-1 if f is None else f for f in shown[start : start + other - one + 1])
                == list(range(one, other + 1))
                # Nothing after the run may belong before its end: else the run is not whole.
                and one - first <= ticks
                and last - other <= ticks
                and other + 1 - one > least
            ):
                possible.append((other - one, -one, Span(one, other, True)))
    expected = max(possible, key=lambda item: item[:2])[2] if possible else Span(first, last, False)
    found = snap(source, first, last, max_seconds=ticks / 10, min_seconds=least / 10)
    assert found == expected
    if found.hides_nothing:
        assert copy_run(source, found.first, found.last) is not None
