"""How every benchmark measures: cases in turns in one run, medians, CPU-seconds, wall and peak memory, one table each.

A benchmark is a script with one question. It hands its cases to `in_turns`, and what comes out to `write_table`, which
prints the table and keeps it as results/NAME.json; `python benchmarks/tables.py` sets those into README.md.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
_SAMPLE_SECONDS = 0.25  # adding up smaps costs a millisecond per process


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds (user and system, of all threads or of a whole process tree), peak memory in MB.

    `peak_mb` of a command: the largest sum of the unique set sizes (USS) of the tree's processes, seen four times a
    second.
    """

    wall: float
    cpu: float
    peak_mb: float = 0.0
    said: str = ""


def command(arguments: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Cost:
    """Run a command to its end. Raises RuntimeError with what it said when it fails.

    CPU time is what the kernel booked for it and for all descendants that were waited for.
    """
    began = time.perf_counter()
    child = subprocess.Popen(
        list(arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    said, peak = bytearray(), 0.0
    while True:
        said += child.stdout.read() or b""
        # The zombie stays until `wait4` reads its account, so the tree can be looked at until then.
        done, status, usage = os.wait4(child.pid, os.WNOHANG)
        if done:
            break
        peak = max(peak, _tree_mb(child.pid))
        time.sleep(_SAMPLE_SECONDS)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    said += child.stdout.read() or b""
    child.stdout.close()
    text = said.decode("utf-8", "replace")
    if child.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}:\n{text[-4000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak, text)


def _tree_mb(pid: int) -> float:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                total += process.memory_full_info().uss
            except psutil.Error:
                continue  # gone meanwhile
    except psutil.Error:
        pass
    return total / 1e6


def here(work: Callable[[], Any]) -> Cost:
    """Call it in this process; CPU time is that of all threads of this process."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - began, time.process_time() - used)


def in_turns(
    cases: Mapping[str, Callable[[], Cost]], times: int = 3, say: Callable[[str], None] | None = None
) -> dict[str, list[Cost]]:
    """Every case `times` times, in turns, so that what else the machine does falls on all alike."""
    tell = say or (lambda text: print(text, file=sys.stderr, flush=True))
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for turn in range(times):
        for name in list(cases) if turn % 2 == 0 else list(cases)[::-1]:
            cost = cases[name]()
            costs[name].append(cost)
            tell(f"turn {turn + 1}/{times}  {name}: {cost.wall:.2f} s, {cost.cpu:.2f} CPU-s, {cost.peak_mb:.0f} MB")
    return costs


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure on its own."""
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in ("wall", "cpu", "peak_mb")))


def machine() -> dict[str, str]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def versions(*distributions: str) -> dict[str, str]:
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def write_table(
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | float]],
    *,
    about: Sequence[str] = (),
    libraries: Mapping[str, str] | None = None,
) -> None:
    """Print the table and keep it under results/. `about`: sentences below it (counts, presets, what was left out).

    Give numbers already rounded to what they are worth.
    """
    kept = {
        "name": name,
        "command": " ".join(["python", _script(), *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "libraries": dict(libraries or {}),
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "about": list(about),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(markdown(kept))


def _script() -> str:
    path = Path(sys.argv[0]).resolve()
    root = Path(__file__).parent.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def markdown(kept: Mapping[str, Any]) -> str:
    """One kept table with its command, date and remarks."""
    lines = ["| " + " | ".join(kept["columns"]) + " |", "|" + "---|" * len(kept["columns"])]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in kept["rows"]]
    lines += [
        "",
        f"`{kept['command']}`, {kept['date']}, {kept['machine']['processor']}, {kept['machine']['cores']} cores.",
    ]
    if kept["libraries"]:
        lines[-1] += " " + ", ".join(f"{name} {version}" for name, version in kept["libraries"].items()) + "."
    lines += [f"- {sentence}" for sentence in kept["about"]]
    return "\n".join(lines)


def _cell(value: str | float) -> str:
    return str(value) if isinstance(value, str) else f"{value:,}"
