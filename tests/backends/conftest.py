"""Makes the modules of this folder importable by its tests (`--import-mode=importlib` adds no folder to the path)."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vidcap.backends import registry

sys.path.insert(0, str(Path(__file__).resolve().parent))
import whisper_checkpoints as tiny
from model_server import FAST, Answer, ModelServer


@pytest.fixture
def serve() -> Iterator[Callable[..., ModelServer]]:
    started: list[ModelServer] = []

    def start(answer: Answer | None = None, port: int = 0) -> ModelServer:
        started.append(ModelServer(answer, port))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def backend_of() -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(*servers: ModelServer | str, **options: Any) -> Any:
        urls = [server if isinstance(server, str) else server.url for server in servers]
        made.append(registry.create("llm", "openai", {"endpoints": urls, "model": "m", **FAST, **options}))
        made[-1].load("cpu")
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture(scope="module")
def kite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says the same of every window, at times that depend on the sound."""
    pytest.importorskip("whisper")
    return tiny.save(tiny.saying(), tmp_path_factory.mktemp("weights") / "kite.pt")


@pytest.fixture(scope="module")
def babble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is said depends on the sound and makes no sense; the model is not sure of it."""
    pytest.importorskip("whisper")
    return tiny.save(tiny.babbling(), tmp_path_factory.mktemp("weights") / "babble.pt")
