"""Whisper through faster-whisper, on tiny models that CTranslate2's own converter made: what is heard, and when."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import faster_whisper as tiny
from voices import RATE, silence, voice

from vidcap.backends import registry
from vidcap.backends.weights import converted_whisper
from vidcap.errors import BackendError, ItemError, TransientError
from vidcap.records import Transcript

EMPTY = Transcript()
WORDS = tiny.SAYS.split()
DRAWN: dict[str, Any] = {"temperatures": [1.0], "logprob_threshold": None, "no_speech_threshold": None}


def made(folder: Path | str = "large-v2", **options: Any) -> Any:
    return registry.create("transcriber", "faster_whisper", {"model": str(folder), **options})


def hear(backend: Any, *sounds: Any, seed: int = 0) -> list[Any]:
    found: list[Any] = backend.transcribe(sounds, seeds=[seed] * len(sounds))
    return found


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says the same of every window, at times that depend on the sound."""
    return converted(tmp_path_factory.mktemp("weights") / "kite")


@pytest.fixture(scope="module")
def muddled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is said depends on the sound and makes no sense; the model is not sure of it."""
    return converted(tmp_path_factory.mktemp("weights") / "babble", text=" a" * 12, babble=12)


def converted(folder: Path, **options: Any) -> Path:
    pytest.importorskip("faster_whisper")
    pytest.importorskip("transformers")
    tiny.make_faster_whisper(folder, **options)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the library's two ways are called with; they run all the same."""
    library = pytest.importorskip("faster_whisper")
    calls: list[dict[str, Any]] = []
    for kind in (library.WhisperModel, library.BatchedInferencePipeline):
        real = kind.transcribe

        def watched(model: Any, sound: Any, _real: Any = real, _kind: Any = kind, **options: Any) -> Any:
            calls.append({"by": _kind.__name__, "seconds": len(sound) / RATE, **options})
            return _real(model, sound, **options)

        monkeypatch.setattr(kind, "transcribe", watched)
    yield calls


class TestWithoutWeights:
    """What is said where something lacks needs no library."""

    def test_a_missing_library_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(package: str) -> str:
            raise importlib.metadata.PackageNotFoundError(package)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        for call in (made().identity, lambda: made().load("cpu")):
            with pytest.raises(BackendError, match=r"is not installed\nhint: pip install 'vidcap\[faster-whisper\]'"):
                call()

    def test_defaults(self) -> None:
        config = made().config
        assert (config.model, config.condition_on_previous_text, config.temperatures) == ("large-v2", False, (0.0,))
        assert made("tiny.en").languages == {"en"}
        assert made().languages == frozenset()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"compute_type": "fp8"}, "compute_type"),
            ({"batch_size": 0}, "batch_size"),
            ({"vad": False}, "needs `batched: false`"),
            ({"condition_on_previous_text": True}, "needs `batched: false`"),
            ({"hallucination_silence_threshold": 2.0}, "needs `batched: false`"),
            ({"batched": False, "hallucination_silence_threshold": 2.0, "word_timestamps": False}, "word_timestamps"),
            ({"temperatures": [-1.0]}, "lie in"),
            ({"task": "translate"}, "task"),
        ],
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(BackendError, match=message):
            made(**options)

    def test_what_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match=r"there is no `config.json` in the folder(.|\n)*hint: give `model: "):
            made(tmp_path).identity()
        with pytest.raises(BackendError, match="there is no folder `larg`"):
            made("larg").identity()


@pytest.mark.full
class TestIdentity:
    def test_a_name_and_a_folder(self, said: Path) -> None:
        library = importlib.metadata.version("faster-whisper")
        engine = importlib.metadata.version("ctranslate2")
        name = made("large-v2", revision="abc", compute_type="int8", beam_size=None).identity()
        wanted = "Systran/faster-whisper-large-v2@abc/int8-greedy-vad-batched"
        assert name == f"{wanted}/faster-whisper-{library}/ctranslate2-{engine}"
        assert made(said).identity().startswith("kite@")
        assert "/default-beam-5-whole-fr-windows/" in made(said, vad=False, batched=False, language="fr").identity()

    def test_the_digest_is_of_what_changes_the_numbers(self, said: Path, tmp_path: Path) -> None:
        copy = tmp_path / "kite"
        shutil.copytree(said, copy)
        assert made(copy).identity() == made(said).identity()
        with (copy / "model.bin").open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x7f")
        assert made(copy).identity() != made(said).identity()

    def test_published_names_are_the_librarys(self) -> None:
        utils = pytest.importorskip("faster_whisper.utils")
        assert {name: utils._MODELS[name] for name in converted_whisper.PUBLISHED} == converted_whisper.PUBLISHED


@pytest.mark.full
class TestHearing:
    @pytest.mark.parametrize("batched", [True, False])
    def test_text_words_times_confidence_and_language(self, said: Path, batched: bool) -> None:
        (heard,) = hear(made(said, batched=batched), voice(3))
        assert heard.text == " ".join(WORDS)
        assert [word.word for word in heard.words] == WORDS
        assert heard.language == "fr"
        assert heard.confidence == pytest.approx(1.0, abs=1e-3)
        assert all(type(value) is float for word in heard.words for value in (word.start, word.end, word.p))

    @pytest.mark.parametrize("batched", [True, False])
    def test_times_are_those_of_the_source(self, said: Path, batched: bool) -> None:
        backend = made(said, join_seconds=1, batched=batched)
        speech = voice(3)
        (alone,) = hear(backend, np.concatenate([silence(1), speech, silence(1)]))
        (heard,) = hear(backend, np.concatenate([silence(1), speech, silence(6), speech, silence(1)]))
        assert heard.text == " ".join(WORDS * 2)
        half = len(WORDS)
        first, second = heard.words[:half], heard.words[half:]
        assert first == alone.words
        # The gate places both stretches on its own 10 ms grid.
        moved = [b.start - a.start for a, b in zip(first, second, strict=True)]
        assert moved == pytest.approx([9.0] * half, abs=0.02)
        assert 0.8 <= first[0].start < first[-1].end <= 4.2
        assert 9.8 <= second[0].start < second[-1].end <= 13.2

    def test_a_batch_has_the_stretches_to_the_sample(self, said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The library rounds down twice; 29 × 10 ms is one of the places where that shows."""
        library = pytest.importorskip("faster_whisper")
        seen: list[Any] = []
        real = library.BatchedInferencePipeline.forward

        def watched(pipeline: Any, features: Any, tokenizer: Any, metadata: Any, options: Any) -> Any:
            seen.extend(metadata)
            return real(pipeline, features, tokenizer, metadata, options)

        monkeypatch.setattr(library.BatchedInferencePipeline, "forward", watched)
        starts = [29, 57, 58, 113, 114, 115, 116, 230, 1_129]
        chunks = [(start * 160, (start + 1) * 160 + 1600) for start in starts]
        monkeypatch.setattr("vidcap.backends.transcriber.faster_whisper.stretches", lambda *_: chunks)
        (heard,) = hear(made(said, language="en"), voice(12))
        assert heard.text == " ".join(WORDS * len(starts))
        assert [round(one["duration"] * RATE) for one in seen] == [1759] * len(starts)

    def test_batches_of_any_size_hear_the_same(self, muddled: Path, asked: list[dict[str, Any]]) -> None:
        sound = np.concatenate([piece for seed in range(5) for piece in (voice(2, seed), silence(3))])
        heard = [hear(made(muddled, batch_size=size, language="fr"), sound)[0] for size in (1, 2, 8)]
        assert [(call["by"], call["batch_size"]) for call in asked] == [
            ("BatchedInferencePipeline", size) for size in (1, 2, 8)
        ]
        assert len(asked[0]["clip_timestamps"]) == 5
        for other in heard[1:]:
            assert other.text == heard[0].text
            assert [(word.start, word.end) for word in other.words] == [
                (word.start, word.end) for word in heard[0].words
            ]
            assert other.confidence == pytest.approx(heard[0].confidence, abs=1e-5)

    def test_long_speech_is_heard_in_stretches_and_all_of_it(self, said: Path, asked: list[dict[str, Any]]) -> None:
        (heard,) = hear(made(said), voice(70))
        (call,) = asked
        lengths = [clip["end"] - clip["start"] for clip in call["clip_timestamps"]]
        assert len(lengths) >= 3
        assert max(lengths) <= 30
        assert sum(lengths) == pytest.approx(70, abs=1)
        assert heard.text == " ".join(WORDS * len(lengths))

    def test_without_the_gate_everything_is_heard(self, said: Path, asked: list[dict[str, Any]]) -> None:
        noise = (0.1 * np.random.default_rng(1).normal(size=2 * RATE)).astype(np.float32)
        assert hear(made(said), noise) == [EMPTY]
        (heard,) = hear(made(said, vad=False, batched=False), noise)
        assert heard.text
        assert [(call["by"], call["seconds"]) for call in asked] == [("WhisperModel", 2.0)]

    def test_the_model_is_not_asked_about_nothing(self, said: Path, asked: list[dict[str, Any]]) -> None:
        sounds = [np.zeros(0, np.float32), silence(3), np.full(2 * RATE, 1e-5, np.float32), voice(1)[:1500]]
        assert hear(made(said), *sounds) == [EMPTY] * 4
        assert not asked

    def test_numbers_that_are_none_are_the_items_error(self, said: Path) -> None:
        broken = voice(2)
        broken[7] = np.nan
        failed, heard = hear(made(said), broken, voice(2))
        assert isinstance(failed, ItemError)
        assert failed.reason == "transcribe.failed"
        assert heard.text

    def test_read_only_sound_is_taken(self, said: Path) -> None:
        sound = voice(2)
        sound.setflags(write=False)
        for batched in (True, False):
            assert hear(made(said, batched=batched), sound)[0].text

    @pytest.mark.parametrize("batched", [True, False])
    def test_without_word_times_confidence_is_of_tokens(self, muddled: Path, batched: bool) -> None:
        (heard,) = hear(made(muddled, word_timestamps=False, batched=batched, logprob_threshold=None), voice(2))
        assert heard.text
        assert not heard.words
        assert 0 < heard.confidence < 0.99

    def test_a_model_that_has_nothing_to_say(self, tmp_path: Path) -> None:
        folder = converted(tmp_path / "mute", text=" \n")
        for batched in (True, False):
            assert hear(made(folder, batched=batched, language="fr"), voice(3)) == [EMPTY]

    def test_other_spectra(self, tmp_path: Path) -> None:
        folder = converted(tmp_path / "fine", mels=128)
        assert hear(made(folder), voice(2))[0].text == " ".join(WORDS)
        (folder / "preprocessor_config.json").unlink()
        with pytest.raises(BackendError, match=r"hears 128 bands(.|\n)*hint: copy preprocessor_config.json"):
            made(folder).load("cpu")


@pytest.mark.full
class TestLanguage:
    def test_the_language_that_is_asked_for_is_not_detected(self, said: Path, asked: list[dict[str, Any]]) -> None:
        (heard,) = hear(made(said, language="jv"), voice(2))
        assert heard.language == "jv"
        assert asked[0]["language"] == "jw"

    def test_an_unsure_language_is_used_and_not_told(self, muddled: Path, asked: list[dict[str, Any]]) -> None:
        unsure, told = (hear(made(muddled, min_language_probability=least), voice(2))[0] for least in (1.0, 0.0))
        assert unsure.language == ""
        assert told.language == asked[0]["language"] == asked[1]["language"]
        assert unsure.words == told.words

    def test_a_language_that_the_model_does_not_know(self, said: Path) -> None:
        # Cantonese came with large-v3: the library knows it, this tokenizer does not.
        for code in ("xx", "yue"):
            with pytest.raises(BackendError, match=rf"kite` does not know the language `{code}`\nhint: it knows: af, "):
                made(said, language=code).load("cpu")

    def test_a_model_of_english_only(self, tmp_path: Path) -> None:
        folder = converted(tmp_path / "english", english=True)
        backend = made(folder)
        (heard,) = hear(backend, voice(2))
        assert (heard.text, heard.language, backend.languages) == (" ".join(WORDS), "en", {"en"})
        with pytest.raises(BackendError, match="does not know the language `fr`"):
            made(folder, language="fr").load("cpu")


@pytest.mark.full
class TestChance:
    def test_sampling_follows_the_seed_and_nothing_else(self, muddled: Path) -> None:
        one, two = voice(1, 1), voice(1, 2)
        backend = made(muddled, language="fr", **DRAWN)
        first = backend.transcribe([one, two], seeds=[5, 2**32 - 1])
        assert made(muddled, language="fr", **DRAWN).transcribe([two, one], seeds=[2**32 - 1, 5]) == first[::-1]
        assert hear(backend, one, seed=6) != first[:1]

    @pytest.mark.parametrize("batched", [True, False])
    def test_only_doubtful_stretches_are_tried_again(
        self, muddled: Path, asked: list[dict[str, Any]], batched: bool
    ) -> None:
        sound = np.concatenate([voice(2), silence(4), voice(2, 1)])
        options = {"batched": batched, "language": "fr", "temperatures": [0.0, 0.4], "no_speech_threshold": None}
        sure = made(muddled, logprob_threshold=-9.0, **options)
        hear(sure, sound)
        assert 0.4 not in [t for call in asked for t in call["temperature"]]
        doubting = made(muddled, logprob_threshold=-1e-6, **options)
        (heard,) = hear(doubting, sound)
        assert [call["temperature"] for call in asked].count([0.4]) == 2
        assert hear(doubting, sound) == [heard]


@pytest.mark.full
class TestGuards:
    @pytest.mark.parametrize("batched", [True, False])
    def test_loops_are_dropped(self, tmp_path: Path, batched: bool) -> None:
        folder = converted(tmp_path / "loop", text=" thank you" * 30)
        assert hear(made(folder, batched=batched), voice(2)) == [EMPTY]
        (heard,) = hear(made(folder, batched=batched, drop_repetitions=False), voice(2))
        assert heard.text.startswith("thank you thank you")

    @pytest.mark.parametrize("batched", [True, False])
    def test_silence_is_what_is_improbable_both_ways(
        self, muddled: Path, monkeypatch: pytest.MonkeyPatch, batched: bool
    ) -> None:
        silent = {"no_speech_threshold": 0.0, "language": "fr", "batched": batched}
        assert hear(made(muddled, logprob_threshold=-1e-6, **silent), voice(2)) == [EMPTY]
        assert hear(made(muddled, logprob_threshold=-9.0, **silent), voice(2))[0].text
        assert hear(made(muddled, logprob_threshold=None, **silent), voice(2)) == [EMPTY]

    def test_what_goes_before_a_stretch(self, said: Path, asked: list[dict[str, Any]]) -> None:
        sound = np.concatenate([voice(2), silence(4), voice(2)])
        for options in ({"initial_prompt": "Kites."}, {"condition_on_previous_text": True}, {}):
            hear(made(said, batched=False, **options), sound)
        assert [call["initial_prompt"] for call in asked] == ["Kites.", None, None, tiny.SAYS, None, None]
        hear(made(said, initial_prompt="Kites."), sound)
        assert asked[-1]["initial_prompt"] == "Kites."

    def test_a_model_that_does_not_get_on_is_the_items_error(self, said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = pytest.importorskip("faster_whisper")
        monkeypatch.setattr(
            library.WhisperModel,
            "_split_segments_by_timestamps",
            lambda model, *, seek, **given: ([], seek, False),
        )
        (failed,) = hear(made(said, batched=False, word_timestamps=False), voice(3))
        assert isinstance(failed, ItemError)
        assert "does not get on" in failed.detail

    def test_probabilities_that_are_none_are_the_items_error(self, said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = pytest.importorskip("faster_whisper")
        real = library.BatchedInferencePipeline.generate_segment_batched

        def broken(*given: Any) -> Any:
            encoded, found = real(*given)
            return encoded, [{**one, "avg_logprob": float("nan")} for one in found]

        monkeypatch.setattr(library.BatchedInferencePipeline, "generate_segment_batched", broken)
        (failed,) = hear(made(said), voice(2))
        assert isinstance(failed, ItemError)

    def test_out_of_memory_halves_the_batch_and_then_gives_up(
        self, said: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        library = pytest.importorskip("faster_whisper")
        real, tried = library.BatchedInferencePipeline.forward, []
        room = 2

        def tight(pipeline: Any, features: Any, *given: Any) -> Any:
            tried.append(len(features))
            if len(features) > room:
                raise RuntimeError("CUDA failed with error out of memory")
            return real(pipeline, features, *given)

        monkeypatch.setattr(library.BatchedInferencePipeline, "forward", tight)
        sound = np.concatenate([piece for _ in range(5) for piece in (voice(1), silence(3))])
        backend = made(said)
        with caplog.at_level(logging.WARNING):
            heard = hear(backend, sound, sound)
        assert [one.text for one in heard] == [" ".join(WORDS * 5)] * 2
        assert tried == [5, 4, 2, 2, 1] * 2
        assert "batches of 2" in caplog.text
        room = 0
        with pytest.raises(TransientError, match="no memory left for a single window"):
            hear(backend, sound)

    def test_out_of_memory_takes_beams_away_and_gives_them_back(
        self, said: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = pytest.importorskip("faster_whisper")
        real, tried = library.WhisperModel.generate_with_fallback, []

        def tight(model: Any, encoded: Any, prompt: Any, tokenizer: Any, options: Any) -> Any:
            tried.append(options.beam_size)
            if options.beam_size > 2:
                raise MemoryError
            return real(model, encoded, prompt, tokenizer, options)

        monkeypatch.setattr(library.WhisperModel, "generate_with_fallback", tight)
        heard = hear(made(said, batched=False, beam_size=8), voice(2), voice(2))
        assert [one.text for one in heard] == [" ".join(WORDS)] * 2
        assert tried == [8, 4, 2] * 2


@pytest.mark.full
class TestLoading:
    def test_a_device_must_be_there_and_compute_as_asked(self, said: Path) -> None:
        for device in ("cuda:99", "tpu", "cuda:x"):
            with pytest.raises(BackendError, match=f"device `{device}` cannot be used(.|\n)*hint: `cpu`"):
                made(said).load(device)
        with pytest.raises(BackendError, match=r"`cpu` cannot compute in `float16`\nhint: here it can: .*float32"):
            made(said, compute_type="float16").load("cpu")
        eight = made(said, compute_type="int8")
        assert hear(eight, voice(2))[0].text == " ".join(WORDS)

    @pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "vocabulary.json"])
    def test_files_that_are_absent_or_broken(self, said: Path, tmp_path: Path, name: str) -> None:
        copy = tmp_path / "kite"
        shutil.copytree(said, copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:1000])
        with pytest.raises(BackendError, match="cannot be loaded"):
            made(copy).load("cpu")
        (copy / name).unlink()
        with pytest.raises(BackendError, match=f"has no `{name}`"):
            made(copy).load("cpu")

    def test_a_tokenizer_of_something_else(self, said: Path, tmp_path: Path) -> None:
        copy = tmp_path / "kite"
        shutil.copytree(said, copy)
        tokenizer = json.loads((copy / "tokenizer.json").read_text())
        tokenizer["added_tokens"] = tokenizer["added_tokens"][:1]
        (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
        with pytest.raises(BackendError, match=r"has no `<\|startoftranscript\|>`"):
            made(copy).load("cpu")

    def test_a_name_is_only_looked_for_in_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        utils = pytest.importorskip("faster_whisper.utils")
        asked: list[dict[str, Any]] = []
        real = utils.huggingface_hub.snapshot_download

        def watched(repository: str, **options: Any) -> Any:
            asked.append({"repository": repository, **options})
            return real(repository, **{**options, "local_files_only": True})

        monkeypatch.setattr(utils.huggingface_hub, "snapshot_download", watched)
        for download in (False, True):
            with pytest.raises(BackendError, match="the model `Systran/faster-whisper-tiny` is not there"):
                made("tiny", download=download, download_root=tmp_path, revision="abc").load("cpu")
        wanted = ("Systran/faster-whisper-tiny", "abc", str(tmp_path))
        assert [(one["repository"], one["revision"], one["cache_dir"]) for one in asked] == [wanted] * 2
        assert [one["local_files_only"] for one in asked] == [True, False]


def test_making_one_imports_neither_torch_nor_the_library(repository: Path) -> None:
    code = (
        "import sys; from vidcap.backends import registry; registry.create('transcriber', 'faster_whisper').languages; "
        "print([name for name in ('torch', 'faster_whisper', 'ctranslate2') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.full
def test_hearing_imports_no_torch(repository: Path, said: Path) -> None:
    """The extra brings none: the model must load and speak without it."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; import numpy as np; "
        "from vidcap.backends import registry; "
        "b = registry.create('transcriber', 'faster_whisper', {'model': sys.argv[1], 'vad': False, 'batched': False}); "
        "rng = np.random.default_rng(0); "
        "print(b.transcribe([rng.uniform(-.3, .3, 32000).astype(np.float32)], seeds=[0])[0].text)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(said)], cwd=repository, capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == " ".join(WORDS), ran.stderr


def test_options_are_documented(repository: Path) -> None:
    text = (repository / "docs" / "models" / "whisper.md").read_text()
    for backend in ("whisper", "faster_whisper"):
        for option in registry.get("transcriber", backend).Config.model_fields:
            assert f"`{option}`" in text, option
    assert dataclasses.fields(Transcript)
