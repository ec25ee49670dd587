"""Runs the real command on a small corpus, in processes of its own that tests may kill."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from command import Command


@pytest.fixture
def vidcap(repository: Path) -> Iterator[Command]:
    command = Command(repository)
    yield command
    for process in command.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


@pytest.fixture(scope="session")
def corpus(demo_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smaller half of the demo corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    files = sorted((p for p in demo_media.rglob("*") if p.is_file()), key=lambda p: (p.stat().st_size, p.name))
    for path in files[: max(6, len(files) // 2)]:
        target = folder / path.relative_to(demo_media)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


@pytest.fixture(scope="session")
def reference(corpus: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run in the driver's own process."""
    output = tmp_path_factory.mktemp("reference") / "run"
    Command(repository).run(output, corpus, "--runner", "inline")
    return output
