"""Log mel spectra of 16 kHz sound as Kaldi computes them, scaled as BEATs heard them: what sound encoders read.

Frames of 25 ms every 10 ms, none beyond the end; per frame: mean taken off, pre-emphasis 0.97, Povey window, power of a
512-point FFT, triangular mel filters from 20 Hz to 8 kHz, logarithm. No dither: equal sound gives equal numbers.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

RATE = 16_000
FRAME, STEP = 400, 160
"""Samples of a frame and between the starts of two."""
POINTS = 512
"""Of the FFT: the frame's length rounded up to a power of two."""
PREEMPHASIS = 0.97
LOW_HERTZ = 20.0
FLOOR = float(np.finfo(np.float32).eps)
"""The least energy whose logarithm is taken."""

WINDOW_SECONDS = 10
WINDOW = WINDOW_SECONDS * RATE
"""Samples that an encoder hears at once: 998 frames."""
SCALE = 2.0**15
"""BEATs heard samples as 16-bit integers."""
MEAN, SPREAD = 15.41663, 2 * 6.55582
"""Of BEATs' training sound; published with it."""


def fbank(waveform: Tensor, mels: int) -> Tensor:
    """Sound …×N in any unit → …×(1 + (N − 400) // 160)×`mels` log energies, natural logarithm; computed in float32.

    Raises `ValueError` for sound shorter than one frame.
    """
    if waveform.shape[-1] < FRAME:
        raise ValueError(f"{waveform.shape[-1]} samples are no frame of {FRAME}")
    frames = waveform.float().unfold(-1, FRAME, STEP)
    frames = frames - frames.mean(-1, keepdim=True)
    # The sample before the first one is taken to be the first one.
    before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    frames = frames - PREEMPHASIS * before
    window, filters = _tables(mels)
    spectrum = torch.fft.rfft(frames * window.to(frames), n=POINTS)
    power = spectrum.real.square() + spectrum.imag.square()
    return (power @ filters.to(power)).clamp(min=FLOOR).log()


def encoder_input(waveform: Tensor, mels: int) -> Tensor:
    """Sound …×N in [-1, 1] → the normalised spectrum …×T×`mels` that BEATs reads."""
    return (fbank(waveform * SCALE, mels) - MEAN) / SPREAD


def windows_of(sound: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """At most `most` windows W×160000 of a sound, one after the other from its start, silence filling up the last.

    The *waveform* is padded, not the spectrum: digital silence is what a network has heard at the end of recordings. A
    rest of less than one frame (25 ms) after the first window is left out, for nothing is to be heard in it.
    """
    sound = sound[: most * WINDOW]
    count = max(1, -(-(len(sound) - FRAME) // WINDOW))
    padded = np.zeros(count * WINDOW, np.float32)
    padded[: min(len(sound), len(padded))] = sound[: len(padded)]
    return padded.reshape(count, WINDOW)


@functools.lru_cache(maxsize=4)
def _tables(mels: int) -> tuple[Tensor, Tensor]:
    """The window (400) and the filters (257×`mels`)."""
    # A Hann window to the power 0.85: like Hamming, but zero at its ends.
    phase = 2 * math.pi * torch.arange(FRAME, dtype=torch.float64) / (FRAME - 1)
    window = (0.5 - 0.5 * phase.cos()).pow(0.85)
    bins = _mel(torch.arange(POINTS // 2 + 1, dtype=torch.float64) * RATE / POINTS)[:, None]
    low, high = (_mel(torch.tensor(hertz, dtype=torch.float64)) for hertz in (LOW_HERTZ, RATE / 2))
    edges = torch.linspace(float(low), float(high), mels + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    filters = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
    filters[-1] = 0  # Kaldi leaves the bin at half the sampling rate out
    return window.float(), filters.float()


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * (1.0 + hertz / 700.0).log()
