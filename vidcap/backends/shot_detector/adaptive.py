"""Finds shots by adaptive thresholds on measured differences: no network, nothing fitted but two dozen weights.

1. Every pair of neighbours: motion-compensated difference. Peaks are candidate cuts, then checked against what lies
   around them: a flash or an exposure jump shows the old picture again, fast motion goes on on both sides.
2. Every window of 4 to 48 frames: is its middle a mixture of its ends (dissolve, wipe), with the ends at rest?
3. Runs of one flat colour with the picture fading towards them: fades.

Weights and thresholds come from rendered transitions (`benchmarks/shots/fit_adaptive.py`), never from annotated videos.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field

from vidcap.backends.embedded import shot_signals as measure
from vidcap.backends.embedded.shot_gaps import Gap, ends, fades, merged, shots_between
from vidcap.backends.roles import BackendConfig, Float64, UInt8
from vidcap.records import Shot

T = TypeVar("T")

LEAST_MOTION, LEAST_STEP = 6.0, 12.0
"""Neighbours that differ less (levels; with and without motion compensation) are no candidates for a cut."""
LEAST_CHORD, MOST_BEND = 10.0, 0.5
"""Windows whose ends differ less, or whose middle is less of a mixture, are no candidates for a gradual change."""
MOST_STEP = 0.5
"""A window of which one cut makes up more than this share is that cut."""
SAME, ALIKE = 6.0, 16.0
"""Levelled pictures that differ less (levels, motion compensated) are the same, or begin to look the same."""
BATCH = 24

CUT_WEIGHTS = {
    "bias": -6.296,
    "differs": 0.316,
    "restless": -0.17,
    "colours": 7.886,
    "colours_restless": -2.056,
    "peak": 0.118,
    "cells": -0.415,
    "ratio": -0.601,
    "levelled": 3.566,
    "alike": -3.339,
}
"""Feature → weight in the log-odds of a cut; printed by the fit."""
CHANGE_WEIGHTS = {
    "bias": 0.784,
    "dip": -2.295,
    "bend": -6.319,
    "back": 4.778,
    "uneven": -3.311,
    "middle": -2.142,
    "lean": -3.09,
    "area": -0.54,
    "step": -0.381,
    "differs": 0.032,
    "colours": 7.273,
    "restless": -1.317,
    "length": 0.119,
    "relative": 0.413,
    "levelled": 1.433,
    "alike": -6.539,
}
"""The same for a gradual change over a window."""


class AdaptiveConfig(BackendConfig):
    """`cut_threshold` and `gradual_threshold`: log-odds above which a candidate counts; higher finds fewer."""

    cut_threshold: float = Field(default=-0.5, allow_inf_nan=False)
    gradual_threshold: float = Field(default=1.25, allow_inf_nan=False)


class Backend:
    """Shots by adaptive thresholds on measured differences: cuts, dissolves, fades, wipes; no network."""

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
        signals = measure.measured(thumbnails)
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
    signals: measure.Signals,
    cuts: tuple[Sequence[int], Sequence[float], float],
    windows: tuple[Sequence[tuple[int, int]], Sequence[float], float],
) -> list[Gap]:
    """The gaps between shots, from candidates with their log-odds and the threshold of their kind."""
    accepted = strongest(*cuts)
    gaps = [(t - 1, t) for t in accepted]
    gaps += [ends(thumbnails, *window) for window in chosen(*windows, accepted, signals)]
    gaps += fades(thumbnails, signals)
    return merged(gaps)


def cut_candidates(signals: measure.Signals) -> list[int]:
    """First frames of possible new shots: peaks of the motion-compensated difference, or of the plain one."""
    found = np.zeros(len(signals.motion), bool)
    for values, least in ((signals.motion, LEAST_MOTION), (signals.step, LEAST_STEP)):
        around = np.maximum(np.append(values[1:], 0), np.insert(values[:-1], 0, 0))
        found |= (values >= least) & (values >= around)
    return [int(t) for t in np.flatnonzero(found)]


def cut_features(thumbnails: UInt8, signals: measure.Signals, cuts: Sequence[int]) -> Float64:
    """len(cuts) × the features of `CUT_WEIGHTS`."""
    n = len(signals.motion)
    rows = [np.zeros((0, len(CUT_WEIGHTS)))]
    for batch in _batches(cuts):
        # The old picture must not be seen again in the next frames, nor the new one in the frames before.
        across = [
            [(t - a, t + b) for a in (1, 2, 4, 6) for b in (0, 1, 3, 5) if t - a >= 0 and t + b < n] for t in batch
        ]
        within = [
            [(t - a, t - 1) for a in (2, 3, 4) if t - a >= 0] + [(t, t + b) for b in (1, 2, 3) if t + b < n]
            for t in batch
        ]
        far, near = measure.compared(thumbnails, across), measure.compared(thumbnails, within)
        for t, f, w in zip(batch, far, near, strict=True):
            peak = signals.motion[t] - 2 * _third(signals.motion, t)
            rest = (float(w[0].mean()), float(w[1].mean())) if w.size else (0.0, 0.0)
            differs, colours, plain, tones = (float(v) for v in f.min(1))
            ratio = np.log2((differs + 2) / (rest[0] + 2))
            row = [
                1,
                differs,
                rest[0],
                colours,
                rest[1],
                np.clip(peak, -20, 10),
                min(plain, 80) / 10,
                ratio,
                tones,
                _alike(differs),
            ]
            rows.append(np.array([row], np.float64))
    return np.concatenate(rows)


def _third(values: Float64, t: int, reach: int = 8) -> float:
    """The third largest of the neighbours: one cut nearby does not raise it, duplicated frames do not lower it."""
    around = np.sort(np.concatenate([values[max(0, t - reach) : t], values[t + 1 : t + 1 + reach]]))
    return float(around[-3]) if len(around) >= 3 else 0.0


def change_candidates(signals: measure.Signals) -> list[tuple[int, int]]:
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


def change_features(thumbnails: UInt8, signals: measure.Signals, windows: Sequence[tuple[int, int]]) -> Float64:
    """len(windows) × the features of `CHANGE_WEIGHTS`."""
    n = len(signals.motion)
    rows = [np.zeros((0, len(CHANGE_WEIGHTS)))]
    for batch in _batches(windows):
        pairs = [
            [(s - a, s + w + b) for a in (0, 3, 6) for b in (0, 3, 6) if s - a >= 0 and s + w + b < n] for w, s in batch
        ]
        for (window, s), f in zip(batch, measure.compared(thumbnails, pairs), strict=True):
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
                f[0].min(),
                f[1].min(),
                _rest(signals, window, s) / chord,
                np.log2(window),
                chord / (6 + (signals.spread[s] + signals.spread[s + window]) / 2),
                f[3].min(),
                _alike(f[0].min()),
            ]
            rows.append(np.array([row], np.float64))
    return np.concatenate(rows)


def _alike(differs: float) -> float:
    """0 for pictures that differ, up to 1 where both sides show the same, if in another light."""
    return max(0.0, 1 - differs / ALIKE)


def _rest(signals: measure.Signals, window: int, s: int) -> float:
    """How much the picture changes just before and just after a window, in levels."""
    side = max(w for w in measure.WINDOWS if w <= max(4, window // 2))
    chords = signals.changes[side].chord
    sides = [float(chords[at]) for at in (s - side, s + window) if 0 <= at < len(chords)]
    return sum(sides) / len(sides) if sides else 0.0


def _dip(spread: Float64, s: int, window: int) -> float:
    """How much contrast the middle of a window has against its ends: a mixture of two pictures has less than either."""
    return float(spread[s + window // 2] / (2 + (spread[s] + spread[s + window]) / 2))


def odds_of(features: Float64, weights: dict[str, float]) -> list[float]:
    """The log-odds of every candidate; none at all where both sides show the same picture."""
    differs = list(weights).index("differs")
    # Summed in plain Python: a library's matrix product may round by the number of rows.
    return [
        sum(x * w for x, w in zip(row, weights.values(), strict=True)) if row[differs] >= SAME else -math.inf
        for row in features.tolist()
    ]


def strongest(cuts: Sequence[int], odds: Sequence[float], threshold: float) -> list[int]:
    """The cuts above the threshold, the likeliest first among those less than 3 frames apart; in order of time."""
    kept: list[int] = []
    for odd, t in sorted(zip(odds, cuts, strict=True), key=lambda pair: (-pair[0], pair[1])):
        if odd > threshold and all(abs(t - other) >= 3 for other in kept):
            kept.append(t)
    return sorted(kept)


def chosen(
    windows: Sequence[tuple[int, int]],
    odds: Sequence[float],
    threshold: float,
    cuts: Sequence[int],
    signals: measure.Signals,
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


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))
