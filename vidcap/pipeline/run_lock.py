"""The lock that keeps a second run away from an output folder, and tells a run that has lost it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

from vidcap.errors import RunLockedError
from vidcap.store import writing

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


def lock_file(output: Path) -> Path:
    return output / "_vidcap" / "lock.json"


def is_held_by(output: Path, run: str) -> bool:
    """Whether the run of this id holds the output folder. A lock that cannot be read just now counts as held."""
    try:
        return f'"{run}"' in lock_file(output).read_text()
    except FileNotFoundError:
        return False
    except OSError:
        return True


class RunLock:
    """A lease on the output folder, renewed while the run lives; a dead or silent holder loses it."""

    LEASE_SECONDS = 120.0
    RENEW_SECONDS = 20.0
    WATCH_SECONDS = 45.0
    """How long a lock of another machine that looks old is watched before it is taken: clocks differ, and step."""
    TRIES = 5

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = lock_file(output)
        self.run = uuid.uuid4().hex[:12]
        """Goes with every task: a worker that outlives its run sees that the folder is no longer its own."""
        self._text = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> RunLock:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            pid = os.getpid()
            holder = {"host": socket.gethostname(), "pid": pid, "started": _process_start(pid), "run": self.run}
            self._text = json.dumps(holder)
            for _ in range(self.TRIES):
                if self._create():
                    self._thread = threading.Thread(target=self._renew, daemon=True, name="vidcap-lock")
                    self._thread.start()
                    return self
                self._take_over()
        raise RunLockedError(f"another run took `{self.path}` just now", hint="wait for it to end")

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        if is_held_by(self.output, self.run):
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises `RunLockedError` where the folder has gone to another run meanwhile."""
        if is_held_by(self.output, self.run) or (not self.path.exists() and self._create()):
            return
        raise RunLockedError(
            f"another run has taken `{self.output}` (`{self.path}`) from this one, which stops",
            hint="leave the output to the other run; what is done is kept",
        )

    def _create(self) -> bool:
        """Whole or not at all: a lock file that was created and then written could be found empty."""
        mine = self.path.with_name(f".lock.json.{os.getpid()}.tmp")
        try:
            mine.write_text(self._text)
            os.link(mine, self.path)
            return True
        except (FileExistsError, FileNotFoundError):  # the holder sweeps what the dead have left, and takes ours along
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._create_in_place()
        finally:
            mine.unlink(missing_ok=True)

    def _create_in_place(self) -> bool:
        """For file systems without links."""
        try:
            with self.path.open("x") as handle:
                handle.write(self._text)
            return True
        except FileExistsError:
            return False

    def _renew(self) -> None:
        while not self._stop.wait(self.RENEW_SECONDS):
            with contextlib.suppress(OSError):  # a store that is down for a while: the next round may reach it
                if is_held_by(self.output, self.run):
                    os.utime(self.path)

    def _take_over(self) -> None:
        """Remove the lock of a holder that is certainly gone; raise `RunLockedError` naming one that may live."""
        try:
            judged, status = self.path.read_text(), self.path.stat()
        except FileNotFoundError:
            return
        holder = _parsed(judged)
        here, pid = holder.get("host") == socket.gethostname(), holder.get("pid")
        dead = here and isinstance(pid, int) and _process_start(pid) != holder.get("started")
        if not dead and (here or not self._is_silent(status)):
            raise RunLockedError(
                f"process {pid} on `{holder.get('host')}` is running on this output (`{self.path}`)",
                hint="wait for it, stop it, or choose another --output",
            )
        # Of several that saw it die one may hold the lock already: what is taken away must be what was judged.
        aside = self.path.with_name(f".lock.json.old.{os.getpid()}.tmp")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            if aside.read_text() != judged:
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)

    def _is_silent(self, status: os.stat_result) -> bool:
        """Whether its lease is over, by the clock, and nobody renews it while we look."""
        if abs(time.time() - status.st_mtime) <= self.LEASE_SECONDS:
            return False
        end = time.monotonic() + self.WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1.0, self.WATCH_SECONDS / 10))
            try:
                if self.path.stat().st_mtime_ns != status.st_mtime_ns:
                    return False
            except FileNotFoundError:
                return True
        return True


def _parsed(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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
