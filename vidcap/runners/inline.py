"""Runs every step in the driver's own process: for debugging and tests."""

from __future__ import annotations

from collections import deque

from vidcap.pipeline.part import Task, run_step
from vidcap.runners.base import Result, Work


class InlineRunner:
    promises = "one step at a time, no restart of a crashed worker, no watchdog on hanging items"

    def __init__(self, *, work: Work = run_step) -> None:
        self._work = work
        self._queue: deque[Task] = deque()

    def window(self, pool: str) -> int:
        del pool  # this process offers every pool
        return 1

    def submit(self, task: Task, pool: str) -> None:
        del pool
        self._queue.append(task)

    def wait(self, seconds: float) -> list[Result]:
        del seconds
        if not self._queue:
            return []
        task = self._queue.popleft()
        try:
            return [(task, self._work(task))]
        except Exception as error:  # the driver decides what becomes of it
            return [(task, error)]

    def close(self) -> None:
        self._queue.clear()
