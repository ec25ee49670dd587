"""How much memory a run holds: a long source, a very long one, and many of them.

    python benchmarks/memory.py            # all three cases: about an hour on two idle cores
    python benchmarks/memory.py --quick    # minutes of video instead of hours, in a few minutes: to see that it runs
    python benchmarks/memory.py --cases hour --minutes 10 20 40 --runner inline    # the peak of each stage

Cases, each through the embedded pipeline (pipelines/demo.yaml, nothing rejected by selection, so that all is packed):

- `hour`: one H.264 source of 1920×1080 with sound, as long as each of `--minutes`;
- `long`: one source of 320×180 at 60 frames per second, as long as each of `--hours`;
- `many`: `--sources` small sources of 3 seconds, all different files.

`--runner dask` (the default) has a driver and `--workers` worker processes, and tells the peak of each kind; `inline`
runs all in one process, and tells the peak of each stage. Memory is the unique set (USS) of a process, looked at ten
times a second: what would be free if it ended. Pages of mapped files count while they are mapped, the page cache never.
The resident set (RSS), which Dask's limit looks at, stands beside it: its peak as the kernel has it.

Sources are made in a temporary folder: half a minute is rendered and encoded once, then its packets are repeated with
shifted times; every frame of the hour is decoded. Not measured: models on a GPU or CPU, which add what they weigh, and
formats other than H.264 with AAC.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from measuring import versions, write_table

HERE = Path(__file__).resolve().parent
SPEECH = HERE.parent / "pipelines" / "demo" / "speech"
SAMPLE_SECONDS, LOOK_SECONDS = 0.1, 2.0
"""Between two looks at known processes, and between two looks for new ones, which cost more."""
RATE = 48_000
LOOP_SECONDS = 32
"""A whole number of video frames and of AAC packets (1024 samples), so that repeating it leaves no gap."""
SHOT_SECONDS = (7, 4, 9, 5, 7)
OVERRIDES = (
    "stages.select.options.min=-1",
    "stages.fuse.options.on_failure=fallback",
)
"""Every clip is packed."""

Peaks = dict[str, tuple[float, float]]
"""Process kind or stage → peak USS and peak RSS in MB."""


def render(path: Path, size: tuple[int, int], fps: int, seconds: int = LOOP_SECONDS) -> None:
    """A loop of drifting textures with hard cuts; its sound is a noise that comes and goes, and a spoken sentence."""
    width, height = size
    random = np.random.default_rng(7)
    with av.open(str(path), "w", format="mp4") as out:
        video: Any = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "26", "threads": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size = 2 * fps
        video.time_base = video.codec_context.time_base = Fraction(1, fps)
        sound: Any = out.add_stream("aac", rate=RATE, layout="mono")
        at = 0
        for shot in range(10_000):
            length = SHOT_SECONDS[shot % len(SHOT_SECONDS)] * fps
            picture = _texture(random, height + 64, width + 128)
            for t in range(min(length, seconds * fps - at)):
                x, y = 128 * t // length, 32 + round(30 * np.sin(t / fps))
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(picture[y : y + height, x : x + width]), "rgb24"
                )
                frame.pts = at
                at += 1
                out.mux(video.encode(frame))
            if at >= seconds * fps:
                break
        out.mux(video.encode(None))
        samples = _sound(random, seconds)
        for start in range(0, len(samples), 1024):
            block = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], "s16", "mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            out.mux(sound.encode(block))
        out.mux(sound.encode(None))


def _texture(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    import cv2

    coarse = random.integers(0, 256, (9, 16, 3)).astype(np.uint8)
    fine = random.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    wide = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    wide += cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.int16) // 4 - 32
    return np.clip(wide, 0, 255).astype(np.uint8)


def _sound(random: np.random.Generator, seconds: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    times = np.arange(seconds * RATE) / RATE
    wave = random.normal(0, 0.02, len(times)) * (1 + np.sin(2 * np.pi * times / 5))
    with av.open(str(SPEECH / "balloon.flac")) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        blocks = [b.to_ndarray().reshape(-1) for f in container.decode(audio=0) for b in resampler.resample(f)]
    said = np.concatenate(blocks)[: len(wave) // 2] / 32768
    first = len(wave) // 4
    wave[first : first + len(said)] = said
    return np.asarray(np.clip(wave * 32767, -32768, 32767), np.int16)


def repeat(loop: Path, target: Path, seconds: int) -> None:
    """The packets of `loop` again and again, until the file is `seconds` long."""
    with av.open(str(target), "w", format="mp4") as out:
        tracks: dict[int, Any] = {}
        for turn in range(-(-seconds // LOOP_SECONDS)):
            with av.open(str(loop)) as source:
                for stream in source.streams:
                    if turn == 0:
                        tracks[stream.index] = out.add_stream_from_template(stream)
                for packet in source.demux():
                    index, base = packet.stream.index, packet.time_base
                    shift = int(turn * LOOP_SECONDS / base)
                    if not packet.size or packet.pts is None or packet.dts is None:
                        continue
                    # The encoder's padding at the sound's end would overlap the next turn.
                    if packet.stream.type == "audio" and packet.pts * base >= LOOP_SECONDS - Fraction(1024, RATE):
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = tracks[index]
                    out.mux(packet)


def copies(video: Path, folder: Path, count: int) -> None:
    """So many files that differ in their last bytes: a box that players pass over."""
    data = video.read_bytes()
    for number in range(count):
        (folder / f"{number:05d}.mp4").write_bytes(data + (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big"))


class Watch:
    """Peaks of memory by name, and all samples of USS."""

    def __init__(self) -> None:
        self.peaks: Peaks = {}
        self.seen: dict[str, list[float]] = {}

    def sample(self, name: str, process: psutil.Process) -> None:
        try:
            uss = process.memory_full_info().uss / 1e6
            status = Path(f"/proc/{process.pid}/status").read_text()
            rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6
        except (psutil.Error, OSError, StopIteration):
            return  # gone meanwhile
        before = self.peaks.get(name, (0.0, 0.0))
        self.peaks[name] = (max(before[0], uss), max(before[1], rss))
        self.seen.setdefault(name, []).append(uss)


def run_dask(arguments: list[str], workers: int) -> Watch:
    """`vidcap run` with a local cluster; the driver and all its workers are watched."""
    watch = Watch()
    child = subprocess.Popen([sys.executable, "-m", "vidcap", "run", *arguments, "--workers", str(workers), "--quiet"])
    driver, known, looked = psutil.Process(child.pid), list[psutil.Process](), 0.0
    while child.poll() is None:
        if time.monotonic() - looked > LOOK_SECONDS:
            known, looked = _workers_of(driver), time.monotonic()
        watch.sample("driver", driver)
        for worker in known:
            watch.sample("worker", worker)
        time.sleep(SAMPLE_SECONDS)
    if child.returncode:
        raise SystemExit(f"the run ended with {child.returncode}")
    return watch


def _workers_of(driver: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [
            process
            for process in driver.children(recursive=True)
            if any("spawn_main" in word for word in process.cmdline())
        ]
    return []


def run_inline(arguments: list[str]) -> Watch:
    """The same in one process, which watches itself; its peaks are told by stage."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as said:
        command = [sys.executable, __file__, "--inside", said.name, "--", *arguments, "--runner", "inline", "--quiet"]
        subprocess.run(command, check=True)
        watch = Watch()
        found = json.load(said)
        watch.peaks, watch.seen = {k: tuple(v) for k, v in found["peaks"].items()}, found["seen"]
        return watch


def inside(answer: Path, arguments: list[str]) -> None:
    """Be the process that runs: note which stage is at work, sample from a thread, write what was seen."""
    from vidcap.cli.main import main as vidcap
    from vidcap.stages.registry import STAGES, stage_class

    watch, over, now = Watch(), threading.Event(), ["start"]

    @contextmanager
    def at(stage: str) -> Iterator[None]:
        before, now[0] = now[0], stage
        try:
            yield
        finally:
            now[0] = "between" if before == "start" else before

    def noted(stage: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def noted_run(*given: Any, **named: Any) -> Any:
            with at(stage):
                return run(*given, **named)

        return noted_run

    for name in STAGES:
        made = stage_class(name)
        made.run = noted(name, made.run)  # type: ignore[assignment]  # every stage has it

    def look() -> None:
        process = psutil.Process()
        while not over.is_set():
            watch.sample(now[0], process)
            watch.sample("whole", process)
            time.sleep(SAMPLE_SECONDS)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        if code := vidcap(["run", *arguments]):
            raise SystemExit(code)
    finally:
        over.set()
        thread.join()
    answer.write_text(json.dumps({"peaks": watch.peaks, "seen": watch.seen}))


def case(name: str, media: Path, folder: Path, runner: str, workers: int) -> list[list[str | float]]:
    """Run the pipeline over a file or folder; a row per process kind, or per stage."""
    output = folder / "out"
    arguments = ["pipelines/demo.yaml", "--input", str(media), "--output", str(output)]
    for override in OVERRIDES:
        arguments += ["--set", override]
    began = time.perf_counter()
    watch = run_inline(arguments) if runner == "inline" else run_dask(arguments, workers)
    took = time.perf_counter() - began
    clips = sum(json.loads((output / "shards" / "sizes.json").read_text()).values())
    shutil.rmtree(output)
    print(f"{name}, {runner}: {clips} clips in {took:.0f} s", file=sys.stderr, flush=True)
    rows: list[list[str | float]] = []
    for kind, (uss, rss) in watch.peaks.items():
        seen = watch.seen[kind]
        tenth = max(1, len(seen) // 10)
        end = sum(seen[-2 * tenth : -tenth] or seen) / len(seen[-2 * tenth : -tenth] or seen)
        rows.append([name, f"{runner}: {kind}", clips, round(uss), round(rss), round(end), round(took)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=["hour", "long", "many"], default=["hour", "long", "many"])
    parser.add_argument("--minutes", nargs="+", type=int, default=[10, 60], help="lengths of the case `hour`")
    parser.add_argument("--hours", nargs="+", type=float, default=[0.5, 3], help="lengths of the case `long`")
    parser.add_argument("--sources", nargs="+", type=int, default=[10, 100, 1000], help="counts of the case `many`")
    parser.add_argument("--runner", nargs="+", choices=["dask", "inline"], default=["dask"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--name", default="memory", help="of the table under results/")
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours")
    parser.add_argument("--folder", type=Path, help="where the sources are made; default: a temporary folder")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside is not None:
        inside(asked.inside, asked.rest)
        return
    if asked.quick:
        asked.minutes, asked.hours, asked.sources = [1, 2], [0.02, 0.05], [5, 20]
    os.chdir(HERE.parent)
    rows: list[list[str | float]] = []
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="memory-") as temporary:
        for name, media in sources(asked, Path(temporary)):
            for runner in asked.runner:
                rows += case(name, media, Path(temporary), runner, asked.workers)
            (shutil.rmtree if media.is_dir() else os.remove)(media)
    write_table(
        asked.name,
        ["case", "process", "clips", "peak USS MB", "peak RSS MB", "USS near the end MB", "seconds"],
        rows,
        about=[
            "USS: what would be free if the process ended. RSS counts pages shared with others too; of a stage it is "
            "the peak so far.",
            "Near the end: the mean of USS over the last tenth but one of the run. What only grows would show there.",
        ],
        libraries=versions("av", "numpy", "pyarrow", "onnxruntime", "distributed"),
    )


def sources(asked: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """The name of each case and what it runs over, made when asked for."""
    for kind, size, fps, lengths in (
        ("hour", (1920, 1080), 25, [(f"{minutes} min 1080p", minutes * 60) for minutes in asked.minutes]),
        ("long", (320, 180), 60, [(f"{hours:g} h 180p60", round(hours * 3600)) for hours in asked.hours]),
    ):
        if kind in asked.cases:
            render(folder / "loop.mp4", size, fps)
            for name, seconds in lengths:
                repeat(folder / "loop.mp4", folder / "long.mp4", seconds)
                yield name, folder / "long.mp4"
    if "many" in asked.cases:
        render(folder / "small.mp4", (160, 96), 25, 3)
        for count in asked.sources:
            (folder / "many").mkdir()
            copies(folder / "small.mp4", folder / "many", count)
            yield f"{count} sources", folder / "many"


if __name__ == "__main__":
    main()
