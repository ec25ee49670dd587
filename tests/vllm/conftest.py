"""A vLLM server with a tiny model, started as a user starts it. Skips where `VIDCAP_VLLM_PYTHON` names no vLLM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from command import Command, free_port, only_one, wait_for

MODELS = Path(__file__).resolve().parents[1] / "tiny_models"
MODEL_LEN = 1024
START_SECONDS = 420


@pytest.fixture(scope="session")
def vllm_python() -> str:
    python = os.environ.get("VIDCAP_VLLM_PYTHON", "")
    if not python:
        pytest.skip("VIDCAP_VLLM_PYTHON names no interpreter with vLLM")
    return python


@pytest.fixture(scope="session")
def tiny_vicuna(vllm_python: str, shared_folder: Path) -> Path:
    """Trained once per session, in vLLM's environment."""
    with only_one(shared_folder, "tiny-vicuna-7b") as folder:
        if not (folder / "model.safetensors").is_file():
            subprocess.run([vllm_python, str(MODELS / "tiny_vicuna.py"), str(folder)], check=True, timeout=300)
    return folder


class VllmServer:
    """`vidcap serve-llm` in a process of its own; its log is kept in a file."""

    def __init__(self, repository: Path, python: str, model: Path, log: Path, port: int = 0) -> None:
        self.python, self.model = python, model
        self.port = port or free_port()
        self.log = log
        self.told: list[str] = []
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vidcap", "serve-llm", str(model)),
                    *("--python", python, "--port", str(self.port)),
                    *("--max-model-len", str(MODEL_LEN), "--gpu-memory-utilization", "0.1", "--dtype", "float32"),
                    *("--", "--enforce-eager"),
                ],
                cwd=repository,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
                start_new_session=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.told.append(line)  # each as it comes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> VllmServer:
        """Until `vidcap serve-llm` says that the server is ready."""
        end = time.monotonic() + START_SECONDS
        while not self.told:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.2)
        return self

    def backend(self) -> dict[str, object]:
        """What the command printed, as a pipeline would hold it."""
        wait_for(lambda: any("template:" in line for line in list(self.told)))  # the last of the lines
        found: dict[str, object] = yaml.safe_load("".join(self.told))[0]["backend"]
        return found

    def processes(self) -> list[psutil.Process]:
        """Those of vLLM."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def answered(self) -> int:
        """Requests that are done, by vLLM's own count."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total")))

    def kill(self) -> int:
        """As the kernel does where memory runs out; returns the exit code of `vidcap serve-llm`."""
        (first,) = psutil.Process(self.process.pid).children()
        os.killpg(first.pid, signal.SIGKILL)
        return self._code()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._code()

    def _code(self) -> int:
        code = self.process.wait(240)
        self._reader.join(60)
        return code


@pytest.fixture(scope="session")
def started(repository: Path, vllm_python: str, tiny_vicuna: Path, shared_folder: Path) -> Iterator[list[VllmServer]]:
    """The servers of this session; the last one is alive. Tests may kill it and append its successor."""
    servers = [VllmServer(repository, vllm_python, tiny_vicuna, shared_folder / "vllm.log").wait()]
    yield servers
    for server in servers:
        if server.process.poll() is None:
            server.end()


@pytest.fixture
def vllm_server(started: list[VllmServer]) -> VllmServer:
    return started[-1]


@pytest.fixture
def vidcap(repository: Path) -> Iterator[Command]:
    command = Command(repository)
    yield command
    for process in command.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)
