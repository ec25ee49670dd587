"""Renders films for the end-to-end benchmark from the demo corpus's pictures, sounds and recorded lines.

Shots of 4 to 9 seconds with hard cuts; in half of them somebody speaks a line, the others have music, wind, the noise
of a street, or nothing. Every film is drawn from its number: the same call gives the same film.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines" / "demo"))

import corpus
import sounds

RATE, FPS, GRAIN, DRAWN = 48_000, 25, 5.0, 50
PICTURES = (
    "sunrise",
    "sea",
    "stars",
    "cave",
    "snow",
    "wheel",
    "ball",
    "city_day",
    "city_night",
    "wall",
    "flower",
    "fish",
)
BACKGROUNDS = ("music", "wind", "street", "")


def film(path: Path, number: int, *, seconds: float = 60.0, width: int = 640, height: int = 360) -> Path:
    """One MP4: H.264 (x264 `veryfast`, crf 23, a key frame every 60 frames or less) and AAC, both by one thread.

    Two seconds of each shot are drawn, at half the size, and shown to and fro; all frames are given the grain of a
    camera: about 0.4 Mbit/s at 360p.
    """
    rng = np.random.default_rng(number)
    grain = np.abs(rng.normal(0, GRAIN, (8, height, width, 1))).astype(np.uint8).repeat(3, axis=3)
    count = round(seconds * FPS)
    shots = _shots(rng, count)
    wave = _sound(rng, shots, count)
    with av.open(str(path), "w", format="mp4") as box:
        options = {"preset": "veryfast", "crf": "23", "g": "60"}
        video: Any = box.add_stream("libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt, video.thread_count = width, height, "yuv420p", 1
        audio: Any = box.add_stream("aac", rate=RATE, layout="stereo")
        said = 0
        for first, last in shots:
            paint = corpus.painter(str(rng.choice(PICTURES)), width // 2, height // 2)
            drawn = [cv2.resize(paint(at / FPS), (width, height)) for at in range(min(DRAWN, last - first))]
            for index in range(first, last):
                at = (index - first) % (2 * DRAWN)
                shown = cv2.add(drawn[min(at, 2 * DRAWN - 1 - at)], grain[index % len(grain)])
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, FPS)
                box.mux(video.encode(frame))
                # Picture and sound lie side by side in the file, as cameras and encoders leave them.
                while said + 1024 <= (index + 1) * RATE // FPS:
                    _mux_sound(box, audio, wave, said)
                    said += 1024
        box.mux(video.encode(None))
        box.mux(audio.encode(None))
    return path


def _shots(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """First frame and the one after the last of each shot."""
    edges = [0]
    while edges[-1] < count:
        edges.append(edges[-1] + int(rng.integers(4 * FPS, 9 * FPS)))
    edges[-1] = count
    if len(edges) > 2 and edges[-1] - edges[-2] < 3 * FPS:
        del edges[-2]
    return list(pairwise(edges))


def _sound(rng: np.random.Generator, shots: list[tuple[int, int]], count: int) -> np.ndarray:
    """(samples, 2) float32 of the whole film."""
    wave = np.zeros((count * RATE // FPS, 2), np.float32)
    lines = sorted(sounds.transcripts())
    for number, (first, last) in enumerate(shots):
        start, length = first * RATE // FPS, (last - first) * RATE // FPS
        if number % 2 == 0:
            made = sounds.speech(str(rng.choice(lines)), RATE) * np.float32(0.5)
            start, length = start + RATE // 2, length - RATE // 2
        else:
            kind = str(rng.choice(BACKGROUNDS))
            if not kind:
                continue
            made = sounds.MAKERS[kind](length / RATE, RATE, number) * np.float32(0.2)
        wave[start : start + min(length, len(made))] += made[:length]
    return wave


def _mux_sound(box: Any, audio: Any, wave: np.ndarray, at: int) -> None:
    block = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[at : at + 1024].reshape(1, -1)), "flt", "stereo")
    block.sample_rate, block.pts, block.time_base = RATE, at, Fraction(1, RATE)
    box.mux(audio.encode(block))
