"""Each shot detector: frames per second, on thumbnails alone and with decoding, and F1 on videos with known shots.

    python benchmarks/shots/compare.py                                   # rendered hard cuts, detectors that are here
    python benchmarks/shots/compare.py fast adaptive transnetv2 --videos VIDEOS
    python benchmarks/shots/compare.py fast --weights seed1.onnx --videos VIDEOS --each

`VIDEOS` holds a `manifest.jsonl` with `shots: {count, cuts, gradual}` per file. Every detector sees the same thumbnails
of the decode pass. F1 is over all files, by the matching of the AutoShot and TransNetV2 papers, with its 95 % interval
over resampled files. Speed is of the first files up to `--speed-frames`, in turns; with decoding: plus the CPU-seconds
of the decode pass that leaves thumbnails only. Without `--videos` films with a hard cut every few seconds are rendered:
good for speed, while their F1 says no more than that a detector works.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measuring import Cost, here, in_turns, median, versions, write_table
from moving_pictures import film

from vidcap.autoshot.evaluation import Counts, Interval, compared, transitions
from vidcap.backends import registry
from vidcap.errors import BackendError, MediaError
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.media.probe import open_media, video_stream

RESAMPLES = 1000
FILMS, SECONDS, CUT, FPS = 4, 30.0, 3.0, 25
BARE, PASS = "bare decoding", "decode pass, thumbnails only"


@dataclass
class Video:
    path: Path
    cuts: list[Interval]
    gradual: list[Interval]
    thumbnails: Any = None
    times: Any = None


@dataclass
class Score:
    files: list[Counts] = field(default_factory=list)
    cuts: int = 0
    gradual: int = 0

    @property
    def total(self) -> Counts:
        return sum(self.files, Counts())

    def interval(self) -> tuple[float, float]:
        """95 % of the F1 over resamples of the files."""
        rng = np.random.default_rng(0)
        values = [
            sum((self.files[n] for n in rng.integers(len(self.files), size=len(self.files))), Counts()).f1
            for _ in range(RESAMPLES)
        ]
        return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def annotated(folder: Path) -> Iterator[Video]:
    """The cuts and gradual transitions of each file, as intervals between shots."""
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        shots = row.get("shots")
        if isinstance(shots, dict) and shots.get("count") is not None:
            cuts = [(at - 1, at) for at in shots.get("cuts", [])]
            yield Video(folder / row["file"], cuts, [(g["start"] - 1, g["end"] + 1) for g in shots.get("gradual", [])])


def rendered(folder: Path) -> Iterator[Video]:
    step, frames = round(CUT * FPS), round(SECONDS * FPS)
    for number in range(FILMS):
        path = film(folder / f"{number}.mp4", number, seconds=SECONDS, cut=CUT, fps=FPS)
        yield Video(path, [(at - 1, at) for at in range(step, frames, step)], [])


def decoded(video: Video, threads: int) -> Evidence:
    """Thumbnails of every frame and hardly anything else; the evidence's folder is gone when this returns."""
    options = DecodeOptions(frames_per_second=0.001, frame_height=16, threads=threads)
    with TemporaryDirectory() as folder:
        decode_source(str(video.path), Path(folder) / "evidence", options, sound=False, durable=False)
        evidence = Evidence(Path(folder) / "evidence")
        video.thumbnails, video.times = np.array(evidence.thumbnails), np.array(evidence.times)
        return evidence


def decoded_bare(video: Video, threads: int) -> None:
    """Decode every frame and do nothing with it."""
    with open_media(str(video.path)) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "FRAME"
        for _ in container.decode(stream):
            pass


def ready(asked: argparse.Namespace) -> dict[str, Any]:
    """The detectors, by name. Those not asked for by name are left out where they are not installed."""
    found = {}
    for name in asked.detectors or registry.names("shot_detector"):
        known = registry.get("shot_detector", name).Config.model_fields
        options: dict[str, Any] = {"threads": asked.threads} if "threads" in known else {}
        if name == "fast":
            given = {"weights": asked.weights, "threshold": asked.threshold}
            options |= {key: value for key, value in given.items() if value is not None}
        try:
            found[name] = registry.create("shot_detector", name, options)
            found[name].load("cpu")
        except BackendError as error:
            if asked.detectors:
                raise SystemExit(str(error)) from error
            print(f"without `{name}`: {error.message}", file=sys.stderr)
            del found[name]
    return found


def scored(videos: Sequence[Video], detectors: dict[str, Any], each: bool) -> dict[str, Score]:
    scores = {name: Score() for name in detectors}
    for name, detector in detectors.items():
        for video in videos:
            found = transitions(detector.detect(video.thumbnails, video.times))
            counts = compared(sorted(video.cuts + video.gradual), found)
            scores[name].files.append(counts)
            scores[name].cuts += compared(video.cuts, found).hits
            scores[name].gradual += compared(video.gradual, found).hits
            if each and counts.false + counts.missed:
                print(f"{name:12} {video.path.name:44} {counts}", file=sys.stderr)
    return scores


def timed(videos: Sequence[Video], detectors: dict[str, Any], asked: argparse.Namespace) -> dict[str, Cost]:
    def over(detector: Any) -> Cost:
        return here(lambda: [detector.detect(video.thumbnails, video.times) for video in videos])

    cases = {name: lambda detector=detector: over(detector) for name, detector in detectors.items()}
    cases[BARE] = lambda: here(lambda: [decoded_bare(video, asked.threads) for video in videos])
    cases[PASS] = lambda: here(lambda: [decoded(video, asked.threads) for video in videos])
    return {name: median(costs) for name, costs in in_turns(cases, asked.turns).items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", help="default: all that are installed")
    parser.add_argument("--videos", type=Path, help="a folder with manifest.jsonl")
    parser.add_argument("--weights", type=Path, help="of `fast`")
    parser.add_argument("--threshold", type=float, help="of `fast`")
    parser.add_argument("--each", action="store_true", help="also name the files with mistakes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--speed-frames", type=int, default=1500)
    asked = parser.parse_args(argv)
    detectors = ready(asked)
    with TemporaryDirectory() as folder:
        videos, unusable = [], []
        for video in annotated(asked.videos) if asked.videos else rendered(Path(folder)):
            try:
                decoded(video, asked.threads)
                videos.append(video)
            except MediaError as error:
                unusable.append(f"{video.path.name} ({error})")
        sample, frames = [], 0
        for video in videos:
            if frames < asked.speed_frames:
                sample.append(video)
                frames += len(video.thumbnails)
        scores = scored(videos, detectors, asked.each)
        costs = timed(sample, detectors, asked)
    table: list[list[str | float]] = []
    for name, score in scores.items():
        alone, whole, total, (low, high) = costs[name], costs[PASS].cpu + costs[name].cpu, score.total, score.interval()
        table.append([
            name, round(frames / alone.wall), round(frames / alone.cpu), round(frames / whole),
            round(costs[BARE].cpu / whole, 2), f"{total.f1:.3f}", f"{low:.2f} to {high:.2f}", f"{total.precision:.3f}",
            f"{total.recall:.3f}", score.cuts, score.gradual,
        ])  # fmt: skip
    columns = ["detector", "frames/s", "frames/CPU-s", "with decoding", "of bare decoding", "F1", "95 %"]
    columns += ["precision", "recall", "cuts found", "gradual found"]
    what = "annotated" if asked.videos else "rendered, hard cuts only"
    cuts, gradual, of = (
        sum(map(len, kind)) for kind in zip(*((v.cuts, v.gradual, v.times) for v in videos), strict=True)
    )
    about = [
        f"F1 over {len(videos)} files, {what}, with {cuts} cuts and {gradual} gradual transitions in {of:,} frames.",
        f"Speed over {len(sample)} of them, {frames:,} frames, {asked.threads} threads, median of {asked.turns} turns: "
        f"bare decoding {frames / costs[BARE].cpu:,.0f} frames per CPU-second, the decode pass with thumbnails only "
        f"{frames / costs[PASS].cpu:,.0f}; `with decoding` and what follows are CPU-seconds too.",
        *(f"Left out: {name}." for name in unusable),
    ]
    libraries = versions("av", "onnxruntime", "torch", "scenedetect-headless")
    write_table("shots" if asked.videos else "shots-rendered", columns, table, about=about, libraries=libraries)


if __name__ == "__main__":
    main()
