"""Answers per second of a language-model server: asked through the pipeline's backend, and by a bare client.

    python benchmarks/fuse.py http://127.0.0.1:8000 vicuna-13b-v1.5 --requests 512 --in-flight 64

Both send the same fusion prompts with the same seeds to /v1/completions, so many in flight at once, and take turns; the
bare client is a pool of threads with a kept connection each and looks at nothing but the text. Tokens are counted by
the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from vidcap import prompts
from vidcap.backends import registry
from vidcap.backends.roles import Request

WORDS = "a person walks along the bright shore while slow music plays and the camera moves over green hills".split()


def requests_of(count: int) -> list[Request]:
    rng = random.Random(1)
    prompt = prompts.load("fuse_av")
    slots = [{kind: " ".join(rng.choices(WORDS, k=12)) + "." for kind in ("video", "audio")} for _ in range(count)]
    return [Request(f"k{n}", "av", prompt.render(given), given) for n, given in enumerate(slots)]


def bare(url: str, payloads: list[dict[str, object]], in_flight: int) -> tuple[list[str], int]:
    """Texts, and the tokens of all answers."""
    local, parts = threading.local(), urlsplit(url)
    assert parts.hostname

    def ask(payload: dict[str, object]) -> tuple[str, int]:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)
        body, headers = json.dumps(payload), {"Content-Type": "application/json"}
        local.connection.request("POST", "/v1/completions", body, headers)
        answer = json.loads(local.connection.getresponse().read())
        return answer["choices"][0]["text"].strip(), answer["usage"]["completion_tokens"]

    with ThreadPoolExecutor(in_flight) as pool:
        found = list(pool.map(ask, payloads))
    return [text for text, _ in found], sum(tokens for _, tokens in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    options = {"endpoints": [asked.url], "model": asked.model, "api": "completions", "template": "vicuna"}
    options |= {"max_tokens": asked.max_tokens, "requests_per_endpoint": asked.in_flight}
    backend = registry.create("llm", "openai", options)
    backend.load("cpu")
    requests, seeds = requests_of(asked.requests), range(asked.requests)
    config = backend.config
    payloads: list[dict[str, object]] = [
        {
            "model": asked.model, "prompt": config.worded(request.prompt), "temperature": config.temperature,
            "top_p": config.top_p, "max_tokens": asked.max_tokens, "seed": seed, "stop": config.stops(),
        }
        for request, seed in zip(requests, seeds, strict=True)
    ]  # fmt: skip
    backend.complete(requests, seeds=seeds)  # both find the beginning of the prompts computed
    ratios = []
    for number in range(asked.rounds):
        begun = time.perf_counter()
        ours = backend.complete(requests, seeds=seeds)
        middle = time.perf_counter()
        theirs, tokens = bare(asked.url, payloads, asked.in_flight)
        ended = time.perf_counter()
        same = sum(one == other for one, other in zip(ours, theirs, strict=True))
        through, alone = tokens / (middle - begun), tokens / (ended - middle)
        ratios.append(through / alone)
        print(
            f"{number}: backend {through:.0f} tokens/s, bare client {alone:.0f}, ratio {ratios[-1]:.2f}, {same} equal"
        )
    print(f"median ratio {statistics.median(ratios):.2f} over {asked.requests} requests, {asked.in_flight} in flight")
    backend.close()


if __name__ == "__main__":
    main()
