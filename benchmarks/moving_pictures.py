"""Renders films for benchmarks: textured pictures that move and cut every few seconds, with sound.

Every film is drawn from its number, so the same call gives the same pictures.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 48_000


def film(
    path: Path,
    number: int,
    *,
    seconds: float = 30.0,
    width: int = 640,
    height: int = 360,
    fps: int = 25,
    cut: float = 6.0,
) -> Path:
    """One MP4 of H.264 (x264 `veryfast`, crf 23) and AAC, a cut every `cut` seconds."""
    rng = np.random.default_rng(number)
    with av.open(str(path), "w", format="mp4") as box:
        options = {"preset": "veryfast", "crf": "23", "threads": "1"}
        video: Any = box.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt, video.thread_count = width, height, "yuv420p", 1
        audio: Any = box.add_stream("aac", rate=RATE, layout="stereo")
        per_shot = round(cut * fps)
        texture, step = np.zeros((0, 0, 3), np.uint8), (0, 0)
        for index in range(round(seconds * fps)):
            place = index % per_shot
            if place == 0:
                texture, step = _texture(rng, width, height), (int(rng.integers(1, 4)), int(rng.integers(0, 3)))
            left, top = (step[0] * place) % width, (step[1] * place) % height
            picture = texture[top : top + height, left : left + width].copy()
            # Something of its own in each frame, that no motion vector finds.
            x = 40 + (7 * index) % (width - 120)
            picture[height // 3 : height // 3 + 60, x : x + 60] = rng.integers(0, 255, (60, 60, 1), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
        clock = np.arange(round(seconds * RATE)) / RATE
        tone = np.sin(2 * np.pi * (200 + 37 * (number % 13)) * clock) * (0.5 + 0.5 * np.sin(2 * np.pi * 0.7 * clock))
        wave = (9000 * tone + 900 * rng.standard_normal(len(clock))).astype(np.int16)
        for start in range(0, len(wave), 1024):
            both = np.repeat(wave[start : start + 1024], 2)[None]
            block = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            box.mux(audio.encode(block))
        box.mux(audio.encode(None))
    return path


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Twice as wide and high as a frame, in patches of several sizes, and alike at opposite edges."""
    whole = np.zeros((height, width, 3), np.float32)
    for patch in (8, 24, 90):
        grid = rng.integers(0, 255, (-(-height // patch), -(-width // patch), 3)).astype(np.float32)
        whole += np.repeat(np.repeat(grid, patch, 0), patch, 1)[:height, :width]
    return np.tile((whole / 3).astype(np.uint8), (2, 2, 1))
