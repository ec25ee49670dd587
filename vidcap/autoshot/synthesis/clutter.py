"""Things that come and go within a shot: passers-by, captions, logos, keyed backgrounds, fire."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 27, 48


def passed_by(frames: UInt8, texture: UInt8, rng: np.random.Generator) -> UInt8:
    """Up to five things cross the picture near the camera: people, cars, a whole lorry. `texture`: 27×48×3."""
    frames = frames.copy()
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    for _ in range(int(rng.integers(1, 6))):
        length, width = int(rng.integers(3, 30)), int(rng.integers(5, 60))
        first = int(rng.integers(-length // 2, len(frames)))
        top = int(rng.integers(0, 16)) if rng.random() < 0.6 else 0
        lean = (rows - HEIGHT / 2) * rng.uniform(-0.6, 0.6)
        plain = rng.integers(0, 140, 3).astype(np.uint8) if rng.random() < 0.5 else None
        leftwards = rng.random() < 0.5
        for step in range(length):
            at = first + step
            if not 0 <= at < len(frames):
                continue
            left = -width + (WIDTH + width) / length * step
            left = WIDTH - width - left if leftwards else left
            covered = (columns >= left + lean) & (columns < left + width + lean) & (rows >= top)
            if plain is not None:
                frames[at][covered] = plain
            else:
                # The texture travels with the thing.
                frames[at][covered] = np.roll(texture, int(left), 1)[covered]
    return frames


def captioned(frames: UInt8, rng: np.random.Generator) -> UInt8:
    """Captions, lower thirds and logos that appear and vanish."""
    frames = frames.copy()
    for _ in range(int(rng.integers(1, 4))):
        height, width = int(rng.integers(2, 8)), int(rng.integers(8, 46))
        top = int(rng.integers(14, HEIGHT - height)) if rng.random() < 0.7 else int(rng.integers(0, HEIGHT - height))
        left = int(rng.integers(0, WIDTH - width))
        first = int(rng.integers(0, len(frames)))
        stop = first + int(rng.integers(4, 60))
        letters = rng.random((height, width, 1)) * rng.uniform(60, 255) * np.ones(3)
        opacity = rng.uniform(0.5, 1) * (1 if rng.random() < 0.4 else (rng.random((height, width, 1)) < 0.6))
        box = (slice(first, stop), slice(top, top + height), slice(left, left + width))
        frames[box] = (frames[box] * (1 - opacity) + letters * opacity).astype(np.uint8)
    return frames


def keyed(frames: UInt8, behind: UInt8, rng: np.random.Generator) -> UInt8:
    """A person-shaped cut-out of the shot before another, moving background, as from a green screen."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    middle = WIDTH * rng.uniform(0.3, 0.7) + np.cumsum(rng.normal(0, 0.3, len(frames)))
    breadth, head = rng.uniform(6, 13), rng.uniform(2, 9)
    shoulders = breadth * np.clip((rows - head - 6) / 8, 0, 1) + 3.5
    person = (np.abs(columns - middle[:, None, None]) < shoulders) & (rows > head)
    if rng.random() < 0.3:
        behind = np.broadcast_to(rng.integers(0, 255, 3).astype(np.uint8), behind.shape)
    keyed_frames: UInt8 = np.where(person[..., None], frames, behind[: len(frames)])
    return keyed_frames


def aflame(frames: UInt8, rng: np.random.Generator) -> UInt8:
    """Fire or water that boils in part of the picture: bright, restless, never the same twice."""
    count = len(frames)
    grain = rng.random((count + 16, 10, 13)).astype(np.float32)
    # Rising: each frame shows the field of a moment ago, a little higher.
    rise = float(rng.uniform(0.3, 1.5))
    rows = ((np.arange(10)[None] + rise * np.arange(count)[:, None]) % 10).astype(np.int64)
    field = grain[np.arange(count)[:, None] // 2, rows] * 0.6 + grain[np.arange(count)[:, None] + 8, rows] * 0.4
    field = np.repeat(np.repeat(field, 3, 1), 4, 2)[:, :HEIGHT, :WIDTH]
    height = rng.uniform(0.3, 1.0)
    shape = np.clip(np.arange(HEIGHT) / HEIGHT - 1 + height, 0, 1)[:, None] / height
    glow = np.clip((field + shape - 0.75) * 3, 0, 1)[..., None]
    colour = np.array((255, 160, 40) if rng.random() < 0.7 else (235, 245, 255), np.float32) * rng.uniform(0.8, 1.1)
    return np.clip(frames * (1 - glow) + colour * glow, 0, 255).astype(np.uint8)
