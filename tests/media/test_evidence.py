"""The read side of the evidence: what stages get, and what is left after each kind of dropping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media_factory import read_barcode, render

from vidcap.errors import ItemError
from vidcap.media.candidates import Candidates
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import SAMPLE_RATE, Evidence
from vidcap.media.facts import SourceFacts


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("media") / "a.mp4", frames=150, cuts=(40, 90), audio="sine", audio_seconds=4)


@pytest.fixture
def evidence(source: Path, tmp_path: Path) -> Evidence:
    decode_source(str(source), tmp_path / "e", DecodeOptions(frames_per_second=5))
    return Evidence(tmp_path / "e")


def test_facts_and_tables_survive_the_folder(source: Path, tmp_path: Path) -> None:
    made = decode_source(str(source), tmp_path / "e", DecodeOptions())
    read = Evidence(tmp_path / "e")
    assert read.facts == made.facts and SourceFacts.from_json(made.facts.to_json()) == made.facts
    for name in ("pts", "duration", "key", "corrupt", "hash"):
        assert (getattr(read.tables.frames, name) == getattr(made.tables.frames, name)).all()
    assert read.tables.frames.time_base == made.tables.frames.time_base


@pytest.mark.parametrize(
    "text", ["{}", '{"sar": [1, 1], "time_base": [1, 25]}', "[1]", '{"sar": 1, "time_base": 2}', "{"]
)
def test_what_is_no_facts_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SourceFacts.from_json(text)


def test_thumbnails_show_their_frames(evidence: Evidence) -> None:
    thumbnails = evidence.thumbnails
    assert thumbnails.shape == (150, 27, 48, 3) and thumbnails.dtype == np.uint8
    inner = thumbnails[:, 14:, :].astype(int)
    changes = np.abs(np.diff(inner, axis=0)).mean(axis=(1, 2, 3))
    assert set(np.argsort(changes)[-2:].tolist()) == {39, 89}


def test_a_clip_view_shows_frames_of_the_clip_only_evenly_chosen(evidence: Evidence) -> None:
    view = evidence.clip_view("key", 40, 89, 4, "hello")
    numbers = [read_barcode(frame) for frame in view.frames]
    inside = [i for i in evidence.candidates.tolist() if 40 <= i <= 89]
    assert len(numbers) == 4 and set(numbers) <= set(inside) and numbers == sorted(numbers)
    assert numbers[0] < 55 and numbers[-1] > 74
    assert view.times == [round((n - 40) / 25, 6) for n in numbers]
    assert (view.key, view.transcript, view.seconds, view.has_audio) == ("key", "hello", 2.0, True)
    assert view.frames[0].shape == (180, 320, 3) and view.frames[0].dtype == np.uint8
    assert len(view.audio) == 2 * SAMPLE_RATE
    assert len(evidence.clip_view("key", 40, 89, 99).frames) == len(inside)


def test_colours_come_back_in_rgb_order(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "red.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"  # type: ignore[attr-defined]
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:] = (220, 60, 20)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))  # type: ignore[attr-defined]
        out.mux(stream.encode(None))  # type: ignore[attr-defined]
    decode_source(str(tmp_path / "red.mkv"), tmp_path / "e", DecodeOptions())
    evidence = Evidence(tmp_path / "e")
    for pixel in (evidence.thumbnails[0, 13, 24], evidence.clip_view("k", 0, 0, 1).frames[0][32, 32]):
        assert np.abs(pixel.astype(int) - (220, 60, 20)).max() < 12


def test_a_clip_without_a_candidate_is_an_item_error(evidence: Evidence) -> None:
    one, two = evidence.candidates[:2].tolist()
    assert two > one + 1
    with pytest.raises(ItemError) as caught:
        evidence.clip_view("key", one + 1, two - 1, 4)
    assert caught.value.reason == "clip.no_frames"
    with pytest.raises(KeyError):
        evidence.frame_jpeg(one + 1)


def test_sound_of_a_span_is_the_same_as_in_the_whole(evidence: Evidence) -> None:
    whole = evidence.audio_all()
    assert whole.dtype == np.float32 and len(whole) == 6 * SAMPLE_RATE and 0.4 < np.abs(whole).max() < 0.6
    assert (evidence.audio(25, 74) == whole[SAMPLE_RATE : 3 * SAMPLE_RATE]).all()
    assert not whole[int(4.1 * SAMPLE_RATE) :].any()


def test_without_a_track_there_is_no_sound(tmp_path: Path) -> None:
    decode_source(str(render(tmp_path / "a.mp4", frames=20)), tmp_path / "e", DecodeOptions())
    evidence = Evidence(tmp_path / "e")
    assert len(evidence.audio(0, 10)) == len(evidence.audio_all()) == 0
    assert evidence.complete and not evidence.clip_view("k", 0, 19, 2).has_audio


def test_kept_spans_keep_their_frames_byte_for_byte(evidence: Evidence) -> None:
    before = {i: evidence.frame_jpeg(i) for i in evidence.candidates.tolist()}
    evidence.keep_spans([(0, 20), (100, 120), (110, 130)])
    for read in (evidence, Evidence(evidence.folder)):
        kept = [i for i in before if i <= 20 or 100 <= i <= 130]
        assert read.candidates.tolist() == kept and {i: read.frame_jpeg(i) for i in kept} == {
            i: before[i] for i in kept
        }
        assert read.complete
    assert len(list(evidence.folder.glob("*.jpgs"))) == 1
    evidence.keep_spans([(0, 20), (100, 130)])
    evidence.keep_spans([])
    assert len(evidence.candidates) == 0 and evidence.complete


def test_a_kill_between_the_two_renames_leaves_the_old_set(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    before = evidence.candidates.tolist()
    jpeg = evidence.frame_jpeg(before[-1])

    def die(*args: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr("vidcap.media.candidates._write_index", die)
    with pytest.raises(RuntimeError, match="killed"):
        evidence.keep_spans([(100, 149)])
    read = Evidence(evidence.folder)
    assert read.candidates.tolist() == before and read.frame_jpeg(before[-1]) == jpeg and read.complete
    monkeypatch.undo()
    read.keep_spans([(100, 149)])
    assert Evidence(evidence.folder).frame_jpeg(before[-1]) == jpeg


def test_dropping(evidence: Evidence) -> None:
    evidence.drop_thumbnails()
    evidence.drop_thumbnails()
    assert evidence.complete and not evidence.has_thumbnails
    evidence.drop_all_but_tables()
    assert sorted(p.name for p in evidence.folder.iterdir()) == ["facts.json", "frames.parquet", "packets.parquet"]
    assert not evidence.complete and len(evidence.tables.frames) == 150


@pytest.mark.parametrize("name", ["facts.json", "frames.parquet", "packets.parquet", "candidates.npz", "audio.s16"])
def test_a_missing_or_torn_file_makes_it_incomplete(evidence: Evidence, name: str) -> None:
    assert evidence.complete
    if name in ("facts.json", "candidates.npz"):
        whole = (evidence.folder / name).read_bytes()
        for torn in (b"", b"{", whole[: len(whole) // 2]):
            (evidence.folder / name).write_bytes(torn)
            assert not Evidence(evidence.folder).complete
    (evidence.folder / name).unlink()
    assert not Evidence(evidence.folder).complete


def test_a_short_file_of_jpegs_is_noticed(evidence: Evidence) -> None:
    stored = evidence.folder / Candidates(evidence.folder).file
    stored.write_bytes(stored.read_bytes()[:-5])
    with pytest.raises(OSError, match="shorter"):
        evidence.frame_jpeg(int(evidence.candidates[-1]))
