"""Runs the command under faults until it ends, and says whether anything was lost on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from command import Command, digests

SITE = Path(__file__).resolve().parent / "site"
SETTINGS = {
    "input.sources_per_part": "2",
    "stages.trim.options.min_seconds": "0.5",
    "stages.trim.options.motion.low": "0",
    "stages.select.options.min": "-1",
}
INLINE = ("--runner", "inline")
CLUSTER = ("--workers", "2")
ONE_WORKER = ("--workers", "1")
ATTEMPTS = 4
"""Allowed beside one per strike of a fault."""
SECONDS = 240
"""After so long an attempt counts as hanging."""
STOPPED = (-signal.SIGKILL, 130, 75)


@dataclass(frozen=True)
class Fault:
    """One entry of a schedule; `site/sitecustomize.py` says what the fields mean."""

    at: Literal["replace", "fsync", "open", "write", "unlink", "call", "clock"]
    does: str
    match: str = ""
    nth: int = 1
    times: int = 1
    who: Literal["any", "driver", "worker"] = "any"
    value: Any = None
    target: str = ""


def in_stage(stage: str, does: str, **more: Any) -> Fault:
    """A fault that strikes as the stage begins its work on a source (`pack`: on a part)."""
    from vidcap.stages.registry import stage_class

    cls = stage_class(stage)
    return Fault("call", does, target=f"{cls.__module__}:{cls.__qualname__}.run", **more)


class ViolationError(AssertionError):
    """Something was lost, differs, hangs, or was said in no words a user can use."""


@dataclass
class Attempt:
    code: int
    error: str


@dataclass
class Survival:
    attempts: list[Attempt]
    report: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        return "\n".join(attempt.error for attempt in self.attempts)

    @property
    def codes(self) -> list[int]:
        return [attempt.code for attempt in self.attempts]


class Chaos:
    """The command over one corpus and one output folder, with a schedule of faults around it."""

    def __init__(
        self, repository: Path, folder: Path, corpus: Path, *, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / "run"
        self.corpus = corpus
        self.command = Command(repository)
        self.settings = {**SETTINGS, **(settings or {})}
        self.environment: dict[str, str] = {}
        self.strikes = 0
        """How often the scheduled faults may strike, each of which may end an attempt."""

    def arguments(self, runner: Sequence[str]) -> list[str]:
        pairs = [word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")]
        where = ["--input", str(self.corpus), "--output", str(self.output)]
        return ["run", "pipelines/demo.yaml", *where, *pairs, *runner]

    def schedule(self, faults: Sequence[Fault]) -> None:
        """From now on runs suffer these faults, each as often as it says over all processes and attempts."""
        self.strikes = sum(fault.times for fault in faults)
        counters = self.folder / "occurrences"
        counters.mkdir(exist_ok=True)
        rows = [{"name": f"fault{number}", **asdict(fault)} for number, fault in enumerate(faults)]
        path = self.folder / "schedule.json"
        path.write_text(json.dumps({"folder": str(counters), "faults": rows}))
        self.environment |= {"CHAOS_SCHEDULE": str(path), "PYTHONPATH": _with(SITE)}

    def fired(self) -> list[int]:
        """How often each fault's occasion came."""
        rows = json.loads((self.folder / "schedule.json").read_text())["faults"]
        counters = [self.folder / "occurrences" / f"{row['name']}.count" for row in rows]
        return [path.stat().st_size if path.exists() else 0 for path in counters]

    def start(self, runner: Sequence[str] = INLINE, *, prefix: Sequence[str] = (), more: Sequence[str] = ()) -> Any:
        """Begin an attempt; its words go to a file, so that nothing waits for processes that outlive it."""
        number = len(list(self.folder.glob("error-*.txt")))
        with (self.folder / f"error-{number}.txt").open("wb") as error:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "vidcap", *self.arguments(runner), *more],
                cwd=self.command.repository,
                env={**os.environ, **self.environment},
                stdout=subprocess.DEVNULL,
                stderr=error,
                start_new_session=True,
            )
        self.command.started.append(process)
        process.said = self.folder / f"error-{number}.txt"  # type: ignore[attr-defined]
        return process

    def ended(self, process: Any, seconds: float = SECONDS) -> Attempt:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ViolationError(f"the run hangs; it said:\n{process.said.read_text()}") from error
        return Attempt(process.returncode, process.said.read_text())

    def attempt(
        self, runner: Sequence[str] = INLINE, *, prefix: Sequence[str] = (), more: Sequence[str] = ()
    ) -> Attempt:
        """One run of the command. Whatever ended it, a user can read what happened."""
        found = self.ended(self.start(runner, prefix=prefix, more=more))
        if "Traceback" in found.error:
            raise ViolationError(f"a traceback instead of a sentence:\n{found.error}")
        if found.code == 1 or (found.code < 0 and found.code not in STOPPED):
            raise ViolationError(f"exit {found.code}:\n{found.error}")
        if found.code == 2 and ("error: " not in found.error or "hint: " not in found.error):
            raise ViolationError(f"exit 2 without a sentence and a mend:\n{found.error}")
        return found

    def survive(self, runner: Sequence[str] = INLINE, *, before: Sequence[Attempt] = ()) -> Survival:
        """The same command again and again until it ends well, then what is there."""
        attempts = list(before)
        while not attempts or attempts[-1].code != 0:
            if len(attempts) == ATTEMPTS + self.strikes + len(before):
                said = "\n---\n".join(f"exit {a.code}\n{a.error}" for a in attempts)
                raise ViolationError(f"it does not end:\n{said}")
            gave_up = bool(attempts) and attempts[-1].code == 3
            attempts.append(self.attempt(runner, more=("--retry-failed",) if gave_up else ()))
        return self.look(attempts)

    def look(self, attempts: list[Attempt]) -> Survival:
        """The report (which checks that everything adds up) and the digests of the shards."""
        found = Survival(attempts, self.command.report(self.output), digests(self.output))
        if found.report["sources"]["pending"] or found.report["clips"]["pending"] or found.report["parts"]["failed"]:
            raise ViolationError(f"not all is accounted for: {found.report}")
        left = [path for path in self.output.rglob("*") if path.name.endswith(".tmp") or path.name == "lock.json"]
        if left:
            raise ViolationError(f"left behind: {[str(path.relative_to(self.output)) for path in left]}")
        return found

    def close(self) -> None:
        for process in self.command.started:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait(120)


def _with(site: Path) -> str:
    before = os.environ.get("PYTHONPATH", "")
    return f"{site}{os.pathsep}{before}" if before else str(site)


def same(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raises `ViolationError` naming the files that differ."""
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    if names:
        said = [f"{n} ({'missing' if n not in found else 'too many' if n not in expected else 'other'})" for n in names]
        raise ViolationError(f"the shards differ: {', '.join(said)}")
