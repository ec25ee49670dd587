"""Small clips for the captioner and similarity tests, drawn and synthesised in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidcap.backends.roles import ClipView

RATE = 16_000
BLUE, GREEN, RED, WHITE, BLACK, GREY = (
    (30, 80, 220),
    (30, 150, 40),
    (200, 25, 30),
    (250, 250, 250),
    (4, 4, 4),
    (128, 128, 128),
)
Audio = npt.NDArray[np.float32]
SILENCE = np.zeros(0, np.float32)


def bands(*colours: Sequence[int], height: int = 90, width: int = 160) -> npt.NDArray[np.uint8]:
    """A picture of horizontal bands of equal height, top first."""
    rows = np.repeat(np.asarray(colours, np.uint8), -(-height // len(colours)), axis=0)[:height]
    return np.ascontiguousarray(np.broadcast_to(rows[:, None], (height, width, 3)))


def clip(
    frames: Sequence[npt.NDArray[np.uint8]],
    audio: Audio = SILENCE,
    *,
    key: str = "a_00000000_00000099",
    gap: float = 0.5,
    has_audio: bool | None = None,
) -> ClipView:
    times = [gap * i for i in range(len(frames))]
    heard = len(audio) > 0 if has_audio is None else has_audio
    return ClipView(key, list(frames), times, audio, heard, gap * len(frames))


def still(*colours: Sequence[int], count: int = 8, audio: Audio = SILENCE) -> ClipView:
    return clip([bands(*colours)] * count, audio)


def flicker(count: int = 8) -> ClipView:
    """Every glance shows something else."""
    random = np.random.default_rng(3)
    return clip(
        [np.kron(random.integers(0, 256, (9, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8) for _ in range(count)]
    )


def music(seconds: float = 6.0, level: float = 0.3) -> Audio:
    """A chord progression of plucked notes with eight harmonics."""
    out = np.zeros(int(seconds * RATE))
    step = int(0.37 * RATE)
    for i in range(len(out) // step):
        for semitone in ((0, 4, 7), (5, 9, 12), (7, 11, 14), (2, 5, 9))[i // 2 % 4]:
            t = np.arange(RATE) / RATE
            pitch = 196 * 2 ** (semitone / 12)
            note = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 9)) * np.exp(-2 * t)
            start = i * step
            out[start : start + RATE] += note[: len(out) - start]
    return (level * out / np.abs(out).max()).astype(np.float32)


def noise(seconds: float = 6.0, level: float = 0.1, seed: int = 0) -> Audio:
    return (level * np.random.default_rng(seed).normal(size=int(seconds * RATE))).astype(np.float32)


def tone(seconds: float = 6.0, level: float = 0.2, hertz: float = 997.0) -> Audio:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def babble(seconds: float = 6.0, seed: int = 1) -> Audio:
    """Voice-like sound by source and filter: glottal pulses with gliding pitch, moving formants, syllables, pauses."""
    random = np.random.default_rng(seed)
    pieces: list[npt.NDArray[np.float64]] = []
    while sum(map(len, pieces)) < seconds * RATE:
        length = int(random.uniform(0.09, 0.22) * RATE)
        u = np.linspace(0, 1, length)
        pitch = random.uniform(100, 150) * (1 + random.uniform(-0.25, 0.15) * u)
        phase = np.cumsum(pitch / RATE)
        formants = [
            (random.uniform(low, high) + random.uniform(-span, span) * u, width)
            for low, high, span, width in ((300, 800, 150, 90), (900, 2200, 400, 140), (2400, 3000, 150, 220))
        ]
        voice = np.zeros(length)
        for k in range(1, int(3800 / 150)):
            gain = sum(1 / (1 + ((k * pitch - centre) / width) ** 2) for centre, width in formants)
            voice += gain * np.sin(2 * np.pi * k * phase) / k**0.5
        pieces.append(voice * np.sin(np.pi * u) ** 0.6)
        if random.random() < 0.5:  # a consonant: a short burst of noise
            burst = random.normal(size=int(random.uniform(0.04, 0.09) * RATE)) * 0.25
            pieces.append(np.diff(burst, prepend=0) * np.hanning(len(burst)))
        pieces.append(np.zeros(int(random.choice([0.02, 0.04, 0.3], p=[0.5, 0.35, 0.15]) * RATE)))
    out = np.concatenate(pieces)[: int(seconds * RATE)]
    out += random.normal(size=len(out)) * 1e-3 * np.abs(out).max()
    return (0.4 * out / np.abs(out).max()).astype(np.float32)
