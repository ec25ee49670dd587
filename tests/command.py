"""The `vidcap` command as a user calls it, in a process that a test may kill; and what its shards hold."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

TIMEOUT = 500
"""Seconds after which a command counts as hanging, below the limit of a test."""


@dataclass
class Command:
    """`vidcap` as a user calls it."""

    repository: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "vidcap", *map(str, arguments)],
            cwd=self.repository,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupt,
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        self.last_error = err
        return out

    def run(self, output: Path, corpus: Path, *more: str, code: int = 0) -> dict[str, Any]:
        """Run the demo pipeline over the corpus, two sources a part; returns the report."""
        self("run", "pipelines/demo.yaml", "--input", corpus, "--output", output, *PARTS, *more, code=code)
        return self.report(output)

    def report(self, output: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("report", output, "--json"))
        sources, clips = found["sources"], found["clips"]
        assert sources["in"] == sum(sources.values()) - sources["in"]
        assert clips["found"] == sum(clips.values()) - clips["found"]
        return found


@contextlib.contextmanager
def only_one(folder: Path, name: str) -> Iterator[Path]:
    """`folder/name`, for one test process at a time: what the first of them makes there the others find."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / name


PARTS = ("--set", "input.sources_per_part=2")


def digests(output: Path) -> dict[str, str]:
    """Every file of the shards folder and its sha256."""
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((output / "shards").iterdir())}
    assert any(name.endswith(".tar") for name in found)
    return found


def heed_interrupt() -> None:
    """Runs in a new process: where the tests run behind a shell's `&`, they and their children would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What `condition` gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def all_gone(processes: Iterable[psutil.Process]) -> bool:
    """Whether each has ended, be it that nobody has asked for its exit code yet."""

    def alive(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:  # it went between the two questions
            return False

    return not any(map(alive, processes))


_PORTS = itertools.count(os.getpid() * 997)


def free_port() -> int:
    """A port that nobody listens on, and that nobody is given by chance before the test uses it: the system gives out
    higher ones."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first = 32_768
    while True:
        port = first // 2 + next(_PORTS) % (first // 2)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
