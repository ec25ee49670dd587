"""Finds shots by adaptive thresholds on measured differences: no network, nothing learned but a dozen weights.

1. Every pair of neighbours: motion-compensated difference. Peaks are candidate cuts, then checked against what lies
   around them: a flash or an exposure jump shows the old picture again, fast motion goes on on both sides.
2. Every window of 4 to 48 frames: is its middle a mixture of its ends (dissolve, wipe), with the ends at rest?
3. Runs of one flat colour with the picture fading towards them: fades.

Weights and thresholds come from rendered transitions (`benchmarks/shots/fit_adaptive.py`), never from annotated videos.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field

from vidcap.backends import shot_signals as measure
from vidcap.backends.roles import BackendConfig, Float64, UInt8
from vidcap.records import Shot

T = TypeVar("T")
Gap = tuple[int, int]
"""(last frame of a shot, first frame of the next)."""

CHUNK = 2048
LEAST_MOTION, LEAST_STEP = 6.0, 12.0
"""Neighbours that differ less (levels; with and without motion compensation) are no candidates for a cut."""
LEAST_CHORD, MOST_BEND = 10.0, 0.5
"""Windows whose ends differ less, or whose middle is less of a mixture, are no candidates for a gradual change."""
MOST_STEP = 0.5
"""A window of which one cut makes up more than this share is that cut."""
SAME = 12.0
"""Levelled pictures that differ less, motion compensated, show the same."""
BATCH = 24

CUT_FEATURES = ("bias", "differs", "restless", "colours", "colours_restless", "peak", "cells", "ratio", "levelled")
CUT_WEIGHTS = (0.0, 1.0, -0.5, 30.0, 0.0, 1.0, 0.0, 0.0, 0.0)
CHANGE_FEATURES = (
    "bias",
    "dip",
    "bend",
    "back",
    "uneven",
    "middle",
    "lean",
    "area",
    "step",
    "differs",
    "colours",
    "restless",
    "length",
    "relative",
    "levelled",
)
CHANGE_WEIGHTS = (0.0,) * len(CHANGE_FEATURES)
FLAT, PICTURE, BLACK = 4.0, 12.0, 28.0
"""Cell deviation below which a frame is one flat colour, above which it is a picture; level below which it is black."""
LONGEST_FADE, SHORT = 60, 14


class AdaptiveConfig(BackendConfig):
    """`cut_threshold` and `gradual_threshold`: log-odds above which a candidate counts; higher finds fewer."""

    cut_threshold: float = Field(default=0.0, allow_inf_nan=False)
    gradual_threshold: float = Field(default=0.0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Signals:
    """What the one pass over the frames keeps: a few hundred bytes a frame, no pictures."""

    motion: Float64
    """Motion-compensated difference to the frame before; 0 for the first."""
    step: Float64
    level: Float64
    spread: Float64
    changes: dict[int, measure.Change]


class Backend:
    Config: ClassVar[type[BackendConfig]] = AdaptiveConfig
    embedded: ClassVar[bool] = True

    def __init__(self, config: AdaptiveConfig) -> None:
        self.config = config

    def identity(self) -> str:
        return f"adaptive@1/{self.config.cut_threshold:g}/{self.config.gradual_threshold:g}"

    def load(self, device: str) -> None:
        """Nothing to load."""

    def detect(self, thumbnails: UInt8, times: Float64) -> list[Shot]:
        """`times` plays no part: what counts as one change is a number of frames."""
        signals = measured(thumbnails)
        cuts, windows = cut_candidates(signals), change_candidates(signals)
        cut_odds = odds_of(cut_features(thumbnails, signals, cuts), CUT_WEIGHTS)
        odds = odds_of(change_features(thumbnails, signals, windows), CHANGE_WEIGHTS)
        gaps = gaps_of(
            thumbnails,
            signals,
            (cuts, cut_odds, self.config.cut_threshold),
            (windows, odds, self.config.gradual_threshold),
        )
        return shots_between(gaps, signals)


def gaps_of(
    thumbnails: UInt8,
    signals: Signals,
    cuts: tuple[Sequence[int], Sequence[float], float],
    windows: tuple[Sequence[tuple[int, int]], Sequence[float], float],
) -> list[Gap]:
    """The gaps between shots, from candidates with their log-odds and the threshold of their kind."""
    accepted = strongest(*cuts)
    gaps = [(t - 1, t) for t in accepted]
    gaps += [ends(thumbnails, *window) for window in chosen(*windows, accepted, signals)]
    gaps += fades(thumbnails, signals)
    return merged(gaps)


def measured(thumbnails: UInt8, chunk: int = CHUNK) -> Signals:
    """One pass in chunks that overlap by the longest window; the result does not depend on `chunk`."""
    n, reach = len(thumbnails), max(measure.WINDOWS)
    motion, step, level, spread = (np.zeros(n) for _ in range(4))
    parts: dict[int, list[measure.Change]] = {window: [] for window in measure.WINDOWS}
    for start in range(0, n, chunk):
        stop = min(n, start + chunk)
        before = max(0, start - 1)
        seen = np.asarray(thumbnails[before : min(n, stop + reach)])
        values = measure.cells(seen)
        own = values[start - before :]
        level[start:stop], spread[start:stop] = measure.spread(own[: stop - start])
        gram = measure.Gram(own)
        for window in measure.WINDOWS:
            if len(own) > window:
                parts[window].append(gram.change(window).head(stop - start))
        if stop - before > 1:
            grey = measure.luma(seen[: stop - before])
            motion[before + 1 : stop] = measure.motion_residual(grey[:-1], grey[1:])
            step[before + 1 : stop] = measure.step_sizes(values[: stop - before])
    return Signals(motion, step, level, spread, {w: measure.Change.join(p) for w, p in parts.items()})


def cut_candidates(signals: Signals) -> list[int]:
    """First frames of possible new shots: peaks of the motion-compensated difference, or of the plain one."""
    found = np.zeros(len(signals.motion), bool)
    for values, least in ((signals.motion, LEAST_MOTION), (signals.step, LEAST_STEP)):
        around = np.maximum(np.append(values[1:], 0), np.insert(values[:-1], 0, 0))
        found |= (values >= least) & (values >= around)
    return [int(t) for t in np.flatnonzero(found)]


def cut_features(thumbnails: UInt8, signals: Signals, cuts: Sequence[int]) -> Float64:
    """len(cuts) × `CUT_FEATURES`."""
    n = len(signals.motion)
    rows = [np.zeros((0, len(CUT_FEATURES)))]
    for batch in _batches(cuts):
        # The old picture must not be seen again in the next frames, nor the new one in the frames before.
        across = [[(t - a, t + b) for a in (1, 2, 3) for b in range(6) if t - a >= 0 and t + b < n] for t in batch]
        within = [
            [(t - a, t - 1) for a in (2, 3, 4) if t - a >= 0] + [(t, t + b) for b in (1, 2, 3) if t + b < n]
            for t in batch
        ]
        far, near = _compared(thumbnails, across), _compared(thumbnails, within)
        for t, f, w in zip(batch, far, near, strict=True):
            peak = signals.motion[t] - 2 * _third(signals.motion, t)
            rest = (float(w[0].mean()), float(w[1].mean())) if w.size else (0.0, 0.0)
            differs, colours, plain, tones = (float(v) for v in f.min(1))
            ratio = np.log2((differs + 2) / (rest[0] + 2))
            row = [1, differs, rest[0], colours, rest[1], np.clip(peak, -20, 10), min(plain, 80) / 10, ratio, tones]
            rows.append(np.array([row], np.float64))
    return np.concatenate(rows)


def _third(values: Float64, t: int, reach: int = 8) -> float:
    """The third largest of the neighbours: one cut nearby does not raise it, duplicated frames do not lower it."""
    around = np.sort(np.concatenate([values[max(0, t - reach) : t], values[t + 1 : t + 1 + reach]]))
    return float(around[-3]) if len(around) >= 3 else 0.0


def change_candidates(signals: Signals) -> list[tuple[int, int]]:
    """(window length, first frame) of what runs straight from one picture to another, the best of its surroundings."""
    found = []
    for window, change in signals.changes.items():
        if not len(change):
            continue
        worth = change.chord * (1 - change.bend)
        worth[(change.chord < LEAST_CHORD) | (change.bend > MOST_BEND)] = 0
        half = window // 2
        around = np.lib.stride_tricks.sliding_window_view(np.pad(worth, half), 2 * half + 1).max(1)
        found += [(window, int(s)) for s in np.flatnonzero((worth > 0) & (worth >= around))]
    return found


def change_features(thumbnails: UInt8, signals: Signals, windows: Sequence[tuple[int, int]]) -> Float64:
    """len(windows) × `CHANGE_FEATURES`."""
    n = len(signals.motion)
    rows = [np.zeros((0, len(CHANGE_FEATURES)))]
    for batch in _batches(windows):
        pairs = [
            [(s - a, s + w + b) for a in (0, 3, 6) for b in (0, 3, 6) if s - a >= 0 and s + w + b < n] for w, s in batch
        ]
        for (window, s), f in zip(batch, _compared(thumbnails, pairs), strict=True):
            change = signals.changes[window]
            chord = float(change.chord[s])
            row = [
                1,
                _dip(signals.spread, s, window),
                change.bend[s],
                change.back[s],
                change.uneven[s],
                abs(change.middle[s] - 0.5),
                change.lean[s],
                change.area[s],
                min(1.5, signals.step[s + 1 : s + window + 1].max() / chord),
                f[0].min() / 10,
                f[1].min(),
                _rest(signals, window, s) / chord,
                np.log2(window),
                chord / (6 + (signals.spread[s] + signals.spread[s + window]) / 2),
                f[3].min(),
            ]
            rows.append(np.array([row], np.float64))
    return np.concatenate(rows)


def _rest(signals: Signals, window: int, s: int) -> float:
    """How much the picture changes just before and just after a window, in levels."""
    side = max(w for w in measure.WINDOWS if w <= max(4, window // 2))
    chords = signals.changes[side].chord
    sides = [float(chords[at]) for at in (s - side, s + window) if 0 <= at < len(chords)]
    return sum(sides) / len(sides) if sides else 0.0


def _dip(spread: Float64, s: int, window: int) -> float:
    """How much contrast the middle of a window has against its ends: a mixture of two pictures has less than either."""
    return float(spread[s + window // 2] / (2 + (spread[s] + spread[s + window]) / 2))


def _compared(thumbnails: UInt8, groups: list[list[tuple[int, int]]]) -> list[Float64]:
    """Per group of frame pairs: 4 × pairs: levelled motion residual, colours, difference of cells, levelled colours."""
    pairs = [pair for group in groups for pair in group]
    if not pairs:
        return [np.zeros((4, 0)) for _ in groups]
    frames, at = np.unique(np.array(pairs), return_inverse=True)
    at = at.reshape(-1, 2)
    seen = np.stack([np.asarray(thumbnails[t]) for t in frames])
    grey, values = measure.levelled(measure.luma(seen)), measure.cells(seen)
    colours, tones = measure.histogram(seen), measure.histogram(measure.levelled(seen))
    a, b = at[:, 0], at[:, 1]
    plain = np.sqrt(((values[a] - values[b]) ** 2).sum((1, 2), dtype=np.float64) / (measure.BLOCKS * measure.VALUES))
    all_pairs = np.stack(
        [
            measure.motion_residual(grey[a], grey[b]),
            measure.histogram_distance(colours[a], colours[b]),
            plain,
            measure.histogram_distance(tones[a], tones[b]),
        ]
    )
    edges = np.cumsum([0] + [len(group) for group in groups])
    return [all_pairs[:, first:last] for first, last in pairwise(edges)]


def odds_of(features: Float64, weights: Sequence[float]) -> list[float]:
    """The log-odds of every candidate."""
    # Summed in plain Python: a library's matrix product may round by the number of rows.
    return [float(sum(x * w for x, w in zip(row, weights, strict=True))) for row in features.tolist()]


def strongest(cuts: Sequence[int], odds: Sequence[float], threshold: float) -> list[int]:
    """The cuts above the threshold, the likeliest first among those less than 3 frames apart; in order of time."""
    kept: list[int] = []
    for odd, t in sorted(zip(odds, cuts, strict=True), key=lambda pair: (-pair[0], pair[1])):
        if odd > threshold and all(abs(t - other) >= 3 for other in kept):
            kept.append(t)
    return sorted(kept)


def chosen(
    windows: Sequence[tuple[int, int]], odds: Sequence[float], threshold: float, cuts: Sequence[int], signals: Signals
) -> list[tuple[int, int]]:
    """The windows above the threshold that no likelier one overlaps and that are more than a cut."""
    taken = np.zeros(len(signals.motion) + 1, bool)
    cut_at = np.array(cuts, np.int64)
    kept = []
    for odd, (window, s) in sorted(zip(odds, windows, strict=True), key=lambda pair: (-pair[0], pair[1])):
        if odd <= threshold or taken[s + 1 : s + window].any():
            continue
        inside = cut_at[(cut_at > s) & (cut_at <= s + window)]
        if len(inside) and signals.step[inside].max() > MOST_STEP * signals.changes[window].chord[s]:
            continue
        taken[s + 1 : s + window] = True
        kept.append((window, s))
    return kept


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


def fades(thumbnails: UInt8, signals: Signals) -> list[Gap]:
    """Runs of one flat colour between two pictures, drawn out over the frames that fade towards them.

    A few flat frames with the same picture on both sides are a flash or a fault, not a boundary.
    """
    found = []
    n = len(signals.spread)
    for first, last in _runs(signals.spread < FLAT):
        if first == 0 or last == n - 1:
            continue
        start, stop = _brighter(signals.spread, first - 1, -1), _brighter(signals.spread, last + 1, 1)
        if min(signals.spread[start], signals.spread[stop]) < PICTURE:
            continue
        if stop - start <= SHORT and _compared(thumbnails, [[(start, stop)]])[0][0, 0] < SAME:
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


def _runs(mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterable[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def merged(gaps: Iterable[Gap]) -> list[Gap]:
    """In order; gaps that leave less than 3 frames between them are one."""
    out: list[Gap] = []
    for start, stop in sorted(gaps):
        if out and start - out[-1][1] < 2:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out


def shots_between(gaps: Sequence[Gap], signals: Signals) -> list[Shot]:
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


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))
