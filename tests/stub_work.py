"""What workers do in tests of the way there and back: a module that worker processes can import."""

from __future__ import annotations

import os

from vidcap.pipeline.part import Outcome, Task


def nothing(task: Task) -> Outcome:
    return Outcome(task.part.number, task.stages, {"found": 2}, dict.fromkeys(task.stages, 0.5))


def raises_on_odd(task: Task) -> Outcome:
    if task.part.number % 2:
        raise ValueError(f"part {task.part.number}")
    return nothing(task)


def dies_once(task: Task) -> Outcome:
    """The first attempt at part 1 takes its worker along."""
    if task.part.number == 1 and task.attempt == 1:
        os._exit(11)
    return nothing(task)
