"""How many hours of video a core-hour takes through the embedded pipeline, with 1 and 2 workers, and where time goes.

    python benchmarks/end_to_end.py                          # renders its films first: some minutes
    python benchmarks/end_to_end.py --videos FOLDER          # films of your own

`pipelines/demo.yaml` as it stands: decode, shots, trim, speech, captions of picture and sound, fused captions, scores,
selection, shards. Each turn runs

- `inline`: everything in one process, no Dask: the work itself;
- `1 worker`, `2 workers`: as users run it, one part per film;
- `inline, two at once`: two runs of one process each, side by side on half of the films. Cores that share caches,
  memory and (often unseen from inside a virtual machine) execution units slow each other down; what this case needs
  beyond `inline` is the machine's share in the cost of a second worker, what `2 workers` needs beyond it is ours;
- the same command again on a finished run, once with 1 and once with 2 workers: what starting costs.

CPU-seconds are of the whole process tree. Not measured: models on a GPU or behind HTTP, sources on a network disk.
The picture `results/where_time_goes.svg` shows the stages' own accounts (ledger records) of the same runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import av
from measuring import Cost, command, in_turns, median, versions, write_table
from spoken_films import film
from where_time_goes import RUNS, Account, draw

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = ROOT / "pipelines" / "demo.yaml"
VIDCAP = (sys.executable, "-W", "ignore", "-m", "vidcap")
ALONE, ONE, TWO, BESIDE = RUNS
AGAIN_ONE, AGAIN_TWO = "1 worker, again", "2 workers, again"


def main() -> None:
    parser = argparse.ArgumentParser(description="hours of video per core-hour, end to end")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--films", type=int, default=8, help="how many films to render")
    parser.add_argument("--seconds", type=float, default=60.0, help="the length of each")
    parser.add_argument("--videos", type=Path, help="a folder of films instead of rendered ones")
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="vidcap-end-to-end-"))
    try:
        films = _films(asked.videos, work, asked.films, asked.seconds)
        bench = Bench(work, films)
        _table(bench, in_turns(bench.cases(), asked.turns), "rendered" if asked.videos is None else "given")
    finally:
        shutil.rmtree(work)


def _films(videos: Path | None, work: Path, count: int, seconds: float) -> list[Path]:
    if videos is None:
        folder = work / "films"
        folder.mkdir()
        return [film(folder / f"film{number}.mp4", number, seconds=seconds) for number in range(count)]
    found = sorted(path.resolve() for path in videos.rglob("*") if path.is_file() and _seconds(path))
    if len(found) < 2:
        raise SystemExit(f"error: fewer than two films under `{videos}`\nhint: name a folder of videos")
    return found


def _seconds(path: Path) -> float:
    """The length a file claims; 0 for one without a picture."""
    try:
        with av.open(str(path), metadata_errors="replace") as box:
            return (box.duration or 0) / 1e6 if box.streams.video else 0.0
    except (av.error.FFmpegError, OSError, ValueError):
        return 0.0


class Bench:
    """The cases over one list of films, with what the ledgers of their runs say."""

    def __init__(self, work: Path, films: Sequence[Path]) -> None:
        self.work = work
        self.films = list(films)
        self.hours = sum(map(_seconds, films)) / 3600
        self.accounts: dict[str, list[Account]] = defaultdict(list)
        self.clips = 0
        self.all = self._manifest("all", films)
        # Every other film: halves that are about as long.
        self.halves = [self._manifest(f"half{half}", films[half::2]) for half in (0, 1)]

    def cases(self) -> dict[str, Callable[[], Cost]]:
        return {
            ALONE: lambda: self._run(ALONE, "--runner", "inline"),
            ONE: lambda: self._run(ONE, "--workers", "1"),
            AGAIN_ONE: lambda: self._again(ONE, "--workers", "1"),
            TWO: lambda: self._run(TWO, "--workers", "2"),
            AGAIN_TWO: lambda: self._again(TWO, "--workers", "2"),
            BESIDE: self._beside,
        }

    def _manifest(self, name: str, films: Sequence[Path]) -> Path:
        path = self.work / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"uri": str(film)}) + "\n" for film in films), "utf-8")
        return path

    def _arguments(self, manifest: Path, output: Path, *more: str) -> list[str]:
        fixed = ("--quiet", "--set", "input.sources_per_part=1")
        return [*VIDCAP, "run", str(PIPELINE), "--input", str(manifest), "--output", str(output), *fixed, *more]

    def _output(self, case: str) -> Path:
        return self.work / case.replace(" ", "-").replace(",", "")

    def _run(self, case: str, *more: str) -> Cost:
        output = self._output(case)
        shutil.rmtree(output, ignore_errors=True)
        cost = command(self._arguments(self.all, output, *more), cwd=ROOT)
        self._book(case, cost, [output])
        return cost

    def _again(self, case: str, *more: str) -> Cost:
        """Over a run that is finished (it is made where the turn has come to this case first)."""
        if not self._output(case).exists():
            command(self._arguments(self.all, self._output(case), *more), cwd=ROOT)
        return command(self._arguments(self.all, self._output(case), *more), cwd=ROOT)

    def _beside(self) -> Cost:
        outputs = [self._output(f"{BESIDE} {half}") for half in (0, 1)]
        for output in outputs:
            shutil.rmtree(output, ignore_errors=True)
        both = [
            self._arguments(manifest, output, "--runner", "inline")
            for manifest, output in zip(self.halves, outputs, strict=True)
        ]
        # A process that waits for both, so that their time is booked to it.
        waits = "import json, subprocess, sys\nchildren = [subprocess.Popen(a) for a in json.loads(sys.argv[1])]\n"
        waits += "sys.exit(max(abs(child.wait()) for child in children))"
        cost = command([sys.executable, "-c", waits, json.dumps(both)], cwd=ROOT)
        self._book(BESIDE, cost, outputs)
        return cost

    def _book(self, case: str, cost: Cost, outputs: Sequence[Path]) -> None:
        account = Account.of_runs(outputs)
        account.total_cpu = cost.cpu
        if self.clips and account.clips != self.clips:
            raise SystemExit(f"error: {case} found {account.clips} clips, an earlier run {self.clips}")
        self.clips = account.clips
        self.accounts[case].append(account)


def _table(bench: Bench, costs: dict[str, list[Cost]], films: str) -> None:
    found = {name: median(each) for name, each in costs.items()}
    clips, alone, one = bench.clips, found[ALONE], found[ONE]
    rows = [
        [
            name,
            round(cost.cpu, 1),
            round(cost.wall, 1),
            round(cost.peak_mb),
            round(cost.cpu / clips, 3),
            round(bench.hours * 3600 / cost.cpu, 2),
            round(_of_turns(costs, name, ONE, "cpu"), 2),
            round(_of_turns(costs, name, ONE, "wall"), 2),
        ]
        for name, cost in found.items()
    ]
    accounts = {name: Account.median(each) for name, each in bench.accounts.items()}
    for name, again in ((ONE, AGAIN_ONE), (TWO, AGAIN_TWO)):
        accounts[name].starting = found[again].cpu
    drawn = draw(accounts, clips)
    stages = sum(accounts[ONE].cpu.values())
    write_table(
        "end_to_end",
        [
            "run",
            "CPU-s",
            "wall s",
            "peak MB",
            "CPU-s per clip",
            "h of video per core-h",
            "CPU / 1 worker",
            "wall / 1 worker",
        ],
        rows,
        about=[
            f"{len(bench.films)} {films} films, {bench.hours * 60:.1f} minutes, {clips} clips found; a film per part.",
            f"A second worker: {_of_turns(costs, TWO, ONE, 'cpu'):.2f} times the CPU-seconds per clip of one, "
            f"{_of_turns(costs, TWO, ONE, 'wall'):.2f} of the wall time. Two single processes side by side need "
            f"{_of_turns(costs, BESIDE, ALONE, 'cpu'):.2f} times those of one: that is the machine.",
            f"Dask and a worker of its own cost {one.cpu - alone.cpu:.1f} CPU-s a run; "
            f"the stages themselves are {100 * stages / one.cpu:.0f} % of a run with 1 worker.",
            "`again`: the same command over a finished run. Driver, scheduler and workers start; there is no work.",
            f"Where it goes: results/{drawn.name}.",
        ],
        libraries=versions("av", "numpy", "distributed", "pocketsphinx", "onnxruntime", "opencv-python-headless"),
    )


def _of_turns(costs: dict[str, list[Cost]], name: str, other: str, figure: str) -> float:
    """The median over the turns of one case's figure in parts of another's."""
    pairs = zip(costs[name], costs[other], strict=True)
    return statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs)


if __name__ == "__main__":
    main()
