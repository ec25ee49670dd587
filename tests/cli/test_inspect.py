"""`vidcap inspect --html` and `--serve` as a user meets them."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from command import heed_interrupt

from vidcap.cli.inspect import inspect_command
from vidcap.errors import UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of five samples, made by the shard tests' factory, which is not on the path here."""
    path = Path(__file__).resolve().parent.parent / "shards" / "shard_factory.py"
    spec = importlib.util.spec_from_file_location("inspect_shard_factory", path)
    assert spec is not None and spec.loader is not None
    factory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factory)
    folder = tmp_path_factory.mktemp("inspect") / "films"
    factory.write_run(folder / "shards", 5, max_samples=2)
    return folder


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(inspect_command, [str(a) for a in arguments], catch_exceptions=False)


def test_html_says_what_it_wrote(run: Path, tmp_path: Path) -> None:
    result = inspect(run, "--html", tmp_path / "x.html", "-n", 2)
    assert result.exit_code == 0 and result.stdout == ""
    assert re.search(r"x\.html: 2 of 5 samples, 2 clips that play, 0\.\d MB", result.stderr)
    page = (tmp_path / "x.html").read_text("utf-8")
    assert "<title>films" in page and '"borders":[]' in page
    assert "0 clips that play" in inspect(run, "--html", tmp_path / "x.html", "--clip-megabytes", 0).stderr


def test_what_does_not_go_together_is_said(run: Path, tmp_path: Path) -> None:
    assert inspect(run, "--html", tmp_path / "x.html", "--serve").exit_code == 2
    assert inspect(run, "some_key", "--html", tmp_path / "x.html").exit_code == 2
    assert inspect(run, "--serve", "--json").exit_code == 2
    with pytest.raises(UsageError, match="cannot be written"):
        inspect(run, "--html", tmp_path / "absent" / "x.html")


def test_a_run_is_called_by_its_pipeline(made_once: Path, tmp_path: Path) -> None:
    assert inspect(made_once, "--html", tmp_path / "x.html", "--clip-megabytes", 0).exit_code == 0
    page = (tmp_path / "x.html").read_text("utf-8")
    assert "<title>demo" in page and '"counts":{"kept":' in page


def test_a_damaged_run_still_shows_its_samples(reference: Path, tmp_path: Path) -> None:
    (reference / "_vidcap" / "parts" / "000000" / "trim.parquet").write_bytes(b"no Parquet")
    result = inspect(reference, "--html", tmp_path / "x.html", "--clip-megabytes", 0)
    assert result.exit_code == 0
    assert "the rejected clips cannot be shown" in result.stderr


def test_serve_tells_its_address_and_ends_on_interrupt(run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vidcap", "inspect", str(run), "--serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=heed_interrupt,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address + "api/samples", timeout=120) as answer:
            assert b'"total": 5' in answer.read()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "5 samples" in err and "Traceback" not in err
    finally:
        process.kill()
        process.wait()
