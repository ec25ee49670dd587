"""Asks the backend `vllm` in vLLM's own environment, in a daemon as Dask's workers are; prints what it answers.

PYTHON_OF_VLLM tests/vllm/ask_in_process.py MODEL < requests.json
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vidcap.backends import registry
from vidcap.backends.roles import Request


def ask(model: str, given: list[dict[str, str]]) -> None:
    requests = [Request(one["key"], "av", one["prompt"]) for one in given]
    options: dict[str, Any] = {
        "model": model,
        "api": "completions",
        "template": "vicuna",
        "max_tokens": 64,
        "precision": "fp32",
        "max_model_len": 1024,
        "gpu_memory_utilization": 0.1,
        "enforce_eager": True,
    }
    backend = registry.create("llm", "vllm", options)
    found: dict[str, Any] = {"identity": backend.identity()}
    from vllm.platforms import current_platform

    backend.load(current_platform.device_type)
    seeds = range(len(requests))
    found["together"] = backend.complete(requests, seeds=seeds)
    found["alone"] = [
        backend.complete([request], seeds=[seed])[0] for request, seed in zip(requests, seeds, strict=True)
    ]
    long = Request("long", "av", "word " * 3000)
    refused, fine = backend.complete([long, requests[0]], seeds=[0, 0])
    assert fine == found["together"][0]
    found["long"] = str(refused)
    backend.config = backend.config.model_copy(update={"structured": True})
    found["structured"] = backend.complete(requests, seeds=seeds)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(
        target=ask, args=(sys.argv[1], json.load(sys.stdin)), daemon=True
    )
    worker.start()
    worker.join()
    sys.exit(worker.exitcode)
