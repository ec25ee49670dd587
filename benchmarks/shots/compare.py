"""Scores shot detectors on annotated videos, side by side: agreement by kind, its uncertainty, and speed.

    python benchmarks/shots/compare.py VIDEOS fast adaptive scenedetect transnetv2
    python benchmarks/shots/compare.py VIDEOS fast --weights seed1.onnx    # another network behind `fast`

`VIDEOS` holds a `manifest.jsonl` with `shots: {count, cuts, gradual}` per file. Each file is decoded once with two
threads; every detector then sees the same thumbnails, and its time is put beside bare decoding of the same files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vidcap.autoshot.evaluation import Counts, Interval, compared, transitions
from vidcap.backends import registry
from vidcap.errors import MediaError
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.media.probe import open_media, video_stream

THREADS = 2
RESAMPLES = 1000


@dataclass
class Score:
    files: list[Counts] = field(default_factory=list)
    cuts: int = 0
    gradual: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

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


def annotated(folder: Path) -> Iterator[tuple[str, list[Interval], list[Interval]]]:
    """File, its cuts and its gradual transitions, as intervals between shots."""
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        shots = row.get("shots")
        if isinstance(shots, dict) and shots.get("count") is not None:
            cuts = [(at - 1, at) for at in shots.get("cuts", [])]
            yield row["file"], cuts, [(g["start"] - 1, g["end"] + 1) for g in shots.get("gradual", [])]


def decoded_bare(path: Path) -> float:
    """Seconds to decode the video with as many threads, and do nothing with it."""
    began = time.perf_counter()
    with open_media(str(path)) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = THREADS
        stream.codec_context.thread_type = "FRAME"
        for _ in container.decode(stream):
            pass
    return time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("backends", nargs="+")
    parser.add_argument("--weights", type=Path, help="of `fast`")
    parser.add_argument("--threshold", type=float, help="of `fast`")
    parser.add_argument("--each", action="store_true", help="also name the files with mistakes")
    asked = parser.parse_args(argv)
    detectors: dict[str, Any] = {}
    for name in asked.backends:
        known = registry.get("shot_detector", name).Config.model_fields
        options: dict[str, Any] = {"threads": THREADS} if "threads" in known else {}
        if name == "fast":
            given = {"weights": asked.weights, "threshold": asked.threshold}
            options |= {key: value for key, value in given.items() if value is not None}
        detectors[name] = registry.create("shot_detector", name, options)
        detectors[name].load("cpu")
    scores = {name: Score() for name in detectors}
    frames, bare, pass_seconds = 0, 0.0, 0.0
    truths = list(annotated(asked.videos))
    for file, cuts, gradual in truths:
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            options_ = DecodeOptions(frames_per_second=0.001, frame_height=16, threads=THREADS)
            try:
                decode_source(str(asked.videos / file), Path(folder) / "evidence", options_, sound=False, durable=False)
            except MediaError as error:
                print(f"{file}: {error}")
                continue
            pass_seconds += time.perf_counter() - began
            evidence = Evidence(Path(folder) / "evidence")
            thumbnails = np.array(evidence.thumbnails)
            frames += len(thumbnails)
            bare += decoded_bare(asked.videos / file)
            for name, detector in detectors.items():
                began, cpu = time.perf_counter(), time.process_time()
                found = transitions(detector.detect(thumbnails, evidence.times))
                scores[name].seconds += time.perf_counter() - began
                scores[name].cpu += time.process_time() - cpu
                counts = compared(sorted(cuts + gradual), found)
                scores[name].files.append(counts)
                scores[name].cuts += compared(cuts, found).hits
                scores[name].gradual += compared(gradual, found).hits
                if asked.each and counts.false + counts.missed:
                    print(f"{name:12} {file:44} {counts}")
    all_cuts, all_gradual = (sum(len(truth[kind]) for truth in truths) for kind in (1, 2))
    print(f"{len(truths)} files, {frames} frames; bare decoding {frames / bare:.0f} frames/s, with thumbnails")
    print(f"{frames / pass_seconds:.0f} frames/s, {THREADS} threads")
    print("| detector | F1 | 95 % | precision | recall | cuts | gradual | frames/s | frames/CPU-s | of bare decoding |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, score in scores.items():
        total, (low, high) = score.total, score.interval()
        print(
            f"| {name} | {total.f1:.3f} | {low:.2f} to {high:.2f} | {total.precision:.3f} | {total.recall:.3f} "
            f"| {score.cuts}/{all_cuts} | {score.gradual}/{all_gradual} | {frames / score.seconds:.0f} "
            f"| {frames / score.cpu:.0f} | {bare / (pass_seconds + score.seconds):.2f} |"
        )


if __name__ == "__main__":
    main()
