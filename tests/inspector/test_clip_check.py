"""Decoding a sample and holding it against its record: a sound one passes, every lie is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shard_factory as factory

from vidcap.inspector import clip_check
from vidcap.inspector.clip_check import check_media
from vidcap.shards.reader import Member, RawSample
from vidcap.shards.schema import SampleJson


def raw(tmp_path: Path, **members: bytes) -> RawSample:
    """Members at odd offsets of one file, as in a tar."""
    path, found, data = tmp_path / "x.tar", {}, b"before"
    for suffix, content in members.items():
        found[suffix] = Member(len(data), len(content))
        data += content + b"between"
    path.write_bytes(data)
    return RawSample(path, factory.record().key, found)


def record(**parts: Any) -> SampleJson:
    tree = factory.raw_record()
    for name, value in parts.items():
        tree[name] = tree[name] | value
    return SampleJson.model_validate(tree)


def test_a_sound_sample_passes(tmp_path: Path) -> None:
    assert check_media(raw(tmp_path, mp4=factory.tiny_mp4(), flac=factory.tiny_flac()), record()) == []


def test_a_sound_clip_without_audio_passes(tmp_path: Path) -> None:
    none = {"present": False, "codec": "", "sample_rate": 0, "channels": 0}
    assert check_media(raw(tmp_path, mp4=factory.tiny_mp4(audio=False)), record(audio=none)) == []


def test_the_last_frame_may_end_within_half_a_frame_of_the_span(tmp_path: Path) -> None:
    sample = raw(tmp_path, mp4=factory.tiny_mp4())
    assert check_media(sample, record(span={"end": 1.049})) == []
    assert check_media(sample, record(span={"end": 1.051})) == ["lasts 1.000 s, the span 1.051 s"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"video": {"frames": 9}}, "decodes to more than 9 frames, the record says 9"),
        ({"video": {"frames": 11}}, "decodes to 10 frames, the record says 11"),
        ({"video": {"frames": 9}}, "the container counts 10 frames, the record 9"),
        ({"video": {"width": 66}}, "pictures are 64x48, the record says 66x48"),
        ({"video": {"codec": "hevc"}}, "video codec is h264, not as recorded"),
        ({"video": {"fps": "12/1"}}, "frame rate is not 12/1: 10 frames in 1.000 s"),
        ({"span": {"start": 0.2}}, "lasts 1.000 s, the span 0.800 s"),
        (
            {"audio": {"present": False, "codec": "", "sample_rate": 0, "channels": 0}},
            "1 audio tracks, though the record says present: false",
        ),
        ({"audio": {"codec": "mp3"}}, "audio is aac, 16000 Hz, 1 channels, not as recorded"),
        ({"audio": {"sample_rate": 48_000}}, "audio is aac, 16000 Hz, 1 channels, not as recorded"),
    ],
)
def test_a_record_that_does_not_describe_the_clip_is_seen(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    assert message in check_media(raw(tmp_path, mp4=factory.tiny_mp4()), record(**parts))


def test_a_clip_that_does_not_start_at_zero_is_seen(tmp_path: Path) -> None:
    faults = check_media(raw(tmp_path, mp4=factory.tiny_mp4(delay=3)), record())
    assert "the first frame is at 0.300 s, not 0" in faults


def test_an_edit_list_may_hide_samples_from_the_count(tmp_path: Path) -> None:
    faults = check_media(raw(tmp_path, mp4=factory.tiny_mp4()), record(video={"frames": 9, "cut": "edit_list"}))
    assert not [fault for fault in faults if "container" in fault]


def test_a_variable_rate_is_not_held_against_fps(tmp_path: Path) -> None:
    assert check_media(raw(tmp_path, mp4=factory.tiny_mp4()), record(video={"fps": "12/1", "vfr": True})) == []


@pytest.mark.parametrize("seconds", [0.9, 1.1])
def test_flac_length(tmp_path: Path, seconds: float) -> None:
    faults = check_media(raw(tmp_path, flac=factory.tiny_flac(seconds)), record())
    assert faults == [f".flac lasts {seconds:.3f} s, the span 1.000 s"]


@pytest.mark.parametrize(
    "data",
    [
        b"not a clip",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        factory.tiny_flac(),
        factory.tiny_mp4()[:200],
        b"",
    ],
    ids=["text", "playlist", "flac", "cut", "empty"],
)
@pytest.mark.parametrize("suffix", ["mp4", "flac"])
def test_other_bytes_are_a_fault_not_a_crash(tmp_path: Path, suffix: str, data: bytes) -> None:
    data = factory.tiny_mp4() if suffix == "flac" and data == factory.tiny_flac() else data
    (fault,) = check_media(raw(tmp_path, **{suffix: data}), record())
    assert fault.startswith(f".{suffix} ")


def test_damage_inside_a_clip_is_a_fault(tmp_path: Path) -> None:
    data = bytearray(factory.tiny_mp4())
    start = data.index(b"mdat") + 4
    data[start : start + 4000] = b"\xff" * 4000
    assert check_media(raw(tmp_path, mp4=bytes(data)), record())


def test_huge_pictures_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_check, "PIXEL_LIMIT", 64 * 48 - 1)
    assert check_media(raw(tmp_path, mp4=factory.tiny_mp4()), record()) == ["pictures of 64x48 are not decoded"]
