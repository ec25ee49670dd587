"""Renders videos of which everything is known: what is to be seen, heard and said in every shot, and where shots end.

A shot is a shape of one colour that moves in one way over a tinted ground, one kind of sound, and one spoken word; the
three are drawn apart from each other, so nothing can be guessed from anything else. Shots are joined by hard cuts,
dissolves and fades. The words are spoken by the program `flite` where it is installed, else each is a code of tones.
"""

from __future__ import annotations

import functools
import io
import json
import math
import shutil
import subprocess
import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Sound = npt.NDArray[np.float32]
Draw = np.random.Generator

SIZE, FPS, RATE = 96, 12, 16_000
SHAPES = ("circle", "square", "triangle", "ring", "cross", "bar")
COLOURS = {
    "red": (225, 30, 30),
    "green": (30, 185, 50),
    "blue": (40, 60, 235),
    "yellow": (240, 225, 40),
    "purple": (190, 40, 205),
    "cyan": (40, 215, 225),
}
MOTIONS = ("sideways", "up and down", "in circles", "in and out")
SOUNDS = ("tone", "noise", "siren", "pulses", "buzz", "chord")
WORDS = ("garden", "seven", "monkey", "bridge", "paper", "river", "winter", "coffee")
VOICES = ("slt", "rms")
SHORTEST, LONGEST = 2.2, 4.0
"""Seconds of a shot, transitions not counted."""
GRADUAL = (0.5, 1.2)
"""Seconds of a dissolve or a fade."""
SENTENCE = "The word is {}."


@dataclass(frozen=True, slots=True)
class Latents:
    """All that a caption of a shot can be about."""

    shape: str
    colour: str
    motion: str
    sound: str
    word: str

    @property
    def seen(self) -> tuple[str, str, str]:
        return self.shape, self.colour, self.motion


def drawn(draw: Draw) -> Latents:
    return Latents(*(str(draw.choice(each)) for each in (SHAPES, list(COLOURS), MOTIONS, SOUNDS, WORDS)))


def pictures(latents: Latents, count: int, draw: Draw, step: int = 1) -> Pixels:
    """`count` frames N×96×96×3 RGB, one of `step` each. Ground, place, size, speed and phase are drawn: captions say
    nothing of them."""
    tint = cv2.cvtColor(
        np.uint8([[[draw.integers(180), draw.integers(20, 120), draw.integers(50, 210)]]]), cv2.COLOR_HSV2RGB
    )[0, 0].astype(np.float32)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    slope = columns * draw.uniform(-70, 70) + rows * draw.uniform(-70, 70)
    grain = cv2.resize(draw.normal(0, 12, (12, 12)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    ground = np.clip(tint + (slope + grain)[:, :, None], 0, 255).astype(np.uint8)
    radius, reach = draw.uniform(15, 20), draw.uniform(20, 26)
    turns, phase = draw.uniform(0.35, 0.6) / FPS, draw.uniform(0, 2 * math.pi)
    middle = SIZE / 2 + draw.uniform(-4, 4, 2)
    found = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for at in range(count):
        angle = 2 * math.pi * turns * at * step + phase
        x, y, scale = middle[0], middle[1], 1.0
        if latents.motion in ("sideways", "in circles"):
            x += reach * math.cos(angle)
        if latents.motion in ("up and down", "in circles"):
            y += reach * math.sin(angle)
        if latents.motion == MOTIONS[3]:
            scale = 1.1 + 0.65 * math.sin(angle)
        found[at] = ground
        _put(found[at], latents, x, y, radius * scale)
    return found


def _put(picture: Pixels, latents: Latents, x: float, y: float, radius: float) -> None:
    """Draws the shape with anti-aliased edges (`shift`: coordinates in sixteenths of a pixel)."""
    colour, shift = COLOURS[latents.colour], 4

    def polygon(*points: tuple[float, float]) -> None:
        corners = np.array([[(x + radius * a) * 16, (y + radius * b) * 16] for a, b in points]).round().astype(np.int32)
        cv2.fillPoly(picture, [corners], colour, cv2.LINE_AA, shift)

    centre = (round(x * 16), round(y * 16))
    if latents.shape == "circle":
        cv2.circle(picture, centre, round(radius * 16), colour, -1, cv2.LINE_AA, shift)
    elif latents.shape == "ring":
        cv2.circle(picture, centre, round(radius * 13), colour, max(2, round(radius * 0.4)), cv2.LINE_AA, shift)
    elif latents.shape == "square":
        polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
    elif latents.shape == "triangle":
        polygon((0, -1.15), (1.1, 0.9), (-1.1, 0.9))
    elif latents.shape == "bar":
        polygon((-1.4, -0.35), (1.4, -0.35), (1.4, 0.35), (-1.4, 0.35))
    else:
        polygon((-1.1, -0.32), (1.1, -0.32), (1.1, 0.32), (-1.1, 0.32))
        polygon((-0.32, -1.1), (0.32, -1.1), (0.32, 1.1), (-0.32, 1.1))


def sound(latents: Latents, seconds: float, draw: Draw, speech: str) -> tuple[Sound, tuple[float, float]]:
    """Mono in [-1, 1], the sound all along, the words in its middle; and from when to when they are spoken.

    `speech`: "flite" or "tones".
    """
    count = round(seconds * RATE)
    t = np.arange(count) / RATE
    pitch, rate = draw.uniform(300, 900), draw.uniform(4, 7)
    if latents.sound == "tone":
        made = np.sin(2 * math.pi * pitch * t)
    elif latents.sound == "noise":
        made = draw.normal(0, 0.5, count)
    elif latents.sound == "siren":
        made = np.sin(2 * math.pi * pitch * (2 * t - np.cos(2 * math.pi * t) / (2 * math.pi)))
    elif latents.sound == "pulses":
        made = draw.normal(0, 0.6, count) * ((t * rate) % 1 < 0.15)
    elif latents.sound == "buzz":
        made = 0.7 * np.sign(np.sin(2 * math.pi * pitch / 5 * t))
    else:
        made = sum(np.sin(2 * math.pi * pitch * step * t) for step in (1, 1.25, 1.5, 2)) / 3
    made = made * 0.12
    words = spoken(latents.word, VOICES[int(draw.integers(len(VOICES)))], speech)
    at = max(0, count - len(words)) // 2
    words = words[:count]
    made[at : at + len(words)] += 0.7 * words
    edge = np.minimum(1, np.minimum(t, seconds - t).clip(0) / 0.02)
    return np.clip(made * edge, -1, 1).astype(np.float32), (at / RATE, (at + len(words)) / RATE)


def speaker() -> str:
    """How words are spoken on this machine."""
    return "flite" if shutil.which("flite") else "tones"


@functools.lru_cache(maxsize=64)
def spoken(word: str, voice: str, speech: str) -> Sound:
    """The sentence with a word in it, peak 1: by flite in that voice, else four tones that are the word's own."""
    if speech == "tones":
        number = WORDS.index(word)
        t = np.arange(round(0.25 * RATE)) / RATE
        steps = [(number >> bit & 1) for bit in (2, 1, 0)]
        base = 500 if voice == VOICES[0] else 560
        notes = [np.sin(2 * math.pi * base * (1 + 1.2 * step + 0.3 * at) * t) for at, step in enumerate([0, *steps])]
        return np.concatenate(notes).astype(np.float32)
    command = ["flite", "-voice", voice, "-t", SENTENCE.format(word), "-o", "/dev/stdout"]
    answer = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(answer)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(10**7), "<i2").astype(np.float32)
    if rate != RATE:
        places = np.arange(round(len(samples) * RATE / rate)) * rate / RATE
        samples = np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
    heard = np.flatnonzero(np.abs(samples) > 300)
    samples = samples[heard[0] : heard[-1] + 1]
    return (samples / np.abs(samples).max()).astype(np.float32)


def film(shots: Sequence[Latents], joins: Sequence[str], draw: Draw, speech: str) -> tuple[Pixels, Sound, list[Any]]:
    """Frames, sound and the truth of each shot; `joins[n]` ("cut", "dissolve", "fade") stands before shot n + 1.

    Frames of a gradual change belong to no shot; the sound changes in its middle.
    """
    frames: list[Pixels] = []
    spans: list[tuple[int, int]] = []
    lengths = [round(draw.uniform(SHORTEST, LONGEST) * FPS) for _ in shots]
    blends = [0 if join == "cut" else round(draw.uniform(*GRADUAL) * FPS) for join in joins] + [0]
    before: Pixels | None = None
    at = 0
    for number, latents in enumerate(shots):
        lead, length, tail = blends[number - 1] if number else 0, lengths[number], blends[number]
        painted = pictures(latents, lead + length + tail, draw)
        if before is not None and lead:
            frames.append(_blended(before, painted[:lead], joins[number - 1]))
            at += lead
        spans.append((at, at + length - 1))
        frames.append(painted[lead : lead + length])
        at += length
        before = painted[lead + length :]
    track = np.zeros(math.ceil(at / FPS * RATE), np.float32)
    truth = []
    for number, (latents, (first, last)) in enumerate(zip(shots, spans, strict=True)):
        begin = first - (blends[number - 1] if number else 0) / 2
        end = last + 1 + blends[number] / 2
        made, (starts, ends) = sound(latents, (end - begin) / FPS, draw, speech)
        low = round(begin / FPS * RATE)
        made = made[: len(track) - low]
        track[low : low + len(made)] += made
        words = {"text": SENTENCE.format(latents.word), "start": begin / FPS + starts, "end": begin / FPS + ends}
        truth.append({"first": first, "last": last, "latents": asdict(latents), "words": words})
    return np.concatenate(frames), np.clip(track, -1, 1), truth


def _blended(before: Pixels, after: Pixels, join: str) -> Pixels:
    share = ((np.arange(len(after)) + 1) / (len(after) + 1))[:, None, None, None]
    if join == "dissolve":
        mixed = before * (1 - share) + after * share
    else:
        mixed = np.where(share < 0.5, before * (1 - 2 * share), after * (2 * share - 1))
    return np.rint(mixed).astype(np.uint8)


def write(path: Path, frames: Pixels, track: Sound) -> None:
    """An mp4 with H.264 and AAC, a key frame a second; the same input gives the same bytes."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        options = {"preset": "ultrafast", "crf": "18", "g": str(FPS)}
        picture: Any = out.add_stream("libx264", rate=FPS, options=options)
        picture.width = picture.height = SIZE
        picture.pix_fmt, picture.thread_count = "yuv420p", 1
        picture.codec_context.flags |= av.codec.context.Flags.bitexact
        voice: Any = out.add_stream("aac", rate=RATE, options={"aac_coder": "fast"})
        voice.layout, voice.bit_rate = "mono", 64_000
        voice.codec_context.flags |= av.codec.context.Flags.bitexact
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        for at in range(0, len(track), 1024):
            block = av.AudioFrame.from_ndarray(track[None, at : at + 1024].copy(), "fltp", "mono")
            block.sample_rate, block.pts, block.time_base = RATE, at, Fraction(1, RATE)
            out.mux(voice.encode(block))
        out.mux(voice.encode(None))


def render(
    folder: Path, *, videos: int, shots: int, seed: int, gradual: float = 0.6, speech: str | None = None
) -> dict[str, Any]:
    """`videos` files of `shots` shots each below `folder/media`, `folder/truth.json` and `folder/manifest.jsonl`.

    `gradual`: the share of joins that are dissolves or fades. Returns the truth.
    """
    speech = speech or speaker()
    (folder / "media").mkdir(parents=True, exist_ok=True)
    truth: dict[str, Any] = {"schema": "vidcap-ablation/1", "speech": speech, "seed": seed, "videos": {}}
    for number in range(videos):
        draw = np.random.default_rng([seed, number])
        chosen = [drawn(draw) for _ in range(shots)]
        soft = draw.random(shots - 1) < gradual
        joins = [("dissolve" if draw.random() < 0.6 else "fade") if each else "cut" for each in soft]
        frames, track, spans = film(chosen, joins, draw, speech)
        name = f"film{number:04d}"
        write(folder / "media" / f"{name}.mp4", frames, track)
        truth["videos"][name] = {"frames": len(frames), "joins": joins, "shots": spans}
    rows = [json.dumps({"uri": f"media/{name}.mp4", "id": name}) for name in truth["videos"]]
    (folder / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return truth
