"""The `vidcap` command for tests that may kill it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command


@pytest.fixture
def vidcap(repository: Path) -> Iterator[Command]:
    command = Command(repository)
    yield command
    for process in command.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)
