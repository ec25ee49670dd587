"""Labelled sounds for the calibration: what is in them is known because they were put together here.

Noises, tones, music and hard cases (barks, sirens, claps, engines) are synthesised here, speech by speak.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Random = np.random.Generator
RATE = 16_000


@dataclass(frozen=True)
class Sound:
    """16 kHz mono; `labels` out of speech, music, noise, tone, silence, other."""

    audio: npt.NDArray[np.float32]
    labels: frozenset[str]
    maker: str


def load(path: Path) -> Float:
    """Any audio file as 16 kHz mono."""
    parts = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", RATE)
        for frame in container.decode(audio=0):
            parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float64) / 32768 if parts else np.zeros(0)


Voices = list[list[list[Float]]]
"""Programs, each a list of voices, each a list of utterances."""


def voices(folder: Path) -> Voices:
    """The voices of one half of what speak.py wrote; `folder` holds {program}-{voice}/*.wav."""
    programs: dict[str, list[list[Float]]] = {}
    for voice in sorted(p for p in folder.iterdir() if p.is_dir()):
        said = [load(p) for p in sorted(voice.glob("*.wav"))]
        programs.setdefault(voice.name.partition("-")[0], []).append(said)
    return list(programs.values())


def talk(speech: Voices, seconds: float, random: Random) -> Float:
    """Utterances of one voice, sometimes of two, with pauses; speech fills at least half of it."""
    speakers = []
    for _ in range(2 if random.random() < 0.25 else 1):
        program = speech[random.integers(len(speech))]
        # Played a little faster or slower a voice has another pitch and another vocal tract.
        speakers.append((program[random.integers(len(program))], random.uniform(0.87, 1.18)))
    out = np.zeros(round(seconds * RATE))
    at = int(random.uniform(0, 0.4) * RATE)
    while at < len(out) - RATE // 4:
        pool, speed = speakers[random.integers(len(speakers))]
        said = pool[random.integers(len(pool))]
        said = np.interp(np.arange(0, len(said) - 1, speed), np.arange(len(said)), said)[: len(out) - at]
        out[at : at + len(said)] += said / (np.abs(said).max() + 1e-9)
        at += len(said) + int(random.uniform(0.1, 0.7) * RATE)
    return out


def coloured_noise(seconds: float, random: Random, slope: float) -> Float:
    """Noise whose power falls by `slope` × 3 dB an octave: 0 white, 1 pink, 2 brown."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(random.normal(size=count))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20)
    out = np.fft.irfft(spectrum * frequency ** (-slope / 2), count)
    return out / out.std()


def band(x: Float, low: float, high: float) -> Float:
    spectrum = np.fft.rfft(x)
    frequency = np.fft.rfftfreq(len(x), 1 / RATE)
    gain = 1 / (1 + (low / np.maximum(frequency, 1)) ** 8) / (1 + (frequency / high) ** 8)
    return np.fft.irfft(spectrum * gain, len(x))


def noise(seconds: float, random: Random) -> Float:
    x = coloured_noise(seconds, random, random.uniform(0, 1.0))
    if random.random() < 0.3:  # a fan: noise and a hum
        t = np.arange(len(x)) / RATE
        x = x + random.uniform(0.1, 0.5) * np.sin(2 * np.pi * random.uniform(60, 180) * t)
    return x


def rumble(seconds: float, random: Random) -> Float:
    """Wind or traffic: low noise that swells slowly."""
    x = coloured_noise(seconds, random, random.uniform(1.6, 2.6))
    t = np.arange(len(x)) / RATE
    return x * (1 + 0.7 * np.sin(2 * np.pi * random.uniform(0.1, 0.8) * t + random.uniform(0, 6)))


def beaten_noise(seconds: float, random: Random) -> Float:
    """Noise modulated as fast as syllables: steam engines, saws, waves."""
    x = band(coloured_noise(seconds, random, random.uniform(0, 1.5)), 100, random.uniform(1500, 7500))
    t = np.arange(len(x)) / RATE
    return x * (0.05 + np.maximum(0, np.sin(2 * np.pi * random.uniform(1.5, 9) * t)) ** random.uniform(0.5, 3))


def claps(seconds: float, random: Random) -> Float:
    """Applause, rain drops or steps: bursts of noise."""
    out = coloured_noise(seconds, random, 1.0) * random.uniform(0, 0.03)
    for start in random.integers(0, len(out), int(seconds * 10 ** random.uniform(0.2, 2.3))):
        length = int(random.uniform(0.005, 0.06) * RATE)
        burst = random.normal(size=length) * np.exp(-np.arange(length) / length * 5) * random.uniform(0.3, 1)
        out[start : start + length] += burst[: len(out) - start]
    return band(out, 200, random.uniform(2500, 7500))


def barks(seconds: float, random: Random) -> Float:
    """Animal calls: a few short harmonic glides with noise."""
    out = coloured_noise(seconds, random, 1.0) * 0.01
    at = 0.0
    while (at := at + random.uniform(0.25, 1.8)) < seconds - 0.4:
        length = int(random.uniform(0.08, 0.35) * RATE)
        u = np.linspace(0, 1, length)
        pitch = random.uniform(250, 900) * (1 + random.uniform(-0.4, 0.4) * u)
        phase = np.cumsum(2 * np.pi * pitch / RATE)
        voice = sum(np.sin(k * phase) / k ** random.uniform(0.3, 1) for k in range(1, 8))
        call = (voice + random.uniform(0.2, 2) * random.normal(size=length)) * np.sin(np.pi * u) ** 0.7
        start = int(at * RATE)
        out[start : start + length] += call
    return out


def birds(seconds: float, random: Random) -> Float:
    """Whistled calls: fast glides of a nearly pure tone, in groups."""
    out = coloured_noise(seconds, random, 1.0) * 0.005
    at = random.uniform(0, 0.5)
    while at < seconds - 0.5:
        base, span, length = random.uniform(1200, 5500), random.uniform(-0.4, 0.5), random.uniform(0.04, 0.22)
        for _ in range(random.integers(1, 7)):
            u = np.linspace(0, 1, int(length * RATE))
            pitch = base * (1 + span * u + 0.05 * np.sin(2 * np.pi * random.uniform(1, 6) * u))
            phase = np.cumsum(2 * np.pi * pitch / RATE)
            start = int(at * RATE)
            call = (np.sin(phase) + 0.15 * np.sin(2 * phase)) * np.sin(np.pi * u)
            out[start : start + len(call)] += call[: max(0, len(out) - start)]
            at += length + random.uniform(0.02, 0.15)
        at += random.uniform(0.1, 1.2)
    return out


def siren(seconds: float, random: Random) -> Float:
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = random.uniform(500, 1200) * 2 ** (0.5 * np.sin(2 * np.pi * random.uniform(0.15, 3) * t))
    phase = np.cumsum(2 * np.pi * pitch / RATE)
    return np.sin(phase) + 0.3 * np.sin(2 * phase) + 0.02 * random.normal(size=len(t))


def engine(seconds: float, random: Random) -> Float:
    """A motor: low harmonics with a wandering rate, in noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    wander = np.cumsum(random.normal(size=len(t))) / RATE**0.5 * random.uniform(0.2, 2)
    phase = 2 * np.pi * (random.uniform(25, 120) * t + wander)
    x = sum(random.uniform(0.2, 1) * np.sin(k * phase + random.uniform(0, 6)) for k in range(1, 16))
    return x + random.uniform(0.3, 2) * band(random.normal(size=len(t)), 50, 3000)


def tone(seconds: float, random: Random) -> Float:
    t = np.arange(round(seconds * RATE)) / RATE
    x = np.sin(2 * np.pi * 10 ** random.uniform(2.1, 3.6) * t)
    return x + 10 ** random.uniform(-4, -2) * random.normal(size=len(t))


def beeps(seconds: float, random: Random) -> Float:
    t = np.arange(round(seconds * RATE)) / RATE
    gate = (t * random.uniform(0.7, 4)) % 1 < random.uniform(0.2, 0.6)
    return tone(seconds, random) * np.convolve(gate, np.hanning(160) / 80, "same")


def music(seconds: float, random: Random) -> Float:
    """Chords, a melody, a bass or drums over a beat, in one of several timbres."""
    out = np.zeros(int(seconds * RATE) + 2 * RATE)
    beat = 60 / random.uniform(70, 150)
    root = random.uniform(36, 56)
    scale = np.asarray([0, 2, 4, 5, 7, 9, 11] if random.random() < 0.6 else [0, 2, 3, 5, 7, 8, 10])
    richness, plucked = random.uniform(0.6, 2.2), random.random() < 0.6
    vibrato = random.uniform(0, 0.3) if random.random() < 0.3 else 0.0
    parts = [p for p in ("chords", "melody", "bass", "drums") if random.random() < 0.6] or ["chords"]
    if parts == ["drums"]:
        parts = ["drums", "bass"]

    def note(at: float, length: float, midi: float, gain: float) -> None:
        n = int(length * RATE)
        t = np.arange(n) / RATE
        midi_line = midi + vibrato * np.sin(2 * np.pi * 5.5 * t)
        phase = np.cumsum(2 * np.pi * 440 * 2 ** ((midi_line - 69) / 12) / RATE)
        x = sum(np.sin(k * phase) / k**richness for k in range(1, 9))
        shape = np.exp(-t * random.uniform(1, 5)) if plucked else np.minimum(1, np.minimum(t, t[-1] - t) / 0.05)
        start = int(at * RATE)
        out[start : start + n] += (gain * x * np.minimum(1, t / 0.006) * shape)[: len(out) - start]

    steps = int(seconds / beat) + 1
    degree = int(random.integers(7))
    for i in range(steps):
        at = i * beat
        chord = [0, 5, 3, 4][i // 4 % 4]
        if "chords" in parts and i % 2 == 0:
            for third in (0, 2, 4):
                pitch = root + 12 + scale[(chord + third) % 7] + 12 * ((chord + third) // 7)
                note(at, 2 * beat, pitch, 0.4)
        if "melody" in parts:
            for half in range(int(random.integers(1, 3))):
                degree = int(np.clip(degree + random.integers(-2, 3), 0, 13))
                note(at + half * beat / 2, beat * 0.9, root + 24 + scale[degree % 7] + 12 * (degree // 7), 0.5)
        if "bass" in parts:
            note(at, beat * 0.9, root + scale[chord], 0.7)
        if "drums" in parts:
            n = int(0.15 * RATE)
            t = np.arange(n) / RATE
            hit = (
                np.sin(2 * np.pi * 60 * t) * np.exp(-t * 25) if i % 2 == 0 else random.normal(size=n) * np.exp(-t * 40)
            )
            start = int(at * RATE)
            out[start : start + n] += 0.8 * hit
    return out[: round(seconds * RATE)]


def ensemble(seconds: float, random: Random) -> Float:
    """Several players in a room: pianos with stretched overtones, bowed or blown lines with a body, brushes."""
    out = np.zeros(int(seconds * RATE) + 3 * RATE)
    beat = 60 / random.uniform(60, 160)
    scale = np.asarray(((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))[random.integers(3)])
    root = random.uniform(38, 52)
    players = random.choice(["piano", "strings", "flute", "pluck", "brushes"], random.integers(1, 4), replace=False)
    if list(players) == ["brushes"]:
        players = np.asarray(["brushes", "pluck"])
    for player in players:
        body = np.exp(random.uniform(np.log(250), np.log(3000), 3))
        bright = random.uniform(0.8, 2.0)
        at, degree, density = 0.0, int(random.integers(5, 15)), random.choice([0.25, 0.5, 1.0, 2.0])
        loudness = random.uniform(0.3, 1.0)
        while at < seconds:
            length = beat * density * random.choice([1, 1, 1, 2])
            if player == "brushes":
                n = int(random.uniform(0.04, 0.25) * RATE)
                hit = np.diff(random.normal(size=n + 1)) * np.exp(-np.arange(n) / n * 5)
                out[int(at * RATE) :][:n] += 0.25 * loudness * random.uniform(0.4, 1) * hit
                at += beat / 2
                continue
            degree = int(np.clip(degree + random.integers(-3, 4), 0, 17))
            held = player in ("strings", "flute")
            n = int((length * 1.05 if held else min(2.5, length * 3)) * RATE)
            t = np.arange(n) / RATE
            chord = (0, 2, 4) if player in ("piano", "strings") and random.random() < 0.5 else (0,)
            for third in chord:
                midi = root + scale[(degree + third) % len(scale)] + 12 * ((degree + third) // len(scale))
                pitch = 440 * 2 ** ((midi + random.normal(0, 0.03) - 69) / 12)
                wave = random.uniform(0, 0.35) * np.sin(2 * np.pi * random.uniform(4.5, 6.5) * t) if held else 0.0
                phase = np.cumsum(pitch * 2 ** (wave / 12 + np.zeros(n)) / RATE)
                x = np.zeros(n)
                for k in range(1, min(16, int(7500 / pitch)) + 1):
                    overtone = k * (1 + (3e-4 * k * k if player == "piano" else 0.0))
                    gain = k**-bright * (0.4 + sum(1 / (1 + ((k * pitch - f) / (0.3 * f)) ** 2) for f in body))
                    fade = 1.0 if held else np.exp(-t * (0.8 + 0.5 * k))
                    x += gain * fade * np.sin(2 * np.pi * overtone * phase + random.uniform(0, 6))
                rise, end = (0.08, 0.1) if held else (0.004, 0.05)
                shape = np.minimum(1, t / rise) * np.minimum(1, (n / RATE - t) / end)
                start = int((at + abs(random.normal(0, 0.01))) * RATE)
                piece = loudness * random.uniform(0.5, 1.0) * x * shape / len(chord) ** 0.5
                out[start : start + n] += piece[: max(0, len(out) - start)]
            at += length
    return out[: round(seconds * RATE)]


OTHERS: dict[str, Callable[[float, Random], Float]] = {
    "rumble": rumble,
    "beaten_noise": beaten_noise,
    "claps": claps,
    "barks": barks,
    "birds": birds,
    "siren": siren,
    "engine": engine,
}


def room(x: Float, random: Random) -> Float:
    """What a recording does to any sound: reverberation, a band limit, background noise, a level."""
    if random.random() < 0.4:
        length = int(random.uniform(0.1, 0.6) * RATE)
        tail = random.normal(size=length) * np.exp(-np.arange(length) / length * 6) * random.uniform(0.02, 0.12)
        tail[0] = 1
        size = 1 << (len(x) + length).bit_length()
        x = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(tail, size))[: len(x)]
    if random.random() < 0.5:
        x = band(x, random.choice([20, 80, 200]), random.choice([3400, 5000, 7000]))
    x = x / (np.abs(x).max() + 1e-9)
    x = (
        x
        + 10 ** (random.uniform(-75, -40) / 20) * coloured_noise(len(x) / RATE, random, random.uniform(0, 2))[: len(x)]
    )
    return x / np.abs(x).max() * 10 ** (random.uniform(-30, -0.5) / 20)


def mix(loud: Float, soft: Float, decibels: float) -> Float:
    """`loud` over `soft`, `decibels` of power apart."""
    ratio = np.sqrt(np.mean(loud**2) / (np.mean(soft**2) + 1e-12)) * 10 ** (-decibels / 20)
    return loud + ratio * soft


def render(speech: Voices, random: Random, kind: str) -> Sound:
    """One labelled sound of 3 to 12 seconds. `kind`: a label, a pair joined by `+`, or a name of `OTHERS`."""
    seconds = round(random.uniform(3, 12) * RATE) / RATE

    def make(name: str) -> Float:
        if name == "speech":
            return talk(speech, seconds, random)
        if name == "music":
            return (music if random.random() < 0.5 else ensemble)(seconds, random)
        return {"noise": noise, "tone": tone, "beeps": beeps, **OTHERS}[name](seconds, random)

    if kind == "silence":
        hush = coloured_noise(seconds, random, 1.0)
        return Sound(
            (hush / np.abs(hush).max() * 10 ** (random.uniform(-90, -62) / 20)).astype(np.float32),
            frozenset({"silence"}),
            kind,
        )
    first, _, second = kind.partition("+")
    x = make(first)
    if second:
        gap = random.uniform(0, 15) if first == "speech" else random.uniform(3, 18)
        x = mix(x, make(second), gap)
    labels = {"tone" if part == "beeps" else "other" if part in OTHERS else part for part in (first, second) if part}
    return Sound(room(x, random).astype(np.float32), frozenset(labels), kind)


KINDS = (
    *("speech",) * 5,
    *("music",) * 5,
    *("speech+music",) * 3,
    *("speech+noise", "speech+rumble", "speech+claps"),
    *("music+noise", "music+claps", "music+barks", "music+birds"),
    *("noise",) * 2,
    *("tone", "beeps", "silence"),
    *OTHERS,
    "barks",
    "beaten_noise+barks",
    "engine+claps",
)


def corpus(count: int, folder: Path, seed: int) -> list[Sound]:
    """`count` sounds with the voices of `folder`, one half of what speak.py wrote."""
    speech = voices(folder)
    random = np.random.default_rng([seed, *folder.name.encode()])
    return [render(speech, random, KINDS[i % len(KINDS)]) for i in range(count)]
