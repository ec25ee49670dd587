"""Whisper through openai-whisper, on tiny models in the published layout: what is heard, and when."""

from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whisper_checkpoints as tiny
from voices import RATE, Float32, silence, voice

from vidcap.backends import registry, voice_activity
from vidcap.backends.weights import whisper_weights
from vidcap.errors import BackendError, ItemError, TransientError
from vidcap.records import Transcript

EMPTY = Transcript()
QUICK = {"temperatures": [0.0], "beam_size": None}
SAMPLED = {"temperatures": [1.0], "logprob_threshold": None}


def made(**options: Any) -> Any:
    return registry.create("transcriber", "whisper", options)


class TestWithoutWeights:
    """What is said where something lacks needs neither torch nor a model."""

    def test_a_missing_library_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(package: str) -> str:
            raise importlib.metadata.PackageNotFoundError(package)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        for call in (made().identity, lambda: made().load("cpu")):
            with pytest.raises(BackendError, match=r"is not installed\nhint: pip install 'vidcap\[whisper\]'"):
                call()

    def test_defaults_are_the_papers_model_and_guards_against_loops(self) -> None:
        config = made().config
        assert (config.model, config.condition_on_previous_text, config.temperatures[0]) == ("large-v2", False, 0.0)
        assert made(model="tiny.en").languages == {"en"}
        assert made().languages == frozenset()

    @pytest.mark.parametrize(
        "options",
        [
            {"beam_size": 0},
            {"temperatures": []},
            {"temperatures": [0.0, -0.2]},
            {"language": "English"},
            {"precision": "fp8"},
            {"threads": 0},
            {"no_speech_threshold": 1.5},
            {"word_timestamps": False, "hallucination_silence_threshold": 2.0},
            {"task": "translate"},
        ],
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(BackendError, match="option"):
            made(**options)

    def test_stretches_are_joined_up_to_a_pause_and_a_length(self) -> None:
        from vidcap.backends.whisper_hearing import join

        pieces = [(0, 10), (12, 20), (23, 30), (31, 41), (42, 52)]
        assert join(pieces, longest=30, gap=2) == [(0, 20), (23, 52)]
        assert join(pieces, longest=20, gap=2) == [(0, 20), (23, 41), (42, 52)]
        assert join(pieces, longest=1000, gap=0) == pieces


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What openai-whisper's `transcribe` is called with; it runs all the same."""
    whisper = pytest.importorskip("whisper")
    calls: list[dict[str, Any]] = []
    real = whisper.model.Whisper.transcribe

    def watched(model: Any, sound: Float32, **options: Any) -> Any:
        calls.append({"seconds": len(sound) / RATE, **options})
        return real(model, sound, **options)

    monkeypatch.setattr(whisper.model.Whisper, "transcribe", watched)
    yield calls


@pytest.mark.full
class TestHearing:
    def test_text_words_times_confidence_and_language(self, kite: Path) -> None:
        (heard,) = made(model=str(kite)).transcribe([voice(3)], seeds=[0])
        assert heard.text == " ".join(tiny.WORDS)
        assert [word.word for word in heard.words] == tiny.WORDS
        assert heard.language == "fr"
        assert heard.confidence == pytest.approx(1.0, abs=1e-3)
        assert all(type(value) is float for word in heard.words for value in (word.start, word.end, word.p))

    def test_times_are_those_of_the_source(self, kite: Path) -> None:
        backend = made(model=str(kite), join_seconds=1)
        speech = voice(3)
        (alone,) = backend.transcribe([np.concatenate([silence(1), speech, silence(1)])], seeds=[0])
        sound = np.concatenate([silence(1), speech, silence(6), speech, silence(1)])
        (heard,) = backend.transcribe([sound], seeds=[0])
        assert heard.text == " ".join(tiny.WORDS * 2)
        half = len(tiny.WORDS)
        first, second = heard.words[:half], heard.words[half:]
        assert first == alone.words
        # The gate places both stretches on its own 10 ms grid.
        moved = [b.start - a.start for a, b in zip(first, second, strict=True)]
        assert moved == pytest.approx([9.0] * half, abs=0.02)
        assert 0.8 <= first[0].start < first[-1].end <= 4.2
        assert 9.8 <= second[0].start < second[-1].end <= 13.2

    def test_stretches_with_a_short_pause_are_heard_as_one(self, kite: Path, asked: list[dict[str, Any]]) -> None:
        sound = np.concatenate([voice(2), silence(1.5), voice(2), silence(3), voice(2)])
        made(model=str(kite), language="en").transcribe([sound], seeds=[0])
        assert [call["seconds"] for call in asked] == pytest.approx([5.5, 2.0], abs=0.5)

    def test_long_speech_is_heard_in_windows_and_all_of_it(self, kite: Path, asked: list[dict[str, Any]]) -> None:
        (heard,) = made(model=str(kite), **QUICK).transcribe([voice(70)], seeds=[0])
        assert len(asked) >= 3
        assert max(call["seconds"] for call in asked) <= 30
        assert sum(call["seconds"] for call in asked) == pytest.approx(70, abs=1)
        assert heard.text == " ".join(tiny.WORDS * len(asked))

    def test_without_the_gate_everything_is_heard(self, kite: Path, asked: list[dict[str, Any]]) -> None:
        noise = (0.1 * np.random.default_rng(1).normal(size=2 * RATE)).astype(np.float32)
        gated, heard = (made(model=str(kite), vad=vad).transcribe([noise], seeds=[0])[0] for vad in (True, False))
        assert gated == EMPTY
        assert heard.text
        assert [call["seconds"] for call in asked] == [2.0]

    @pytest.mark.parametrize("vad", [True, False])
    def test_the_model_is_not_asked_about_nothing(self, kite: Path, asked: list[dict[str, Any]], vad: bool) -> None:
        backend = made(model=str(kite), vad=vad)
        faint = np.full(2 * RATE, 1e-5, np.float32)
        short = voice(1)[:1500]
        sounds = [np.zeros(0, np.float32), silence(3), faint, short]
        assert backend.transcribe(sounds, seeds=[0] * 4) == [EMPTY] * 4
        assert not asked

    def test_numbers_that_are_none_are_the_items_error(self, kite: Path) -> None:
        broken = voice(2)
        broken[7] = np.nan
        failed, heard = made(model=str(kite)).transcribe([broken, voice(2)], seeds=[0, 0])
        assert isinstance(failed, ItemError)
        assert failed.reason == "transcribe.failed"
        assert heard.text

    def test_read_only_sound_is_taken(self, kite: Path) -> None:
        sound = voice(2)
        sound.setflags(write=False)
        assert made(model=str(kite), vad=False).transcribe([sound], seeds=[0])[0].text

    def test_without_word_times_confidence_is_of_tokens(self, babble: Path) -> None:
        (heard,) = made(model=str(babble), word_timestamps=False, **SAMPLED).transcribe([voice(2)], seeds=[0])
        assert heard.text
        assert not heard.words
        assert 0 < heard.confidence < 0.5


@pytest.mark.full
class TestLanguage:
    def test_the_language_that_is_asked_for_is_not_detected(self, kite: Path, asked: list[dict[str, Any]]) -> None:
        (heard,) = made(model=str(kite), language="jv").transcribe([voice(2)], seeds=[0])
        assert heard.language == "jv"
        assert asked[0]["language"] == "jw"

    def test_an_unsure_language_is_used_and_not_told(self, babble: Path, asked: list[dict[str, Any]]) -> None:
        unsure, told = (
            made(model=str(babble), min_language_probability=least, **SAMPLED).transcribe([voice(2)], seeds=[0])[0]
            for least in (1.0, 0.0)
        )
        assert unsure.language == ""
        assert told.language == asked[0]["language"] == asked[1]["language"]
        assert unsure.words == told.words

    def test_a_language_that_the_model_does_not_know(self, kite: Path) -> None:
        with pytest.raises(BackendError, match=r"`kite` does not know the language `xx`\nhint: it knows: af, am"):
            made(model=str(kite), language="xx").load("cpu")

    def test_a_model_of_english_only(self, kite: Path, tmp_path: Path) -> None:
        state = tiny.saying(vocabulary=51_864)
        path = tiny.save(state, tmp_path / "english.pt", vocabulary=51_864)
        backend = made(model=str(path))
        (heard,) = backend.transcribe([voice(2)], seeds=[0])
        assert (heard.text, heard.language, backend.languages) == (" ".join(tiny.WORDS), "en", {"en"})
        with pytest.raises(BackendError, match="does not know the language `fr`"):
            made(model=str(path), language="fr").load("cpu")


@pytest.mark.full
class TestDeterminism:
    def test_sampling_follows_the_seed_and_nothing_else(self, babble: Path) -> None:
        import torch

        backend = made(model=str(babble), **SAMPLED)
        one, two = voice(1, 1), voice(1, 2)
        first = backend.transcribe([one, two], seeds=[5, 2**64 - 1])
        torch.manual_seed(99)
        assert made(model=str(babble), **SAMPLED).transcribe([two, one], seeds=[2**64 - 1, 5]) == first[::-1]
        assert backend.transcribe([one], seeds=[6])[0] != first[0]

    def test_torch_is_left_as_it_was(self, babble: Path) -> None:
        import torch
        from whisper.timing import numba

        before = torch.get_rng_state(), torch.get_num_threads(), numba.get_num_threads()
        made(model=str(babble), threads=before[1] + 1, **SAMPLED).transcribe([voice(2)], seeds=[5])
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (torch.get_num_threads(), numba.get_num_threads()) == before[1:]

    def test_half_precision_weights_give_the_librarys_numbers(self, babble: Path) -> None:
        import torch

        from vidcap.backends.transcriber.whisper import halve

        model = whisper_weights.read(babble)
        spectrum = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0)).half()
        tokens = torch.tensor([[50258, 50259, 50359, 100, 200]])
        with torch.inference_mode():
            expected = model(spectrum, tokens)
            halve(model)
            assert torch.equal(model(spectrum, tokens), expected)


@pytest.mark.full
class TestGuards:
    def test_loops_are_dropped(self, kite: Path, tmp_path: Path) -> None:
        path = tiny.save(tiny.saying(" thank you" * 30), tmp_path / "loop.pt")
        assert made(model=str(path), **QUICK).transcribe([voice(2)], seeds=[0]) == [EMPTY]
        (heard,) = made(model=str(path), drop_repetitions=False, **QUICK).transcribe([voice(2)], seeds=[0])
        assert heard.text.startswith("thank you thank you")

    def test_higher_temperatures_are_tried_where_a_threshold_fails(
        self, babble: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import whisper.decoding

        tried: list[tuple[float, int | None]] = []
        real = whisper.decoding.decode

        def watched(model: Any, spectrum: Any, options: Any) -> Any:
            tried.append((options.temperature, options.beam_size))
            return real(model, spectrum, options)

        monkeypatch.setattr(whisper.decoding, "decode", watched)
        backend = made(model=str(babble), temperatures=[0.0, 0.4], beam_size=2, no_speech_threshold=None)
        backend.transcribe([voice(2)], seeds=[0])
        assert tried[:2] == [(0.0, 2), (0.4, None)]

    def test_what_goes_before_a_stretch(self, kite: Path, asked: list[dict[str, Any]]) -> None:
        sound = np.concatenate([voice(2), silence(4), voice(2)])
        for options in ({"initial_prompt": "Kites."}, {"condition_on_previous_text": True}, {}):
            made(model=str(kite), **options, **QUICK).transcribe([sound], seeds=[0])
        assert [call["initial_prompt"] for call in asked] == ["Kites.", None, None, tiny.SAYS, None, None]

    def test_a_model_that_does_not_get_on_is_the_items_error(self, kite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import whisper.decoding

        real = whisper.decoding.decode

        def short(model: Any, spectrum: Any, options: Any) -> Any:
            result = real(model, spectrum, options)
            begin = 50_364
            result.tokens[:] = [begin, 257, begin + 1, begin + 1, 257]  # " a" of 20 ms, then an unfinished one
            return result

        monkeypatch.setattr(whisper.decoding, "decode", short)
        (failed,) = made(model=str(kite), word_timestamps=False, **QUICK).transcribe([voice(3)], seeds=[0])
        assert isinstance(failed, ItemError)
        assert "does not get on" in failed.detail

    def test_out_of_memory_takes_beams_away_and_gives_them_back(
        self, kite: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        import torch
        import whisper.decoding

        real, tried = whisper.decoding.decode, []

        def tight(model: Any, spectrum: Any, options: Any) -> Any:
            tried.append(options.beam_size)
            if (options.beam_size or 1) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(model, spectrum, options)

        monkeypatch.setattr(whisper.decoding, "decode", tight)
        backend = made(model=str(kite), beam_size=8)
        with caplog.at_level(logging.WARNING):
            heard = backend.transcribe([voice(2), voice(2)], seeds=[0, 0])
        assert [one.text for one in heard] == [" ".join(tiny.WORDS)] * 2
        assert tried == [8, 4, 2] * 2
        assert "out of memory with 8 beams" in caplog.text

        monkeypatch.setattr(whisper.decoding, "decode", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
        with pytest.raises(TransientError, match="no memory left for a single window"):
            backend.transcribe([voice(2)], seeds=[0])

    def test_fp16_needs_a_gpu_and_a_device_must_be_there(self, kite: Path) -> None:
        with pytest.raises(BackendError, match="`precision: fp16` needs a GPU"):
            made(model=str(kite), precision="fp16").load("cpu")
        with pytest.raises(BackendError, match="device `cuda:99` cannot be used"):
            made(model=str(kite)).load("cuda:99")


def test_making_one_imports_no_torch(repository: Path) -> None:
    code = (
        "import sys; from vidcap.backends import registry; registry.create('transcriber', 'whisper').languages; "
        "print([name for name in ('torch', 'whisper', 'numba') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_voice_of_these_tests_passes_the_gate() -> None:
    ((first, end),) = voice_activity.pieces(voice(3), max_seconds=30)
    assert end - first > 2.5 * RATE
