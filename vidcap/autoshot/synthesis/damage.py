"""What recording and compression do to the finished picture: noise, blocks, pumping, bars, a logo."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


def recorded(frames: Float32, rng: np.random.Generator) -> UInt8:
    """N×27×48×3 uint8 from what a camera or an edit would have given; the same damage in every shot of a video."""
    count, height, width, _ = frames.shape
    if rng.random() < 0.12:
        # Pillarbox or letterbox.
        upright = rng.random() < 0.5
        bar = int(rng.integers(1, 12 if upright else 6))
        box = frames.swapaxes(1, 2) if upright else frames
        box[:, :bar] = 0
        box[:, -bar:] = 0
    if rng.random() < 0.1:
        tall, wide = int(rng.integers(2, 5)), int(rng.integers(3, 10))
        top, left = int(rng.integers(height - tall)), int(rng.integers(width - wide))
        frames[:, top : top + tall, left : left + wide] = rng.uniform(0, 255, (tall, wide, 3))
    if rng.random() < 0.4:
        noise = rng.standard_normal((count, height, width, 1), np.float32)
        frames = frames + noise * np.float32(rng.uniform(0.5, 6))
    if rng.random() < 0.25:
        # Blocks that a coder renews at its key pictures.
        period = int(rng.integers(1, 13))
        blocks = rng.standard_normal((count // period + 1, 7, 12, 1), np.float32) * np.float32(rng.uniform(1, 5))
        blocks = np.repeat(np.repeat(blocks, 4, 1), 4, 2)[:, :height, :width]
        frames = frames + blocks[np.arange(count) // period]
    if rng.random() < 0.1:
        pumping = (np.arange(count) % int(rng.integers(8, 30)) == 0) * rng.uniform(-8, 8)
        frames = frames + pumping.astype(np.float32)[:, None, None, None]
    return np.clip(frames, 0, 255).astype(np.uint8)
