"""The geometry of the page's plots, in units of their own view boxes: histograms and bars; the template draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vidcap.shards.statistics import Tally

WIDTH, HEIGHT = 320, 172
LEFT, RIGHT, TOP, BOTTOM = 36, 312, 22, 142
"""The plotting area inside a histogram's box; labels stand around it."""
MOST_BINS = 32
MOST_LETTERS = 90


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    kind: str
    told: str


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A vertical mark; its label stands left of it where there is no room on the right."""

    at: float
    label: str
    anchor: str


@dataclass(slots=True)
class Panel:
    """One histogram. `told` is what a reader hears who does not see it."""

    title: str
    note: str
    unit: str
    told: str
    rects: list[Rect] = field(default_factory=list)
    x_ticks: list[Tick] = field(default_factory=list)
    y_ticks: list[Tick] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to x; logarithmic where the edges grow by a factor."""

    edges: tuple[float, ...]
    ticks: tuple[float, ...]
    log: bool = False

    def x(self, value: float) -> float:
        low, high = self.edges[0], self.edges[-1]
        share = math.log(max(value, low) / low, high / low) if self.log else (value - low) / (high - low)
        return round(LEFT + min(max(share, 0.0), 1.0) * (RIGHT - LEFT), 2)


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that needs at most `most` steps."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power * most >= span * (1 - 1e-9))


def linear_axis(low: float, high: float, *, least_step: float) -> Axis:
    """Bins of one nice width from at or below `low` to above `high`."""
    step = max(least_step, nice_step(max(high - low, least_step), MOST_BINS - 2))
    first, last = math.floor(low / step + 1e-9), math.floor(high / step + 1e-9) + 1
    edges = tuple(round(place * step, 6) for place in range(first, last + 1))
    apart = nice_step(edges[-1] - edges[0], 6)
    places = range(math.ceil(edges[0] / apart - 1e-9), math.floor(edges[-1] / apart + 1e-9) + 1)
    return Axis(edges, tuple(round(place * apart, 6) for place in places))


def log_axis(low: float, high: float, ticks: Sequence[float]) -> Axis:
    """Bins that grow by the square root of two."""
    count = math.ceil(2 * math.log2(high / low))
    return Axis(tuple(low * 2 ** (i / 2) for i in range(count + 1)), tuple(t for t in ticks if low <= t <= high), True)


def histogram(
    title: str,
    series: Sequence[tuple[str, Tally]],
    axis: Axis,
    *,
    unit: str,
    things: str = "clips",
    digits: int = 1,
    lines: Sequence[tuple[float, str]] = (),
) -> Panel:
    """Stacked bars, the first series at the bottom; `lines` are thresholds: (value, label)."""
    binned = [(kind, tally.binned(axis.edges)) for kind, tally in series]
    highest = max((sum(column) for column in zip(*(bins for _, bins in binned), strict=True)), default=0)
    step = max(1.0, nice_step(highest, 4))
    top = step * max(1, math.ceil(highest / step))
    everything = Tally(series[0][1].step)
    for _, tally in series:
        everything.counts.update(tally.counts)
    median = everything.quantile(0.5)
    note = f"{everything.total:,} {things}, median {median:.{digits}f}" if everything.total else f"no {things}"
    panel = Panel(title, note, unit, f"{title}: {note} {unit}".strip())
    for at, (low, high) in enumerate(zip(axis.edges[:-1], axis.edges[1:], strict=True)):
        base = 0
        for kind, bins in binned:
            if not bins[at]:
                continue
            x, right = axis.x(low), axis.x(high)
            y, bottom = _y(base + bins[at], top), _y(base, top)
            told = f"{low:.4g} to {high:.4g} {unit}: {bins[at]:,} {kind}".replace("  ", " ")
            panel.rects.append(Rect(x + 0.4, y, round(right - x - 0.8, 2), round(bottom - y, 2), kind, told))
            base += bins[at]
    panel.x_ticks = [Tick(axis.x(value), f"{value:g}") for value in axis.ticks]
    panel.y_ticks = [Tick(_y(at * step, top), _short(at * step)) for at in range(round(top / step) + 1)]
    for value, label in lines:
        x = axis.x(value)
        panel.lines.append(Line(x, label, "start" if x < (LEFT + RIGHT) * 0.6 else "end"))
    return panel


def _y(value: float, top: float) -> float:
    return round(BOTTOM - value / top * (BOTTOM - TOP), 2)


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart; `share` is its length, 0 to 100."""

    label: str
    value: float
    share: float
    kind: str = "all"
    note: str = ""


def bars(counts: Counter[str], *, most: int = 10, kind: str = "all", other: str = "more") -> list[Bar]:
    """The most frequent first, ties by name; what is over `most` in one row at the end."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = ordered[:most]
    rest = ordered[most:]
    if rest:
        rows.append((f"{len(rest)} {other}", sum(times for _, times in rest)))
    longest = max((times for _, times in rows), default=0) or 1
    return [Bar(_clipped(label), times, round(100 * times / longest, 2), kind) for label, times in rows]


def _clipped(label: str) -> str:
    """A label of the data's own length, as long as a row can bear."""
    return label if len(label) <= MOST_LETTERS else f"{label[: MOST_LETTERS - 1].rstrip()}…"
