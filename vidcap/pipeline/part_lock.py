"""One worker at a time in a part's folder: one that outlives its run, or its connection, may still be in there."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vidcap.errors import TransientError
from vidcap.store import writing

PATIENCE_SECONDS = 1800.0
"""How long to wait for the other one: as long as a source may take, by default, until the watchdog ends it."""


@contextlib.contextmanager
def alone_in(
    folder: Path, *, patience: float = PATIENCE_SECONDS, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the part; the lock goes with the process, however it ends. `meanwhile` is called while waiting.

    Raises `TransientError` where the other one does not leave. File systems without locks are done without.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("ab")
    with handle:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                meanwhile()
                if time.monotonic() > end:
                    raise TransientError(
                        f"another worker has been in `{folder}` for {patience:.0f} s",
                        hint="end the workers that an earlier run has left, then run again with --retry-failed",
                    ) from None
                time.sleep(0.2)
            except OSError:
                break
        yield
