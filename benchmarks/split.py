"""Splitting: what it costs to detect shots, cut them and write shards, and how right the clips are; ours and peers'.

    python benchmarks/split.py                                     # ours alone, on 8 films of 60 s that it renders
    bash benchmarks/peers/setup.sh FOLDER && python benchmarks/split.py --peers FOLDER
    python benchmarks/split.py --peers FOLDER --videos FOOTAGE     # 8 × 60 s of footage that has cuts
    python benchmarks/split.py --peers FOLDER --videos FOOTAGE --as-it-is

CPU-seconds are those of the whole process tree, start-up and imports included; `alone` is the same case on one film
of 2 s, which is nearly all start-up. Ours is `vidcap run pipelines/split.yaml` with two workers, and in one process
(`--runner inline`); video2dataset has two processes, the other peers one. Run this from an environment that holds the
core alone, as each peer has one of its own: where pandas is installed PyArrow imports it, at 0.3 CPU-seconds a process.
The floor is `vidcap shots`, which decodes and detects in one process, and a bare loop that only decodes.

Not measured: downloading, and whether the detectors find the right cuts (benchmarks/shots). Tools find different
shots; clips and seconds of video say how much each wrote. A clip is off where its first or last picture is not the
frame that its record names (benchmarks/split_errors.py). Data-Juicer and PySceneDetect write files, not shards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import split_corpus
import split_errors
from measuring import Cost, command, in_turns, median, versions, write_table
from split_errors import Clip, Errors

PROJECT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
FLOOR = "decode and detect (`vidcap shots`)"
DECODE = (
    "import av, sys\n"
    "for path in sys.argv[1:]:\n"
    "    with av.open(path, metadata_errors='replace') as box:\n"
    "        box.streams.video[0].codec_context.thread_count = 1\n"
    "        for frame in box.decode(video=0): pass\n"
)
OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "DO_NOT_TRACK": "1"}
PRESETS = [
    "Encoders: ours libx264 superfast crf 20 where it encodes; video2dataset `exact` and Data-Juicer libx264 medium "
    "crf 23 (ffmpeg's default); PySceneDetect libx264 veryfast crf 22.",
    "Detectors: ours `fast`; video2dataset and Data-Juicer ContentDetector(27). Ours and video2dataset keep shots of "
    "2 to 30 s; Data-Juicer and PySceneDetect keep all.",
    "`counted otherwise`: clips where a reader's number of frames is not what PyAV decodes, and (claim) where that is "
    "not what the record says.",
]


@dataclass
class Case:
    """`run(videos, out)` is a command; `clips(videos, out, unpacked)` what it wrote."""

    run: Callable[[Sequence[Path], Path], list[str]]
    clips: Callable[[Sequence[Path], Path, Path], list[Clip]] | None = None
    costs: list[Cost] = field(default_factory=list)
    alone: float = 0.0
    errors: Errors | None = None


def cases(peers: Path | None) -> dict[str, Case]:
    python = sys.executable
    found = {
        "decode alone": Case(lambda videos, out: [python, "-c", DECODE, *map(str, videos)]),
        FLOOR: Case(lambda videos, out: [python, "-m", "vidcap", "shots", "--json", *map(str, videos)]),
    }
    for runner in ("inline", "dask"):
        for cut in ("edit_list", "exact", "reencode"):
            title = f"vidcap `cut: {cut}`, {'one process' if runner == 'inline' else 'two workers'}"
            found[title] = Case(_vidcap(cut, runner), lambda v, out, at: split_errors.of_vidcap(out, v, at))
    if peers is None:
        return found
    for precision in ("low", "exact"):
        found[f"video2dataset `{precision}`"] = Case(
            _peer(peers, "video2dataset", precision), lambda v, out, at: split_errors.of_video2dataset(out, at)
        )
    found["Data-Juicer"] = Case(
        _peer(peers, "data-juicer"), lambda v, out, at: split_errors.of_data_juicer(out, v, _claims(peers, v))
    )
    for detector in ("content", "adaptive"):
        found[f"PySceneDetect {detector}"] = Case(
            _peer(peers, "scenedetect", detector), lambda v, out, at: split_errors.of_scenedetect(out)
        )
    return found


def _vidcap(cut: str, runner: str) -> Callable[[Sequence[Path], Path], list[str]]:
    def run(videos: Sequence[Path], out: Path) -> list[str]:
        out.mkdir(parents=True)
        manifest = out / "videos.csv"
        manifest.write_text("\n".join(["uri", *map(str, videos)]) + "\n")
        setting = f"stages.pack.options.cut={cut}"
        here = ["--input", str(manifest), "--output", str(out / "run"), "--set", setting]
        # One part per worker: four films of a minute are far below the default's 2 GB.
        apart = ["--set", f"input.sources_per_part={max(1, -(-len(videos) // 2))}"]
        pipeline = [sys.executable, "-m", "vidcap", "run", str(PROJECT / "pipelines/split.yaml")]
        return [*pipeline, *here, *apart, "--runner", runner, "--quiet"]

    return run


def _peer(peers: Path, name: str, *options: str) -> Callable[[Sequence[Path], Path], list[str]]:
    script = PEERS / f"run_{name.replace('-', '_')}.py"
    return lambda videos, out: [
        str(peers / name / "bin" / "python"),
        str(script),
        str(out),
        *options,
        *map(str, videos),
    ]


def _claims(peers: Path, videos: Sequence[Path]) -> dict[str, list[list[int]]]:
    told = subprocess.run(
        [str(peers / "data-juicer/bin/python"), str(PEERS / "run_data_juicer.py"), "--claims", *map(str, videos)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[list[int]]] = json.loads(told.stdout.splitlines()[-1])
    return found


def main() -> None:
    asked = _asked()
    with tempfile.TemporaryDirectory(prefix="vidcap-split-") as temporary:
        work = Path(temporary)
        corpus = asked.corpus or work / "corpus"
        name, videos = _videos(asked, corpus)
        tiny = split_corpus.rendered(corpus / "tiny", 1, 2.0)
        wanted = asked.only.split(",")
        found = {title: case for title, case in cases(asked.peers).items() if any(part in title for part in wanted)}
        runs = {title: _measured(case, videos, work / f"out-{at}") for at, (title, case) in enumerate(found.items())}
        once = [title for title in runs if any(part in title for part in asked.once.split(",") if part)]
        for title, costs in in_turns({t: run for t, run in runs.items() if t not in once}, asked.turns).items():
            found[title].costs = costs
        for title in once:
            found[title].costs = in_turns({title: runs[title]}, 1)[title]
        readers = asked.peers / "readers" if asked.peers else None
        for at, (title, case) in enumerate(found.items()):
            print(f"start-up and errors: {title}", file=sys.stderr, flush=True)
            case.alone = _measured(case, tiny, work / "tiny")().cpu
            if case.clips is not None:
                out = work / f"out-{at}"
                clips = case.clips(videos, out, out / "unpacked")
                case.errors = split_errors.measured(clips, readers)
        _write(name, videos, found, [f"Once only: {', '.join(once)}."] if once else [])


def _measured(case: Case, videos: Sequence[Path], out: Path) -> Callable[[], Cost]:
    def run() -> Cost:
        shutil.rmtree(out, ignore_errors=True)
        return command(case.run(videos, out), env={**OFFLINE, "PYTHONPATH": ""}, cwd=out.parent)

    return run


def _videos(asked: argparse.Namespace, corpus: Path) -> tuple[str, list[Path]]:
    if asked.videos is None:
        return "split", split_corpus.rendered(corpus, asked.count, asked.seconds)
    if not asked.as_it_is:
        return "split-footage", split_corpus.footage(asked.videos, corpus, asked.count, asked.seconds)
    files = sorted(asked.videos.resolve().iterdir())
    return "split-folder", [path for path in files if path.suffix.lower() in split_corpus.SUFFIXES]


def _write(name: str, videos: Sequence[Path], found: dict[str, Case], more: list[str]) -> None:
    base = median(found[FLOOR].costs).cpu if FLOOR in found else 0.0
    rows: list[list[str | float]] = []
    for title, case in found.items():
        cost = median(case.costs)
        ratio = round(cost.cpu / base, 2) if base else "–"
        row: list[str | float] = [title, round(cost.cpu, 1), ratio, round(cost.wall, 1), round(cost.peak_mb)]
        rows.append([*row, round(case.alone, 1), *_told(case.errors)])
    columns = ["case", "CPU-s", "× decode and detect", "wall s", "peak MB", "alone CPU-s"]
    columns += ["clips", "s of video", "off", "worst s", "counted otherwise", "cuts"]
    size = sum(path.stat().st_size for path in videos) / 1e6
    what = f"{len(videos)} videos, {size:.0f} MB."
    write_table(name, columns, rows, about=[what, *PRESETS, *more], libraries=versions("av", "opencv-python-headless"))


def _told(errors: Errors | None) -> list[str | float]:
    if errors is None:
        return ["", "", "", "", "", ""]
    counted = ", ".join(f"{reader} {number}" for reader, number in errors.counts.items() if number) or "none"
    lost = f" (+{errors.lost} not found)" if errors.lost else ""
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(errors.cuts.items()) if kind)
    return [errors.clips, round(errors.seconds), f"{errors.off}{lost}", round(errors.worst, 2), counted, kinds]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8, help="films (default: 8)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each film (default: 60)")
    parser.add_argument("--turns", type=int, default=3, help="how often each case runs (default: 3)")
    parser.add_argument("--peers", type=Path, help="the folder that peers/setup.sh has filled")
    parser.add_argument("--videos", type=Path, help="a folder of real videos, instead of rendered ones")
    parser.add_argument("--as-it-is", action="store_true", help="split that folder's files themselves")
    parser.add_argument("--corpus", type=Path, help="keep the films here, and take those that are there")
    parser.add_argument("--only", default="", help="only cases with one of these, comma-separated, in their title")
    parser.add_argument("--once", default="", help="cases that run once only, because they take minutes; as `--only`")
    asked = parser.parse_args()
    for name in ("peers", "videos", "corpus"):
        path = getattr(asked, name)
        if path is not None:
            setattr(asked, name, path.absolute())
    os.environ.pop("PYTHONPATH", None)
    return asked


if __name__ == "__main__":
    main()
