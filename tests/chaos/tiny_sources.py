"""Renders sources of three seconds with two shots and a tone each: whole runs over them take a few seconds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, RATE, SHOT_FRAMES, SOUND_RATE = 96, 72, 12, 18, 16_000
NAMES = ("a.mp4", "b.mp4", "c.mp4", "z.mp4")
"""Two parts of two; `z.mp4` comes last, so that all others keep their part and row where it is missing."""


def make_sources(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        make_source(folder / name, number)


def make_source(path: Path, number: int) -> None:
    """Two shots of 1.5 s: a square that moves over a ground of another colour each; a tone of its own height."""
    with av.open(str(path), "w") as out:
        picture = out.add_stream(
            "libx264", rate=RATE, options={"crf": "28", "preset": "veryfast", "x264-params": "threads=1"}
        )
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.codec_context.thread_count = 1
        sound = out.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for index in range(2 * SHOT_FRAMES):
            frame = av.VideoFrame.from_ndarray(_picture(number, index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        times = np.arange(2 * SHOT_FRAMES * SOUND_RATE // RATE) / SOUND_RATE
        wave = (6000 * np.sin(2 * np.pi * (220 + 110 * number) * times)).astype("<i2")
        for at in range(0, len(wave), 1024):
            block = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], format="s16", layout="mono")
            block.pts, block.sample_rate, block.time_base = at, SOUND_RATE, Fraction(1, SOUND_RATE)
            out.mux(sound.encode(block))
        out.mux(sound.encode(None))


def _picture(number: int, index: int) -> np.ndarray:
    second = index >= SHOT_FRAMES
    ground = ((40 + 50 * number, 60, 120), (200, 180 - 40 * number, 30))[second]
    picture = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
    at = 3 * (index % SHOT_FRAMES)
    picture[20:44, at : at + 24] = (250, 250, 250) if second else (10, 10, 10)
    return picture
