"""`vidcap train-captioner` as a user calls it: what it writes captions sounds, what it leaves out is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tiny_models.beats import make_beats
from tiny_models.tiny_llama import make_tiny_llama

from vidcap.cli.train_captioner import train_captioner
from vidcap.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "captioner_training"))
from captioned_sounds import make_corpus

SHAPE = '{"hidden": 32, "layers": 2, "heads": 4, "feed_forward": 64, "queries": 4, "extra_queries": 4}'


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_corpus(tmp_path_factory.mktemp("wavcaps"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    make_beats(folder)
    make_tiny_llama(folder / "llm")
    return folder


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(train_captioner, [str(each) for each in arguments])


def usual(paths: dict[str, Path], models: Path, output: Path) -> list[Any]:
    return [
        *(paths["audioset"], paths["freesound"], "--sounds", paths["sounds"], "--blacklist", paths["blacklist"]),
        *("--encoder", models / "beats.pt", "--llm", models / "llm", "-o", output, "--shape", SHAPE),
        *("--batch", 4, "--epochs", 2, "--learning-rate", 1e-3, "--windows", 2, "--workers", 2),
    ]


@pytest.mark.full
def test_it_trains_and_the_backend_reads_what_it_wrote(paths: dict[str, Path], models: Path, tmp_path: Path) -> None:
    from vidcap.backends import registry
    from vidcap.backends.roles import ClipView
    from vidcap.media.sound_file import read_sound

    output = tmp_path / "captioner.safetensors"
    ran = run(*usual(paths, models, output))
    assert ran.exit_code == 0, ran.output
    summary = json.loads(ran.stdout)
    assert summary["entries"] == 22 and summary["learned_from"] == 10 and summary["steps"] == 6
    assert summary["left_out"] == {
        "ambiguous_file": 1,
        "blacklisted": 1,
        "malformed_entry": 3,
        "missing_file": 2,
        "no_words": 1,
        "repeated_id": 1,
        "silent": 1,
        "unreadable_file": 2,
    }
    assert "13 of 22 sounds are there" in ran.stderr and "unreadable_file: a file that cannot be" in ran.stderr
    listed = [json.loads(line) for line in (tmp_path / f"{output.name}.left_out.jsonl").read_text().splitlines()]
    assert len(listed) == 12 and {"sound": "AudioSet/hush", "reason": "silent", "detail": ""} in listed
    options = {"encoder": str(models / "beats.pt"), "llm": str(models / "llm"), "weights": str(output)}
    backend = registry.create("audio_captioner", "beats_qformer", options | {"max_new_tokens": 8})
    backend.load("cpu")
    sound = read_sound(paths["sounds"] / "AudioSet" / "Y0.flac", max_seconds=30)
    (text,) = backend.caption([ClipView("k", [], [], sound, True, 1.0)], prompt="", seeds=[0])
    assert isinstance(text, str)
    again = tmp_path / "again.safetensors"
    assert run(*usual(paths, models, again)).exit_code == 0
    assert again.read_bytes() == output.read_bytes()


def refused(*arguments: Any) -> UsageError:
    ran = run(*arguments)
    assert isinstance(ran.exception, UsageError), ran.output
    assert ran.exception.hint
    return ran.exception


@pytest.mark.full
def test_what_cannot_be_trained_is_refused(paths: dict[str, Path], models: Path, tmp_path: Path) -> None:
    good = usual(paths, models, tmp_path / "x.safetensors")

    def changed(option: str, value: Any) -> list[Any]:
        at = good.index(option)
        return [*good[: at + 1], value, *good[at + 2 :]]

    assert "no name for the weights" in refused(*changed("-o", tmp_path / "x.pt")).message
    assert "there are no weights" in refused(*changed("--encoder", tmp_path / "none.pt")).message
    assert "no folder" in refused(*changed("--llm", tmp_path / "none")).message
    assert "cannot be built" in refused(*changed("--shape", '{"sizes": 3}')).message
    (tmp_path / "empty").mkdir()
    nothing = refused(*changed("--sounds", tmp_path / "empty"))
    assert "nothing to learn from" in nothing.message and "missing_file" in nothing.message
    assert (tmp_path / "x.safetensors.left_out.jsonl").is_file()
    assert not (tmp_path / "x.safetensors").exists()
