"""Every transcriber keeps the role's promises; PocketSphinx also its own: accuracy, trust, and no memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import whisper_checkpoints
from tiny_models.faster_whisper import make_faster_whisper

from vidcap.backends import registry, voice_activity
from vidcap.errors import BackendError, ItemError
from vidcap.records import Transcript

Float32 = npt.NDArray[np.float32]
RATE = 16_000
EMPTY = Transcript()
LINES = ("sea", "wheel", "balloon")
EMBEDDED = ("pocketsphinx",)


def sound_of(path: Path) -> Float32:
    """The first sound track: 16 kHz mono float32."""
    parts = []
    with av.open(path) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        for frame in container.decode(audio=0):
            parts += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(frame)]
        parts += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(None)]
    return (np.concatenate(parts) / np.float32(32768)).astype(np.float32)


def word_error_rate(said: str, heard: str) -> float:
    """Edits over the number of words said; case and punctuation do not count."""
    a, b = ("".join(c for c in t.lower() if c.isalpha() or c in " '").split() for t in (said, heard))
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        last, row[0] = row[:], i
        for j, other in enumerate(b, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (word != other))
    return row[-1] / len(a)


@pytest.fixture(scope="module")
def lines(repository: Path) -> dict[str, tuple[Float32, str]]:
    """Recorded English lines: sound and what is said."""
    folder = repository / "pipelines" / "demo" / "speech"
    said = json.loads((folder / "transcripts.json").read_text("utf-8"))
    return {name: (sound_of(folder / f"{name}.flac"), said[name]) for name in LINES}


@pytest.fixture(scope="module")
def speech(lines: dict[str, tuple[Float32, str]]) -> Float32:
    return lines["sea"][0]


@pytest.fixture(scope="module")
def noise() -> Float32:
    return (np.random.default_rng(1).normal(size=3 * RATE) * 0.1).astype(np.float32)


@pytest.fixture(
    scope="module",
    params=[
        name if name in EMBEDDED else pytest.param(name, marks=pytest.mark.full)
        for name in registry.names("transcriber")
    ],
)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Skips a model whose library is not here. Published weights never are: the models get tiny ones set by hand."""
    try:
        weights = tiny_weights(request.param, tmp_path_factory.mktemp("weights"))
        made = registry.create("transcriber", request.param, weights)
        made.load("cpu")
    except (BackendError, ModuleNotFoundError) as error:
        if request.param in EMBEDDED:
            raise
        pytest.skip(f"{request.param} cannot be loaded here: {error}")
    return made


def tiny_weights(name: str, folder: Path) -> dict[str, Any]:
    """The options that give a backend a model."""
    if name == "whisper":
        return {"model": str(whisper_checkpoints.save(whisper_checkpoints.saying(), folder / "kite.pt"))}
    if name == "faster_whisper":
        return make_faster_whisper(folder / "kite")
    return {}


@pytest.fixture(scope="module")
def sphinx() -> Any:
    return registry.create("transcriber", "pocketsphinx")


# every backend


def test_identity_is_known_before_loading(backend: Any) -> None:
    fresh = type(backend)(backend.config)
    assert fresh.identity() == backend.identity() != ""


def test_one_outcome_per_item_empty_for_empty(backend: Any, speech: Float32) -> None:
    assert backend.transcribe([], seeds=[]) == []
    outcomes = backend.transcribe([np.zeros(0, np.float32), speech, np.zeros(RATE, np.float32)], seeds=[1, 2, 3])
    assert len(outcomes) == 3
    assert outcomes[0] == EMPTY
    assert outcomes[2] == EMPTY


def test_shape_of_a_transcript(backend: Any, speech: Float32) -> None:
    (heard,) = backend.transcribe([speech], seeds=[1])
    assert heard.text
    assert heard.words
    assert 0 < heard.confidence <= 1
    assert heard.language in backend.languages or not backend.languages
    assert heard.confidence == pytest.approx(np.mean([word.p for word in heard.words]))
    starts = [word.start for word in heard.words]
    assert starts == sorted(starts)
    for word in heard.words:
        assert 0 <= word.start < word.end <= len(speech) / RATE + 1e-6
        assert 0 <= word.p <= 1
        assert word.word.strip()


@pytest.mark.parametrize("samples", [1, 159, 160, 511, 832, 8000])
def test_short_and_broken_sound_gives_a_transcript_or_an_error(backend: Any, samples: int) -> None:
    rng = np.random.default_rng(samples)
    for sound in (np.zeros(samples, np.float32), rng.uniform(-1, 1, samples).astype(np.float32)):
        (outcome,) = backend.transcribe([sound], seeds=[1])
        assert isinstance(outcome, Transcript | ItemError)


def test_a_result_does_not_depend_on_what_came_before(backend: Any, lines: Any, noise: Float32) -> None:
    sea, wheel = (lines[name][0] for name in ("sea", "wheel"))
    # Backwards it is speech that no recogniser understands: what leaks between items shows there first.
    sounds = [np.ascontiguousarray(sea[::-1]), np.ascontiguousarray(wheel[:24_000:-1])]
    alone = [type(backend)(backend.config).transcribe([sound], seeds=[7])[0] for sound in sounds]
    backend.transcribe([wheel[: 2 * RATE], noise], seeds=[7, 7])
    assert backend.transcribe(sounds[::-1], seeds=[7, 7])[::-1] == alone


# pocketsphinx


@pytest.mark.parametrize("name", LINES)
def test_hears_clear_english(sphinx: Any, lines: Any, name: str) -> None:
    sound, said = lines[name]
    heard = sphinx.transcribe([sound[shift:] for shift in (0, 57)], seeds=[0] * 2)
    assert np.mean([word_error_rate(said, transcript.text) for transcript in heard]) <= 0.10
    assert min(transcript.confidence for transcript in heard) >= 0.6


@pytest.mark.slow
def test_word_error_rate_over_all_lines(sphinx: Any, repository: Path) -> None:
    folder = repository / "pipelines" / "demo" / "speech"
    rates = []
    for name, said in json.loads((folder / "transcripts.json").read_text("utf-8")).items():
        sound = sound_of(folder / f"{name}.flac")
        heard = sphinx.transcribe([sound[shift:] for shift in (0, 40, 80, 120)], seeds=[0] * 4)
        rates += [word_error_rate(said, transcript.text) for transcript in heard]
    assert np.mean(rates) <= 0.10


def test_one_pass_of_search_hears_clear_english_too(lines: Any) -> None:
    quick = registry.create("transcriber", "pocketsphinx", {"passes": 1})
    audio, text = lines["sea"]
    (heard,) = quick.transcribe([audio], seeds=[0])
    assert word_error_rate(text, heard.text) <= 0.15
    assert not quick._decoder.config["fwdflat"], "the second search is left out"


def test_words_carry_neither_fillers_nor_alternates(sphinx: Any, lines: Any) -> None:
    heard = sphinx.transcribe([sound for sound, _ in lines.values()], seeds=[0] * len(lines))
    words = [word.word for transcript in heard for word in transcript.words]
    assert not [word for word in words if set(word) & set("<>[]()+")]


def test_word_times_follow_the_sound(sphinx: Any, speech: Float32) -> None:
    later = np.concatenate([np.zeros(5 * RATE, np.float32), speech])
    (plain,), (shifted,) = (sphinx.transcribe([sound], seeds=[0]) for sound in (speech, later))
    assert shifted.text == plain.text
    moved = [b.start - a.start for a, b in zip(plain.words, shifted.words, strict=True)]
    assert moved == pytest.approx([5.0] * len(moved), abs=0.05)


def test_noise_and_tones_are_no_speech(sphinx: Any, noise: Float32) -> None:
    at = np.arange(3 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * pitch * at) for pitch in (262, 330, 392))
    sounds = [noise, noise * np.float32(1e-4), (0.1 * chord).astype(np.float32)]
    assert sphinx.transcribe(sounds, seeds=[0] * len(sounds)) == [EMPTY] * len(sounds)


def test_words_stretched_over_seconds_of_music_are_dropped(sphinx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at = np.arange(4 * RATE) / RATE
    tune = np.zeros(len(at))
    for step, pitch in enumerate((440, 494, 294, 330, 523, 262, 349, 392)):
        since = at[: len(at) - step * RATE // 2]
        note = sum(np.sin(2 * np.pi * pitch * k * since) / k for k in (1, 2, 3)) * np.exp(-3 * since)
        tune[step * RATE // 2 :] += note
    sound = (tune / np.abs(tune).max() / 2).astype(np.float32)
    assert sphinx.transcribe([sound], seeds=[0]) == [EMPTY]
    monkeypatch.setattr("vidcap.backends.transcriber.pocketsphinx.MIN_LETTERS_PER_SECOND", 0)
    (heard,) = sphinx.transcribe([sound], seeds=[0])
    assert heard.words  # the gate lets a tune through; only the words' length gives it away


def test_the_gate_lets_quiet_and_noisy_speech_through(speech: Float32) -> None:
    rng = np.random.default_rng(3)
    noisy = speech + (rng.normal(size=len(speech)) * speech.std() * 0.3).astype(np.float32)
    for sound in (speech, speech * np.float32(0.02), noisy):
        loud = sum(end - first for first, end in voice_activity.pieces(sound, max_seconds=20))
        assert loud > 0.6 * len(sound)


def test_a_missing_library_names_the_mend(sphinx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pocketsphinx", None)
    with pytest.raises(BackendError, match="hint: install"):
        type(sphinx)(sphinx.config).load("cpu")


@pytest.mark.data
@pytest.mark.parametrize("name", ["speech_es_mx.mp4", "speech_zh_aishell.mp4"])
def test_other_languages_get_low_posteriors(sphinx: Any, real_videos: Path, name: str) -> None:
    (heard,) = sphinx.transcribe([sound_of(real_videos / name)], seeds=[0])
    assert heard.words
    assert heard.confidence < 0.6
