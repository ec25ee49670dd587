"""What a runner is: it takes tasks, works on them somewhere, and gives back outcomes or the error that ended them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vidcap.errors import VidcapError
from vidcap.pipeline.part import Outcome, Task


class WorkerLostError(VidcapError):
    """The process that worked on a task is gone: killed, crashed, out of memory, or ended by the watchdog."""


Result = tuple[Task, Outcome | BaseException]
Work = Callable[[Task], Outcome]
"""What is done with a task: `run_step`, unless somebody measures what is around it."""


class Runner(Protocol):
    promises: str
    """What it drops of the promises, in a sentence; "" for none."""

    def window(self, pool: str) -> int:
        """How many tasks of a pool may be handed over at a time. Raises `UsageError` for a pool nobody offers."""
        ...

    def submit(self, task: Task, pool: str) -> None: ...

    def wait(self, seconds: float) -> list[Result]:
        """What ended since the last call; waits at most so long for the first."""
        ...

    def close(self) -> None: ...
