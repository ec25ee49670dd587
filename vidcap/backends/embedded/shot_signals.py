"""What shot detectors measure on thumbnails: motion-compensated difference, colour change, straightness of a change.

Everything is counted in whole numbers (sums of bytes fit a float32 or float64 exactly), so a value depends on its own
frames alone and not on how the frames were gathered into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vidcap.backends.roles import Float64, UInt8

Cells = npt.NDArray[np.float32]
"""n×12×36: a frame as 3×4 blocks of 3×4 cells of 3×3 pixels, RGB means rounded to whole levels."""

BLOCKS, VALUES = 12, 36
SHIFTS = tuple((y, x) for y in range(-3, 4) for x in range(-4, 5))
WINDOWS = (4, 8, 12, 16, 24, 32, 48)
"""Lengths in frames at which gradual changes are looked for."""
CHUNK = 2048


def luma(thumbnails: UInt8) -> UInt8:
    """n×27×48×3 RGB → n×27×48, weights 2, 5, 1 eighths."""
    wide = thumbnails.astype(np.uint16)
    return np.asarray((wide[..., 0] * 2 + wide[..., 1] * 5 + wide[..., 2]) >> 3, np.uint8)


def levelled(pictures: UInt8) -> UInt8:
    """Frames (n×27×48, or with colours) each brought to mean 128, deviation 45: blind to exposure and even flashes."""
    frames = pictures.reshape(len(pictures), -1).astype(np.float64)
    n = frames.shape[1]
    total, squares = frames.sum(1, keepdims=True), (frames * frames).sum(1, keepdims=True)
    mean = total / n
    deviation = np.sqrt(np.maximum(squares / n - mean * mean, 0))
    level = np.clip((frames - mean) / (deviation + 6) * 45 + 128, 0, 255)
    return np.asarray(level.reshape(pictures.shape), np.uint8)


def motion_residual(a: UInt8, b: UInt8) -> Float64:
    """n pairs of n×27×48 → n: mean absolute difference left after each of 12 blocks moved to where it fits best.

    Blocks of 7×10 pixels, shifts up to 3 rows and 4 columns; grey levels, 0 to 255.
    """
    n = len(a)
    # Frames last: every operation then runs along the frames and needs no copies of shifted pictures.
    still = np.ascontiguousarray(a.transpose(1, 2, 0))[3:24, 4:44]
    moving = np.ascontiguousarray(b.transpose(1, 2, 0))
    best: npt.NDArray[np.uint16] | None = None
    for y, x in SHIFTS:
        shifted = moving[3 + y : 24 + y, 4 + x : 44 + x]
        difference = np.maximum(still, shifted)
        difference -= np.minimum(still, shifted)
        rows = np.add.reduce(difference.reshape(3, 7, 40, n), axis=1, dtype=np.uint16)
        sums = np.add.reduce(rows.reshape(3, 4, 10, n), axis=2, dtype=np.uint16)
        best = sums if best is None else np.minimum(best, sums, out=best)
    assert best is not None
    return np.asarray(best.reshape(BLOCKS, n).sum(0, dtype=np.int64) / (BLOCKS * 70.0), np.float64)


def histogram(thumbnails: UInt8) -> npt.NDArray[np.int32]:
    """n×512 counts of colours at 3 bits a channel."""
    n = len(thumbnails)
    bits = thumbnails.reshape(n, -1, 3) >> 5
    colour = (bits[..., 0].astype(np.int32) << 6) | (bits[..., 1].astype(np.int32) << 3) | bits[..., 2]
    colour += (np.arange(n, dtype=np.int32) * 512)[:, None]
    return np.bincount(colour.ravel(), minlength=n * 512).reshape(n, 512).astype(np.int32)


def histogram_distance(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> Float64:
    """Share of the pixels whose colour is another, 0 to 1."""
    return np.asarray(np.abs(a - b).sum(1) / (2.0 * 27 * 48), np.float64)


def cells(thumbnails: UInt8) -> Cells:
    """n×27×48×3 → `Cells`."""
    n = len(thumbnails)
    total = np.zeros((n, 9, 16, 3), np.uint16)
    for y in range(3):
        for x in range(3):
            total += thumbnails[:, y::3, x::3]
    mean = ((total + 4) // 9).reshape(n, 3, 3, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(mean.reshape(n, BLOCKS, VALUES)).astype(np.float32)


def level_and_spread(values: Cells) -> tuple[Float64, Float64]:
    """Per frame the mean level, and the deviation of its cells from that frame's mean colour (0: one flat colour)."""
    wide = values.reshape(len(values), -1, 3).astype(np.float64)
    n = wide.shape[1]
    total, squares = wide.sum(1), (wide * wide).sum(1)
    variance = np.maximum(squares / n - (total / n) ** 2, 0).sum(1) / 3
    return total.sum(1) / (3 * n), np.sqrt(variance)


def step_sizes(values: Cells) -> Float64:
    """Root mean square difference of each frame from the one before, levels; n-1 values."""
    own, next_to = _products(values, 0), _products(values, 1)
    return np.asarray(np.sqrt((own[:-1] + own[1:] - 2 * next_to).sum(1) / (BLOCKS * VALUES)), np.float64)


def _products(values: Cells, lag: int) -> Float64:
    """Inner products of every frame with the one `lag` later, per block. Exact: below 2^24."""
    return np.asarray(np.einsum("nbd,nbd->nb", values[: len(values) - lag], values[lag:]), np.float64)


@dataclass(frozen=True, slots=True)
class Change:
    """How the picture goes from frame s to frame s+K, for every s of a chunk. Arrays of one value per s."""

    chord: Float64
    """Root mean square difference of the two ends, levels."""
    bend: Float64
    """How far the frames between are from mixtures of the ends (block by block), as a share of the chord."""
    back: Float64
    """How far the mixture runs backwards, 0 to 1."""
    uneven: Float64
    """How differently the blocks are mixed: 0 for a dissolve, large for a wipe."""
    middle: Float64
    """Share of the new picture half way."""
    lean: Float64
    """Distance of the quarter points from an even ramp."""
    area: Float64
    """Share of blocks that change by 15 levels or more."""

    def __len__(self) -> int:
        return len(self.chord)

    def head(self, n: int) -> Change:
        """The first `n` values, kept small."""
        return Change(**{f.name: getattr(self, f.name)[:n].astype(np.float32) for f in fields(self)})

    @classmethod
    def join(cls, parts: list[Change]) -> Change:
        """The changes of neighbouring chunks behind one another."""
        none = [np.zeros(0, np.float32)]
        return cls(**{f.name: np.concatenate(none + [getattr(part, f.name) for part in parts]) for f in fields(cls)})


class Gram:
    """Inner products of the frames of a chunk at the lags needed; all changes are computed from them."""

    def __init__(self, values: Cells) -> None:
        self.n = len(values)
        lags = {0} | {window * quarter // 4 for window in WINDOWS for quarter in (1, 2, 3, 4)}
        self._at = {lag: _products(values, lag) for lag in sorted(lags) if lag < self.n}

    def change(self, window: int) -> Change:
        """The changes over `window` frames; n - window values (n > window)."""
        m = self.n - window
        own, ends = self._at[0], self._at[window][:m]
        first, last = own[:m], own[window:]
        squared = first + last - 2 * ends
        whole = squared.sum(1)
        safe, safe_whole = np.maximum(squared, 1), np.maximum(whole, 1)
        residual, uneven = np.zeros(m), np.zeros(m)
        shares, means = [], []
        for quarter in (1, 2, 3):
            q = window * quarter // 4
            at, to, on = own[q : q + m], self._at[q][:m], self._at[window - q][q : q + m]
            along = on - to - ends + first
            share = np.clip(along / safe, 0, 1)
            off = first + at - 2 * to - 2 * share * along + share * share * squared
            mean = (share * squared).sum(1) / safe_whole
            residual += np.maximum(off, 0).sum(1)
            uneven += (np.abs(share - mean[:, None]) * squared).sum(1) / safe_whole
            shares.append(share)
            means.append(mean)
        back = np.maximum(shares[0] - shares[1], 0) + np.maximum(shares[1] - shares[2], 0)
        return Change(
            chord=np.sqrt(whole / (BLOCKS * VALUES)),
            bend=np.sqrt(residual / 3 / np.maximum(whole, BLOCKS * VALUES)),
            back=(back * squared).sum(1) / safe_whole,
            uneven=uneven / 3,
            middle=means[1],
            lean=np.abs(means[0] - 0.25) + np.abs(means[2] - 0.75),
            area=(squared > VALUES * 15 * 15).mean(1),
        )


@dataclass(frozen=True, slots=True)
class Signals:
    """What the one pass over the frames keeps: a few hundred bytes a frame, no pictures."""

    motion: Float64
    """Motion-compensated difference to the frame before; 0 for the first."""
    step: Float64
    level: Float64
    spread: Float64
    changes: dict[int, Change]


def measured(thumbnails: UInt8, chunk: int = CHUNK) -> Signals:
    """One pass in chunks that overlap by the longest window; the result does not depend on `chunk`."""
    n, reach = len(thumbnails), max(WINDOWS)
    motion, step, level, spread = (np.zeros(n) for _ in range(4))
    parts: dict[int, list[Change]] = {window: [] for window in WINDOWS}
    for start in range(0, n, chunk):
        stop = min(n, start + chunk)
        before = max(0, start - 1)
        seen = np.asarray(thumbnails[before : min(n, stop + reach)])
        values = cells(seen)
        own = values[start - before :]
        level[start:stop], spread[start:stop] = level_and_spread(own[: stop - start])
        gram = Gram(own)
        for window in WINDOWS:
            if len(own) > window:
                parts[window].append(gram.change(window).head(stop - start))
        if stop - before > 1:
            grey = luma(seen[: stop - before])
            motion[before + 1 : stop] = motion_residual(grey[:-1], grey[1:])
            step[before + 1 : stop] = step_sizes(values[: stop - before])
    return Signals(motion, step, level, spread, {w: Change.join(p) for w, p in parts.items()})


def compared(thumbnails: UInt8, groups: list[list[tuple[int, int]]]) -> list[Float64]:
    """Per group of frame pairs: 4 × pairs: levelled motion residual, colours, difference of cells, levelled colours."""
    pairs = [pair for group in groups for pair in group]
    if not pairs:
        return [np.zeros((4, 0)) for _ in groups]
    frames, at = np.unique(np.array(pairs), return_inverse=True)
    at = at.reshape(-1, 2)
    seen = np.stack([np.asarray(thumbnails[t]) for t in frames])
    grey, values = levelled(luma(seen)), cells(seen)
    colours, tones = histogram(seen), histogram(levelled(seen))
    a, b = at[:, 0], at[:, 1]
    plain = np.sqrt(((values[a] - values[b]) ** 2).sum((1, 2), dtype=np.float64) / (BLOCKS * VALUES))
    all_pairs = np.stack(
        [
            motion_residual(grey[a], grey[b]),
            histogram_distance(colours[a], colours[b]),
            plain,
            histogram_distance(tones[a], tones[b]),
        ]
    )
    edges = np.cumsum([0] + [len(group) for group in groups])
    return [all_pairs[:, first:last] for first, last in pairwise(edges)]
