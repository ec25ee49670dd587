"""`vidcap serve-llm`: starts a vLLM server, says when it is ready and what to write into a pipeline, ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vidcap.cli.vllm_command import Serving

TICK_SECONDS = 0.25
TELL_SECONDS = 15.0
"""How often the wait is told; a large model takes minutes."""
GRACE_SECONDS = 30.0
"""What a server that is asked to end may take, before it is killed."""
_KILL_PARENT_GONE = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@click.command("serve-llm")
@click.argument("model")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- VLLM-ARGUMENTS]")
@click.option(
    "--python",
    envvar="VIDCAP_VLLM_PYTHON",
    default=lambda: sys.executable,
    show_default="$VIDCAP_VLLM_PYTHON, else this one",
    help="The interpreter that has vLLM.",
)
@click.option("--served-model-name", "name", help="What pipelines call the model.  [default: the last part of MODEL]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Any other than loopback needs --api-key-env.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65_535))
@click.option("--api-key-env", default="", metavar="NAME", help="Environment variable with the key that is asked for.")
@click.option("--tensor-parallel-size", type=click.IntRange(min=1), help="GPUs that share the model.")
@click.option("--max-model-len", type=click.IntRange(min=16), help="Tokens of a prompt and its answer together.")
@click.option("--dtype", type=click.Choice(["auto", "bfloat16", "float16", "float32"]))
@click.option("--gpu-memory-utilization", type=click.FloatRange(0, 1, min_open=True), help="vLLM's default is 0.9.")
@click.option(
    "--chat-template",
    metavar="vicuna|FILE",
    help="For models whose tokenizer has none.  [default: `vicuna` where MODEL says so]",
)
@click.option("--ready-seconds", default=1800.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--print", "only_print", is_flag=True, help="Show the command, start nothing.")
def serve_llm(model: str, more: tuple[str, ...], only_print: bool, ready_seconds: float, **asked: Any) -> int:
    """Serve MODEL (a folder or a name on the hub) with vLLM for the backend `openai`.

    Once it answers, the lines for a pipeline go to stdout; the server's log goes to stderr. Ends with the server, whose
    exit code it returns, and ends the server when it is ended itself.
    """
    import shlex

    from vidcap.cli import vllm_command
    from vidcap.errors import UsageError

    serving = _serving(model, more, asked)
    try:
        vllm = vllm_command.find(asked["python"])
    except UsageError:
        if not only_print:
            raise
        vllm = vllm_command.Vllm(asked["python"])  # the command may be meant for another machine
    command = vllm_command.command(vllm, serving)
    if only_print:
        key = f'VLLM_API_KEY="${serving.api_key_env}" ' if serving.api_key_env else ""
        click.echo(f"VLLM_NO_USAGE_STATS=1 {key}{shlex.join(command)}")
        return 0
    added = vllm_command.environment(serving)
    vllm_command.check_port(serving)
    return _run(command, {**os.environ, **added}, serving, ready_seconds)


def _serving(model: str, more: tuple[str, ...], asked: dict[str, Any]) -> Serving:
    from vidcap.cli.vllm_command import VICUNA, Serving
    from vidcap.errors import UsageError

    folder = Path(model)
    if folder.is_dir():
        model = str(folder.resolve())
    elif model.startswith((".", "/", "~")):
        raise UsageError(f"there is no folder `{model}`", hint="a folder as `save_pretrained` writes it, or a hub name")
    name = asked["name"] or model.rstrip("/").rpartition("/")[2]
    template = asked["chat_template"] or (VICUNA if "vicuna" in model.lower() else "")
    options = ("tensor_parallel_size", "max_model_len", "dtype", "gpu_memory_utilization")
    flags = {f"--{key.replace('_', '-')}": f"{asked[key]}" for key in options if asked[key] is not None}
    return Serving(model, name, asked["host"], asked["port"], asked["api_key_env"], template, flags, more)


def _run(command: list[str], environment: dict[str, str], serving: Serving, ready_seconds: float) -> int:
    """Start, wait until it is well, wait until it ends. Returns its exit code, 128 + the signal that ended it."""
    wanted: list[int] = []  # the signals we were sent

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        wanted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    # A session of its own: Ctrl-C reaches it through us alone, and all its processes are ended together.
    server = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=_descriptor(sys.stderr),
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    try:
        late = _watch(server, serving, ready_seconds, wanted)
        code = _ended(server, wanted or ([signal.SIGTERM] if late else []))
        return 1 if late else code
    finally:
        _kill(server)
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(server: subprocess.Popen[bytes], serving: Serving, ready_seconds: float, wanted: list[int]) -> bool:
    """Until the server ends or we are asked to; true where it was not ready in time."""
    started = told = time.monotonic()
    ready = False
    while not wanted:
        code = server.poll()
        now = time.monotonic()
        if code is not None:
            if not ready:
                click.echo(f"error: the server ended before it was ready (exit {code})", err=True)
                click.echo("hint: its log is above; does the model fit into memory?", err=True)
            return False
        if not ready and _healthy(serving.url):
            ready = True
            click.echo(f"ready after {now - started:.0f} s; in a pipeline:", err=True)
            click.echo(_yaml(serving))
        elif not ready and now - started > ready_seconds:
            click.echo(f"error: the server is not ready after {ready_seconds:g} s", err=True)
            click.echo("hint: its log is above; large models want more --ready-seconds", err=True)
            return True
        elif not ready and now - told >= TELL_SECONDS:
            told = now
            click.echo(f"waiting for the server: {now - started:.0f} s", err=True)
        time.sleep(TICK_SECONDS)
    return False


def _ended(server: subprocess.Popen[bytes], wanted: list[int]) -> int:
    """The exit code; where we were asked to end, the server is asked, and killed where it takes too long."""
    if wanted and server.poll() is None:
        asked = len(wanted)
        os.killpg(server.pid, signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while server.poll() is None and time.monotonic() < until and len(wanted) == asked:
            time.sleep(TICK_SECONDS)
        _kill(server)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _kill(server: subprocess.Popen[bytes]) -> None:
    """All processes of the server, those that outlive the first one too."""
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    server.wait()


def _end_with_parent() -> None:
    """Runs in the new process: it is sent SIGTERM when its parent is gone, however that ended."""
    import ctypes

    ctypes.CDLL(None).prctl(_KILL_PARENT_GONE, signal.SIGTERM)


def _descriptor(stream: Any) -> Any:
    """What a child process can write to."""
    try:
        stream.fileno()
    except (OSError, ValueError):
        return None
    return stream


def _healthy(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def _yaml(serving: Serving) -> str:
    import yaml

    backend: dict[str, Any] = {"name": "openai", "endpoints": [serving.endpoint], "model": serving.name}
    if serving.is_vicuna:
        backend |= {"api": "completions", "template": "vicuna"}
    if serving.api_key_env:
        backend["api_key_env"] = serving.api_key_env
    return yaml.safe_dump([{"stage": "fuse", "backend": backend}], sort_keys=False, width=1000).rstrip()
