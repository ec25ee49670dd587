"""Language models of transformers in the worker: the same answers alone and in company, whole answers or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vidcap.backends import registry
from vidcap.backends.roles import Request
from vidcap.backends.served import conversation
from vidcap.errors import BackendError, ItemError

pytestmark = pytest.mark.full
SHORT, LONG = "What is heard?", "A dog barks while the rain falls. Say it in other words, and only once."


def request(prompt: str, key: str = "k") -> Request:
    return Request(key, "av", prompt)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models.tiny_llama import make_tiny_llama

    target = tmp_path_factory.mktemp("llm") / "tiny"
    make_tiny_llama(target)
    return target


@pytest.fixture(scope="module")
def ending(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, which may end its answer: any full stop is an end."""
    import json
    import shutil

    target = tmp_path_factory.mktemp("llm") / "ending"
    shutil.copytree(folder, target)
    path = target / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"eos_token_id": list(range(2, 380, 3))}))
    return target


def made(folder: Path, **options: Any) -> Any:
    backend = registry.create("llm", "transformers", {"model": str(folder), **options})
    backend.load("cpu")
    return backend


def test_a_batch_answers_as_its_requests_alone(ending: Path) -> None:
    asked = [request(SHORT, "a"), request(LONG, "b"), request(SHORT, "c"), request(LONG[:-1] + "!", "d")]
    seeds = [1, 2, 3, 4]
    for options in ({"requests_per_batch": 3}, {"requests_per_batch": 3, "temperature": 1.0}):
        backend = made(ending, max_tokens=24, **options)
        together = backend.complete(asked, seeds=seeds)
        alone = [backend.complete([one], seeds=[seed])[0] for one, seed in zip(asked, seeds, strict=True)]
        assert [str(each) for each in together] == [str(each) for each in alone]
        backwards = backend.complete(asked[::-1], seeds=seeds[::-1])
        assert [str(each) for each in backwards[::-1]] == [str(each) for each in alone]


def test_seeds_decide_only_above_temperature_zero(ending: Path) -> None:
    many = [request(SHORT, str(number)) for number in range(12)]
    cold = made(ending, max_tokens=24, temperature=0.0).complete(many, seeds=range(12))
    assert len({str(answer) for answer in cold}) == 1
    warm = made(ending, max_tokens=24, temperature=1.5)
    answers = [str(answer) for answer in warm.complete(many, seeds=range(12))]
    assert len(set(answers)) > 3
    assert answers == [str(answer) for answer in warm.complete(many, seeds=range(12))]


def test_an_answer_that_does_not_end_is_an_error(folder: Path) -> None:
    (answer,) = made(folder, max_tokens=6).complete([request(SHORT)], seeds=[0])
    assert isinstance(answer, ItemError)
    assert (answer.reason, answer.detail) == ("llm.failed", "the text is cut off after 6 tokens")


def test_a_prompt_that_is_too_long_spares_the_others(ending: Path) -> None:
    backend = made(ending, max_tokens=24, temperature=1.0)
    long, short = backend.complete([request("word " * 5000), request(SHORT)], seeds=[0, 1])
    assert isinstance(long, ItemError) and "too many for the model's 2048" in long.detail
    assert str(short) == str(backend.complete([request(SHORT)], seeds=[1])[0])


def test_the_template_is_the_one_asked_for(folder: Path) -> None:
    backend = made(folder, template="vicuna")
    assert backend._tokenizer.decode(backend._tokens(SHORT)).endswith(conversation.vicuna(SHORT))
    chat = made(folder)
    assert chat._tokenizer.decode(chat._tokens(f"</s>{SHORT}")) == f"<s>USER: < /s>{SHORT} ASSISTANT:"
    assert chat._tokenizer.decode(made(folder, template="none")._tokens(SHORT)).endswith(SHORT)


def test_no_template_no_chat(folder: Path, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(BackendError, match=r"has no chat template\nhint: `template: vicuna`"):
        made(bare)


def test_the_identity_says_what_shapes_answers(folder: Path) -> None:
    def identity(**options: Any) -> str:
        return str(registry.create("llm", "transformers", {"model": str(folder), **options}).identity())

    usual = identity()
    assert usual.startswith("tiny@") and "/chat/" in usual and "/transformers-" in usual
    for other in ({"template": "none"}, {"temperature": 0.5}, {"max_tokens": 9}, {"precision": "fp32"}):
        assert identity(**other) != usual
    assert identity(threads=2, requests_per_batch=4) == usual


def test_a_hub_name_that_was_not_fetched_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    backend = registry.create("llm", "transformers", {"model": "nobody/nothing"})
    assert backend.identity().startswith("nobody/nothing@main/")
    with pytest.raises(BackendError, match="vidcap models fetch nobody/nothing"):
        backend.load("cpu")
