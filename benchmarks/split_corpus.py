"""The videos that benchmarks/split.py splits: rendered by rule, or made of real footage; 640×360, H.264, AAC sound.

Rendered: noisy textures that pan, with something of its own in every frame; a hard cut every 2 to 10 s, one change in
six a dissolve of 12 frames, one shot in six shorter than a second. Encoded as most video is: x264 `medium`, crf 23,
key frames where x264 sees a cut, else
every 250 frames. The same call gives the same pictures.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]

WIDTH, HEIGHT, FPS, RATE = 640, 360, 25, 48_000
DISSOLVE = 12
GLIMPSE = (8, 24)
ENCODER = {"preset": "medium", "crf": "23", "threads": "1"}


def rendered(folder: Path, count: int, seconds: float) -> list[Path]:
    """`count` films of so many seconds; those that lie there already are taken as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"film-{number:02d}-{seconds:g}s.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            partial = path.with_suffix(".partial")
            _film(partial, number, round(seconds * FPS))
            partial.rename(path)
    return paths


def _film(path: Path, number: int, frames: int) -> None:
    with av.open(str(path), "w", format="mp4") as box:
        video: Any = box.add_stream("libx264", rate=FPS, options=ENCODER)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio: Any = box.add_stream("aac", rate=RATE, layout="stereo")
        for index, picture in enumerate(itertools.islice(_pictures(np.random.default_rng(number)), frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
        clock = np.arange(frames * RATE // FPS) / RATE
        tone = np.sin(2 * np.pi * (180 + 20 * number) * clock) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.5 * clock))
        wave = (8000 * tone + 800 * np.random.default_rng(number).standard_normal(len(clock))).astype(np.int16)
        for start in range(0, len(wave), 1024):
            block = av.AudioFrame.from_ndarray(np.repeat(wave[start : start + 1024], 2)[None], "s16", "stereo")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            box.mux(audio.encode(block))
        box.mux(audio.encode(None))


def _pictures(rng: np.random.Generator) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames as planar yuv420p, (540, 640), without end."""
    grain = rng.normal(0, 3, (8, HEIGHT, WIDTH)).astype(np.float32)
    shot = _shot(rng)
    index = 0
    while True:
        # Between them now and then a glimpse: the cut that follows comes too soon for a key frame of its own.
        length = int(rng.integers(*GLIMPSE if rng.random() < 1 / 6 else (2 * FPS, 10 * FPS)))
        following = _shot(rng)
        dissolve = rng.random() < 1 / 6
        for place in range(length):
            luma, blue, red = next(shot)
            left = length - place
            if dissolve and left <= min(DISSOLVE, length // 2):
                share = 1 - left / (DISSOLVE + 1)
                other = next(following)
                luma, blue, red = ((1 - share) * a + share * b for a, b in zip((luma, blue, red), other, strict=True))
            noisy = luma + np.roll(grain[index % len(grain)], int(rng.integers(WIDTH)), 1)
            planes = (noisy.ravel(), blue.ravel(), red.ravel())
            index += 1
            yield np.clip(np.concatenate(planes), 16, 235).astype(np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
        shot = following


def _shot(rng: np.random.Generator) -> Iterator[tuple[Picture, Picture, Picture]]:
    """A texture that pans, in front of it a square that crosses it: luma and both chroma planes per frame."""
    texture = _texture(rng)
    colours = rng.uniform(70, 186, 2)
    chroma = [np.full((HEIGHT // 2, WIDTH // 2), value, np.float32) for value in colours]
    tint = [texture[: HEIGHT // 2, : WIDTH // 2] * rng.uniform(-0.15, 0.15) for _ in chroma]
    chroma = [plane + own for plane, own in zip(chroma, tint, strict=True)]
    step_x, step_y = int(rng.integers(1, 4)), int(rng.integers(0, 2))
    bright, speed, top = float(rng.uniform(30, 220)), int(rng.integers(3, 9)), int(rng.integers(40, HEIGHT - 120))
    for place in itertools.count():
        luma = np.roll(texture, (-step_y * place, -step_x * place), (0, 1))[:HEIGHT, :WIDTH].copy()
        left = (speed * place) % (WIDTH - 80)
        luma[top : top + 80, left : left + 80] = bright
        yield luma, chroma[0], chroma[1]


def _texture(rng: np.random.Generator) -> Picture:
    """Twice a frame's size, alike at opposite edges: smooth noise of four sizes."""
    whole = np.full((2 * HEIGHT, 2 * WIDTH), float(rng.uniform(70, 170)), np.float32)
    for cells, strength in ((4, 38.0), (9, 24.0), (36, 14.0), (120, 8.0)):
        high, wide = 2 * HEIGHT // (2 * HEIGHT // cells), 2 * WIDTH // (2 * WIDTH // (2 * cells))
        grid = rng.normal(0, strength, (high, wide)).astype(np.float32)
        whole += _stretched(_stretched(grid, 2 * HEIGHT).T, 2 * WIDTH).T
    return np.clip(whole, 20, 230)


def _stretched(grid: Picture, size: int) -> Picture:
    """The first axis drawn out to `size` in straight lines, round the edge."""
    at = np.arange(size) * len(grid) / size
    low = at.astype(int) % len(grid)
    share = (at % 1).astype(np.float32)[:, None]
    return grid[low] * (1 - share) + grid[(low + 1) % len(grid)] * share


def footage(videos: Path, folder: Path, count: int, seconds: float) -> list[Path]:
    """`count` films of so many seconds of real footage: sources with cuts of their own, one after the other.

    A source has cuts where `vidcap shots` finds three shots in it. Needs the ffmpeg program. Where the footage is too
    short it begins again. Raises FileNotFoundError where no source has cuts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = sorted(folder.glob("real-*.mp4"))
    if len(done) >= count:
        return done[:count]
    pieces = [_piece(path, folder / f"piece-{n:03d}.ts") for n, path in enumerate(with_cuts(videos))]
    if not pieces:
        raise FileNotFoundError(f"no video with cuts in {videos}")
    listing = folder / "pieces.txt"
    listing.write_text("".join(f"file '{piece.name}'\n" for piece in pieces))
    encoder = ["-c:v", "libx264", "-preset", ENCODER["preset"], "-crf", ENCODER["crf"], "-threads", "1"]
    for number in range(count):
        path = folder / f"real-{number:02d}.mp4"
        source = ["-stream_loop", "-1", "-f", "concat", "-safe", "0", "-i", listing]
        at = ["-ss", str(number * seconds)]
        _ffmpeg(*source, *at, "-t", str(seconds), *encoder, "-c:a", "aac", "-movflags", "+faststart", path)
    for piece in pieces:
        piece.unlink()
    return sorted(folder.glob("real-*.mp4"))[:count]


def with_cuts(videos: Path, least: int = 3) -> list[Path]:
    """The files of a folder in which the default detector finds so many shots, by name."""
    files = [path for path in sorted(videos.iterdir()) if path.suffix.lower() in SUFFIXES]
    told = subprocess.run(
        [sys.executable, "-m", "vidcap", "shots", "--json", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    return [Path(row["file"]) for row in rows if len(row["shots"]) >= least]


SUFFIXES = frozenset((".mp4", ".mkv", ".mov", ".webm", ".avi", ".ts", ".3gp"))


def _piece(source: Path, target: Path) -> Path:
    """A source in the shape of all: one size, one rate, with sound, hardly compressed."""
    fit = f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=decrease,pad={WIDTH}:{HEIGHT}:-1:-1,setsar=1,fps={FPS}"
    with av.open(str(source), metadata_errors="replace") as container:
        heard = bool(container.streams.audio)
    sound = [] if heard else ["-f", "lavfi", "-i", f"anoisesrc=r={RATE}:a=0.05:c=pink"]
    mapped = ["-map", "0:v:0", "-map", "0:a:0" if heard else "1:a:0", "-shortest"]
    video = ["-vf", fit, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "14"]
    _ffmpeg("-i", source, *sound, *mapped, *video, "-c:a", "aac", "-ar", RATE, "-ac", 2, target)
    return target


def _ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)
