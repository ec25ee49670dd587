"""Cuts show exactly the frames asked for, in every reader, from every kind of source; the check sees other ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_sources import SIZE, Known, by_kind, decoded
from media_factory import read_barcode, render

from vidcap.errors import MediaError
from vidcap.media.alignment import alignment
from vidcap.media.checking import check_copy, check_reencode, check_times
from vidcap.media.cut import CutOptions, Cutter, copyable, cut_clip
from vidcap.media.frames import SourceTables
from vidcap.media.hybrid import LEAST
from vidcap.media.snap import copy_run, snap

FRAMES = 72

KINDS: dict[str, dict[str, Any]] = {
    "closed": {"audio": "sine"},
    "open": {"bframes": 3, "options": {"x264-params": "open-gop=1"}},
    "pyramid": {"bframes": 3, "gop": 30, "options": {"preset": "veryfast", "x264-params": "b-pyramid=normal"}},
    "plain": {"bframes": 0, "gop": 10},
    "all_key": {"gop": 1, "bframes": 0},
    "one_key": {"gop": 1000},
    "refresh": {"bframes": 0, "options": {"x264-params": "intra-refresh=1"}},
    "vfr": {"vfr": True, "container": "matroska", "audio": "sine"},
    "transport": {"container": "mpegts", "audio": "sine"},
    "late": {"video_offset": 1.0, "container": "matroska"},
    "fragments": {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "audio": "sine"},
    "hevc": {"codec": "libx265"},
    "vp9": {"codec": "libvpx-vp9", "container": "webm"},
    "mpeg4": {"codec": "mpeg4"},
    "avi": {"codec": "mpeg4", "container": "avi", "audio": "sine", "audio_codec": "mp2"},
    "mjpeg": {"codec": "mjpeg", "container": "avi", "pix_fmt": "yuvj420p"},
    "gif": {"codec": "gif", "container": "gif", "pix_fmt": "rgb8", "fps": 10},
}

HDR = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Known]:
    """A rendered and decoded source of one of the kinds, or of the arguments given."""
    return by_kind(tmp_path_factory.mktemp("sources"), KINDS, FRAMES)


def shown_by_pyav(path: Path) -> tuple[int, list[int], list[Fraction]]:
    """The container's count, the number in each frame, its time."""
    with av.open(str(path)) as clip:
        frames = [(read_barcode(f.to_ndarray(format="rgb24")), f.pts * f.time_base) for f in clip.decode(video=0)]
        return clip.streams.video[0].frames, [number for number, _ in frames], [time for _, time in frames]


def shown_by_opencv(path: Path) -> tuple[int, list[int]]:
    clip = cv2.VideoCapture(str(path))
    count, numbers = int(clip.get(cv2.CAP_PROP_FRAME_COUNT)), []
    while True:
        read, picture = clip.read()
        if not read:
            return count, numbers
        numbers.append(read_barcode(picture[:, :, ::-1]))


def planes(path: Path, first: int = 0, last: int = 1 << 30) -> list[bytes]:
    """The decoded pixels of frames `first` to `last`, unconverted."""
    with av.open(str(path)) as clip:
        clip.streams.video[0].codec_context.thread_count = 1
        frames = [frame.to_ndarray().tobytes() for frame in clip.decode(video=0)]
    return frames[first : last + 1]


def assert_shows(clip: Path, tables: SourceTables, first: int, last: int) -> None:
    """All readers count and show the frames `first` to `last`, at the source's own distances."""
    wanted = list(range(first, last + 1))
    counted, numbers, times = shown_by_pyav(clip)
    assert numbers == wanted
    assert counted == len(wanted)
    assert shown_by_opencv(clip) == (len(wanted), wanted)
    table = tables.frames
    assert times == [int(table.pts[i] - table.pts[first]) * table.time_base for i in wanted]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_cut_shows_exactly_its_frames(source: Callable[..., Known], tmp_path: Path, data: st.DataObject) -> None:
    path, tables, facts = source(data.draw(st.sampled_from(sorted(KINDS))))
    first = data.draw(st.integers(0, FRAMES - 1))
    last = data.draw(st.integers(first, min(FRAMES - 1, first + 40)))
    options = CutOptions(video=data.draw(st.sampled_from(["h264", "keep"])))
    can_copy = copyable(facts, options.video)
    span = snap(tables, first, last, max_seconds=data.draw(st.sampled_from([0.0, 0.8])), copyable=can_copy)
    clip = tmp_path / "clip.mp4"
    result = cut_clip(str(path), tables, facts, span.first, span.last, clip, options=options)
    assert_shows(clip, tables, span.first, span.last)
    assert result.frames == span.last - span.first + 1
    assert result.check == "exact" if result.method == "copy" else result.check in ("aligned", "indistinct")
    if result.method == "copy":
        assert span.hides_nothing
        assert planes(clip) == planes(path, span.first, span.last)
    elif result.method == "hybrid":
        same = [one == other for one, other in zip(planes(clip), planes(path, span.first, span.last), strict=True)]
        assert sum(same) >= result.frames - result.encoded >= LEAST
    else:
        # Open groups of pictures begin with an I picture that is no IDR picture: only its bytes tell.
        assert not span.hides_nothing or path.name == "open"


def test_copies_start_on_a_picture_that_needs_none_before_it(source: Callable[..., Known], tmp_path: Path) -> None:
    for kind, starts in (("open", {0: "copy", 25: "reencode", 50: "reencode"}), ("closed", {0: "copy", 25: "copy"})):
        path, tables, facts = source(kind)
        for start, method in starts.items():
            assert copy_run(tables, start, FRAMES - 1), "the order of the packets alone allows it"
            assert cut_clip(str(path), tables, facts, start, FRAMES - 1, tmp_path / "clip.mp4").method == method


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_copies_are_made_where_they_can_be(source: Callable[..., Known], tmp_path: Path, kind: str) -> None:
    path, tables, facts = source(kind)
    span = snap(tables, 0, 50, max_seconds=2.0, copyable=copyable(facts, "keep"))
    with Cutter(str(path), tables, facts, options=CutOptions(video="keep")) as cutter:
        method = cutter.cut(span.first, span.last, tmp_path / "head.mp4").method
        assert method == ("reencode" if kind == "gif" else "copy")
        method = cutter.cut(1, 24, tmp_path / "inner.mp4").method
        assert method == {"all_key": "copy", "mjpeg": "copy", "plain": "hybrid"}.get(kind, "reencode")
    with Cutter(str(path), tables, facts, options=CutOptions(method="reencode")) as cutter:
        assert cutter.cut(span.first, span.last, tmp_path / "asked.mp4").method == "reencode"


def test_a_reencode_is_h264_that_plays_anywhere(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("hevc")
    result = cut_clip(str(path), tables, facts, 3, 40, tmp_path / "clip.mp4")
    assert (result.method, result.codec, result.width, result.height) == ("reencode", "h264", *SIZE)
    assert result.fps == 25
    assert copyable(decoded(tmp_path / "clip.mp4")[2])


@pytest.mark.parametrize("kind", ["closed", "vfr", "mpeg4", "transport"])
def test_the_same_cut_gives_the_same_bytes(source: Callable[..., Known], tmp_path: Path, kind: str) -> None:
    path, tables, facts = source(kind)
    spans = [(25, 49), (5, 30), (0, 24), (5, 60), (60, 71)]
    seen: dict[tuple[int, int], bytes] = {}
    clip = tmp_path / "clip.mp4"
    with Cutter(str(path), tables, facts) as cutter:
        for span in [*spans, *reversed(spans)]:
            cutter.cut(*span, clip)
            assert seen.setdefault(span, clip.read_bytes()) == clip.read_bytes()
    for span in spans:
        cut_clip(str(path), tables, facts, *span, clip)
        assert clip.read_bytes() == seen[span]
        assert b"Lavf" not in seen[span]
        if kind == "mpeg4":  # the others hold copied packets, with what their own encoders wrote into them
            assert b"Lavc" not in seen[span]
            assert b"x264" not in seen[span]


def test_a_clip_is_one_plain_mp4(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("fragments")
    for number, span in enumerate([(25, 49), (5, 30)]):
        clip = tmp_path / f"{number}.mp4"
        cut_clip(str(path), tables, facts, *span, clip)
        data, at, boxes = clip.read_bytes(), 0, []
        while at < len(data):
            boxes.append(data[at + 4 : at + 8])
            at += int.from_bytes(data[at : at + 4], "big")
        assert boxes == [b"ftyp", b"moov", b"free", b"mdat"] or boxes == [b"ftyp", b"moov", b"mdat"]


def test_the_picture_is_upright(tmp_path: Path) -> None:
    for rotation, turns in ((90, 1), (180, 2), (270, 3)):
        path, tables, facts = decoded(render(tmp_path / f"{rotation}.mp4", frames=30, size=SIZE, rotation=rotation))
        clip = tmp_path / "clip.mp4"
        result = cut_clip(str(path), tables, facts, 4, 12, clip, options=CutOptions(video="h264"))
        assert result.method == "reencode"
        with av.open(str(clip)) as opened:
            frames = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
        assert frames[0].shape[1::-1] == (result.width, result.height) == (SIZE if turns == 2 else SIZE[::-1])
        # Turned back clockwise by as much as showing it upright turned it the other way.
        assert [read_barcode(np.rot90(frame, -turns)) for frame in frames] == list(range(4, 13))


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({"sar": Fraction(4, 3)}, (256, 108)),
        ({"sar": Fraction(3, 4)}, (192, 144)),
        ({"sar": Fraction(200, 199)}, (192, 108)),
        ({"codec": "libvpx-vp9", "container": "webm", "size": (191, 107)}, (190, 106)),
        ({"codec": "libx265", "pix_fmt": "yuv420p10le"}, (192, 108)),
        ({"pix_fmt": "yuv444p"}, (192, 108)),
        (
            {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none:transfer=16"}},
            SIZE,
        ),
        ({"options": {"x264-params": "tff=1", "flags": "+ildct+ilme"}}, (192, 108)),
    ],
)
def test_odd_pictures_become_plain_ones(tmp_path: Path, arguments: dict[str, Any], size: tuple[int, int]) -> None:
    known = decoded(render(tmp_path / "source", **{"frames": 30, "size": SIZE, "container": "mp4", **arguments}))
    clip = tmp_path / "clip.mp4"
    result = cut_clip(str(known[0]), known[1], known[2], 3, 9, clip)
    assert (result.width, result.height) == size
    assert_shows(clip, known[1], 3, 9)
    _, _, facts = decoded(clip)
    assert (facts.width, facts.height, facts.sar, facts.pix_fmt) == (*size, 1, "yuv420p")
    assert not (facts.hdr or facts.interlaced or facts.rotation)


def onset(clip: Path) -> float:
    """Seconds at which the loud burst begins, counted from the first frame shown."""
    wave, rate, zero = [], 0, None
    with av.open(str(clip)) as opened:
        for frame in opened.decode(audio=0):
            zero = frame.pts * frame.time_base if zero is None else zero
            rate = frame.sample_rate
            wave.append(np.abs(frame.to_ndarray().astype(np.float64)).max(axis=0))
    assert zero is not None
    loud = np.concatenate(wave)
    return float(zero) + float(np.argmax(loud > 0.4 * loud.max())) / rate


@pytest.mark.parametrize(
    ("arguments", "copied"),
    [
        ({}, True),
        ({"container": "matroska", "audio_codec": "flac"}, False),
        ({"container": "matroska", "audio_codec": "libopus"}, False),
        ({"container": "mpegts"}, True),
        ({"container": "matroska", "audio_codec": "pcm_s16le", "audio_rate": 22_050}, False),
        ({"audio_offset": 0.25, "audio_rate": 44_100}, True),
    ],
)
def test_sound_stays_with_its_picture(tmp_path: Path, arguments: dict[str, Any], copied: bool) -> None:
    late = arguments.get("audio_offset", 0.0)
    values = {"frames": 100, "size": SIZE, "container": "mp4", "audio": "click", "clicks": [2.5 - late], **arguments}
    path, tables, facts = decoded(render(tmp_path / "source", **values))
    for first, last in ((25, 99), (50, 70), (37, 80)):
        clip = tmp_path / "clip.mp4"
        result = cut_clip(str(path), tables, facts, first, last, clip)
        assert result.sound.codec == "aac"
        assert result.sound.copied is copied
        assert onset(clip) == pytest.approx(2.5 - first / 25, abs=0.012)
        with av.open(str(clip)) as opened:
            assert opened.streams.audio[0].sample_rate == result.sound.sample_rate
            sound = sum(frame.samples for frame in opened.decode(audio=0)) / result.sound.sample_rate
        assert sound == pytest.approx((last + 1 - first) / 25, abs=0.05)


def test_no_sound_where_there_is_none_or_none_is_wanted(source: Callable[..., Known], tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    for kind, options in (("open", CutOptions()), ("closed", CutOptions(audio="none"))):
        path, tables, facts = source(kind)
        assert cut_clip(str(path), tables, facts, 0, 20, clip, options=options).sound.codec == ""
        with av.open(str(clip)) as opened:
            assert not opened.streams.audio


def test_a_shifted_copy_is_caught(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("all_key")
    clip = tmp_path / "clip.mp4"
    cut_clip(str(path), tables, facts, 11, 30, clip)
    assert check_copy(clip, tables.frames, 11, 30, to_the_end=True) == "exact"
    for first, last in ((10, 29), (12, 31), (11, 29), (11, 31)):
        with pytest.raises(MediaError, match="cut_mismatch"):
            check_copy(clip, tables.frames, first, last, to_the_end=True)


def test_a_copy_with_another_last_frame_is_caught(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("all_key")
    clip = tmp_path / "clip.mp4"
    cut_clip(str(path), tables, facts, 11, 30, clip)
    tables.frames.hash[30] ^= np.uint64(1)
    try:
        with pytest.raises(MediaError, match="last frame"):
            check_copy(clip, tables.frames, 11, 30, to_the_end=True)
    finally:
        tables.frames.hash[30] ^= np.uint64(1)


def test_times_of_another_span_are_caught(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("vfr")
    clip = tmp_path / "clip.mp4"
    cut_clip(str(path), tables, facts, 10, 30, clip)
    check_times(clip, tables.frames, 10, 30)
    check_times(clip, tables.frames, 15, 35)  # the steps repeat every five frames
    with pytest.raises(MediaError, match="is shown at"):
        check_times(clip, tables.frames, 11, 31)


def thumbnails_of(path: Path) -> Any:
    folder = path.with_name(f"{path.name}.evidence")
    return np.fromfile(folder / "thumbnails.rgb", np.uint8).reshape(-1, 27, 48, 3)


def test_a_shifted_reencode_is_caught(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("one_key")
    clip = tmp_path / "clip.mp4"
    cut_clip(str(path), tables, facts, 10, 40, clip)
    pictures = thumbnails_of(path)
    assert check_reencode(clip, tables.frames, 10, 40, pictures[10:41]) == "aligned"
    for shift in (-2, -1, 1, 2):
        with pytest.raises(MediaError, match="cut_mismatch"):
            check_reencode(clip, tables.frames, 10, 40, pictures[10 + shift : 41 + shift])


def test_alignment_tells_apart_what_can_be_told_apart() -> None:
    rng = np.random.default_rng(1)
    still = np.repeat(rng.integers(0, 255, (1, 27, 48, 3), dtype=np.uint8), 20, axis=0)
    assert alignment(still, still) == "indistinct"
    noisy = np.clip(still.astype(int) + rng.integers(-2, 3, still.shape), 0, 255).astype(np.uint8)
    assert alignment(noisy, still) == "indistinct"
    moving = np.stack([np.roll(still[0], 3 * i, axis=1) for i in range(20)])
    assert alignment(moving, moving) == "aligned"
    assert alignment(moving[:1], moving[:1]) == "indistinct"
    with pytest.raises(MediaError, match="shifted by"):
        alignment(moving[1:], moving[:-1])
    # One cut in a clip that stands still otherwise, off by one frame.
    slides = np.concatenate([still[:10], 255 - still[:10]])
    with pytest.raises(MediaError):
        alignment(slides[1:], slides[:-1])
    wrong = moving.copy()
    wrong[7] = 255 - wrong[7]
    with pytest.raises(MediaError, match="frame 7 of the clip"):
        alignment(wrong, moving)


def test_another_file_in_the_source_s_place_is_noticed(source: Callable[..., Known], tmp_path: Path) -> None:
    _, tables, facts = source("closed")
    clip = tmp_path / "clip.mp4"
    other = shutil.copy(source("plain")[0], tmp_path / "closed")
    for span in ((25, 49), (5, 30)):
        with pytest.raises(MediaError) as caught:
            cut_clip(str(other), tables, facts, *span, clip)
        assert caught.value.reason == "source.changed"
        assert not clip.exists()


def test_a_span_outside_the_source_is_refused(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("closed")
    for span in ((-1, 4), (5, 4), (60, FRAMES)):
        with pytest.raises(MediaError, match="cut_failed"):
            cut_clip(str(path), tables, facts, *span, tmp_path / "clip.mp4")


@pytest.mark.data
@pytest.mark.parametrize("name", ["speech_es_mx.mp4", "exo_bear-vp9-odd.webm", "vl_boat.mp4"])
def test_real_footage(real_videos: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.copy(real_videos / name, path)
    _, tables, facts = decoded(path)
    count = len(tables.frames)
    with Cutter(str(path), tables, facts) as cutter:
        for first, last in ((0, count - 1), (count // 3, count // 2)):
            clip = tmp_path / "clip.mp4"
            result = cutter.cut(first, last, clip)
            assert result.check in ("exact", "aligned")
            assert int(cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FRAME_COUNT)) == last - first + 1
            if result.method == "copy":
                assert planes(clip) == planes(path, first, last)
