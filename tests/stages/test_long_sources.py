"""Sources of any length through the stages: what is in memory at a time is counted, and does not depend on length."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vidcap.backends import registry, voice_activity
from vidcap.media.evidence import SAMPLE_RATE, Evidence
from vidcap.media.facts import SourceFacts
from vidcap.media.frames import FrameTable, PacketIndex, SourceTables
from vidcap.media.windowed import StoredSound
from vidcap.records import Shot, Transcript, Word
from vidcap.stages.base import Context
from vidcap.stages.detect_shots import DetectShots
from vidcap.stages.transcribe import Transcribe, TranscribeOptions
from vidcap.stages.trim import Trim, TrimOptions

Float32 = npt.NDArray[np.float32]
FRAMES, FPS = 30_000, 5
"""6000 seconds: 117 MB of thumbnails, and sound that would be 384 MB as one array. Black and silent: no disk."""
LIMIT = 64_000_000
"""Bytes. Far below what the sound or the thumbnails of the source come to, far above what a window does."""


@pytest.fixture
def long_source(tmp_path: Path) -> Evidence:
    pts = np.arange(FRAMES, dtype=np.int64)
    no, key = np.zeros(FRAMES, np.bool_), pts % 50 == 0
    tables = SourceTables(
        FrameTable(Fraction(1, FPS), pts, np.ones_like(pts), key, no, np.zeros(FRAMES, np.uint64)),
        PacketIndex(pts, pts, key, pts, pts, no),
    )
    tables.save(tmp_path)
    facts = SourceFacts(
        container="mov", video_codec="h264", pix_fmt="yuv420p", profile="High", width=320, height=180,
        time_base=Fraction(1, FPS), has_audio=True, sha256="0", bytes=1, frames=FRAMES, corrupt_frames=0,
        seconds=FRAMES / FPS, window=(0, FRAMES - 1),
    )  # fmt: skip
    (tmp_path / "facts.json").write_text(facts.to_json(), "utf-8")
    for name, size in (("thumbnails.rgb", FRAMES * 27 * 48 * 3), ("audio.s16", FRAMES // FPS * SAMPLE_RATE * 2)):
        with (tmp_path / name).open("wb") as handle:
            handle.truncate(size)
    return Evidence(tmp_path)


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most bytes that Python and NumPy held inside, once it is left."""
    found: list[int] = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_shots_are_found_in_windows(long_source: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of the detector but the network itself."""
    detector = registry.create("shot_detector", "fast", {})
    asked: list[int] = []

    def network(frames: Any, histograms: Any) -> Float32:
        asked.append(len(frames))
        return np.zeros((2, len(frames)), np.float32)

    monkeypatch.setattr(detector, "_network", network)
    with peak() as held:
        shots = DetectShots(DetectShots.Options(), Context(backend=detector)).run(long_source)
    assert shots == [Shot(0, FRAMES - 1)]
    assert sum(asked) >= FRAMES and max(asked) < 1000
    assert held[0] < LIMIT


def test_a_shot_of_hours_is_trimmed_in_windows(long_source: Evidence) -> None:
    """Rejected shots get their values too: motion over all frames, and whether any of the sound is heard."""
    rows = [{"source_id": "s", "shot_first": 0, "shot_last": FRAMES - 1, "shot_key": "s_0"}]
    with peak() as held:
        result = Trim(TrimOptions(long_shots="reject"), Context()).run(rows, lambda _: long_source)
    assert result.verdicts[0].reason == "trim.too_long"
    assert result.columns["silent"] == [True] and result.columns["freeze_ratio"] == [1.0]
    assert held[0] < LIMIT


def test_one_sound_far_into_a_long_shot_is_heard(long_source: Evidence) -> None:
    with (long_source.folder / "audio.s16").open("r+b") as handle:
        handle.seek(2 * SAMPLE_RATE * 5000)
        handle.write(b"\0\x40")
    rows = [{"source_id": "s", "shot_first": 0, "shot_last": FRAMES - 1, "shot_key": "s_0"}]
    result = Trim(TrimOptions(long_shots="reject"), Context()).run(rows, lambda _: long_source)
    assert result.columns["silent"] == [False]


class Reads(StoredSound):
    """Remembers how many samples it was asked for at a time."""

    def __init__(self, path: Path, samples: int) -> None:
        super().__init__(path, 0, samples)
        self.sizes: list[int] = []

    def __getitem__(self, part: slice) -> Float32:
        found = super().__getitem__(part)
        self.sizes.append(len(found))
        return found


def talk(repository: Path) -> Float32:
    """Two and a half minutes: a sentence, a long noise, another sentence across the end of the second minute."""
    from vidcap.media.sound_file import read_sound

    said = read_sound(repository / "pipelines" / "demo" / "speech" / "balloon.flac", max_seconds=10)
    wave = np.random.default_rng(5).normal(0, 0.0005, 150 * SAMPLE_RATE).astype(np.float32)
    for second in (4, 119):
        wave[second * SAMPLE_RATE : second * SAMPLE_RATE + len(said)] += said
    wave[20 * SAMPLE_RATE : 60 * SAMPLE_RATE] *= 200
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.float32) / np.float32(32768)


def test_a_recogniser_in_windows_hears_what_it_hears_in_the_whole(repository: Path, tmp_path: Path) -> None:
    wave = talk(repository)
    (wave * 32768).astype("<i2").tofile(tmp_path / "audio.s16")
    reads = Reads(tmp_path / "audio.s16", len(wave))
    recogniser = registry.create("transcriber", "pocketsphinx")
    assert recogniser.in_windows
    whole, windows = recogniser.transcribe([wave, reads], seeds=[1, 1])
    assert windows == whole and len(whole.words) >= 20 and whole.words[-1].end > 120
    assert max(reads.sizes) <= 60 * SAMPLE_RATE and sum(reads.sizes) >= len(wave)


def test_levels_do_not_depend_on_where_windows_begin() -> None:
    wave = np.random.default_rng(1).normal(0, 0.1, 200 * SAMPLE_RATE + 77).astype(np.float32)
    frames = wave[: len(wave) // 160 * 160].reshape(-1, 160)
    at_once = 10 * np.log10(np.maximum(np.einsum("ij,ij->i", frames, frames) / 160, 1e-10))
    assert np.array_equal(voice_activity.frame_levels(wave), at_once.astype(np.float64))
    assert len(voice_activity.frame_levels(wave[:100])) == 0


class Recogniser:
    """Hears a word a second. `in_windows`: whether it takes sound that is read while it is sliced."""

    languages = frozenset({"en"})

    def __init__(self, in_windows: bool | None) -> None:
        self.given: list[Any] = []
        if in_windows is not None:
            self.in_windows = in_windows

    def transcribe(self, audios: Sequence[Any], *, seeds: Sequence[int]) -> list[Transcript]:
        self.given += audios
        words = tuple(Word(s + 0.25, s + 0.75, f"w{s}", 0.9) for s in range(len(audios[0]) // SAMPLE_RATE))
        return [Transcript(" ".join(word.word for word in words), words, 0.9, "en") for _ in seeds]


def clips(count: int) -> list[dict[str, Any]]:
    return [
        {"key": f"s_{i}", "source_id": "s", "first_frame": i * 50, "last_frame": i * 50 + 49, "start": i * 10.0,
         "end": i * 10.0 + 10, "has_audio": True, "silent": False}
        for i in range(count)
    ]  # fmt: skip


def test_the_stage_keeps_a_whole_source_in_its_file(long_source: Evidence) -> None:
    recogniser = Recogniser(in_windows=True)
    stage = Transcribe(TranscribeOptions(), Context(seed=3, backend=recogniser))
    with peak() as held:
        result = stage.run(clips(600), lambda _: long_source)
    assert [len(words) for words in result.columns["words"]] == [10] * 600
    assert result.columns["transcript_text"][599] == " ".join(f"w{s}" for s in range(5990, 6000))
    assert isinstance(recogniser.given[0], StoredSound) and len(recogniser.given[0]) == 6000 * SAMPLE_RATE
    assert held[0] < LIMIT


@pytest.mark.parametrize("says", [None, False])
def test_who_does_not_say_so_is_given_arrays(long_source: Evidence, says: bool | None) -> None:
    recogniser = Recogniser(says)
    Transcribe(TranscribeOptions(), Context(seed=3, backend=recogniser)).run(clips(1), lambda _: long_source)
    Transcribe(TranscribeOptions(scope="clip"), Context(seed=3, backend=recogniser)).run(
        clips(1), lambda _: long_source
    )
    assert [type(sound) for sound in recogniser.given] == [np.ndarray] * 2
    assert [len(sound) for sound in recogniser.given] == [6000 * SAMPLE_RATE, 10 * SAMPLE_RATE]
