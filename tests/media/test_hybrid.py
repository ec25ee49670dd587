"""Hybrid cuts: edges encoded, inner packets copied bit by bit, right frames, count and times in every reader."""

from __future__ import annotations

import itertools
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
from vidcap.media import h264
from vidcap.media.checking import check_hybrid
from vidcap.media.cut import CutOptions, CutResult, Cutter, cut_clip
from vidcap.media.hybrid import LEAST
from vidcap.media.program_encoding import Encoding
from vidcap.media.snap import Order
from vidcap.media.thumbnails import Thumbnailer

FRAMES = 96

KINDS: dict[str, dict[str, Any]] = {
    "closed": {"audio": "sine"},
    "pyramid": {"bframes": 3, "gop": 30, "options": {"preset": "veryfast", "x264-params": "b-pyramid=normal"}},
    "deep": {"bframes": 4, "gop": 40, "options": {"preset": "medium", "x264-params": "ref=5:b-pyramid=none"}},
    "plain": {"bframes": 0, "gop": 12},
    "baseline": {"bframes": 0, "gop": 20, "options": {"profile": "baseline"}},
    "full_range": {"pix_fmt": "yuvj420p"},
    "long": {"gop": 60, "bframes": 2},
    "vfr": {"vfr": True, "container": "matroska", "audio": "sine"},
    "transport": {"container": "mpegts", "audio": "sine"},
    "repeated": {"options": {"x264-params": "repeat-headers=1"}},
    "slow": {"fps": Fraction(24000, 1001)},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Known]:
    return by_kind(tmp_path_factory.mktemp("sources"), KINDS, FRAMES)


def planes(path: Path, threads: int = 1) -> list[bytes]:
    with av.open(str(path)) as clip:
        clip.streams.video[0].thread_type = "FRAME"
        clip.streams.video[0].codec_context.thread_count = threads
        return [frame.to_ndarray().tobytes() for frame in clip.decode(video=0)]


def assert_plain(clip: Path, known: Known, first: int, last: int, result: CutResult) -> None:
    """Everything that a reader could count or show is right, and nothing is hidden."""
    path, tables, _ = known
    wanted = list(range(first, last + 1))
    table = tables.frames
    with av.open(str(clip)) as opened:
        video = opened.streams.video[0]
        assert video.frames == len(wanted)
        packets = [packet for packet in opened.demux(video) if packet.size]
        assert len(packets) == len(wanted)
        assert not any(packet.is_discard for packet in packets)
        steps = {later.dts - earlier.dts for earlier, later in itertools.pairwise(packets)}
        if not tables.frames.vfr:
            assert max(steps) - min(steps) <= 1, "decode times have steps of one frame over the joints"
        opened.seek(0)
        frames = list(opened.decode(video))
    assert [read_barcode(frame.to_ndarray(format="rgb24")) for frame in frames] == wanted
    assert [f.pts * f.time_base for f in frames] == [
        (table.pts[i] - table.pts[first]) * table.time_base for i in wanted
    ]
    reader = cv2.VideoCapture(str(clip))
    assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == len(wanted)
    seen = []
    while (read := reader.read())[0]:
        seen.append(read_barcode(read[1][:, :, ::-1]))
    assert seen == wanted
    if result.method == "hybrid":
        ours, theirs = planes(clip), planes(path)[first : last + 1]
        assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= len(wanted) - result.encoded >= LEAST
        assert planes(clip, threads=4) == ours
        assert len(h264.stored_sets(header(clip)).sequence) >= 2


def header(clip: Path) -> bytes | None:
    with av.open(str(clip)) as opened:
        return opened.streams.video[0].codec_context.extradata


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_span_shows_exactly_its_frames(source: Callable[..., Known], tmp_path: Path, data: st.DataObject) -> None:
    known = source(data.draw(st.sampled_from(sorted(KINDS))))
    path, tables, facts = known
    first = data.draw(st.integers(0, FRAMES - 20))
    last = data.draw(st.integers(first + 10, min(FRAMES - 1, first + 75)))
    clip = tmp_path / "clip.mp4"
    result = cut_clip(str(path), tables, facts, first, last, clip)
    assert_plain(clip, known, first, last, result)
    order = Order(tables)
    runs = list(order.inner(first, last, LEAST))
    if order.run(first, last) is not None:
        assert result.method == "copy"
    elif runs:
        assert result.method == "hybrid"
        assert result.encoded == last - first + 1 - (runs[0].last - runs[0].first + 1)
    else:
        assert result.method == "reencode"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_both_edges_are_encoded_where_both_must(source: Callable[..., Known], tmp_path: Path, kind: str) -> None:
    known = source(kind)
    path, tables, facts = known
    order = Order(tables)
    spans = [
        (first, last)
        for first in (1, 4)
        for last in range(FRAMES - 12, FRAMES - 1)
        for inner in [next(order.inner(first, last, LEAST), None)]
        if inner is not None and inner.first > first and (inner.last < last or KINDS[kind].get("bframes") == 0)
    ]
    assert spans, "no span of that kind has two edges"
    first, last = spans[len(spans) // 2]
    clip = tmp_path / "clip.mp4"
    result = cut_clip(str(path), tables, facts, first, last, clip)
    assert result.method == "hybrid"
    assert 0 < result.encoded < last - first + 1
    assert_plain(clip, known, first, last, result)
    assert result.codec == "h264"


def test_an_encoder_preset_is_that_of_the_edges(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("closed")
    sizes = []
    for crf in (10, 40):
        clip = tmp_path / "clip.mp4"
        result = cut_clip(str(path), tables, facts, 3, 70, clip, options=CutOptions(encoding=Encoding(crf=crf)))
        assert result.method == "hybrid"
        sizes.append(clip.stat().st_size)
    assert sizes[0] > sizes[1]


def test_what_cannot_be_joined_is_encoded_whole(tmp_path: Path) -> None:
    """Group of pictures that are open, and recovery points, are no clean start: only their bytes tell."""
    for name, x264 in (("open", "open-gop=1"), ("refresh", "intra-refresh=1")):
        values = {"frames": 90, "size": SIZE, "container": "mp4", "bframes": 3 if name == "open" else 0}
        known = decoded(render(tmp_path / name, options={"x264-params": x264}, **values))
        clip = tmp_path / "clip.mp4"
        result = cut_clip(str(known[0]), known[1], known[2], 3, 80, clip)
        assert result.method == "reencode"
        assert_plain(clip, known, 3, 80, result)


def test_edges_that_are_not_what_they_should_be_are_caught(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("closed")
    clip = tmp_path / "clip.mp4"
    assert cut_clip(str(path), tables, facts, 10, 60, clip).method == "hybrid"
    inner = next(Order(tables).inner(10, 60, LEAST))
    head, tail = shown(clip, 0, inner.first - 10), shown(clip, inner.last + 1 - 10, 61 - 10)
    check_hybrid(clip, tables.frames, 10, 60, inner, head, tail, to_the_end=True)
    codes = tables.frames.hash
    for index, whole in ((inner.first, False), (inner.first + 3, True), (inner.last, True)):
        codes[index] ^= np.uint64(1)
        try:
            with pytest.raises(MediaError, match="copied frame is not frame"):
                check_hybrid(clip, tables.frames, 10, 60, inner, head, tail, to_the_end=whole)
        finally:
            codes[index] ^= np.uint64(1)
    for shift in (-2, -1, 1, 2):
        with pytest.raises(MediaError, match=r"shifted|differs"):
            other = shown(path, 10 + shift, inner.first + shift)
            check_hybrid(clip, tables.frames, 10, 60, inner, other, tail, to_the_end=False)
    if len(tail):
        with pytest.raises(MediaError, match="cut_mismatch"):
            check_hybrid(clip, tables.frames, 10, 60, inner, head, 255 - tail, to_the_end=False)


def shown(path: Path, first: int, stop: int) -> Any:
    thumbnail = Thumbnailer()
    with av.open(str(path)) as clip:
        every = [thumbnail(frame) for frame in clip.decode(video=0)]
    return np.stack(every[first:stop]) if stop > first else np.empty((0, 27, 48, 3), np.uint8)


def test_a_source_is_opened_once(source: Callable[..., Known], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidcap.media import source as reading

    opened: list[str] = []
    real = reading.open_media
    monkeypatch.setattr(reading, "open_media", lambda path: (opened.append(path), real(path))[1])
    for kind in sorted(KINDS):
        path, tables, facts = source(kind)
        opened.clear()
        for method in ("exact", "reencode", "edit_list"):
            with Cutter(str(path), tables, facts, options=CutOptions(method=method)) as cutter:  # type: ignore[arg-type]  # of a literal
                for first, last in ((0, 20), (3, 60), (50, 90), (0, 95), (2, 9), (60, 80), (0, 40)):
                    cutter.cut(first, last, tmp_path / "clip.mp4")
        assert len(opened) == 3, kind


@pytest.mark.data
@pytest.mark.parametrize("name", ["speech_ja.mp4", "fmt_nonzero_start.ts", "dec_flipping_a_pancake.mkv"])
def test_real_footage(real_videos: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.copy(real_videos / name, path)
    _, tables, facts = decoded(path)
    count = len(tables.frames)
    starts = Order(tables)
    keys = [int(starts.shown[packet]) for packet in starts.starts if int(starts.shown[packet]) > 5]
    if not keys:
        keys = [count // 2]
    first, last = max(1, keys[0] - 7), min(count - 2, keys[0] + 40)
    clip = tmp_path / "clip.mp4"
    result = cut_clip(str(path), tables, facts, first, last, clip)
    assert result.method in ("hybrid", "reencode")
    reader = cv2.VideoCapture(str(clip))
    assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == last - first + 1
    ours, theirs = planes(clip), planes(path)[first : last + 1]
    assert len(ours) == len(theirs)
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= last - first + 1 - result.encoded
