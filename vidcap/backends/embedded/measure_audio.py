"""What the embedded backends measure of a clip's sound: loudness, flatness, pauses, the makings of speech and music.

The sound is cut into windows of half a second. The captioner measures the even windows, the similarity the odd ones, so
that a caption is checked on sound it was not written from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from vidcap.backends.audible import SILENT_PEAK
from vidcap.backends.embedded.sound_weights import MEAN, MUSIC, SCALE, SPEECH
from vidcap.backends.embedded.texture_weights import PERCUSSIVE, TONAL

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[np.floating]

RATE = 16_000
WINDOW = RATE // 2
FRAME = 1024
"""Samples per analysis frame: 64 ms, bins of 15.6 Hz."""
HOP = 256
BANDS = 24
FLOOR_DB = -100.0

AUDIO_FIELDS = (
    "audible",  # 1 where there is a track with a peak above -60 dBFS, else 0
    "seconds",  # how much was measured
    "level",  # dBFS (RMS) of the louder part: the 80th percentile of the windows
    "level_change",  # dB, last third of the windows minus first third
    "steadiness",  # dB, standard deviation of 16 ms levels: small is steady
    "flatness",  # spectral flatness 200-7000 Hz, 0 (lines) to 1 (white), mean over time
    "line",  # share of the energy within 40 Hz of the strongest line, mean over time
    "line_drift",  # semitones, standard deviation of the strongest line over time
    "pauses",  # share of the frames more than 25 dB below the loudest tenth
    "pitch",  # Hz, median of the voiced frames; NaN where under a tenth of the loud ones are voiced
    "speech",  # logit: somebody speaks
    "music",  # logit: music plays
    "percussive",  # logit: beats, knocks or claps, one by one
    "tonal",  # logit: notes, held or plucked, and little noise
    # Of the first and the last two fifths alone, NaN where they are shorter than three windows.
    "speech_first",
    "speech_last",
    "music_first",
    "music_last",
    "hush_first",  # dB by which the loudest of the first windows (a quarter, three at least) lies under `level`
    "hush_last",
)
"""Layout of the vector of `measure_audio`."""

_PART = 0.4
"""Share of the windows that is the beginning, and the end: what changes in between need not do so in the middle."""
_FEWEST = 3
"""Windows from which a part says what it is."""

FEATURES = (
    "level_deviation level_range pauses syllabic voiced harmonicity glide steady_pitch pitch_range "
    "sustain_96ms sustain_192ms flatness flatness_deviation centroid centroid_deviation flux band_deviation "
    "cepstrum_1 cepstrum_2 cepstrum_3 cepstrum_4 cepstrum_5 "
    "cepstrum_deviation_1 cepstrum_deviation_2 cepstrum_deviation_3 cepstrum_deviation_4 cepstrum_deviation_5 "
    "onset_rate low_share high_share harmonicity_spread sustain_spread voiced_spread flatness_spread"
).split()
"""What the two logits are computed from, in the order of the weights."""


def windows_of(audio: Float32, parity: int) -> Float32:
    """Every second window of half a second from `parity` (0 even, 1 odd) on, as N×8000; the only one where one is all.

    The rest after the last full window is left out; shorter sounds are one window, repeated until it is full.
    """
    count = len(audio) // WINDOW
    if count == 0:
        return np.resize(audio.astype(np.float32), WINDOW)[None] if len(audio) else _NOTHING
    windows: Float32 = audio[: count * WINDOW].reshape(count, WINDOW).astype(np.float32)
    return windows[parity::2] if count > 1 else windows


def measure_audio(audio: Float32, *, has_audio: bool, parity: int) -> Float32:
    """The vector of `AUDIO_FIELDS`. `audio`: 16 kHz mono in [-1, 1]. Inaudible sound has `audible` 0 and floors."""
    windows = windows_of(np.nan_to_num(audio), parity)
    peak = float(np.abs(windows).max()) if has_audio and windows.size else 0.0
    if peak <= SILENT_PEAK:
        unheard = [0, len(windows) / 2, FLOOR_DB, 0, 0, 0, 0, 0, 1, np.nan, *[-10] * 4, *[np.nan] * 6]
        return np.asarray(unheard, np.float32)
    levels = _decibels(np.sqrt(np.mean(np.square(windows, dtype=np.float64), axis=1)))
    spectra = _spectra(windows)
    power, frame_levels, correlation = spectra
    loud = frame_levels > max(frame_levels.max() - 35.0, -70.0)
    share, drift = _strongest_line(power, loud)
    flat = _flatness(power)
    logits = _logits(_features(*spectra), (SPEECH, MUSIC, PERCUSSIVE, TONAL))
    values = (
        1.0,
        min(len(windows) * WINDOW, len(audio)) / RATE,
        np.percentile(levels, 80),
        _change(levels),
        frame_levels.std(axis=1).mean(),
        flat[loud].mean() if loud.any() else flat.mean(),
        share,
        drift,
        (frame_levels < np.percentile(frame_levels, 90) - 25).mean(),
        _voice_pitch(correlation[loud]),
        *logits,
        *_parts(spectra, levels),
    )
    return np.asarray(values, np.float32)


def _parts(spectra: tuple[Array, Array, Array], levels: Array) -> list[float]:
    """What the beginning and the end are taken for, in the order of the last six `AUDIO_FIELDS`."""
    count = int(len(levels) * _PART)
    if count < _FEWEST:
        return [math.nan] * 6
    first, last = (
        _logits(_features(*(whole[part] for whole in spectra)), (SPEECH, MUSIC))
        for part in (slice(count), slice(-count, None))
    )
    loud = float(np.percentile(levels, 80))
    edge = max(_FEWEST, len(levels) // 4)
    hush = [loud - float(levels[part].max()) for part in (slice(edge), slice(-edge, None))]
    return [first[0], last[0], first[1], last[1], *hush]


def sound_features(windows: Float32) -> Float64:
    """The vector of `FEATURES` of N×8000 samples, N ≥ 1. It does not depend on the level of the whole."""
    return _features(*_spectra(windows))


def _features(power: Array, levels: Array, correlation: Array) -> Float64:
    active = levels > max(levels.max() - 30.0, -75.0)
    audible = active.mean(axis=1) > 0.2
    if not audible.any():
        audible[:] = True
        active[:] = True
    power, levels, correlation, active = power[audible], levels[audible], correlation[audible], active[audible]
    pitch, strength = _pitch(correlation)
    voiced = active & (strength > 0.6)
    pairs = voiced[:, 1:] & voiced[:, :-1]
    steps = np.abs(np.diff(pitch, axis=1))
    step = steps[pairs]
    flat = _flatness(power)
    bands = _decibels(np.sqrt(power @ _mel().T))
    bands = np.maximum(bands, bands.max(axis=-1, keepdims=True) - 45)
    cepstra = bands @ _cosines().T
    flux = np.abs(np.diff(bands, axis=1)).mean(axis=-1)
    onsets = np.maximum(np.diff(levels, axis=1), 0)
    peaks = _peaks(power)
    sustain = [_sustain(peaks, lag) for lag in (6, 12)]
    frequency = np.arange(FRAME // 2 + 1) * RATE / FRAME
    total = power.sum(axis=-1) + 1e-12
    centroid = np.log2((power @ frequency) / total + 50)
    values = (
        levels.std(axis=1).mean() / 10,
        (np.percentile(levels, 95) - np.percentile(levels, 10)) / 20,
        (levels < levels.max(axis=1, keepdims=True) - 15).mean(),
        _syllabic(levels),
        voiced.sum() / max(1, active.sum()),
        strength[active].mean(),
        float(np.minimum(step, 3.0).mean()) if step.size else 0.0,
        float((step < 0.12).mean()) if step.size else 0.0,
        float(np.minimum(pitch[voiced].std(), 15)) / 12 if voiced.sum() > 2 else 0.0,
        sustain[0].mean(),
        sustain[1].mean(),
        flat[active].mean(),
        flat[active].std(),
        centroid[active].mean() - 10,
        centroid[active].std(),
        flux.mean() / 5,
        bands.std(axis=1).mean() / 10,
        *(cepstra[active].mean(axis=0)[1:6] / 50),
        *(cepstra.std(axis=1).mean(axis=0)[1:6] / 50),
        (onsets > 6).mean() * 10,
        (power[..., frequency < 200].sum(axis=-1) / total)[active].mean(),
        (power[..., frequency > 3500].sum(axis=-1) / total)[active].mean(),
        strength.mean(axis=1).std(),
        sustain[0].mean(axis=1).std(),
        (voiced.mean(axis=1)).std(),
        flat.mean(axis=1).std(),
    )
    return np.asarray(values, np.float64)


_NOTHING = np.zeros((0, WINDOW), np.float32)


def _decibels(rms: Array) -> Array:
    return 20 * np.log10(np.maximum(rms, 10 ** (FLOOR_DB / 20)))


def _spectra(windows: Array) -> tuple[Array, Array, Array]:
    """Power spectra (N×T×513), levels in dBFS (N×T) and normalised autocorrelations (N×T×513) of the frames."""
    frames = np.lib.stride_tricks.sliding_window_view(windows, FRAME, axis=1)[:, ::HOP]
    levels = _decibels(np.sqrt(np.mean(np.square(frames), axis=-1)))
    taper = np.hanning(FRAME).astype(np.float32)
    tapered = (frames - frames.mean(axis=-1, keepdims=True)) * taper
    spectrum = np.fft.rfft(tapered, 2 * FRAME, axis=-1)
    full: Array = np.square(spectrum.real) + np.square(spectrum.imag)
    correlation = np.fft.irfft(full, axis=-1)[..., : FRAME // 2 + 1]
    correlation = correlation / (correlation[..., :1] + 1e-9) / _taper_correlation()
    return full[..., ::2] / np.square(taper).sum() / FRAME, levels, correlation


@cache
def _taper_correlation() -> Array:
    """Autocorrelation of the taper itself, by which that of the frames is divided."""
    spectrum = np.abs(np.fft.rfft(np.hanning(FRAME), 2 * FRAME)) ** 2
    correlation = np.fft.irfft(spectrum)[: FRAME // 2 + 1]
    lifted: Array = np.maximum(correlation / correlation[0], 0.05)
    return lifted


def _pitch(correlation: Array) -> tuple[Array, Array]:
    """Semitones above 1 Hz and strength in [0, 1] of the best period between 65 and 400 Hz."""
    low, high = RATE // 400, RATE // 65
    span = correlation[..., low:high]
    best = span.argmax(axis=-1)
    # The first period nearly as good as the best: sub-octaves of a tone correlate as well as the tone.
    strength = np.take_along_axis(span, best[..., None], -1)[..., 0]
    rising = np.pad(span[..., 1:] >= span[..., :-1], [(0, 0)] * (span.ndim - 1) + [(1, 0)])
    falling = np.pad(span[..., :-1] > span[..., 1:], [(0, 0)] * (span.ndim - 1) + [(0, 1)])
    near = rising & falling & (span > 0.9 * strength[..., None])
    period = np.where(near.any(axis=-1), near.argmax(axis=-1), best) + low
    return 12 * np.log2(RATE / period), np.clip(strength, 0.0, 1.0)


def _voice_pitch(correlation: Array) -> float:
    """Median pitch in Hz of the voiced ones among T×513 frames; NaN for under a tenth of them."""
    if not len(correlation):
        return float("nan")
    pitch, strength = _pitch(correlation)
    voiced = strength > 0.6
    return float(2 ** (np.median(pitch[voiced]) / 12)) if voiced.mean() > 0.1 else float("nan")


def _flatness(power: Array) -> Array:
    inside = power[..., 13:449] + 1e-14
    flatness: Array = np.exp(np.log(inside).mean(axis=-1)) / inside.mean(axis=-1)
    return flatness


def _strongest_line(power: Array, loud: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Mean share of the energy near the strongest line, and how far the line wanders (semitones)."""
    chosen = power[loud] if loud.any() else power.reshape(-1, power.shape[-1])
    best = chosen[:, 2:].argmax(axis=1) + 2
    around = best[:, None] + np.arange(-2, 3)
    near = np.take_along_axis(chosen, np.clip(around, 0, chosen.shape[1] - 1), 1).sum(axis=1)
    drift = (12 * np.log2(best)).std()
    return float((near / (chosen.sum(axis=1) + 1e-12)).mean()), float(drift)


def _peaks(power: Array) -> Array:
    """What stands out of the smoothed spectrum between 100 and 4000 Hz, in dB, unit length per frame."""
    decibels = 10 * np.log10(power[..., 6:257] + 1e-12)
    decibels = np.maximum(decibels, decibels.max(axis=-1, keepdims=True) - 50)
    width = 15
    padded = np.pad(decibels, [(0, 0), (0, 0), (width // 2 + 1, width // 2)], mode="edge")
    total = padded.cumsum(axis=-1)
    smooth = (total[..., width:] - total[..., :-width]) / width
    peaks: Array = np.maximum(decibels - smooth, 0)
    unit: Array = peaks / (np.linalg.norm(peaks, axis=-1, keepdims=True) + 1e-9)
    return unit


def _sustain(peaks: Array, lag: int) -> Array:
    """How alike the spectral peaks are `lag` hops later: notes last, syllables glide, noise forgets."""
    alike: Array = (peaks[:, lag:] * peaks[:, :-lag]).sum(axis=-1)
    return alike


def _syllabic(levels: Array) -> float:
    """Share of the level's modulation that lies between 3 and 9 Hz."""
    centred = (levels - levels.mean(axis=1, keepdims=True)) * np.hanning(levels.shape[1])
    modulation = np.abs(np.fft.rfft(centred, 64, axis=1)) ** 2
    rates = np.arange(modulation.shape[1]) * (RATE / HOP) / 64
    inside = modulation[:, (rates >= 3) & (rates <= 9)].sum(axis=1)
    return float((inside / (modulation[:, rates >= 1].sum(axis=1) + 1e-9)).mean())


def _change(levels: Array) -> float:
    """Mean level of the last third minus that of the first third; 0 for fewer than three windows."""
    third = len(levels) // 3
    return float(levels[-third:].mean() - levels[:third].mean()) if third else 0.0


def _logits(features: Array, weights: Sequence[Sequence[float]]) -> list[float]:
    inside = np.clip((features - np.asarray(MEAN)) / np.asarray(SCALE), -4, 4)
    inputs = np.append(inside, 1.0)
    return [float(np.clip(inputs @ np.asarray(row), -10, 10)) for row in weights]


@cache
def _mel() -> Array:
    """Triangular bands (24×513), evenly spaced in mel between 60 and 7600 Hz."""

    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (60, 7600))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    frequency = np.arange(FRAME // 2 + 1) * RATE / FRAME
    rise = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    bands: Array = np.clip(np.minimum(rise, fall), 0, 1)
    return bands


@cache
def _cosines() -> Array:
    """The first six cosines over the bands."""
    waves: Array = np.cos(np.pi / BANDS * np.outer(np.arange(6), np.arange(BANDS) + 0.5))
    return waves
