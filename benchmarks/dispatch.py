"""What driving costs: parts that do nothing, through the real drive, queue, ledger and Dask, with every stage of a run.

    python benchmarks/dispatch.py [--parts 20000] [--stub-parts 500] [--workers 2] [--turns 3] [--videos FOLDER]

Three kinds of parts over all twelve stages in four steps (cpu, gpu, cpu, packing):

- *empty*: the workers return at once. What is left is the driver, the scheduler and the way there and back. Nothing is
  written, so selection, which reads columns, has nothing to do and is left out.
- *stub*: the real `run_step` with stages that look at nothing (stub_stages.py): every column file, ledger record and
  shard is written and synced, selection runs over all. The same command again shows what a finished run costs.
- *real*, with `--videos`: the folder through pipelines/demo.yaml in parts of the usual size. The driver's CPU-seconds
  of an empty part over the CPU-seconds of one of these.

Each case is a process of its own; its memory is its resident set when a tenth, half and all of the tasks are done.
Not measured: reading a manifest, the start of the workers, a cluster over a network.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import stub_stages
from measuring import Cost, command, versions, write_table

from vidcap.pipeline.config import PipelineConfig, load_config
from vidcap.pipeline.plan import Part, Plan, load_parts, save_parts
from vidcap.pipeline.run_lock import RunLock
from vidcap.records import Source
from vidcap.runners.drive import Drive

PIPELINE = Path(__file__).parent.parent / "pipelines" / "demo.yaml"
POOLS = ("stages.caption_video.pool=gpu", "stages.caption_audio.pool=gpu")
"""As where captioners have a card of their own: cpu, gpu, cpu, and packing."""


class EmptyDrive(Drive):
    """Its parts leave no columns: what is selected is every part."""

    def _select_and_pack(self) -> None:

        assert self.plan.pack_step is not None
        self._through(dict.fromkeys(self.parts, (self.plan.pack_step,)))


def parts_of(count: int) -> list[Part]:
    return [Part(n, (Source(f"{n:016x}", n, f"{n}.mp4", f"/nowhere/{n}.mp4", 10_000_000),)) for n in range(count)]


def config_of(workers: int) -> PipelineConfig:
    pools = (*POOLS, f"runner.pools.gpu={max(1, workers // 2)}", f"runner.workers={max(1, workers - workers // 2)}")
    return load_config(PIPELINE, ("evidence.keep=always", *pools))


class Watch:
    """Memory of this process over the tasks that are done."""

    def __init__(self, tasks: int) -> None:
        self.every, self.done = max(1, tasks // 10), 0
        self.seen: list[float] = []
        self.process = psutil.Process()

    def __call__(self, event: str, facts: dict[str, Any]) -> None:
        del facts
        if event == "part":
            self.done += 1
            if self.done % self.every == 0:
                self.seen.append(self.process.memory_info().rss / 1e6)


def drive(kind: str, runner_name: str, count: int, workers: int, output: Path) -> dict[str, Any]:
    """One run over `count` parts in this process; called again on the same output it finds everything done."""
    config = config_of(workers)
    plan = Plan(config)
    plan.identities()
    work = stub_stages.empty_step if kind == "empty" else stub_stages.stub_step
    if runner_name == "dask":
        from vidcap.runners.cluster import DaskRunner

        runner: Any = DaskRunner(config.runner, work=work)
    else:
        from vidcap.runners.inline import InlineRunner

        runner = InlineRunner(work=work)
    try:
        # From here it is what a run does, but for reading a manifest and starting workers.
        began, used = time.perf_counter(), time.process_time()
        parts = load_parts(output) or parts_of(count)
        save_parts(output, parts)
        watch = Watch((len(plan.steps) + 1) * count)
        with RunLock(output) as lock:
            made = (EmptyDrive if kind == "empty" else Drive)(plan, parts, output, runner, listener=watch, lock=lock)
            summary = made.run()
        wall, cpu = time.perf_counter() - began, time.process_time() - used
    finally:
        runner.close()
    if summary.failed:
        raise RuntimeError(f"parts failed: {dict(list(summary.failed.items())[:3])}")
    return {"tasks": watch.done, "wall": wall, "driver": cpu, "memory": watch.seen, "syncs": stub_stages.syncs()}


def case(kind: str, runner: str, count: int, workers: int, output: Path) -> tuple[Cost, dict[str, Any]]:
    """The run as a process of its own: what the whole tree cost, and what the driver says of itself."""
    script = str(Path(__file__).resolve())
    numbers = [str(workers), "--case", kind, runner, str(count), str(output)]
    cost = command([sys.executable, script, "--workers", *numbers])
    said = next(line for line in cost.said.splitlines() if line.startswith('{"tasks"'))
    return cost, json.loads(said)


def row(name: str, count: int, found: list[tuple[Cost, dict[str, Any]]]) -> list[str | float]:
    def middle(value: Callable[[Cost, dict[str, Any]], float]) -> float:
        return statistics.median(value(cost, said) for cost, said in found)

    memory = found[-1][1]["memory"]
    return [
        name,
        count,
        found[-1][1]["tasks"],
        round(count / middle(lambda cost, said: said["wall"]), 1),
        round(1000 * middle(lambda cost, said: said["driver"]) / count, 2),
        round(1000 * middle(lambda cost, said: cost.cpu - said["driver"]) / count, 2),
        f"{memory[0]:.0f}, {memory[len(memory) // 2]:.0f}, {memory[-1]:.0f}" if memory else "-",
    ]


def real_parts(videos: Path, workers: int, folder: Path) -> tuple[float, int]:
    """CPU-seconds of a whole run over these videos as `vidcap run` cuts them into parts, and the number of parts."""
    output = folder / "real"
    asked = [str(PIPELINE), "--input", str(videos), "--output", str(output), "--workers", str(workers), "--quiet"]
    cost = command([sys.executable, "-m", "vidcap", "run", *asked, "--set", "input.sources_per_part=64"])
    return cost.cpu, len(load_parts(output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=20_000, help="empty parts")
    parser.add_argument("--stub-parts", type=int, default=500, help="parts of stub stages, of each runner")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="of the stub parts; the empty ones are many and run once")
    parser.add_argument("--videos", type=Path, help="a folder of videos: real parts to compare with")
    parser.add_argument("--folder", type=Path, help="where runs are written (default: the temporary folder)")
    parser.add_argument("--case", nargs=4, metavar=("KIND", "RUNNER", "PARTS", "OUTPUT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        kind, runner, count, output = asked.case
        print(json.dumps(drive(kind, runner, int(count), asked.workers, Path(output))))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="dispatch-") as made:
        measure(asked, Path(made))


def measure(asked: argparse.Namespace, folder: Path) -> None:
    found: dict[str, list[tuple[Cost, dict[str, Any]]]] = {}
    about = [
        "CPU ms a part: `driver` is the process with drive, Dask client, scheduler and nannies, `others` are all other "
        "processes with their start; of the inline runner everything is in `driver`. A part has one source.",
        "Empty parts return at once in the workers (nothing is written or selected); stub parts go through the real "
        f"`run_step`, selection and packing, {stub_stages.SHOTS} clips each.",
    ]
    if asked.parts:
        found["empty, Dask"] = [case("empty", "dask", asked.parts, asked.workers, folder / "empty")]
    files = 0
    for turn in range(asked.turns if asked.stub_parts else 0):
        for runner in ("inline", "dask")[:: 1 if turn % 2 == 0 else -1]:
            output = folder / f"{runner}-{turn}"
            for name in (f"stub, {runner}", f"stub, {runner}, run again"):
                found.setdefault(name, []).append(case("stub", runner, asked.stub_parts, asked.workers, output))
                print(f"turn {turn + 1}: {name}", file=sys.stderr, flush=True)
            files = sum(len(names) for _, _, names in os.walk(output))
            shutil.rmtree(output)
    rows = [row(name, asked.parts if "empty" in name else asked.stub_parts, each) for name, each in found.items()]
    if asked.stub_parts:
        stages = len(config_of(asked.workers).stages)
        inline = next(each for each in rows if each[0] == "stub, inline")
        syncs = found["stub, inline"][-1][1]["syncs"] / asked.stub_parts
        first = found["stub, inline"][0][1]["syncs"] / asked.stub_parts
        about.append(
            f"Inline that is {float(inline[4]) / stages:.2f} CPU ms a part and stage, over {stages} stages; "
            f"{max(first, syncs):.0f} syncs of files or folders and {files / asked.stub_parts:.0f} files a part."
        )
    if asked.videos and asked.parts:
        cpu, count = real_parts(asked.videos, asked.workers, folder)
        driver = found["empty, Dask"][0][1]["driver"] / asked.parts
        about.append(
            f"Real parts ({count} of up to 64 sources from {asked.videos.name}/): {cpu / count:.1f} CPU-s each, "
            f"driving {100 * driver / (cpu / count):.3f} % of it."
        )
    columns = ["parts", "number", "tasks", "parts/s", "driver, CPU ms", "others, CPU ms", "driver, MB at 10, 50, 100 %"]
    write_table("dispatch", columns, rows, about=about, libraries=versions("distributed", "pyarrow"))


if __name__ == "__main__":
    main()
