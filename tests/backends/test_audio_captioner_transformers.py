"""`transformers_audio` on tiny models of three families: each names the sound it is played."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_views import BLUE, RATE, bands, clip, noise, still
from tiny_models.hearing import NAMES, PROMPT, REST, SHIPPED, sound_of

from vidcap.backends import registry
from vidcap.errors import BackendError, ItemError

pytestmark = pytest.mark.full
FAMILIES = ("qwen2_audio", "qwen25_omni", "audio_flamingo3")
SAID = [name + REST for name in NAMES]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """The options of a family's tiny model, made once."""
    pytest.importorskip("transformers")
    made: dict[str, dict[str, str]] = {}

    def options(family: str) -> dict[str, str]:
        if family not in made:
            make = getattr(importlib.import_module(f"tiny_models.{family}"), f"make_{family}")
            made[family] = make(tmp_path_factory.mktemp(family))
        return dict(made[family])

    return options


@pytest.fixture(scope="module")
def options(models: Callable[[str], dict[str, str]]) -> dict[str, str]:
    return models("qwen2_audio")


def made(options: dict[str, Any], **more: Any) -> Any:
    backend = registry.create("audio_captioner", "transformers_audio", options | more)
    backend.load("cpu")
    return backend


def ask(backend: Any, sounds: list[Any], prompt: str = PROMPT) -> list[Any]:
    views = [still(BLUE, audio=sound) for sound in sounds]
    found: list[Any] = backend.caption(views, prompt=prompt, seeds=list(range(len(views))))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_names_what_it_hears(models: Callable[[str], dict[str, str]], family: str) -> None:
    backend = made(models(family))
    for prompt in (PROMPT, ""):
        assert ask(backend, [sound_of(kind) for kind in range(3)], prompt) == SAID
    assert set(ask(backend, [sound_of(kind) for kind in range(3)], SHIPPED)) <= set(SAID)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_says_what_singles_say(models: Callable[[str], dict[str, str]], family: str) -> None:
    """Sounds of several lengths in one batch: each is filled up to the same length."""
    sounds = [sound_of(0, 2.0), sound_of(1, 8.0), sound_of(2, 4.0), noise(0.3), sound_of(0, 5.0)]
    alone = [ask(made(models(family)), [sound])[0] for sound in sounds]
    assert alone[0] == SAID[0] and alone[1] == SAID[1] and alone[4] == SAID[0]
    for size in (2, 3):
        backend = made(models(family), clips_per_batch=size)
        assert ask(backend, sounds) == alone
        assert ask(backend, sounds[::-1]) == alone[::-1]


def test_the_numbers_of_a_question_do_not_depend_on_its_neighbours(options: dict[str, str]) -> None:
    import torch

    backend = made(options, clips_per_batch=2)
    short, long, other = (backend._question(sound_of(kind, s), PROMPT) for kind, s in ((0, 2.0), (1, 9.0), (2, 4.0)))
    assert {name: value.shape for name, value in short.items()} == {name: value.shape for name, value in long.items()}
    assert int(short["attention_mask"].sum()) < int(long["attention_mask"].sum())
    assert not short["attention_mask"][0, 0] and short["attention_mask"][0, -1]
    network = backend._writer._network
    with torch.inference_mode():
        first, second = (
            network(**{name: torch.cat([short[name], beside[name]]) for name in short}).logits[0, -1]
            for beside in (long, other)
        )
    assert torch.equal(first, second)


def test_nothing_is_said_of_silence_and_the_model_is_not_asked(options: dict[str, str]) -> None:
    backend = made(options)
    backend._writer = object()
    hush = np.full(3 * RATE, 0.0009, np.float32)
    views = [still(BLUE), still(BLUE, audio=hush), clip([bands(BLUE)] * 2, noise(), has_audio=False)]
    assert backend.caption(views, prompt="", seeds=[1, 2, 3]) == ["", "", ""]


def test_a_bad_sound_is_an_error_in_its_place(options: dict[str, str]) -> None:
    broken = sound_of(1)
    broken[7] = np.inf
    first, second, third = ask(made(options), [sound_of(0), broken, sound_of(2)])
    assert (first, third) == (SAID[0], SAID[2])
    assert isinstance(second, ItemError) and second.reason == "caption.failed"


def test_a_caption_without_an_end_fails_its_clip(options: dict[str, str]) -> None:
    (outcome,) = ask(made(options, max_new_tokens=5), [sound_of(0)])
    assert isinstance(outcome, ItemError) and "cut off after 5 tokens" in outcome.detail


def test_no_more_than_max_seconds_is_heard(options: dict[str, str]) -> None:
    both = np.concatenate([sound_of(0, 3.0), sound_of(2, 20.0)])
    backend = made(options, max_seconds=3)
    assert ask(backend, [both, sound_of(0, 3.0)]) == [SAID[0]] * 2


def test_sound_is_resampled_to_what_the_model_hears(options: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(options["model"], tmp_path / "fast")
    for about in (tmp_path / "fast").glob("*processor_config.json"):
        content = json.loads(about.read_text())
        for part in (content, content.get("feature_extractor", {})):
            if "sampling_rate" in part:
                part["sampling_rate"] = 24_000
        about.write_text(json.dumps(content))
    backend = made({"model": str(tmp_path / "fast")})
    asked = backend._inputs(sound_of(0, 4.0), PROMPT)
    assert int(asked["feature_attention_mask"].sum()) == 4 * 24_000 // 160


def test_the_context_is_kept(options: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(options["model"], tmp_path / "short")
    about = tmp_path / "short" / "config.json"
    content = json.loads(about.read_text())
    content["text_config"]["max_position_embeddings"] = 900
    about.write_text(json.dumps(content))
    made({"model": str(tmp_path / "short")}, max_seconds=5)
    with pytest.raises(BackendError, match="too many for the model's 900"):
        made({"model": str(tmp_path / "short")})


def test_memory_that_runs_out_halves_the_batch(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    backend = made(options, clips_per_batch=4)
    write, sizes = backend._writer.write, []

    def short_of_memory(inputs: Any, seeds: Any) -> Any:
        sizes.append(len(seeds))
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("full")
        return write(inputs, seeds)

    monkeypatch.setattr(backend._writer, "write", short_of_memory)
    assert ask(backend, [sound_of(kind) for kind in range(3)]) == SAID
    assert sizes[0] == 4 and set(sizes[1:]) == {2}


class TestIdentity:
    def test_it_names_all_that_shapes_answers(self, options: dict[str, str]) -> None:
        found = registry.create("audio_captioner", "transformers_audio", options).identity()
        for more in ({"clips_per_batch": 7}, {"threads": 2}, {"download": True}):
            assert registry.create("audio_captioner", "transformers_audio", options | more).identity() == found
        changes: list[dict[str, Any]] = [{"max_seconds": 9}, {"max_new_tokens": 9}, {"precision": "bf16"}]
        for change in [*changes, {"repetition_penalty": 1.1}]:
            assert registry.create("audio_captioner", "transformers_audio", options | change).identity() != found

    def test_a_hub_name_is_named_with_its_revision(self) -> None:
        backend = registry.create(
            "audio_captioner", "transformers_audio", {"model": "Qwen/Qwen2-Audio-7B-Instruct", "revision": "abc"}
        )
        assert backend.identity().startswith("Qwen/Qwen2-Audio-7B-Instruct@abc/auto/")


class TestRefused:
    def test_longer_sound_than_the_model_hears(self, options: dict[str, str]) -> None:
        with pytest.raises(BackendError, match="hears 30 s at most") as caught:
            made(options, max_seconds=60)
        assert caught.value.hint == "set `max_seconds: 30`"

    def test_a_model_that_hears_nothing(self, tmp_path: Path) -> None:
        from tiny_models.tiny_llama import make_tiny_llama

        folder = make_tiny_llama(tmp_path)["llm"]
        with pytest.raises(BackendError, match="kind `llama`, which hears nothing"):
            made({"model": folder})

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="no folder"):
            made({"model": str(tmp_path / "none")})

    def test_a_model_without_a_template(self, options: dict[str, str], tmp_path: Path) -> None:
        shutil.copytree(options["model"], tmp_path / "bare")
        for file in (tmp_path / "bare").glob("chat_template*"):
            file.write_text("{{ nothing.of.the.kind() }}")
        with pytest.raises(BackendError, match="takes no sound"):
            made({"model": str(tmp_path / "bare")})
