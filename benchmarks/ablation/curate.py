"""Runs the pipeline over a rendered corpus with one shot detector, and compares the shots it cut with the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import captions
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = 5
ANY = {"low": 0, "high": 1000}
TOLERANCE = 2
"""Frames by which a boundary may be off."""


def settings(corpus: Path, output: Path, detector: str) -> dict[str, Any]:
    """A whole pipeline: all stages are the shipped ones; captioners and transcriber know the truth."""
    oracle = {"name": captions.NAME, "truth": str(corpus / "truth.json")}
    stages = [
        {"stage": "decode", "options": {"threads": 1, "frames_per_second": 2, "frame_height": 96}},
        {"stage": "detect_shots", "backend": detector},
        {"stage": "trim", "options": {"min_seconds": 1.5, "max_seconds": 60, "snap_seconds": 0, "motion": ANY}},
        {"stage": "transcribe", "backend": oracle | {"seed": SEED}},
        {"stage": "caption_video", "backend": dict(oracle)},
        {"stage": "caption_audio", "backend": dict(oracle)},
        {"stage": "identify_language", "backend": captions.NAME},
        {"stage": "translate", "backend": "passthrough", "options": {"to": "eng"}},
        {"stage": "fuse", "backend": "template", "prompts": {"av": "fuse_av", "avs": "fuse_avs"}},
        {"stage": "score", "backend": "descriptor", "options": {"kinds": ["v", "a", "av", "avs"]}},
        {"stage": "select", "options": {"by": "primary", "min": -1}},
        {"stage": "pack", "options": {"cut": "exact", "video": "h264", "audio": "none"}},
    ]
    return {
        "name": f"ablation-{detector}",
        "seed": SEED,
        "input": {"manifest": str(corpus / "manifest.jsonl"), "sources_per_part": 16},
        "stages": stages,
        "output": {"path": str(output)},
        "runner": {"workers": 1},
    }


def run(corpus: Path, output: Path, detector: str) -> None:
    """Does nothing where the run is done already. Raises `CalledProcessError` where the pipeline fails."""
    output.mkdir(parents=True, exist_ok=True)
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(settings(corpus, output, detector), sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "vidcap", "run", str(path), "--runner", "inline"]
    offered = {"PYTHONPATH": captions.install(output.parent / "site")}
    log = output.with_suffix(".log")
    with log.open("w", encoding="utf-8") as handle:
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **offered}, stdout=handle, stderr=handle)


def spans(output: Path) -> dict[str, list[tuple[int, int]]]:
    """First and last frame of the clips that were packed, by source."""
    import pyarrow.parquet as pq

    found: dict[str, list[tuple[int, int]]] = {}
    for path in sorted((output / "shards").glob("*.parquet")):
        for key in pq.read_table(path)["key"].to_pylist():
            source, first, last = key.rsplit("_", 2)
            found.setdefault(source, []).append((int(first), int(last)))
    return found


def agreement(corpus: Path, output: Path) -> dict[str, Any]:
    """How the clips fit the shots: how many hold frames of one shot only, and joins found at either side."""
    videos = json.loads((corpus / "truth.json").read_text(encoding="utf-8"))["videos"]
    clips = spans(output)
    mixed = foreign = total = 0
    joins = {"cut": [0, 0], "dissolve": [0, 0], "fade": [0, 0]}
    for source, video in videos.items():
        shots = video["shots"]
        for first, last in clips.get(source, []):
            inside = [max(0, min(last, shot["last"]) - max(first, shot["first"]) + 1) for shot in shots]
            own = shots.index(captions.shot_at(shots, (first + last) // 2))
            total += 1
            foreign += 1 - inside[own] / (last - first + 1)
            mixed += sum(count > TOLERANCE for count in inside) > 1
        for at, kind in enumerate(video["joins"]):
            before, after = shots[at]["last"], shots[at + 1]["first"]
            crossed = any(a + TOLERANCE <= before and after <= b - TOLERANCE for a, b in clips.get(source, []))
            joins[kind][0] += not crossed
            joins[kind][1] += 1
    return {
        "clips": total,
        "shots": sum(len(video["shots"]) for video in videos.values()),
        "clips_of_several_shots": mixed,
        "share_of_foreign_frames": round(foreign / max(1, total), 4),
        "joins_not_crossed": {kind: f"{found} of {count}" for kind, (found, count) in joins.items()},
    }
