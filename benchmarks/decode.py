"""The evidence pass against bare decoding: what looking at every frame costs on top of decoding it.

    python benchmarks/decode.py                                  # renders its footage, about five minutes
    python benchmarks/decode.py --videos FOLDER --turns 5        # adds the videos below FOLDER, by codec and height

Four cases take turns, each in a process of its own, over the same files and with the same number of decoder threads:

- `bare`: a loop over PyAV's `container.decode(video)` that looks at nothing;
- `bare, with sound`: the same, the sound decoded too and thrown away;
- `thumbnails`: the decode pass as a pipeline without captions runs it: a thumbnail of every frame and its hash, the
  frame table, the packet index, the file's sha256;
- `all`: the same with candidate frames (336 rows, 2 a second, as JPEG) and the sound as 16 kHz mono, all written down.

CPU-seconds and wall run from opening a file to its finished evidence, after ten frames of another file: neither
Python's start nor what libraries load at their first call is in them.
Ratios are of CPU-seconds, bare decoding (without sound) over the case. Peak memory is the process's own. The rendered
footage is textured, moves, and has in every frame something that no motion vector finds; H.264 is x264 `veryfast`
crf 23 with B-frames, VP9 is libvpx `realtime`.

Not measured: decoding on a graphics card, the ffmpeg program, several workers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from measuring import Cost, command, in_turns, median, versions, write_table
from moving_pictures import film

CASES = ("bare", "bare, with sound", "thumbnails", "all")
MIN_SECONDS = 4.0
"""Shorter files of FOLDER are left out: their costs are those of opening a file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of videos, measured beside the rendered ones")
    parser.add_argument("--only-videos", action="store_true", help="leave the rendered footage out")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each rendered video")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the decoder, in all cases")
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child, asked.paths, asked.threads)
        return
    with tempfile.TemporaryDirectory(prefix="bench-decode-") as folder:
        footage = {} if asked.only_videos else _rendered(Path(folder), asked.seconds)
        if asked.videos:
            footage |= _found(asked.videos)
        if not footage:
            parser.error("nothing to measure: give --videos a folder with videos, or leave --only-videos out")
        rows: list[list[str | float]] = []
        for name, paths in footage.items():
            rows += _rows(name, paths, asked.turns, asked.threads)
    columns = ["footage", "case", "CPU-ms/frame", "wall-ms/frame", "CPU ratio", "wall ratio", "peak MB"]
    about = [f"{asked.threads} decoder thread(s), median of {asked.turns}; ratio: bare decoding over the case."]
    libraries = versions("av", "opencv-python-headless", "numpy")
    write_table("decode", columns, rows, about=about, libraries=libraries)


def _rows(name: str, paths: list[Path], turns: int, threads: int) -> list[list[str | float]]:
    counts: dict[str, int] = {}

    def measured(case: str) -> Cost:
        arguments = [sys.executable, __file__, "--child", case, "--threads", str(threads), *map(str, paths)]
        cost = command(arguments)
        told = json.loads(cost.said.splitlines()[-1])
        counts[case] = told["frames"]
        return replace(cost, wall=told["wall"], cpu=told["cpu"])

    found = in_turns(
        {case: partial(measured, case) for case in CASES},
        turns,
        lambda text: print(f"{name}: {text}", file=sys.stderr, flush=True),
    )
    if len(set(counts.values())) != 1:
        raise RuntimeError(f"{name}: the cases saw different numbers of frames: {counts}")
    frames = counts["bare"]
    bare = found["bare"]
    rows: list[list[str | float]] = []
    for case in CASES:
        cost = median(found[case])
        # What else the machine does differs from turn to turn, not within one: the ratio is taken of each turn.
        ratios = median([Cost(b.wall / c.wall, b.cpu / c.cpu) for b, c in zip(bare, found[case], strict=True)])
        label = f"{name}, {len(paths)} file{'s' if len(paths) > 1 else ''}, {frames} frames" if case == "bare" else ""
        per_frame = [round(1000 * spent / frames, 3) for spent in (cost.cpu, cost.wall)]
        rows.append([label, case, *per_frame, round(ratios.cpu, 2), round(ratios.wall, 2), round(cost.peak_mb)])
    return rows


def _child(case: str, paths: list[str], threads: int) -> None:
    """Do one case with all files; say what it cost."""
    work = _bare(case != "bare") if case.startswith("bare") else _evidence(case == "all")
    with tempfile.TemporaryDirectory(prefix="bench-first-") as folder:
        work(str(film(Path(folder) / "first.mp4", 0, seconds=0.4, width=320, height=180)), threads)
    began, used = time.perf_counter(), time.process_time()
    frames = sum(work(path, threads) for path in paths)
    print(json.dumps({"wall": time.perf_counter() - began, "cpu": time.process_time() - used, "frames": frames}))


def _bare(with_sound: bool) -> Callable[[str, int], int]:
    def work(path: str, threads: int) -> int:
        with av.open(path, metadata_errors="replace") as container:
            video = container.streams.video[0]
            video.codec_context.thread_count, video.codec_context.thread_type = threads, "FRAME"
            if not with_sound or not container.streams.audio:
                return sum(1 for _ in container.decode(video))
            frames = container.decode(video, container.streams.audio[0])
            return sum(isinstance(frame, av.VideoFrame) for frame in frames)

    return work


def _evidence(everything: bool) -> Callable[[str, int], int]:
    from vidcap.media.decode import DecodeOptions, decode_source

    def work(path: str, threads: int) -> int:
        options = DecodeOptions(threads=threads, pictures=everything, sound=everything)
        with tempfile.TemporaryDirectory(prefix="bench-evidence-") as folder:
            return decode_source(path, Path(folder) / "evidence", options).facts.frames

    return work


def _rendered(folder: Path, seconds: float) -> dict[str, list[Path]]:
    footage = {}
    for width, height in ((640, 360), (1280, 720)):
        h264 = film(folder / f"{height}.mp4", 1, seconds=seconds, width=width, height=height)
        footage[f"H.264 {height}p"] = [h264]
        footage[f"VP9 {height}p"] = [_as_vp9(h264, folder / f"{height}.webm", height)]
    return footage


def _as_vp9(source: Path, target: Path, height: int) -> Path:
    bits = str(6 * height * height)
    with av.open(str(source)) as read, av.open(str(target), "w", format="webm") as out:
        shown, heard = read.streams.video[0], read.streams.audio[0]
        video: Any = out.add_stream("libvpx-vp9", rate=25, options={"deadline": "realtime", "cpu-used": "8", "b": bits})
        video.width, video.height, video.pix_fmt = shown.width, shown.height, "yuv420p"
        audio: Any = out.add_stream("libopus", rate=48_000, layout="stereo")
        count = 0
        for frame in read.decode(shown, heard):
            if isinstance(frame, av.VideoFrame):
                frame.pts, frame.time_base, frame.pict_type = count, Fraction(1, 25), 0  # type: ignore[assignment]
                count += 1
                out.mux(video.encode(frame))
            else:
                out.mux(audio.encode(frame))  # type: ignore[arg-type]
        for stream in (video, audio):
            out.mux(stream.encode(None))
    return target


def _found(folder: Path) -> dict[str, list[Path]]:
    """The videos below a folder by codec and number of rows, in three classes."""
    footage: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        try:
            with av.open(str(path), metadata_errors="replace") as container:
                video = container.streams.video[0]
                length = float(container.duration or 0) / 1e6
                rows, codec = min(video.width, video.height), video.codec_context.codec.canonical_name
        except (av.error.FFmpegError, OSError, ValueError, IndexError):
            continue
        if length >= MIN_SECONDS and codec in ("h264", "vp9", "av1", "hevc"):
            size = "up to 400" if rows <= 400 else "up to 800" if rows <= 800 else "over 800"
            footage.setdefault(f"{codec}, {size} rows", []).append(path)
    return footage


if __name__ == "__main__":
    main()
