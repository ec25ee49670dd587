"""`vidcap train` and `vidcap eval` from the outside: the demo learns from the sample shards, and is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytestmark = [pytest.mark.full, pytest.mark.slow]


def vidcap(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidcap", *map(str, arguments)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=500, check=False)


def test_the_demo_learns_resumes_and_is_judged(repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    ran = vidcap(repository, "train", "pipelines/stage2-demo.yaml", "--output", output, "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["last"]["loss"] < 0.7 * told["first"]["loss"]
    assert told["skipped"] == {} and told["evaluation"]["candidates"] == 3
    assert Path(told["checkpoint"]).name == f"step-{told['steps']:08d}"
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert {"avtc", "avtm", "avmlm", "vtc", "vtm", "mlm", "loss", "data_wait"} <= lines[0].keys()

    again = vidcap(repository, "train", "pipelines/stage2-demo.yaml", "--output", output)
    assert again.returncode == 2 and "holds checkpoints of an earlier run\nhint: add --resume" in again.stderr
    more = ("--set", f"run.steps={told['steps'] + 1}", "--resume")
    resumed = vidcap(repository, "train", "pipelines/stage2-demo.yaml", "--output", output, *more)
    assert resumed.returncode == 0 and f"going on after step {told['steps']}" in resumed.stderr

    embeddings = tmp_path / "e.npz"
    arguments = ("--shards", "shards/sample", "--media-type", "audio_video", "--embeddings", embeddings)
    judged = vidcap(repository, "eval", output, *arguments, "--json")
    assert judged.returncode == 0, judged.stderr
    found = json.loads(judged.stdout)
    assert found["candidates"] == found["queries"] == 3 and found["media"] == "av"
    assert found["retrieval"].keys() == {"sim", "dsl", "match"} and embeddings.is_file()
    table = vidcap(repository, "eval", output, *arguments)
    assert "t2v R@1" in table.stdout and "3 queries, 3 candidates (av)" in table.stdout


def test_mistakes_are_sentences(repository: Path, tmp_path: Path) -> None:
    demo = "pipelines/stage2-demo.yaml"
    for arguments, message in (
        (("train", demo, "--set", "run.bach=2"), "unknown key `bach`\nhint: did you mean `batch`?"),
        (("train", demo, "--output", tmp_path, "--set", "sources.0.shards=nowhere"), "`nowhere` is not there"),
        (("train", demo, "--output", tmp_path, "--set", "run.device=abacus"), "device `abacus` cannot be used"),
        (("eval", tmp_path, "--shards", "shards/sample"), "no checkpoint in"),
        (("eval", tmp_path), "give --shards or --annotations"),
    ):
        ran = vidcap(repository, *arguments)
        assert ran.returncode == 2 and message in ran.stderr, ran.stderr
        assert "Traceback" not in ran.stderr
