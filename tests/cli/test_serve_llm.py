"""`vidcap serve-llm` with an interpreter that only pretends to have vLLM: flags, readiness, keys, the end of both."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2.sandbox
import psutil
import pytest
import yaml
from click.testing import CliRunner, Result
from command import free_port, heed_interrupt, wait_for

from vidcap.backends.served import conversation
from vidcap.cli import vllm_command
from vidcap.cli.serve_llm import serve_llm
from vidcap.errors import UsageError

FAKE = '''#!{python}
"""An interpreter: told `-c` it says what it has, told `-m` it serves."""
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

folder = os.path.dirname(os.path.abspath(__file__))
if sys.argv[1] == "-c":
    print(open(os.path.join(folder, "has")).read())
    sys.exit(0)
arguments = sys.argv[1:]
does = open(os.path.join(folder, "does")).read().split()
child = subprocess.Popen([{python!r}, "-c", "import time; time.sleep(300)"])
told = {{"arguments": arguments, "pid": os.getpid(), "child": child.pid, "key": os.environ.get("VLLM_API_KEY", "")}}
told["stats"] = os.environ.get("VLLM_NO_USAGE_STATS")
with open(os.path.join(folder, "told.new"), "w") as file:
    json.dump(told, file)
os.replace(os.path.join(folder, "told.new"), os.path.join(folder, "told"))
print("the log of the server", flush=True)
if "exit" in does:
    sys.exit(int(does[-1]))
if "stubborn" in does:
    signal.signal(signal.SIGTERM, lambda *_: open(os.path.join(folder, "asked"), "w").close())
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
begun = time.monotonic()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        well = self.path == "/health" and "never" not in does and time.monotonic() - begun > 0.5
        self.send_response(200 if well else 503)
        self.end_headers()
    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(arguments[arguments.index("--port") + 1])), Handler).serve_forever()
'''


class Fake:
    """The pretended interpreter, and the processes started with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "python"
        self.program.write_text(FAKE.format(python=sys.executable))
        self.program.chmod(0o755)
        self.has(there=True, server=True, cpu=False)
        self.does("serve")
        self.started: list[subprocess.Popen[str]] = []

    def has(self, **what: bool) -> None:
        (self.folder / "has").write_text(json.dumps(what))

    def does(self, what: str) -> None:
        (self.folder / "does").write_text(what)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        self.port = free_port()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vidcap", "serve-llm", "org/some-model"),
                *("--python", str(self.program), "--port", str(self.port), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            preexec_fn=heed_interrupt,
        )
        self.started.append(process)
        return process

    def told(self) -> dict[str, Any]:
        wait_for((self.folder / "told").exists)
        found: dict[str, Any] = json.loads((self.folder / "told").read_text())
        return found

    def gone(self, pid: int) -> bool:
        try:
            return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return True

    def runs(self) -> bool:
        """Whether a process of the pretended interpreter is left."""
        commands = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
        return any(str(self.program) in command[:2] for command in commands)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    made = Fake(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.terminate()  # a server that outlives it would hold its pipes
        process.communicate(timeout=120)


def verb(*arguments: str) -> Result:
    return CliRunner().invoke(serve_llm, list(arguments), catch_exceptions=False, standalone_mode=False)


def shown(fake: Fake, *arguments: str) -> list[str]:
    return shlex.split(verb("--python", str(fake.program), "--print", *arguments).stdout)


def test_a_server_that_is_ready_is_told_in_yaml_and_ends_with_the_command(fake: Fake) -> None:
    process = fake.start("--max-model-len", "4096", "--", "--max-num-seqs", "64")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(6)]
    told = fake.told()
    assert yaml.safe_load("".join(lines)) == [
        {
            "stage": "fuse",
            "backend": {"name": "openai", "endpoints": [f"http://127.0.0.1:{fake.port}"], "model": "some-model"},
        }
    ]
    arguments = told["arguments"]
    assert arguments[:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model", "org/some-model"]
    assert arguments[-4:] == ["--max-model-len", "4096", "--max-num-seqs", "64"]
    assert "--chat-template" not in arguments and told["stats"] == "1" and told["key"] == ""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 7, "the code of the server"
    assert "the log of the server" in err and "ready after" in err and "Traceback" not in err
    wait_for(lambda: fake.gone(told["pid"]) and fake.gone(told["child"]))


def test_ctrl_c_reaches_a_server_that_is_not_ready_yet(fake: Fake) -> None:
    fake.does("never")
    process = fake.start()
    told = fake.told()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert out == "" and process.returncode in (7, 128 + 15)
    wait_for(lambda: fake.gone(told["pid"]) and fake.gone(told["child"]))


def test_a_server_that_does_not_end_is_killed_at_the_second_signal(fake: Fake) -> None:
    fake.does("stubborn")
    process = fake.start()
    told = fake.told()
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    wait_for((fake.folder / "asked").exists)
    assert process.poll() is None and not fake.gone(told["pid"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + 9
    wait_for(lambda: fake.gone(told["pid"]) and fake.gone(told["child"]))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_server_ends_even_where_the_command_is_killed(fake: Fake) -> None:
    process = fake.start()
    told = fake.told()
    assert process.stdout is not None and process.stdout.readline()
    process.kill()
    wait_for(lambda: fake.gone(told["pid"]))
    os.kill(told["child"], signal.SIGKILL)


def test_a_server_that_ends_gives_its_code(fake: Fake) -> None:
    fake.does("exit 5")
    process = fake.start()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 5 and out == ""
    assert "ended before it was ready (exit 5)" in err and "hint: " in err
    wait_for(lambda: fake.gone(fake.told()["child"]))


def test_a_server_that_is_never_ready_is_given_up(fake: Fake) -> None:
    fake.does("never")
    process = fake.start("--ready-seconds", "1.5")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and out == "" and "not ready after 1.5 s" in err
    wait_for(lambda: not fake.runs())


def test_a_taken_port_is_refused_before_anything_starts(fake: Fake) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        with pytest.raises(UsageError, match=f"somebody listens on port {port}"):
            verb("m", "--python", str(fake.program), "--port", port)
    assert not (fake.folder / "told").exists()


def test_the_key_goes_through_the_environment_alone(fake: Fake) -> None:
    process = fake.start("--api-key-env", "LLM_TEST_KEY", LLM_TEST_KEY="tell-nobody-123")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(7)]
    told = fake.told()
    assert told["key"] == "tell-nobody-123" and "tell-nobody" not in " ".join(told["arguments"])
    assert yaml.safe_load("".join(lines))[0]["backend"]["api_key_env"] == "LLM_TEST_KEY"
    printed = verb("m", "--python", str(fake.program), "--api-key-env", "LLM_TEST_KEY", "--print").stdout
    assert 'VLLM_API_KEY="$LLM_TEST_KEY"' in printed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gpu1.example"])
def test_others_reach_the_server_only_with_a_key(fake: Fake, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with pytest.raises(UsageError, match="without a key") as caught:
        verb("m", "--python", str(fake.program), "--host", host)
    assert "--api-key-env" in caught.value.hint
    monkeypatch.setenv("LLM_TEST_KEY", "two words")
    with pytest.raises(UsageError, match="no usable key") as caught:
        verb("m", "--python", str(fake.program), "--host", host, "--api-key-env", "LLM_TEST_KEY")
    assert "two words" not in str(caught.value)


def test_where_pipelines_reach_a_server_on_all_addresses() -> None:
    every = vllm_command.Serving("m", "m", "0.0.0.0", 8000)
    assert every.endpoint == f"http://{socket.gethostname()}:8000" and every.url == "http://127.0.0.1:8000"
    assert vllm_command.Serving("m", "m", "::1", 8000).endpoint == "http://[::1]:8000"
    assert vllm_command.loopback("127.0.0.3") and vllm_command.loopback("localhost")
    assert not vllm_command.loopback("localhost.example")


@pytest.mark.parametrize("given", ["--port=1", "--host", "--api-key=hush", "--served-model-name", "--model"])
def test_arguments_that_have_options_are_not_passed_through(fake: Fake, given: str) -> None:
    with pytest.raises(UsageError, match=given.partition("=")[0]) as caught:
        verb("m", "--python", str(fake.program), "--print", "--", given)
    assert caught.value.hint and "hush" not in str(caught.value)


def test_no_vllm_is_told_with_the_mend(fake: Fake, tmp_path: Path) -> None:
    fake.has(there=False, server=False, cpu=False)
    with pytest.raises(UsageError, match="has no vLLM") as caught:
        verb("m", "--python", str(fake.program))
    assert "pip install vllm" in caught.value.hint and caught.value.exit_code == 2
    with pytest.raises(UsageError, match="there is no program"):
        verb("m", "--python", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="does not run as Python"):
        verb("m", "--python", "/bin/false")
    with pytest.raises(UsageError, match="there is no folder"):
        verb("./no-such-model", "--python", str(fake.program))
    assert verb("m", "--python", str(tmp_path / "nowhere"), "--print").exit_code == 0


def test_a_real_interpreter_is_looked_into_without_importing(tmp_path: Path) -> None:
    package = tmp_path / "vllm"
    (package / "entrypoints" / "openai").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    python = tmp_path / "with_vllm"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(tmp_path))} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert not vllm_command.find(str(python)).server
    (package / "entrypoints" / "openai" / "api_server.py").touch()
    assert vllm_command.find(str(python)).server


def test_flags_follow_the_build_of_vllm(fake: Fake) -> None:
    assert "--no-enable-chunked-prefill" not in shown(fake, "m")
    fake.has(there=True, server=False, cpu=True)
    command = shown(fake, "m", "--tensor-parallel-size", "2", "--dtype", "bfloat16")
    assert command[2:6] == ["-m", "vllm.entrypoints.cli.main", "serve", "m"]
    assert "--no-enable-chunked-prefill" in command
    assert command[command.index("--tensor-parallel-size") + 1] == "2"
    assert command[command.index("--dtype") + 1] == "bfloat16"
    chosen = shown(fake, "m", "--", "--enable-chunked-prefill")
    assert "--no-enable-chunked-prefill" not in chosen


def test_a_folder_is_served_under_its_name(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    command = shown(fake, "my-model")
    assert command[command.index("--model") + 1] == str(tmp_path / "my-model")
    assert command[command.index("--served-model-name") + 1] == "my-model"


# The chat template of Vicuna.


def rendered(messages: list[dict[str, str]], **more: Any) -> str:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = lambda text: (_ for _ in ()).throw(ValueError(text))
    text = vllm_command.template_path("vicuna").read_text("utf-8")
    return environment.from_string(text).render(
        messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True, **more
    )


@pytest.mark.parametrize("said", ["Tell it.", "  Two\nlines. \n", "{{ bos_token }} {% if %}", "“ü” 犬"])
def test_the_chat_template_gives_the_words_of_the_completions(said: str) -> None:
    assert rendered([{"role": "user", "content": said}]) == "<s>" + conversation.vicuna(said)


def test_the_chat_template_of_several_turns() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Two?"},
    ]
    assert rendered(turns) == "<s>Be brief. USER: One? ASSISTANT: Yes.</s> USER: Two? ASSISTANT:"
    with pytest.raises(ValueError, match="roles"):
        rendered([{"role": "tool", "content": "x"}])


def test_a_vicuna_is_served_with_its_template(fake: Fake, tmp_path: Path) -> None:
    command = shown(fake, "lmsys/vicuna-13b-v1.5")
    template = Path(command[command.index("--chat-template") + 1])
    assert template.read_text().startswith("{{- bos_token }}")
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages }}")
    command = shown(fake, "lmsys/vicuna-13b-v1.5", "--chat-template", str(own))
    assert command[command.index("--chat-template") + 1] == str(own)
    with pytest.raises(UsageError, match="no chat template"):
        shown(fake, "m", "--chat-template", str(tmp_path / "none.jinja"))
