"""Labelled sounds for two later claims: beats or notes, and what comes first and what then.

Sounds of one texture are made here or by sounds.py; sequences are two of its sounds (or silence) put one after the
other, and, as what must not be taken for one, two at once or one throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import sounds
from sounds import RATE, Float, Random, Sound, Voices


def drums(seconds: float, random: Random) -> Float:
    """A kit: low drums with a falling pitch, snares, cymbals, in a bar that repeats."""
    out = np.zeros(int(seconds * RATE) + RATE)
    step = 60 / random.uniform(70, 170) / 2
    bar = random.random((3, 8)) < np.asarray([[0.4], [0.3], [random.uniform(0, 0.9)]])
    bar[0, 0] = True
    t = np.arange(int(0.3 * RATE)) / RATE
    fall = random.uniform(2, 8) * (1 - np.exp(-t * 30))
    low = np.sin(2 * np.pi * (50 * t + fall)) * np.exp(-t * random.uniform(8, 25))
    for i in range(int(seconds / step) + 1):
        start = int(i * step * RATE)
        snare = random.normal(size=len(t)) * np.exp(-t * 22) + 0.5 * np.sin(2 * np.pi * 190 * t) * np.exp(-t * 30)
        hat = np.diff(random.normal(size=len(t) + 1)) * np.exp(-t * random.uniform(40, 120))
        for row, hit in enumerate((low, 0.5 * snare, 0.25 * hat)):
            if bar[row, i % 8]:
                out[start : start + len(t)] += random.uniform(0.6, 1) * hit[: max(0, len(out) - start)]
    return out[: round(seconds * RATE)]


def knocks(seconds: float, random: Random) -> Float:
    """Blows on wood or metal, steps, ticks: short bursts that ring in a few modes."""
    out = np.zeros(int(seconds * RATE) + RATE)
    modes = np.exp(random.uniform(np.log(120), np.log(5000), int(random.integers(2, 7))))
    decay, rate = random.uniform(20, 120), random.uniform(1, 7)
    regular = random.random() < 0.5
    at = random.uniform(0, 0.4)
    t = np.arange(int(0.25 * RATE)) / RATE
    while at < seconds - 0.1:
        fades = [np.exp(-t * decay * (mode / 800) ** 0.4) for mode in modes]
        waves = [np.sin(2 * np.pi * mode * t) for mode in modes]
        ring = sum(random.uniform(0.2, 1) * wave * fade for wave, fade in zip(waves, fades, strict=True))
        blow = ring + random.uniform(0.5, 2) * random.normal(size=len(t)) * np.exp(-t * 180)
        start = int(at * RATE)
        out[start : start + len(t)] += random.uniform(0.5, 1) * blow
        at += 1 / rate if regular else random.exponential(0.8 / rate) + 0.08
    return out[: round(seconds * RATE)]


def claps(seconds: float, random: Random) -> Float:
    """Hands, few enough to be heard one by one."""
    out = np.zeros(int(seconds * RATE))
    for start in random.integers(0, len(out), int(seconds * random.uniform(1.5, 8))):
        length = int(random.uniform(0.01, 0.05) * RATE)
        burst = random.normal(size=length) * np.exp(-np.arange(length) / length * 5) * random.uniform(0.4, 1)
        out[start : start + length] += burst[: len(out) - start]
    return sounds.band(out, 300, random.uniform(2500, 7500))


def held(seconds: float, random: Random) -> Float:
    """An organ or strings: chords that last, with slow swells."""
    t = np.arange(round(seconds * RATE)) / RATE
    out = np.zeros(len(t))
    length = random.uniform(1.0, 5.0)
    richness = random.uniform(0.8, 2.2)
    for begin in np.arange(0, seconds, length):
        shape = np.clip(np.minimum(t - begin, begin + length * 1.1 - t) / random.uniform(0.05, 0.4), 0, 1)
        for midi in random.choice(np.arange(43, 79), int(random.integers(1, 4)), replace=False):
            pitch = 440 * 2 ** ((midi - 69) / 12)
            phase = 2 * np.pi * pitch * t + random.uniform(0, 0.3) * np.sin(2 * np.pi * 5 * t)
            out += shape * sum(np.sin(k * phase) / k**richness for k in range(1, min(9, int(7000 / pitch)) + 1))
    return out


OWN: dict[str, Callable[[float, Random], Float]] = {"drums": drums, "knocks": knocks, "claps": claps, "held": held}
BEATS = ("drums", "knocks", "claps")
NOTES = ("held", "tone", "siren")
OTHER = ("noise", "rumble", "speech", "beaten_noise", "barks", "engine", "birds")
TEXTURES = (*BEATS, *BEATS, *NOTES, "held", *OTHER, "speech", "speech", "barks")
SEQUENCES = (
    *("speech>music", "music>speech") * 3,
    *("speech>", "music>", ">speech", ">music") * 2,
    *("speech", "music", "speech+music", "noise>speech", "knocks>music", "noise", "held", "drums"),
    *("speech", "music"),
)


def make(name: str, seconds: float, speech: Voices, random: Random) -> Float:
    """One sound alone, before any room; its largest value is 1."""
    if name == "speech":
        x = sounds.talk(speech, seconds, random)
    elif name == "music":
        x = (sounds.music if random.random() < 0.5 else sounds.ensemble)(seconds, random)
    elif name in ("noise", "tone"):
        x = getattr(sounds, name)(seconds, random)
    else:
        x = {**sounds.OTHERS, **OWN}[name](seconds, random)
    return np.asarray(x / (np.abs(x).max() + 1e-9))


def texture(kind: str, speech: Voices, random: Random) -> tuple[Sound, set[tuple[str, str]], set[tuple[str, str]]]:
    """A sound of 3 to 12 seconds, what holds of it and what does not."""
    seconds = float(random.uniform(3, 12))
    x = sounds.room(make(kind, seconds, speech, random), random)
    yes = {("texture", value) for value, kinds in (("percussive", BEATS), ("tonal", NOTES)) if kind in kinds}
    no = {("texture", "percussive"), ("texture", "tonal")} - yes
    if kind in {"speech", "birds"}:
        no.discard(("texture", "tonal"))  # both have a pitch
    if kind == "beaten_noise":
        no.discard(("texture", "percussive"))  # puffs of steam may be called beats
    return Sound(x.astype(np.float32), frozenset(), kind), yes, no


def sequence(kind: str, speech: Voices, random: Random) -> tuple[Sound, set[tuple[str, str]], set[tuple[str, str]]]:
    """A sound of 8 to 20 seconds with one change (`a>b`, "" is silence) or none, what holds and what does not."""
    seconds = float(random.uniform(8, 20))
    if ">" in kind:
        share = random.uniform(0.42, 0.58)
        parts = []
        for name, part in zip(kind.split(">"), (share, 1 - share), strict=True):
            piece = make(name, seconds * part, speech, random) if name else np.zeros(round(seconds * part * RATE))
            parts.append(piece * 10 ** (random.uniform(-8, 0) / 20))
        x = np.concatenate(parts)
    elif "+" in kind:
        a, b = (make(name, seconds, speech, random) for name in kind.split("+"))
        length = min(len(a), len(b))
        x = sounds.mix(a[:length], b[:length], random.uniform(0, 12))
    else:
        x = make(kind, seconds, speech, random)
    if kind.startswith(">") or kind.endswith(">"):
        # A room whose noise is above the hush would leave none.
        x = x / np.abs(x).max() * 10 ** (random.uniform(-20, -0.5) / 20)
        x = x + 10 ** (random.uniform(-90, -65) / 20) * random.normal(size=len(x))
    else:
        x = sounds.room(x, random)
    first, then = kind.split(">") if ">" in kind else ("both", "both")
    every = {(when, what) for when in ("first", "then") for what in ("speech", "music", "silence")}
    yes = {("first", first or "silence"), ("then", then or "silence")} & every if ">" in kind else set()
    if kind in ("held", "drums") or "held" in kind:
        every -= {("first", "music"), ("then", "music")}
    return Sound(x.astype(np.float32), frozenset(), kind), yes, every - yes


Labelled = tuple[Sound, set[tuple[str, str]], set[tuple[str, str]]]


def corpus(count: int, folder: Path, seed: int) -> list[Labelled]:
    """`count` sounds of one texture with the voices of `folder`."""
    speech = sounds.voices(folder)
    return [
        texture(TEXTURES[i % len(TEXTURES)], speech, np.random.default_rng([seed, i, *folder.name.encode()]))
        for i in range(count)
    ]


def sequences(count: int, folder: Path, seed: int) -> list[Labelled]:
    """`count` sounds with and without a change."""
    speech = sounds.voices(folder)
    return [
        sequence(SEQUENCES[i % len(SEQUENCES)], speech, np.random.default_rng([seed, i, *folder.name.encode()]))
        for i in range(count)
    ]
