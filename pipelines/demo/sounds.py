"""The sound of the demo corpus: chords and melody, surf, wind, street, and the recorded speech lines.

Every maker returns float32 of shape (samples, 2) with a peak near 1; `corpus.py` says how loud and when.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Sound = npt.NDArray[np.float32]

SPEECH = Path(__file__).resolve().parent / "speech"

CHORDS = ((57, 60, 64), (53, 57, 60), (48, 55, 64), (55, 59, 62))
"""A minor, F, C, G as MIDI notes."""
SCALE = (69, 71, 72, 74, 76, 79, 81)


def _faded(sound: npt.NDArray[np.float64], rate: int, seconds: float = 0.08) -> Sound:
    """Peak 1, with short fades so that cues start and end without a click."""
    length = min(len(sound) // 2, round(seconds * rate))
    edge = np.linspace(0, 1, length)[:, None]
    sound[:length] *= edge
    sound[len(sound) - length :] *= edge[::-1]
    return (sound / max(1e-9, np.abs(sound).max())).astype(np.float32)


def _note(midi: float, seconds: float, rate: int, harmonics: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """A plucked note: harmonics under an envelope with a quick attack and a slow decay."""
    t = np.arange(round(seconds * rate)) / rate
    pitch = 440 * 2 ** ((midi - 69) / 12)
    tone = sum(level * np.sin(2 * np.pi * pitch * (i + 1) * t) for i, level in enumerate(harmonics))
    return np.asarray(tone * np.minimum(1, t / 0.015) * np.exp(-2.2 * t / seconds))


def music(seconds: float, rate: int, seed: int) -> Sound:
    """A chord a second, and a melody of half-second notes above it."""
    draw = np.random.RandomState(seed)
    total = round(seconds * rate)
    sound = np.zeros((total + 2 * rate, 2))

    def place(note: npt.NDArray[np.float64], start: float, left: float) -> None:
        at = round(start * rate)
        end = min(len(sound), at + len(note))
        sound[at:end] += note[: end - at, None] * np.array([left, 1 - left])

    for second in range(int(np.ceil(seconds))):
        for k, midi in enumerate(CHORDS[(second + seed) % len(CHORDS)]):
            place(0.5 * _note(midi, 1.6, rate, (1, 0.4, 0.25, 0.1)), second, 0.35 + 0.15 * k)
        for half in (0.0, 0.5):
            place(0.7 * _note(SCALE[draw.randint(len(SCALE))], 0.8, rate, (1, 0.3, 0.12)), second + half, 0.6)
    return _faded(sound[:total], rate)


def _noise(seconds: float, rate: int, seed: int, low: float, high: float, slope: float) -> npt.NDArray[np.float64]:
    """Stereo noise between two frequencies in hertz, falling with frequency to the power of `slope`."""
    draw = np.random.RandomState(seed)
    total = round(seconds * rate)
    spectrum = np.fft.rfft(draw.standard_normal((total, 2)), axis=0)
    frequency = np.maximum(np.fft.rfftfreq(total, 1 / rate), 1)
    shape = np.where((frequency >= low) & (frequency <= high), frequency**-slope, 0)
    return np.fft.irfft(spectrum * shape[:, None], total, axis=0)


def surf(seconds: float, rate: int, seed: int) -> Sound:
    """Broad noise that swells and falls like waves, every three seconds or so."""
    t = np.arange(round(seconds * rate)) / rate
    swell = 0.25 + 0.75 * np.sin(np.pi * (t + seed) / 3.1) ** 2
    return _faded(_noise(seconds, rate, seed, 60, 9000, 0.35) * swell[:, None], rate)


def wind(seconds: float, rate: int, seed: int) -> Sound:
    t = np.arange(round(seconds * rate)) / rate
    gust = 0.6 + 0.3 * np.sin(1.7 * t + seed) + 0.1 * np.sin(5.3 * t)
    return _faded(_noise(seconds, rate, seed, 120, 4000, 0.6) * gust[:, None], rate)


def street(seconds: float, rate: int, seed: int) -> Sound:
    """The low rumble of traffic."""
    return _faded(_noise(seconds, rate, seed, 30, 500, 0.9), rate)


MAKERS: dict[str, Callable[[float, int, int], Sound]] = {"music": music, "surf": surf, "wind": wind, "street": street}


def transcripts() -> dict[str, str]:
    """The text of every recorded line, by name."""
    lines: dict[str, str] = json.loads((SPEECH / "transcripts.json").read_text(encoding="utf-8"))
    return lines


def recording(name: str) -> npt.NDArray[np.int16]:
    """A recorded line as it was committed: 16 kHz mono int16."""
    with av.open(str(SPEECH / f"{name}.flac")) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


def spoken_span(name: str) -> tuple[float, float]:
    """Seconds within the recording between which something is heard."""
    heard = np.flatnonzero(np.abs(recording(name).astype(np.int32)) > 300)
    return float(heard[0]) / 16_000, float(heard[-1] + 1) / 16_000


def speech(name: str, rate: int) -> Sound:
    """A recorded line at another rate, the same in both channels, peak 1."""
    line = recording(name)
    resampler = av.AudioResampler("flt", "mono", rate)
    frame = av.AudioFrame.from_ndarray(line[None], "s16", "mono")
    frame.sample_rate = 16_000
    frame.pts = 0
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    mono = np.concatenate([part.to_ndarray().reshape(-1) for part in parts])
    return np.repeat((mono / np.abs(mono).max())[:, None], 2, axis=1).astype(np.float32)
