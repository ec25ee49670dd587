"""Procedural shots, for what the real footage has too little of: traffic, fire, slides, titles, travel, static."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vidcap.autoshot.synthesis import clutter

UInt8 = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 27, 48


def rendered(count: int, rng: np.random.Generator) -> UInt8:
    """One shot of `count` frames, N×27×48×3."""
    makers: tuple[Callable[[int, np.random.Generator], UInt8], ...] = (
        _traffic,
        _hearth,
        _slide,
        _travel,
        _balls,
        _drift,
    )
    return makers[int(rng.integers(len(makers)))](count, rng)


def texture(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> UInt8:
    """A picture of cloudy colour with some structure: sums of noise at three sizes between two or three colours."""
    field = np.zeros((height, width))
    for cell in (2, 5, 12):
        coarse = rng.random((height // cell + 2, width // cell + 2))
        field += np.kron(coarse, np.ones((cell, cell)))[:height, :width] * cell ** rng.uniform(0.2, 1.0)
    field = (field - field.min()) / (np.ptp(field) + 1e-6)
    low, high, third = rng.integers(0, 256, (3, 3))
    picture = low + (high - low) * field[..., None]
    if rng.random() < 0.5:
        horizon = int(rng.integers(6, height - 4))
        picture[horizon:] = picture[horizon:] * 0.4 + third * 0.6
    painted: UInt8 = np.clip(picture, 0, 255).astype(np.uint8)
    return painted


def _traffic(count: int, rng: np.random.Generator) -> UInt8:
    """A street: things of all sizes pass before a still background, some filling the picture."""
    frames = np.repeat(texture(rng)[None], count, 0)
    for _ in range(1 + count // 60):
        frames = clutter.passed_by(frames, texture(rng), rng)
    return frames


def _hearth(count: int, rng: np.random.Generator) -> UInt8:
    background = (texture(rng) * rng.uniform(0.1, 0.6)).astype(np.uint8)
    return clutter.aflame(np.repeat(background[None], count, 0), rng)


def _slide(count: int, rng: np.random.Generator) -> UInt8:
    """A slide or a page on screen: light, with lines of text and a box; a pointer moves over it."""
    page = np.full((HEIGHT, WIDTH, 3), int(rng.integers(200, 256)) if rng.random() < 0.75 else int(rng.integers(0, 60)))
    ink = 255 - page[0, 0] * 0.9
    for top in range(int(rng.integers(2, 6)), HEIGHT - 2, int(rng.integers(2, 5))):
        left, right = int(rng.integers(2, 8)), int(rng.integers(14, 47))
        page[top, left:right] = page[top, left:right] * 0.5 + ink * 0.5 * rng.uniform(0.6, 1)
    if rng.random() < 0.5:
        top, left = int(rng.integers(2, 12)), int(rng.integers(2, 28))
        page[top : top + 12, left : left + 18] = texture(rng, 12, 18)
    frames = np.repeat(page.clip(0, 255).astype(np.uint8)[None], count, 0)
    down, across = (np.clip(np.cumsum(rng.normal(0, 0.5, count)) + size / 2, 0, size - 2) for size in (HEIGHT, WIDTH))
    for moment, (row, column) in enumerate(zip(down.astype(int), across.astype(int), strict=True)):
        frames[moment, row : row + 2, column : column + 1] = 0
    return frames


def _travel(count: int, rng: np.random.Generator) -> UInt8:
    """Forwards or sideways through a landscape: a big texture seen through a moving, growing window."""
    land = texture(rng, HEIGHT * 4, WIDTH * 6)
    speed = rng.uniform(0.3, 6) * rng.choice((-1, 1))
    left = np.abs((np.arange(count) * speed + rng.uniform(0, WIDTH)) % (8 * WIDTH) - 4 * WIDTH).astype(int)
    left = np.clip(left, 0, 5 * WIDTH)
    top = np.clip(HEIGHT * 1.5 + np.cumsum(rng.normal(0, rng.uniform(0, 1.2), count)), 0, 3 * HEIGHT).astype(int)
    return np.stack([land[t : t + HEIGHT, x : x + WIDTH] for t, x in zip(top, left, strict=True)])


def _balls(count: int, rng: np.random.Generator) -> UInt8:
    """Cartoon-like: flat colours, hard edges, a few bouncing things."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    frames[:] = rng.integers(0, 256, 3)
    frames[:, int(rng.integers(10, 22)) :] = rng.integers(0, 256, 3)
    for _ in range(int(rng.integers(1, 5))):
        size, colour = rng.uniform(2, 12), rng.integers(0, 256, 3).astype(np.uint8)
        at = rng.uniform(0, 1, 2)[:, None] + rng.uniform(-0.05, 0.05, 2)[:, None] * np.arange(count)
        down, across = 1 - np.abs(at % 2 - 1)
        inside = (rows - down[:, None, None] * HEIGHT) ** 2 + (columns - across[:, None, None] * WIDTH) ** 2 < size**2
        frames[inside] = colour
    return frames


def _drift(count: int, rng: np.random.Generator) -> UInt8:
    """Smoke, water, clouds: two textures that slide over each other."""
    one, other = texture(rng).astype(np.float32), texture(rng).astype(np.float32)
    speeds = rng.uniform(-1.5, 1.5, 4)
    frames = [
        0.5 * np.roll(one, (int(speeds[0] * t), int(speeds[1] * t)), (0, 1))
        + 0.5 * np.roll(other, (int(speeds[2] * t), int(speeds[3] * t)), (0, 1))
        for t in range(count)
    ]
    return np.stack(frames).astype(np.uint8)
