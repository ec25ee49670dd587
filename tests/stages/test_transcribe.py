"""The transcribe stage: who gets which word, what is trusted, what is never asked, what becomes of errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from vidcap.backends import registry
from vidcap.errors import ItemError
from vidcap.reasons import REASONS
from vidcap.records import WORD_TYPE, StageResult, Transcript, Word
from vidcap.seeds import seed_of
from vidcap.stages.base import Context
from vidcap.stages.transcribe import Transcribe, TranscribeOptions

Float32 = npt.NDArray[np.float32]
RATE = 16_000


class Recogniser:
    """Says what the test wrote for a sound of that many seconds; it remembers what it was asked."""

    def __init__(self, heard: Any, languages: Sequence[str] = ("en",)) -> None:
        self.heard = heard
        self.languages = frozenset(languages)
        self.asked: list[tuple[int, int]] = []

    def transcribe(self, audios: Sequence[Float32], *, seeds: Sequence[int]) -> list[Any]:
        self.asked += [(len(audio), seed) for audio, seed in zip(audios, seeds, strict=True)]
        return [self.heard(len(audio) / RATE) if callable(self.heard) else self.heard for audio in audios]


class Sound:
    """Evidence of one source whose frames last a tenth of a second."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.reads = 0

    def audio_all(self) -> Float32:
        self.reads += 1
        return np.zeros(round(self.seconds * RATE), np.float32)

    def sound(self) -> Float32:
        return self.audio_all()

    def audio(self, first: int, last: int) -> Float32:
        self.reads += 1
        return np.zeros((last - first + 1) * RATE // 10, np.float32)


def clip(start: float, end: float, source: str = "src", **columns: Any) -> dict[str, Any]:
    first, last = round(start * 10), round(end * 10) - 1
    key = f"{source}_{first:08d}_{last:08d}"
    base = {"key": key, "source_id": source, "first_frame": first, "last_frame": last, "start": start, "end": end}
    return base | {"has_audio": True, "silent": False} | columns


def word(start: float, end: float, text: str = "word", p: float = 0.9) -> Word:
    return Word(start, end, text, p)


def heard(*words: Word, language: str = "en") -> Transcript:
    mean = sum(w.p for w in words) / len(words) if words else 0.0
    return Transcript(" ".join(w.word for w in words), words, mean, language)


def steady(p: float, seconds: float = 20.0) -> Transcript:
    """A word a second: w0, w1, …"""
    return heard(*(word(s + 0.25, s + 0.75, f"w{s}", p) for s in range(int(seconds))))


def run(
    backend: Any, rows: Sequence[dict[str, Any]], sounds: dict[str, Any] | None = None, **options: Any
) -> StageResult:
    made = {row["source_id"]: Sound(20.0) for row in rows} if sounds is None else sounds
    stage = Transcribe(TranscribeOptions(**options), Context(seed=17, backend=backend))
    result = stage.run(rows, made.__getitem__)
    assert set(result.columns) == set(Transcribe.gives)
    assert all(len(values) == len(rows) for values in result.columns.values())
    return result


def test_a_word_belongs_to_the_clip_that_holds_its_midpoint() -> None:
    words = (word(0.5, 1.0, "early"), word(1.8, 2.1, "across"), word(1.95, 2.05, "edge"), word(3.9, 4.2, "late"))
    rows = [clip(0, 2), clip(2, 4), clip(4, 6)]
    result = run(Recogniser(heard(*words)), rows)
    assert result.columns["transcript_text"] == ["early across", "edge", "late"]
    assert [w["word"] for clip_words in result.columns["words"] for w in clip_words] == [w.word for w in words]
    starts = [[(w["start"], w["end"]) for w in clip_words] for clip_words in result.columns["words"]]
    assert starts == [[(0.5, 1.0), (1.8, 2.1)], [(-0.05, 0.05)], [(-0.1, 0.2)]]


def test_words_between_clips_are_nobodys() -> None:
    result = run(Recogniser(steady(0.9)), [clip(0, 3), clip(10, 12)])
    assert result.columns["transcript_text"] == ["w0 w1 w2", "w10 w11"]


def test_columns_have_their_types() -> None:
    result = run(Recogniser(steady(0.9)), [clip(0, 3), clip(3, 6, silent=True)])
    table = pa.table({name: pa.array(result.columns[name], kind) for name, kind in Transcribe.gives.items()})
    assert table.schema.field("words").type == pa.list_(WORD_TYPE)
    assert table["transcript_confidence"].to_pylist() == [pytest.approx(0.9), 0.0]
    assert table["transcript_language"].to_pylist() == ["en", ""]
    assert table["transcript_languages"].to_pylist() == [["en"], ["en"]]
    assert table["transcript_reason"].to_pylist() == ["", "speech.none"]


def test_a_source_is_heard_once_and_sources_do_not_mix() -> None:
    backend = Recogniser(lambda seconds: heard(word(0.2, 0.8, f"{seconds:.0f}s"), word(1.2, 1.8, "more")))
    rows = [clip(0, 1, "a"), clip(0, 1, "b"), clip(1, 2, "a"), clip(1, 2, "b")]
    result = run(backend, rows, {"a": Sound(5), "b": Sound(7)})
    assert result.columns["transcript_text"] == ["5s", "7s", "more", "more"]
    seeds = {source: seed_of(17, source, "transcribe") for source in "ab"}
    assert backend.asked == [(5 * RATE, seeds["a"]), (7 * RATE, seeds["b"])]


def test_silent_sources_are_not_transcribed() -> None:
    backend, quiet, mute = Recogniser(steady(0.9)), Sound(20), Sound(20)
    rows = [clip(0, 3, "q", silent=True), clip(3, 6, "q", silent=True), clip(0, 3, "m", has_audio=False)]
    result = run(backend, rows, {"q": quiet, "m": mute})
    assert backend.asked == []
    assert quiet.reads == mute.reads == 0
    assert result.columns["transcript_text"] == [""] * 3
    assert result.columns["transcript_trusted"] == [False] * 3


def test_a_silent_clip_has_no_words_even_where_its_source_is_heard() -> None:
    result = run(Recogniser(steady(0.9)), [clip(0, 3, silent=True), clip(3, 6)])
    assert result.columns["transcript_text"] == ["", "w3 w4 w5"]


@pytest.mark.parametrize(("p", "trusted"), [(0.55, False), (0.75, True)])
def test_trust_needs_confidence(p: float, trusted: bool) -> None:
    result = run(Recogniser(steady(p)), [clip(0, 5)])
    assert result.columns["transcript_trusted"] == [trusted]
    assert result.columns["transcript_reason"] == ["" if trusted else "speech.uncertain"]
    assert result.columns["transcript_text"] == ["w0 w1 w2 w3 w4"]
    assert result.columns["transcript_confidence"] == [pytest.approx(p)]
    assert REASONS["speech.uncertain"].kind == REASONS["speech.none"].kind == "note"


def test_lucky_words_among_unsure_ones_are_not_trusted() -> None:
    words = [word(s, s + 0.5, p=0.95 if 8 <= s < 12 else 0.2) for s in range(20)]
    lucky = [clip(8, 12)]
    assert run(Recogniser(heard(*words)), lucky).columns["transcript_trusted"] == [False]
    assert run(Recogniser(heard(*words)), lucky, context_seconds=0).columns["transcript_trusted"] == [True]
    # What lies further away than the context has no say.
    far = [word(s, s + 0.5, p=0.95 if s < 30 else 0.1) for s in range(100)]
    assert run(Recogniser(heard(*far)), [clip(0, 10)]).columns["transcript_trusted"] == [True]


def test_a_few_sure_words_alone_prove_little() -> None:
    for scope in ("source", "clip"):
        few, more = heard(*[word(s, s + 0.5, p=0.85) for s in range(2)]), steady(0.85, 5)
        assert run(Recogniser(few), [clip(0, 5)], scope=scope).columns["transcript_trusted"] == [False]
        assert run(Recogniser(more), [clip(0, 5)], scope=scope).columns["transcript_trusted"] == [True]


def test_zero_trusts_everything_that_has_words() -> None:
    rows = [clip(0, 3), clip(19.8, 20)]
    assert run(Recogniser(steady(0.0)), rows, min_word_confidence=0).columns["transcript_trusted"] == [True, False]


@pytest.mark.parametrize(
    ("languages", "believed", "trusted"), [(("en",), "fr", False), ((), "fr", True), (("en", "fr"), "fr", True)]
)
def test_a_language_outside_the_recognisers_is_not_trusted(
    languages: tuple[str, ...], believed: str, trusted: bool
) -> None:
    transcript = Transcript("a b c d e", steady(0.9, 5).words, 0.9, believed)
    result = run(Recogniser(transcript, languages), [clip(0, 5)])
    assert result.columns["transcript_trusted"] == [trusted]
    assert result.columns["transcript_languages"] == [sorted(languages)]


def test_scope_clip_hears_each_clip_alone() -> None:
    backend = Recogniser(lambda seconds: heard(*(word(0.1, 0.4, f"{seconds:.1f}") for _ in range(4))))
    rows = [clip(0, 3), clip(3, 4.5)]
    result = run(backend, rows, scope="clip")
    assert result.columns["transcript_text"] == ["3.0 3.0 3.0 3.0", "1.5 1.5 1.5 1.5"]
    assert backend.asked == [
        (3 * RATE, seed_of(17, rows[0]["key"], "transcribe")),
        (RATE * 3 // 2, seed_of(17, rows[1]["key"], "transcribe")),
    ]


def test_text_without_word_times_needs_scope_clip() -> None:
    backend = Recogniser(Transcript("all of it", (), 0.9, "en"))
    result = run(backend, [clip(0, 5)])
    assert result.verdicts[0].reason == "transcribe.failed"
    assert "scope: clip" in result.verdicts[0].detail
    result = run(backend, [clip(0, 5)], scope="clip")
    assert result.columns["transcript_text"] == ["all of it"]
    assert result.columns["transcript_trusted"] == [True]


@pytest.mark.parametrize("scope", ["source", "clip"])
def test_an_error_quarantines_its_clips_alone(scope: str) -> None:
    def say(seconds: float) -> Any:
        return ItemError("transcribe.failed", "it broke") if seconds > 10 else steady(0.9, 5)

    rows = [clip(0, 11, "bad"), clip(0, 5, "good"), clip(11, 12, "bad", silent=True)]
    result = run(Recogniser(say), rows, {"bad": Sound(12), "good": Sound(5)}, scope=scope)
    assert list(result.verdicts) == [0]
    verdict = result.verdicts[0]
    assert (verdict.kind, verdict.reason, verdict.detail) == ("quarantined", "transcribe.failed", "it broke")
    assert result.columns["transcript_text"] == ["", "w0 w1 w2 w3 w4", ""]


def test_evidence_that_cannot_be_read_quarantines_the_clip() -> None:
    class Broken(Sound):
        def audio_all(self) -> Float32:
            raise ItemError("clip.no_frames", "gone")

    result = run(Recogniser(steady(0.9)), [clip(0, 3)], {"src": Broken(3)})
    assert result.verdicts[0].kind == "quarantined"


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    rows = [clip(0, 4), clip(4, 9, silent=True), clip(9, 15), clip(15, 20)]
    words = [word(s + 0.1, s + 0.6, f"w{s}", p=0.3 + 0.035 * s) for s in range(20)]
    whole = run(Recogniser(heard(*words)), rows)
    for at, row in enumerate(rows):
        alone = run(Recogniser(heard(*words)), [row])
        assert {name: values[at] for name, values in whole.columns.items()} == {
            name: values[0] for name, values in alone.columns.items()
        }


def test_glues_words_of_scripts_without_spaces() -> None:
    words = (word(0.1, 0.5, " 今天"), word(0.6, 1.0, "我们"), word(1.1, 1.5, " here"))
    result = run(Recogniser(heard(*words, language="zh"), ()), [clip(0, 3)])
    assert result.columns["transcript_text"] == ["今天我们 here"]
    assert [w["word"] for w in result.columns["words"][0]] == ["今天", "我们", "here"]


def sound_of(path: Path) -> Float32:
    with av.open(path) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        pieces = [piece for frame in [*container.decode(audio=0), None] for piece in resampler.resample(frame)]
    return np.concatenate([piece.to_ndarray().reshape(-1) for piece in pieces]).astype(np.float32) / np.float32(32768)


class Recording(Sound):
    def __init__(self, audio: Float32) -> None:
        super().__init__(len(audio) / RATE)
        self.whole = audio

    def audio_all(self) -> Float32:
        return self.whole


def test_the_embedded_recogniser_through_the_stage(repository: Path) -> None:
    said = sound_of(repository / "pipelines" / "demo" / "speech" / "balloon.flac")
    pause = np.zeros(3 * RATE, np.float32)
    middle = round(3 + len(said) / RATE / 2, 1)
    rows = [clip(0, 2.5), clip(2.5, middle), clip(middle, 4 + len(said) / RATE)]
    sounds = {"src": Recording(np.concatenate([pause, said, pause]))}
    result = run(registry.create("transcriber", "pocketsphinx"), rows, sounds)
    texts = result.columns["transcript_text"]
    assert texts[0] == ""
    assert " ".join(texts[1:]) == "we are flying over the mountains now and everything is very quiet here"
    assert result.columns["transcript_trusted"] == [False, True, True]
    for row, words in zip(rows, result.columns["words"], strict=True):
        assert all(-1e-6 <= (w["start"] + w["end"]) / 2 <= row["end"] - row["start"] for w in words)


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "speech_es_mx.mp4",
        "speech_zh_aishell.mp4",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "speech_ru.mp4",
                "speech_ja.mp4",
                "speech_fr_smartphone.mp4",
                "dj_video1.mp4",
                "dj_video3.mp4",
                "dj_video5.mp4",
                "gt_dev_a_25fps.mp4",
            )
        ),
    ],
)
def test_no_clip_of_another_language_is_trusted(real_videos: Path, name: str) -> None:
    """Wherever a clip lies and however long it is: half-second steps, 2 to 30 seconds."""
    sound = sound_of(real_videos / name)
    seconds = len(sound) / RATE
    rows = [
        clip(float(start), min(seconds, start + length))
        for length in (2, 3, 5, 8, 30)
        for start in np.arange(0, max(1, seconds - length), 0.5)
    ]
    result = run(registry.create("transcriber", "pocketsphinx"), rows, {"src": Recording(sound)})
    assert any(result.columns["transcript_text"])
    assert not any(result.columns["transcript_trusted"])
