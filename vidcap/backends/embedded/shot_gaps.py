"""Where shots end and begin: the extent of gradual changes and fades, and the shots that the gaps leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vidcap.autoshot.boundaries import runs
from vidcap.backends.embedded import shot_signals as measure
from vidcap.backends.roles import Float64, UInt8
from vidcap.records import Shot

Gap = tuple[int, int]
"""(last frame of a shot, first frame of the next)."""

FLAT, PICTURE, BLACK = 4.0, 12.0, 28.0
"""Cell deviation below which a frame is one flat colour, above which it is a picture; level below which it is black."""
LONGEST_FADE, SHORT = 60, 14
"""Frames: how far a fade is followed; gaps up to this length are looked at again, they may be flashes."""
SAME = 12.0
"""Levelled pictures that differ less, motion compensated, show the same."""


def ends(thumbnails: UInt8, window: int, s: int) -> Gap:
    """The gap of a gradual change: the ramp through its quarter points, drawn out to both ends."""
    margin = window // 2
    first, last = max(0, s - margin), min(len(thumbnails) - 1, s + window + margin)
    values = measure.cells(np.asarray(thumbnails[first : last + 1])).reshape(last - first + 1, -1).astype(np.float64)
    a, b = values[s - first], values[s + window - first]
    way = b - a
    share = ((values - a) * way).sum(1) / max(1.0, float((way * way).sum()))
    inner = share[s - first : s + window - first + 1]
    middle = s - first + int(np.argmax(inner >= 0.5))
    low = middle - 1
    while low > 0 and share[low] > 0.25:
        low -= 1
    high = middle
    while high < len(share) - 1 and share[high] < 0.75:
        high += 1
    centre, length = (low + high) / 2, 2 * (high - low)
    start, stop = int(np.floor(centre - length / 2)), int(np.ceil(centre + length / 2))
    return first + max(0, start), first + min(len(share) - 1, max(stop, start + 1))


def fades(thumbnails: UInt8, signals: measure.Signals) -> list[Gap]:
    """Runs of one flat colour between two pictures, drawn out over the frames that fade towards them.

    A few flat frames with the same picture on both sides are a flash or a fault, not a boundary.
    """
    found = []
    n = len(signals.spread)
    for first, last in runs(signals.spread < FLAT):
        if first == 0 or last == n - 1:
            continue
        start, stop = _brighter(signals.spread, first - 1, -1), _brighter(signals.spread, last + 1, 1)
        if min(signals.spread[start], signals.spread[stop]) < PICTURE:
            continue
        if stop - start <= SHORT and measure.compared(thumbnails, [[(start, stop)]])[0][0, 0] < SAME:
            continue
        found.append((start, stop))
    return found


def _brighter(spread: Float64, at: int, direction: int) -> int:
    """From a flat run outwards to the first frame whose picture has come up in full."""
    n = len(spread)
    stop = at
    for _ in range(LONGEST_FADE):
        further = stop + direction
        if not 0 <= further < n or spread[further] <= spread[stop] * 1.015:
            break
        stop = further
    return stop


def merged(gaps: Iterable[Gap]) -> list[Gap]:
    """In order; gaps that leave less than 3 frames between them are one."""
    out: list[Gap] = []
    for start, stop in sorted(gaps):
        if out and start - out[-1][1] < 2:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out


def shots_between(gaps: Sequence[Gap], signals: measure.Signals) -> list[Shot]:
    """What the gaps leave, without black before the first and after the last picture. Always at least one shot."""
    n = len(signals.level)
    black = (signals.spread < FLAT) & (signals.level < BLACK)
    pictures = np.flatnonzero(~black)
    first, last = (int(pictures[0]), int(pictures[-1])) if len(pictures) else (0, n - 1)
    shots = []
    for start, stop in [*gaps, (last, n)]:
        end = min(start, last)
        if end >= first:
            shots.append(Shot(first, end))
        first = max(first, stop)
    return shots or [Shot(0, n - 1)]
