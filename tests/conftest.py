"""Fixtures of the whole suite, and the guard that fails a test which logged an error."""

from __future__ import annotations

import logging
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
from command import Command, only_one

ROOT = Path(__file__).resolve().parent.parent
# The same examples in every run, on every machine, however slow it is just now.
settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")
CORPUS = (
    "broken.mp4",
    "evening.webm",
    "night/lantern.mp4",
    "notes.txt",
    "radio.m4a",
    "silent_film.mp4",
    "spare/silent_film.mp4",
    "wall.mkv",
)


def pytest_runtest_setup() -> None:
    """Before any fixture: what draws without a seed of its own draws the same, whichever tests ran here before."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


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


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all test processes of this session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def corpus(demo_media: Path, shared_folder: Path) -> Path:
    """A part of the demo corpus: every kind of clip, little to decode."""
    with only_one(shared_folder, "corpus") as target:
        if not target.exists():
            for name in CORPUS:
                path, copy = demo_media / name, target / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    return target


@pytest.fixture(scope="session")
def made_once(corpus: Path, shared_folder: Path) -> Path:
    """An undisturbed inline run over the corpus. Look at it, do not touch it."""
    with only_one(shared_folder, "reference") as output:
        if not (output / "shards" / "sizes.json").is_file():
            Command(ROOT).run(output, corpus, "--runner", "inline")
    return output


@pytest.fixture
def reference(made_once: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed run, for a test to go on from."""
    return Path(shutil.copytree(made_once, tmp_path / "reference"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium that resolves no name, so that nothing but this machine can be reached."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium here (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--window-size=1400,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield window
    window.quit()
