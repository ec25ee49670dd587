"""WavCaps' annotations are read whole: what is learned from and what is left out add up, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from captioned_sounds import RATE, annotation, wave, write_sound

from vidcap.captioner_training.examples import Example, ExampleMaker, batches, shuffled
from vidcap.captioner_training.wavcaps import LEFT_OUT, CaptionedSound, LeftOut, read_corpus, source_of
from vidcap.errors import MediaError, UsageError
from vidcap.media.sound_file import read_sound

MAKER = ExampleMaker(seed=3, seconds=30.0, instructions=("a", "b", "c", "d", "e"))


def test_every_entry_is_learned_from_or_left_out_with_a_reason(paths: dict[str, Path]) -> None:
    corpus = read_corpus([paths["audioset"], paths["freesound"]], [paths["sounds"]], [paths["blacklist"]])
    assert corpus.entries == 22 == len(corpus.sounds) + len(corpus.left_out.entries)
    assert corpus.by_source() == {"AudioSet": 11, "FreeSound": 2}
    assert corpus.left_out.counts() == {
        "ambiguous_file": 1,
        "blacklisted": 1,
        "malformed_entry": 3,
        "missing_file": 2,
        "no_words": 1,
        "repeated_id": 1,
    }
    reasons = {name: reason for name, reason, _ in corpus.left_out.entries}
    assert reasons["AudioSet/banned"] == "blacklisted"
    assert reasons["AudioSet/../../etc/passwd"] == "missing_file"
    assert set(corpus.left_out.counts()) <= set(LEFT_OUT)
    first = corpus.sounds[0]
    assert first == CaptionedSound("AudioSet", "Y0", ("A low hum.",), paths["sounds"] / "AudioSet" / "Y0.flac")


def test_the_files_of_a_source_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    for folder in ("BBC", "SoundBible"):
        write_sound(tmp_path / folder / "7.wav", wave(0, 0.2))
        annotation(tmp_path / f"{folder}.json", [{"id": 7, "caption": f"From {folder}."}])
    corpus = read_corpus([tmp_path / "BBC.json", tmp_path / "SoundBible.json"], [tmp_path], [])
    assert [sound.path.parent.name for sound in corpus.sounds] == ["BBC", "SoundBible"]
    assert corpus.left_out.entries == []


def test_several_captions_of_a_sound(tmp_path: Path) -> None:
    write_sound(tmp_path / "x.wav", wave(0, 0.2))
    annotation(tmp_path / "clotho.json", [{"id": "x.wav", "caption_1": "One.", "caption_2": " Two\nlines. "}])
    (sound,) = read_corpus([tmp_path / "clotho.json"], [tmp_path], []).sounds
    assert sound.captions == ("One.", "Two lines.") and sound.source == "clotho"
    drawn = {MAKER.make(sound, epoch).caption for epoch in range(12)}  # type: ignore[union-attr]
    assert drawn == {"One.", "Two lines."}


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no JSON"), ("[]", "no captions in WavCaps' format"), ('{"data": 3}', "no captions in WavCaps' format")],
)
def test_files_of_something_else_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_corpus([tmp_path / "odd.json"], [tmp_path], [])
    (tmp_path / "good.json").write_text('{"data": []}')
    with pytest.raises(UsageError, match=r"is no JSON|is no blacklist"):
        read_corpus([tmp_path / "good.json"], [tmp_path], [tmp_path / "odd.json"])
    with pytest.raises(UsageError, match="there is no folder"):
        read_corpus([tmp_path / "good.json"], [tmp_path / "none"], [])
    with pytest.raises(UsageError, match="cannot be read"):
        read_corpus([tmp_path / "none.json"], [tmp_path], [])


def test_sources_are_known_by_the_names_of_the_published_files() -> None:
    assert source_of(Path("json_files/AudioSet_SL/as_final.json")) == "as_final"
    assert source_of(Path("audioset_sl.json")) == "AudioSet"
    assert source_of(Path("fsd_FreeSound.json")) == "FreeSound"


class TestExamples:
    def test_unreadable_and_silent_sounds_are_left_out_with_what_was_wrong(self, paths: dict[str, Path]) -> None:
        corpus = read_corpus([paths["audioset"]], [paths["sounds"]], [paths["blacklist"]])
        left_out = LeftOut()
        found = [example for batch in batches(MAKER, corpus.sounds, 0, 3, 2, left_out) for example in batch]
        assert sorted(example.name for example in found) == [f"AudioSet/Y{at}" for at in range(8)]
        assert left_out.counts() == {"silent": 1, "unreadable_file": 2}
        assert all(detail.startswith("media.") for _, reason, detail in left_out.entries if reason == "unreadable_file")
        again = LeftOut()
        list(batches(MAKER, corpus.sounds, 1, 3, 2, again))
        assert again.entries == []  # the same files as in the epoch before

    def test_they_do_not_depend_on_workers_order_or_batches(self, paths: dict[str, Path]) -> None:
        sounds = read_corpus([paths["audioset"]], [paths["sounds"]], []).sounds

        def run(given: list[CaptionedSound], size: int, workers: int) -> list[tuple[str, str, str, float]]:
            every = (each for batch in batches(MAKER, given, 0, size, workers, LeftOut()) for each in batch)
            return [(each.name, each.instruction, each.caption, float(each.sound.sum())) for each in every]

        assert run(sounds, 4, 1) == run(sounds[::-1], 3, 3)
        assert len({instruction for _, instruction, _, _ in run(sounds, 4, 1)}) > 1
        assert [each.name for each in shuffled(sounds, 3, 0)] != [each.name for each in shuffled(sounds, 3, 1)]
        assert [each.name for each in shuffled(sounds, 3, 0)] != [each.name for each in shuffled(sounds, 4, 0)]

    def test_of_a_long_sound_a_stretch_is_heard(self, paths: dict[str, Path]) -> None:
        sound = next(s for s in read_corpus([paths["freesound"]], [paths["sounds"]], []).sounds if s.id == "1")
        whole = read_sound(sound.path, max_seconds=60)
        assert len(whole) == pytest.approx(34 * 16_000, abs=20)
        starts = set()
        for epoch in range(3):
            made = MAKER.make(sound, epoch)
            assert isinstance(made, Example) and len(made.sound) == 30 * 16_000
            starts.add(float(made.sound[0]))
        assert len(starts) == 3


class TestReading:
    def test_channels_are_mixed_and_the_rate_is_16_khz(self, tmp_path: Path) -> None:
        write_sound(tmp_path / "two.wav", wave(0, 2.0), channels=2)
        found = read_sound(tmp_path / "two.wav", max_seconds=10)
        assert found.dtype == np.float32 and len(found) == pytest.approx(32_000, abs=20)
        expected = 0.4 * np.sin(2 * np.pi * 90 * np.arange(len(found)) / 16_000)
        assert np.abs(found[1000:-1000] - expected[1000:-1000]).max() < 0.02
        assert len(read_sound(tmp_path / "two.wav", max_seconds=0.5)) == 8000

    def test_what_is_no_sound_is_an_error(self, paths: dict[str, Path], demo_media: Path, tmp_path: Path) -> None:
        for path in (paths["sounds"] / "AudioSet" / "text.mp3", demo_media / "silent_film.mp4", tmp_path / "none.wav"):
            with pytest.raises(MediaError):
                read_sound(path, max_seconds=10)
        assert RATE == 32_000


def test_the_blacklist_counts_for_its_own_source_only(paths: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps({"FreeSound": ["2", 1], "AudioSet": []}))
    free = read_corpus([paths["freesound"]], [paths["sounds"]], [tmp_path / "list.json"])
    assert free.left_out.counts() == {"blacklisted": 2}
    audio = read_corpus([paths["audioset"]], [paths["sounds"]], [tmp_path / "list.json"])
    assert "blacklisted" not in audio.left_out.counts()
