"""Fixtures of the whole suite, and the guard that fails a test which logged an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A test that logged an ERROR fails, unless it clears `caplog` because it expected one."""
    yield
    logged = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert not logged, f"errors were logged: {logged}"


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def demo_media() -> Path:
    """The rendered demo corpus."""
    return ROOT / "pipelines" / "demo" / "media"


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """A corpus of real videos beside the project; skips where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "manifest.jsonl").is_file():
        pytest.skip("no corpus of real videos beside the project")
    return folder
