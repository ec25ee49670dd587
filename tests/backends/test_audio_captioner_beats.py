"""`beats_qformer` on a tiny model of its three parts: what it hears, what it says nothing of, what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_views import BLUE, RATE, babble, bands, clip, music, noise, still, tone
from tiny_models.beats import make_beats
from tiny_models.sound_captioner import make_sound_captioner
from tiny_models.tiny_llama import make_tiny_llama

from vidcap.backends import registry
from vidcap.errors import BackendError, ItemError

pytestmark = pytest.mark.full
SOUNDS = [music(3.0), noise(4.0), tone(2.0), babble(12.0), music(35.0, level=0.1)]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("transformers")
    return make_sound_captioner(tmp_path_factory.mktemp("captioner"))


def made(options: dict[str, Any], **more: Any) -> Any:
    backend = registry.create("audio_captioner", "beats_qformer", {"max_new_tokens": 8} | options | more)
    backend.load("cpu")
    return backend


def ask(backend: Any, sounds: Sequence[Any], prompt: str = "") -> list[Any]:
    views = [still(BLUE, audio=sound) for sound in sounds]
    found: list[Any] = backend.caption(views, prompt=prompt, seeds=list(range(len(views))))
    return found


@pytest.fixture(scope="module")
def alone(options: dict[str, str]) -> list[str]:
    """Each sound asked by itself, one clip a batch."""
    backend = made(options)
    return [ask(backend, [sound])[0] for sound in SOUNDS]


def test_what_is_said_depends_on_the_sound(alone: list[str]) -> None:
    assert all(isinstance(text, str) and text and "\n" not in text for text in alone)
    assert len(set(alone)) >= 4


def test_a_batch_says_what_singles_say(options: dict[str, str], alone: list[str]) -> None:
    for size in (1, 2, 4):
        backend = made(options, clips_per_batch=size)
        assert ask(backend, SOUNDS) == alone
        assert ask(backend, SOUNDS[::-1]) == alone[::-1]
        assert ask(backend, SOUNDS[1:2]) == alone[1:2]


def test_seeds_and_the_global_generator_play_no_part(options: dict[str, str], alone: list[str]) -> None:
    import torch

    before = torch.random.get_rng_state()
    backend = made(options)
    view = still(BLUE, audio=SOUNDS[0])
    assert backend.caption([view, view], prompt="", seeds=[3, 2**64 - 1]) == [alone[0]] * 2
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_is_said_of_silence_and_the_model_is_not_asked(options: dict[str, str]) -> None:
    backend = made(options)
    backend._captioner = None
    backend.load = lambda device: setattr(backend, "_captioner", object())
    hush = np.full(3 * RATE, 0.0009, np.float32)
    views = [still(BLUE), still(BLUE, audio=hush), clip([bands(BLUE)] * 2, noise(), has_audio=False)]
    views.append(still(BLUE, audio=noise(0.02)))
    assert backend.caption(views, prompt="", seeds=[1, 2, 3, 4]) == ["", "", "", ""]


def test_a_bad_sound_is_an_error_in_its_place(options: dict[str, str], alone: list[str]) -> None:
    backend = made(options)
    broken = SOUNDS[0].copy()
    broken[100] = np.nan
    first, second, third = ask(backend, [SOUNDS[0], broken, SOUNDS[1]])
    assert (first, third) == (alone[0], alone[1])
    assert isinstance(second, ItemError) and second.reason == "caption.failed"


def test_numbers_that_are_not_finite_are_an_error(options: dict[str, str]) -> None:
    import torch

    backend = made(options)
    with torch.no_grad():
        backend._captioner.llm.lm_head.weight[7] = float("nan")
    (outcome,) = ask(backend, SOUNDS[:1])
    assert isinstance(outcome, ItemError) and "not finite" in outcome.detail


def test_all_of_thirty_seconds_is_heard_and_nothing_beyond(options: dict[str, str]) -> None:
    backend = made(options)
    sound = noise(36.0)
    late, too_late = sound.copy(), sound.copy()
    late[25 * RATE : 30 * RATE] = tone(5.0, level=0.9)
    too_late[30 * RATE :] = 0
    tokens = [backend._captioner.tokens([each], 1) for each in (sound, late, too_late)]
    assert tokens[0][0].shape == (1, 3 * 496, 48) and bool(tokens[0][1].all())
    per_window = [
        bool((tokens[0][0][0, w * 496 : w * 496 + 496] == tokens[1][0][0, w * 496 : w * 496 + 496]).all())
        for w in range(3)
    ]
    assert per_window == [True, True, False]
    assert bool((tokens[0][0] == tokens[2][0]).all())
    short = backend._captioner.tokens([noise(4.0)], 1)
    assert int(short[1].sum()) == 496 and not short[0][0, 496:].any()


def test_the_instruction_is_asked(options: dict[str, str], alone: list[str]) -> None:
    from vidcap.models.instructions import INSTRUCTIONS

    backend = made(options)
    assert ask(backend, SOUNDS[:2], prompt=INSTRUCTIONS[0]) == alone[:2]
    assert any(ask(backend, SOUNDS[:2], prompt=other) != alone[:2] for other in INSTRUCTIONS[1:5])


def test_an_answer_ends_at_the_end_mark(options: dict[str, str]) -> None:
    """A language model that says one text whatever it is asked."""
    backend = made(options, max_new_tokens=40)
    captioner = backend._captioner
    said = captioner.tokenizer("A dog barks.###Human: more", add_special_tokens=False)["input_ids"]
    real = captioner.llm

    class Saying:
        generation_config, dtype = real.generation_config, real.dtype
        get_input_embeddings = real.get_input_embeddings
        asked = 0

        def __call__(self, **given: Any) -> Any:
            output = real(**given)
            output.logits[:] = 0
            output.logits[..., said[self.asked]] = 1
            self.asked += 1
            return output

    captioner.llm = Saying()
    assert ask(backend, SOUNDS[:1]) == ["A dog barks."]
    assert captioner.llm.asked < len(said)


def test_memory_that_runs_out_halves_the_batch(
    options: dict[str, str], alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    backend = made(options, clips_per_batch=4)
    encode, sizes = type(backend._captioner.encoder).forward, []

    def forward(self: Any, spectrum: Any) -> Any:
        sizes.append(len(spectrum))
        if len(spectrum) > 2:
            raise torch.OutOfMemoryError("full")
        return encode(self, spectrum)

    monkeypatch.setattr(type(backend._captioner.encoder), "forward", forward)
    assert ask(backend, SOUNDS) == alone
    assert sizes[0] == 4 and set(sizes[1:]) == {2}


class TestIdentity:
    def test_it_names_all_that_shapes_answers(self, options: dict[str, str]) -> None:
        base = registry.create("audio_captioner", "beats_qformer", options)
        found = base.identity()
        assert found.startswith("prefix@") and "/beats-beats@" in found and "/llm@" in found and "/auto/n48/" in found
        same = ({"clips_per_batch": 7}, {"threads": 2}, {"download": True})
        other = ({"max_new_tokens": 9}, {"precision": "bf16"})
        for more in same:
            assert registry.create("audio_captioner", "beats_qformer", options | more).identity() == found
        for more in other:
            assert registry.create("audio_captioner", "beats_qformer", options | more).identity() != found

    def test_it_depends_on_the_files_not_on_where_they_lie(self, options: dict[str, str], tmp_path: Path) -> None:
        found = registry.create("audio_captioner", "beats_qformer", options).identity()
        shutil.copy(options["weights"], tmp_path / "prefix.safetensors")
        moved = options | {"weights": str(tmp_path / "prefix.safetensors")}
        assert registry.create("audio_captioner", "beats_qformer", moved).identity() == found
        make_beats(tmp_path, seed=1)
        changed = options | {"encoder": str(tmp_path / "beats.pt")}
        assert registry.create("audio_captioner", "beats_qformer", changed).identity() != found


class TestRefused:
    def refused(self, options: dict[str, str], **more: str) -> BackendError:
        with pytest.raises(BackendError) as caught:
            made(options, **more)
        assert caught.value.hint
        return caught.value

    def test_files_that_are_not_there(self, options: dict[str, str], tmp_path: Path) -> None:
        for name in ("encoder", "weights"):
            assert "there is no file" in self.refused(options, **{name: str(tmp_path / "none.pt")}).message
        assert "no folder" in self.refused(options, llm=str(tmp_path / "none")).message

    def test_an_encoder_it_was_not_trained_with(self, options: dict[str, str], tmp_path: Path) -> None:
        make_beats(tmp_path, seed=1)
        assert "another encoder" in self.refused(options, encoder=str(tmp_path / "beats.pt")).message

    @pytest.mark.parametrize("change", [{"seed": 1}, {"hidden": 32}])
    def test_a_language_model_it_was_not_trained_with(
        self, options: dict[str, str], tmp_path: Path, change: dict[str, int]
    ) -> None:
        make_tiny_llama(tmp_path, **change)
        assert "another language model" in self.refused(options, llm=str(tmp_path)).message

    def test_the_same_language_model_in_half_precision_is_the_same(
        self, options: dict[str, str], tmp_path: Path
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        shutil.copytree(options["llm"], tmp_path / "half")
        AutoModelForCausalLM.from_pretrained(options["llm"], dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
        made(options, llm=str(tmp_path / "half"), precision="bf16")

    def test_weights_of_something_else(self, options: dict[str, str], tmp_path: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        from vidcap.safe_checkpoints import metadata_of

        state, about = load_file(options["weights"]), metadata_of(Path(options["weights"]), hint="")
        path = tmp_path / "odd.safetensors"
        save_file(state, path)
        assert "no file of `vidcap train-captioner`" in self.refused(options, weights=str(path)).message
        save_file(state, path, metadata={"vidcap": '{"kind": "vidcap-sound-prefix/1"}'})
        assert "does not say" in self.refused(options, weights=str(path)).message
        save_file({**state, "more": torch.zeros(1)}, path, metadata=about)
        assert "unexpected: more" in self.refused(options, weights=str(path)).message
        path.write_bytes(b"no weights")
        assert "cannot be read" in self.refused(options, weights=str(path)).message
