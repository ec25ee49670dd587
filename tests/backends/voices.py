"""Made sound for tests of recognisers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
RATE = 16_000


def voice(seconds: float, seed: int = 0) -> Float32:
    """A buzz whose pitch and loudness change from syllable to syllable: speech, to the gate in front of the model."""
    rng = np.random.default_rng(seed)
    syllables = []
    for _ in range(round(seconds / 0.2)):
        at = np.arange(RATE // 5) / RATE
        pitch = rng.uniform(90, 220)
        buzz = sum(np.sin(2 * np.pi * pitch * k * at + k) * rng.uniform(0.1, 1) / k for k in range(1, 30))
        syllables.append(buzz * np.hanning(len(at)) * rng.uniform(0.5, 1))
    sound = np.concatenate(syllables)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def silence(seconds: float) -> Float32:
    return np.zeros(round(seconds * RATE), np.float32)
