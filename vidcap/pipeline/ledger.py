"""The ledger: one small JSON record per part and stage, and the lock that keeps a second run away.

A record says that a stage's outputs for a part are complete and what they were made from (`fingerprint`). Running the
same command again continues: a stage whose record carries the fingerprint that the plan computes is not run.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vidcap.errors import RunLockedError
from vidcap.store import PosixStore

SCHEMA = "vidcap-ledger/1"


@dataclass(frozen=True, slots=True)
class Record:
    part: int
    stage: str
    version: int
    fingerprint: str
    upstream: dict[str, str]
    outputs: dict[str, str]
    """Path relative to the output folder → digest of the file."""
    sources: dict[str, int] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)
    attempt: int = 1
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the worker's process, all its threads; 0 in records of runs that did not measure it."""
    schema: str = SCHEMA


class Ledger:
    """The records of one run folder."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.store = PosixStore(output / "_vidcap" / "ledger")

    def get(self, part: int, stage: str) -> Record | None:
        """The record, or None where there is none, it is unreadable, or one of its outputs is gone."""
        found = self.store.read_json(_name(part, stage))
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            return None
        record = Record(**found)
        return record if all((self.output / name).is_file() for name in record.outputs) else None

    def commit(self, record: Record) -> None:
        self.store.write_json(_name(record.part, record.stage), asdict(record))

    def forget(self, part: int, stage: str) -> None:
        """Before outputs are replaced: a crash in between must not leave a record that speaks of other bytes."""
        self.store.delete(_name(part, stage))


def _name(part: int, stage: str) -> str:
    return f"{part:06d}.{stage}.json"


class RunLock:
    """A lease on the output folder, renewed while the run lives; a dead or silent holder loses it."""

    LEASE_SECONDS = 120.0
    RENEW_SECONDS = 20.0

    def __init__(self, output: Path) -> None:
        self.path = output / "_vidcap" / "lock.json"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> RunLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                self._take_over()
                continue
            with os.fdopen(descriptor, "w") as handle:
                json.dump(self._holder(), handle)
            self._thread = threading.Thread(target=self._renew, daemon=True, name="vidcap-lock")
            self._thread.start()
            return self
        raise RunLockedError(f"another run took `{self.path}` just now", hint="wait for it to end")

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        self.path.unlink(missing_ok=True)

    def _holder(self) -> dict[str, object]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_start(os.getpid())}

    def _renew(self) -> None:
        while not self._stop.wait(self.RENEW_SECONDS):
            if self.path.exists():
                os.utime(self.path)

    def _take_over(self) -> None:
        """Remove the lock of a holder that is certainly gone; raise `RunLockedError` naming one that may live."""
        try:
            age = time.time() - self.path.stat().st_mtime
            holder = json.loads(self.path.read_text() or "{}")
        except FileNotFoundError:
            return
        except ValueError:
            holder = {}
        host, pid = holder.get("host"), holder.get("pid")
        here = host == socket.gethostname()
        dead = here and isinstance(pid, int) and _process_start(pid) != holder.get("started")
        silent = age > self.LEASE_SECONDS and not here
        torn = not holder and age > self.LEASE_SECONDS
        if dead or silent or torn:
            self.path.unlink(missing_ok=True)
            return
        raise RunLockedError(
            f"process {pid} on `{host}` is running on this output (`{self.path}`)",
            hint="wait for it, stop it, or choose another --output",
        )


def _process_start(pid: int) -> str | None:
    """The start time of a living process, so that a reused process id is not mistaken for the holder."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return "unknown"
    return "unknown"
