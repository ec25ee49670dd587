"""Camera movement put onto a shot: a window that pans, whips, zooms or shakes over the mirrored picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
HEIGHT, WIDTH = 27, 48


def moved(frames: UInt8, rng: np.random.Generator) -> UInt8:
    """The shot N×27×48×3 as a moving camera would have seen it; no transition, however fast it moves."""
    count = len(frames)
    still: Float64 = np.zeros(count)
    across, down, zoom = still.copy(), still.copy(), still + 1
    kind = rng.choice(5, p=(0.27, 0.27, 0.2, 0.16, 0.1))
    if kind == 0:
        across += rng.uniform(-2.5, 2.5) * np.arange(count)
        down += rng.uniform(-1, 1) * np.arange(count) * (rng.random() < 0.4)
    elif kind == 1:
        across, down = _whip(count, rng)
    elif kind == 2:
        zoom = _zoom(count, rng)
    elif kind == 3:
        across, down = _shake(count, rng.uniform(0.5, 3), rng), _shake(count, rng.uniform(0.3, 2), rng)
    else:
        zoom[:] = rng.uniform(0.55, 0.95)
        across[:], down[:] = rng.uniform(-8, 8), rng.uniform(-4, 4)
    return seen(frames, across, down, zoom)


def seen(frames: UInt8, across: Float64, down: Float64, zoom: Float64) -> UInt8:
    """Each frame through a window `across` and `down` pixels off its middle, `zoom` of its size."""
    columns = _mirrored((np.arange(WIDTH) - WIDTH / 2) * zoom[:, None] + WIDTH / 2 + across[:, None], WIDTH)
    rows = _mirrored((np.arange(HEIGHT) - HEIGHT / 2) * zoom[:, None] + HEIGHT / 2 + down[:, None], HEIGHT)
    return frames[np.arange(len(frames))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _mirrored(at: Float64, size: int) -> npt.NDArray[np.int64]:
    """Coordinates folded back into the picture, as between two mirrors."""
    folded = np.mod(np.rint(at).astype(np.int64), 2 * size)
    return np.where(folded >= size, 2 * size - 1 - folded, folded)


def _whip(count: int, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """A sudden swing of 3 to 14 frames, up to most of the picture's width per frame."""
    speed = np.zeros(count)
    for _ in range(int(rng.integers(1, 3))):
        length = int(rng.integers(3, 15))
        first = int(rng.integers(0, max(1, count - length)))
        swing = np.sin(np.pi * (np.arange(length) + 0.5) / length) * rng.uniform(3, 18) * rng.choice((-1, 1))
        speed[first : first + length] += swing[: count - first]
    way = np.cumsum(speed)
    return (way * 0.6, way) if rng.random() < 0.25 else (way, way * rng.uniform(-0.2, 0.2))


def _zoom(count: int, rng: np.random.Generator) -> Float64:
    start, end = rng.uniform(0.5, 1.0, 2)
    if rng.random() < 0.5:
        length = int(rng.integers(4, 20))
        first = int(rng.integers(0, max(1, count - length)))
        ease = np.clip((np.arange(count) - first) / length, 0, 1)
    else:
        ease = np.linspace(0, 1, count)
    zoom: Float64 = start + (end - start) * ease
    return zoom


def _shake(count: int, size: float, rng: np.random.Generator) -> Float64:
    way: Float64 = np.convolve(rng.normal(0, size, count + 2), (0.3, 0.4, 0.3), "valid")
    return way
