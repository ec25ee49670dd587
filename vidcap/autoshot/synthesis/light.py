"""Light and colour that change within a shot: exposure, flashes, flicker, grading."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def graded(frames: Float32, rng: np.random.Generator, strength: float = 1.0) -> Float32:
    """One colour grade for the whole shot: contrast, light, tint, saturation, gamma."""
    if rng.random() < 0.7:
        frames = (frames - 128) * np.float32(rng.uniform(0.75, 1.25)) + np.float32(
            128 + rng.uniform(-28, 28) * strength
        )
    if rng.random() < 0.5:
        frames = frames * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.4:
        grey = frames.mean(-1, keepdims=True, dtype=np.float32)
        saturation = 0 if rng.random() < 0.2 else rng.uniform(0.2, 1.5)
        frames = grey + (frames - grey) * np.float32(saturation)
    if rng.random() < 0.15:
        bent = 255 * np.clip(frames / 255, 0, 1) ** np.float32(rng.uniform(0.6, 1.7))
        return bent.astype(np.float32, copy=False)
    return frames


def disturbed(frames: Float32, rng: np.random.Generator) -> Float32:
    """Sometimes light that changes within the shot; none of it is a transition."""
    chance = rng.random()
    if chance < 0.09:
        return _flashes(frames, rng)
    if chance < 0.13:
        return frames + _per_frame(rng.normal(0, rng.uniform(2, 14), len(frames)))
    if chance < 0.19:
        return frames * _per_frame(1 + (rng.uniform(0.4, 1.8) - 1) * _ramp(len(frames), rng))
    if chance < 0.22:
        return frames + _per_frame(rng.uniform(5, 30) * np.sin(np.arange(len(frames)) * rng.uniform(0.5, 3.1)))
    if chance < 0.25:
        # Lamps switched on or off, and coloured light that wanders.
        tint = rng.uniform(0.35, 1.6, 3)
        return frames * (1 + (tint - 1) * _ramp(len(frames), rng)[:, None]).astype(np.float32)[:, None, None]
    return frames


def _flashes(frames: Float32, rng: np.random.Generator) -> Float32:
    """Photographers' flashes, lightning, strobes: bright for a few frames, then the same picture again."""
    light = np.zeros(len(frames))
    if rng.random() < 0.25:
        period, phase = int(rng.integers(3, 14)), int(rng.integers(0, 14))
        light[phase::period] = rng.uniform(40, 255)
    else:
        for _ in range(int(rng.integers(1, 4))):
            first, length = int(rng.integers(len(frames))), int(rng.integers(1, 6))
            fall = rng.uniform(40, 255) * (1 - np.arange(length) / length)
            light[first : first + length] += fall[: len(frames) - first]
    if rng.random() < 0.3:
        # One side of the picture is lit more.
        left, right = rng.permutation((0.2, 1.0))
        side = np.linspace(left, right, frames.shape[2])
        lit: Float32 = frames + (light[:, None] * side).astype(np.float32)[:, None, :, None]
        return lit
    return frames + _per_frame(light)


def _ramp(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """0, then a rise within 1 to 20 frames, then 1."""
    length = int(rng.integers(1, 20))
    ramp: npt.NDArray[np.float64] = np.clip((np.arange(count) - int(rng.integers(-length, count))) / length, 0, 1)
    return ramp


def _per_frame(values: npt.NDArray[np.float64]) -> Float32:
    return values.astype(np.float32)[:, None, None, None]
