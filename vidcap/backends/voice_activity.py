"""Where a recording may hold speech: pieces between quiet points, without those that are plainly noise, hum or tones.

Only loudness and the shape of short spectra are looked at. It is a gate in front of a recogniser, set so that speech
under music passes: real music with a beat passes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vidcap.backends.roles import Sound

SAMPLE_RATE = 16_000
HOP = 160
"""Samples of a frame: 10 ms."""
WINDOW = 512

QUIET_DB = -60.0
"""Mean power of a frame, relative to full scale, that is never speech."""
ABOVE_FLOOR, BELOW_PEAK_DB = 0.3, 10.0
"""A frame is loud from this share of the way from floor to peak (in dB), but at most so far below the peak."""
BLOCK, REACH = 1_000, 1_000
"""Floor and peak are taken per block of frames and its surroundings: a loud song must not hide quiet talk elsewhere."""
MIN_GAP, MIN_LOUD, PAD = 35, 20, 15
"""Frames: a longer pause ends a piece; a shorter piece is a click; so much is added around a piece."""
EDGES = 16
READ = 6_000
"""Frames that levels are taken of at a time: a minute."""

# Means over pieces of 54 recordings: speech, clean to 10 dB above white noise, has a flatness of 0.00-0.04, a flux of
# 3.2-7.5 dB and a bandwidth of 12-101 bins. White noise has flatness 0.57, room tone 0.24-0.42; hum, sustained chords
# and steady noise have flux 0.1-2.9; pure tones, chords and beeps 3-9 bins.
MAX_FLATNESS, MIN_FLUX_DB, MIN_BANDWIDTH = 0.3, 3.0, 10.0

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def pieces(audio: Sound, *, max_seconds: float) -> list[tuple[int, int]]:
    """Sample ranges to recognise, in order, disjoint, none longer than `max_seconds`.

    `audio`: 16 kHz mono in [-1, 1], read in windows. A stretch that is too long is cut at its quietest point.
    """
    level = frame_levels(audio)
    longest = max(2, round(max_seconds * SAMPLE_RATE / HOP))
    found = []
    for first, last in _loud_stretches(level):
        for start, end in _cut(level, first, last, longest):
            if may_be_speech(audio[start * HOP : end * HOP]):
                found.append((start * HOP, end * HOP))
    return found


def frame_levels(audio: Sound) -> Float64:
    """Mean power of each whole 10 ms frame in dB relative to full scale, at least -100."""
    count = len(audio) // HOP
    levels = np.empty(count, np.float64)
    for first in range(0, count, READ):
        last = min(count, first + READ)
        frames = audio[first * HOP : last * HOP].reshape(-1, HOP)
        power = np.einsum("ij,ij->i", frames, frames) / HOP
        levels[first:last] = 10 * np.log10(np.maximum(power, 1e-10))
    return levels


def may_be_speech(audio: Float32) -> bool:
    """False for broadband noise, for a few pure tones, and for anything that hardly changes from frame to frame."""
    if len(audio) < WINDOW + 2 * HOP:
        return False
    flatness, flux, bandwidth = spectral_shape(audio)
    return flatness <= MAX_FLATNESS and flux >= MIN_FLUX_DB and bandwidth >= MIN_BANDWIDTH


def spectral_shape(audio: Float32) -> tuple[float, float, float]:
    """Flatness in [0, 1] (median), flux in dB per 20 ms (mean), and bandwidth in bins of 31 Hz (mean).

    Flatness and bandwidth (bins within 30 dB of the strongest) count frames within 25 dB of the loudest ones only.
    `audio`: at least `WINDOW` + 2 `HOP` samples.
    """
    windows = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2 + 1e-12
    level = 10 * np.log10(power.sum(1))
    loud = level > np.percentile(level, 95) - 25
    voice = power[loud, 6:192]
    flatness = float(np.median(np.exp(np.log(voice).mean(1)) / voice.mean(1)))
    edges = np.unique(np.geomspace(4, 220, EDGES + 1).astype(int))
    bands = np.stack([power[:, a:b].mean(1) for a, b in pairwise(edges.tolist())], axis=1)
    flux = float(np.abs(np.diff(10 * np.log10(bands + 1e-10)[::2], axis=0)).mean())
    wide = power[loud, 3:200]
    bandwidth = float((wide > wide.max(1, keepdims=True) * 1e-3).sum(1).mean())
    return flatness, flux, bandwidth


def _loud_stretches(level: Float64) -> Iterator[tuple[int, int]]:
    """Frame ranges that are loud, joined over short pauses and widened by `PAD`."""
    loud = np.zeros(len(level), bool)
    for start in range(0, len(level), BLOCK):
        around = level[max(0, start - REACH) : start + BLOCK + REACH]
        floor, peak = np.percentile(around, (10, 95))
        bound = max(QUIET_DB, min(floor + ABOVE_FLOOR * (peak - floor), peak - BELOW_PEAK_DB))
        loud[start : start + BLOCK] = level[start : start + BLOCK] > bound
    at = np.flatnonzero(loud)
    if not len(at):
        return
    breaks = np.flatnonzero(np.diff(at) > MIN_GAP)
    firsts, lasts = at[np.r_[0, breaks + 1]], at[np.r_[breaks, len(at) - 1]]
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        if last - first + 1 >= MIN_LOUD:
            # MIN_GAP is more than twice PAD, so that widened stretches stay apart.
            yield max(0, first - PAD), min(len(level), last + 1 + PAD)


def _cut(level: Float64, first: int, last: int, longest: int) -> Iterator[tuple[int, int]]:
    """A stretch as ranges of at most `longest` frames, each cut where 150 ms around it are quietest."""
    while last - first > longest:
        # Not in the first half, where a cut would leave needlessly many pieces; nor so late that a stub remains.
        low, high = first + longest // 2, min(first + longest, last - longest // 4)
        smooth = np.convolve(level[low - 7 : high + 7], np.full(15, 1 / 15), "valid") if low >= 7 else level[low:high]
        cut = low + int(np.argmin(smooth[: high - low]))
        yield first, cut
        first = cut
    yield first, last
