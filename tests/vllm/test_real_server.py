"""A real vLLM server fuses the captions of a run: end to end, killed in the middle, with structured answers."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from command import PARTS, Command, all_gone, digests, wait_for

from vidcap import prompts
from vidcap.backends import registry
from vidcap.backends.roles import Request
from vidcap.errors import ItemError
from vidcap.stages.answers import AnswerCheck

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = (*PARTS, "--set", "stages.select.options.min=-1")
FUSED = {"temperature": 0.7, "max_tokens": 64, "outage_seconds": 300, "max_backoff_seconds": 2}


def backend(server: Any, **more: Any) -> str:
    """The `--set` of a fuse stage that asks the server, by the lines it printed itself."""
    return f"stages.fuse.backend={json.dumps({**server.backend(), **FUSED, **more})}"


def records(output: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted((output / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [tar.extractfile(member) for member in tar if member.name.endswith(".json")]
            found += [json.loads(member.read()) for member in members if member is not None]
    return found


@pytest.fixture(scope="module")
def undisturbed(started: list[Any], repository: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    Command(repository).run(
        output, corpus, "--runner", "inline", "--set", "stages.select.options.min=-1", "--set", backend(started[-1])
    )
    return output


def test_the_printed_lines_name_the_server_and_the_template(vllm_server: Any) -> None:
    assert vllm_server.backend() == {
        "name": "openai",
        "endpoints": [vllm_server.url],
        "model": "tiny-vicuna-7b",
        "api": "completions",
        "template": "vicuna",
    }


def test_a_run_is_fused_end_to_end(vidcap: Command, undisturbed: Path) -> None:
    report = vidcap.report(undisturbed)
    clips = report["clips"]
    assert clips["kept"] >= 5 and clips["pending"] == clips["quarantined"] == 0
    assert not {"fuse.failed", "fuse.bad_answer", "llm.failed"} & set(report["reasons"])
    fused = [record["captions"]["av"] or record["captions"]["avs"] for record in records(undisturbed)]
    assert any(fused) and len(set(fused)) > 1, "the seeds make a difference"
    made_by = {json.loads(record["provenance"]["backends"])["fuse"] for record in records(undisturbed)}
    assert len(made_by) == 1 and made_by.pop().startswith("openai: tiny-vicuna-7b/completions/vicuna/t0.7")


def test_a_server_killed_in_the_middle_and_restarted_loses_nothing(
    vidcap: Command, started: list[Any], repository: Path, corpus: Path, undisturbed: Path, tmp_path: Path
) -> None:
    server = started[-1]
    before = server.answered()
    output = tmp_path / "run"
    run = vidcap.start(
        "run", "pipelines/demo.yaml", "--input", corpus, "--output", output, "--runner", "inline", *SETTINGS,
        "--set", backend(server, requests_per_endpoint=1),
    )  # fmt: skip
    wait_for(lambda: server.answered() > before)
    assert server.kill() == 128 + 9
    assert run.poll() is None, "the run was over before the server was killed"
    killed_at = len(list((output / "_vidcap" / "ledger").glob("*.fuse.json")))
    started.append(type(server)(repository, server.python, server.model, server.log, server.port).wait())
    out, err = run.communicate(timeout=400)
    assert run.returncode == 0, f"{out}\n{err}"
    assert "Traceback" not in err
    again = vidcap.report(output)
    parts = len(list((output / "_vidcap" / "ledger").glob("*.fuse.json")))
    assert killed_at < parts, "the server was killed after the last answer"
    assert again["parts"]["failed"] == again["clips"]["pending"] == again["clips"]["quarantined"] == 0
    assert {r["key"] for r in records(output)} == {r["key"] for r in records(undisturbed)}
    assert digests(output) == digests(undisturbed)


def asked(count: int) -> list[Request]:
    texts = [{"video": f"A dog number{n} runs.", "audio": "Music plays."} for n in range(count)]
    return [Request(f"k{n}", "av", prompts.load("fuse_av").render(slots), slots) for n, slots in enumerate(texts)]


def ask(server: Any, requests: list[Request], **options: Any) -> list[Any]:
    given = {**server.backend(), **FUSED, "outage_seconds": 30, **options}
    del given["name"]
    made = registry.create("llm", "openai", given)
    made.load("cpu")
    try:
        found: list[Any] = made.complete(requests, seeds=range(len(requests)))
        return found
    finally:
        made.close()


@pytest.mark.parametrize("api", [{}, {"structured": True}, {"api": "chat", "template": "none", "stop": ["USER:"]}])
def test_answers_do_not_depend_on_what_is_asked_beside(vllm_server: Any, api: dict[str, Any]) -> None:
    requests = asked(12)
    together = ask(vllm_server, requests, **api)
    check = AnswerCheck(prompts.load("fuse_av"), 4, 60)
    assert [check.fault(text, request.slots) for text, request in zip(together, requests, strict=True)] == [""] * 12
    assert len(set(together)) > 2
    assert ask(vllm_server, requests, requests_per_endpoint=1, **api) == together


def test_the_servers_chat_template_is_ours(vllm_server: Any) -> None:
    """The words that `api: chat` makes of a prompt are those of `template: vicuna`: the same answers come of it."""
    plain = ask(vllm_server, asked(8))
    assert ask(vllm_server, asked(8), api="chat", template="none", stop=["USER:"]) == plain


def test_bad_requests_are_errors_of_their_item_alone(vllm_server: Any) -> None:
    long, good = Request("long", "av", "word " * 3000), asked(1)[0]
    found = ask(vllm_server, [good, long, good])
    assert isinstance(found[0], str) and isinstance(found[2], str)
    assert isinstance(found[1], ItemError) and "HTTP 400" in found[1].detail
    cut = ask(vllm_server, [good], max_tokens=3)[0]
    assert isinstance(cut, ItemError) and "cut off after 3 tokens" in cut.detail


def test_the_backend_in_the_process_answers_as_the_server(
    vllm_server: Any, vllm_python: str, tiny_vicuna: Path, repository: Path
) -> None:
    script = repository / "tests" / "vllm" / "ask_in_process.py"
    requests = [{"key": r.key, "prompt": r.prompt} for r in asked(8)]
    ran = subprocess.run(
        [vllm_python, str(script), str(tiny_vicuna)],
        input=json.dumps(requests), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["together"] == found["alone"] == ask(vllm_server, asked(8))
    assert found["structured"] == ask(vllm_server, asked(8), structured=True)
    assert "too many" in found["long"]
    assert found["identity"].startswith("tiny-vicuna-7b@") and "/completions/vicuna/t0.7/" in found["identity"]


def test_the_server_ends_with_the_command(started: list[Any]) -> None:
    server = started[-1]
    processes = server.processes()
    assert len(processes) >= 2
    assert server.end() in (0, 128 + 15)
    wait_for(lambda: all_gone(processes))
