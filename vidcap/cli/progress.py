"""What a run says while it works (on stderr), and the views of plan and report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vidcap.pipeline.config import PipelineConfig
from vidcap.pipeline.manifest import Manifest
from vidcap.pipeline.plan import Part
from vidcap.reasons import REASONS
from vidcap.runners.drive import Summary
from vidcap.store import read_lines

POLL_SECONDS = 1.0
PHASES = {"parts": "sources worked on", "select": "selecting", "pack": "sources packed"}


class Talk:
    """Progress over the sources of the run, with clips a second and the time left."""

    def __init__(self, output: Path, parts: Sequence[Part], *, quiet: bool) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.output = output
        self.parts = {part.number: part for part in parts}
        self.quiet = quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._progress.add_task("sources", total=None, rate="")
        self._started = time.monotonic()
        self._clips = 0
        self._done = 0
        self._active: set[int] = set()
        self._polled = 0.0

    def say(self, text: str) -> None:
        if not self.quiet:
            self._progress.console.print(Text(text), soft_wrap=True)

    def start(self, config: PipelineConfig, manifest: Manifest, *, known: int) -> None:
        self.say(f"{config.name}: {len(manifest.sources)} sources in {len(self.parts)} parts → {self.output}")
        if known:
            self.say(f"continuing a run of {known} parts")
        for line in manifest.skipped[:5]:
            self.say(f"skipped {line}")
        if len(manifest.skipped) > 5:
            self.say(f"skipped {len(manifest.skipped) - 5} more (see `vidcap report {self.output} --json`)")

    def __enter__(self) -> Talk:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def listen(self, event: str, facts: dict[str, Any]) -> None:
        if event == "phase":
            self._phase = facts["phase"]
            self._done, self._clips = 0, 0
            self._progress.reset(self._task, description=PHASES[facts["phase"]], total=None, rate="")
        elif event == "todo":
            numbers = facts["numbers"]
            self._active = set()
            self._progress.update(self._task, total=sum(len(self.parts[n].sources) for n in numbers))
        elif event == "begin":
            self._active.add(facts["part"])
        elif event == "part":
            self._active.discard(facts["part"])
            self._done += len(self.parts[facts["part"]].sources)
            self._clips += facts["clips"].get("found", 0)
        elif event in ("retry", "failed"):
            again = "trying again" if event == "retry" else "given up; `--retry-failed` takes it up"
            self.say(f"part {facts['part']}: {facts['error']} ({again})")
        elif event == "stopping":
            self.say("stopping after the sources in hand; once more to stop at once")
        self._show()

    def _show(self) -> None:
        if self.quiet or not self.console.is_terminal or time.monotonic() - self._polled < POLL_SECONDS:
            return
        self._polled = time.monotonic()
        begun = sum(len(read_lines(self.output / f"_vidcap/parts/{n:06d}/journal.jsonl")) for n in self._active)
        seconds = max(1e-3, time.monotonic() - self._started)
        self._progress.update(self._task, completed=self._done + begun, rate=f"{self._clips / seconds:.1f} clips/s")

    def finish(self, report: dict[str, Any], summary: Summary) -> None:
        if self.quiet:
            return
        seconds = time.monotonic() - self._started
        self.console.print(report_view(report), soft_wrap=True)
        found = report["clips"]["found"]
        most = sorted(summary.seconds.items(), key=lambda pair: -pair[1])[:3]
        busiest = ", ".join(f"{name} {spent:.0f} s" for name, spent in most)
        self.console.print(
            Text(f"{seconds:.1f} s, {found / max(seconds, 1e-3):.1f} clips/s; most in {busiest or 'nothing'}")
        )
        self.console.print(Text(f"look:   vidcap inspect {self.output}"), soft_wrap=True)
        self.console.print(Text(f"check:  vidcap validate {self.output} --media"), soft_wrap=True)
        self.console.print(Text(f"report: vidcap report {self.output}"), soft_wrap=True)


def report_view(report: dict[str, Any]) -> Group:
    """The funnel and the reasons as tables."""
    funnel = Table(box=None, pad_edge=False)
    for column in ("", "in", "kept", "rejected", "quarantined", "failed", "pending"):
        funnel.add_column(column, justify="right" if column else "left")
    s, c = report["sources"], report["clips"]
    funnel.add_row("sources", *(str(s[k]) for k in ("in", "done", "rejected", "quarantined", "failed", "pending")))
    funnel.add_row(
        "clips", *(str(v) for v in (c["found"], c["kept"], c["rejected"], c["quarantined"], "", c["pending"]))
    )
    parts: list[Any] = [funnel]
    if report["reasons"]:
        reasons = Table("reason", "count", "meaning", box=None, pad_edge=False)
        for code, count in report["reasons"].items():
            reasons.add_row(Text(code), str(count), Text(REASONS[code].meaning if code in REASONS else ""))
        parts += [Text(""), reasons]
    for number, error in report["failed_parts"].items():
        parts.append(Text(f"part {number} failed: {error}"))
    ran = ", ".join(f"{stage} {count}" for stage, count in report["stages_run"].items() if count)
    parts += [Text(""), Text(f"parts executed by the latest run: {ran or 'none, nothing had changed'}")]
    return Group(*parts)


def show_plan(facts: dict[str, Any]) -> None:
    """`vidcap plan` for people, on stdout."""
    console = Console(highlight=False)
    console.print(
        Text(f"{facts['name']}: {facts['sources']} sources, {facts['bytes'] / 1e6:.1f} MB → {facts['output']}")
    )
    console.print(
        Text(f"{len(facts['parts'])} parts; evidence about {facts['evidence_bytes'] / 1e6:.0f} MB until packed")
    )
    table = Table("step", "pool", "stages", box=None, pad_edge=False)
    for number, step in enumerate(facts["steps"]):
        table.add_row(str(number), Text(step["pool"]), Text(", ".join(step["stages"])))
    console.print(table)
    backends = Table("stage", "backend", box=None, pad_edge=False)
    for stage, identity in facts["backends"].items():
        backends.add_row(Text(stage), Text(identity))
    console.print(backends)
    for line in facts["skipped"]:
        console.print(Text(f"skipped {line}"), soft_wrap=True)
