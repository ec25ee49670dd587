"""The language model is down, busy, slow or talks nonsense: what it says in the end is what the samples hold."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "backends"))
from chaos_harness import INLINE, Chaos, same
from command import free_port
from model_server import ModelServer, Reply, Strike, chat, error, question

pytestmark = pytest.mark.slow
KINDS = "amber copper ivory scarlet silver violet".split()


def good(payload: dict[str, Any], number: int = 0) -> Reply:
    """A caption that depends on the prompt alone."""
    byte = hashlib.sha256(question(payload).encode()).digest()
    words = [KINDS[value % len(KINDS)] for value in byte[:3]]
    return chat(f"Somebody watches {words[0]} lights, hears {words[1]} bells and thinks of {words[2]} rain.")


def asking(chaos: Chaos, url: str, **more: Any) -> None:
    options = {
        "name": "openai",
        "model": "m",
        "endpoints": [url],
        "backoff_seconds": 0.01,
        "max_backoff_seconds": 0.1,
        "outage_seconds": 30,
        "timeout_seconds": 10,
        **more,
    }
    chaos.settings |= {"stages.fuse.backend": json.dumps(options)}


@pytest.fixture(scope="session")
def answered(repository: Path, tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> dict[str, str]:
    """The shards of a run whose server answered well."""
    server = ModelServer(good)
    calm = Chaos(repository, tmp_path_factory.mktemp("answered"), tiny_corpus)
    asking(calm, server.url)
    found = calm.survive()
    server.kill()
    assert found.report["clips"]["kept"] == 8, found.report["reasons"]
    return found.digests


def first_times(times: int, bad: Reply) -> Callable[[dict[str, Any], int], Reply]:
    """The first answers to every question are bad."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def answer(payload: dict[str, Any], number: int) -> Reply:
        with lock:
            seen[question(payload)] += 1
            return bad if seen[question(payload)] <= times else good(payload)

    return answer


BAD = {
    "answers 429": error(429, "slow down", **{"Retry-After": "0.05"}),
    "answers 500": error(500, "cuda"),
    "answers 503": error(503, "loading"),
    "is slow": Reply(seconds=1.5, body=chat("too late").body),
    "answers with garbage": Reply(body=b"<html>\xff\x00"),
    "answers with nothing": Reply(body=b""),
    "gives an empty caption": chat(""),
    "breaks off half an answer": Reply(body=chat("half of it").body, broken=True),
    "cuts its answer": chat("Somebody watches", finish_reason="length"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_server_that_comes_to_its_senses(
    name: str, chaos: Chaos, answered: dict[str, str], tell: Callable[..., None]
) -> None:
    server = ModelServer(first_times(1, BAD[name]))
    asking(chaos, server.url, **({"timeout_seconds": 0.7} if name == "is slow" else {}))
    found = chaos.survive(INLINE)
    server.kill()
    same(found.digests, answered)
    tell(f"model server {name} once for each question", "transparent", codes=found.codes)


def test_a_server_that_restarts(chaos: Chaos, answered: dict[str, str], tell: Callable[..., None]) -> None:
    strike = Strike(3)
    server = ModelServer(strike.around(good))
    asking(chaos, server.url)
    with strike.on(server):
        found = chaos.survive(INLINE)
    server.kill()
    same(found.digests, answered)
    tell("model server killed and started again", "transparent", codes=found.codes)


def test_a_server_that_is_down_for_long(chaos: Chaos, answered: dict[str, str], tell: Callable[..., None]) -> None:
    """The parts are given up with a sentence; `--retry-failed` takes them up when it is back."""
    port = free_port()
    asking(chaos, f"http://127.0.0.1:{port}", outage_seconds=0.5)
    first = chaos.attempt(INLINE)
    assert first.code == 3 and f"no answer from `http://127.0.0.1:{port}`" in first.error
    server = ModelServer(good, port)
    found = chaos.survive(INLINE, before=[first])
    server.kill()
    assert found.codes == [3, 0]
    same(found.digests, answered)
    tell("model server down for long", "transparent, with `--retry-failed`", codes=found.codes)
