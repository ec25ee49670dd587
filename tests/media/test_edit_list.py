"""Cuts that hide: readers that follow edit lists show exactly the span; what is hidden has a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_sources import Known, by_kind
from media_factory import read_barcode

from vidcap.errors import MediaError
from vidcap.media.checking import check_edit_list
from vidcap.media.cut import CutOptions, cut_clip
from vidcap.media.edit_list import hiding
from vidcap.media.snap import Order

FRAMES = 80
KINDS: dict[str, dict[str, Any]] = {
    "closed": {"audio": "sine"},
    "pyramid": {"bframes": 3, "gop": 30, "options": {"preset": "veryfast", "x264-params": "b-pyramid=normal"}},
    "open": {"bframes": 3, "options": {"x264-params": "open-gop=1"}},
    "one_key": {"gop": 1000, "audio": "sine"},
    "refresh": {"bframes": 0, "options": {"x264-params": "intra-refresh=1"}},
    "vfr": {"vfr": True, "container": "matroska", "audio": "sine"},
    "transport": {"container": "mpegts", "audio": "sine"},
    "hevc": {"codec": "libx265", "audio": "sine"},
    "vp9": {"codec": "libvpx-vp9", "container": "webm"},
    "mpeg4": {"codec": "mpeg4", "audio": "sine"},
}
HIDING = CutOptions(method="edit_list", video="keep", max_hidden_bytes=1.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Known]:
    return by_kind(tmp_path_factory.mktemp("sources"), KINDS, FRAMES)


def shown(path: Path) -> tuple[list[int], list[Any], list[bytes]]:
    with av.open(str(path)) as clip:
        frames = list(clip.decode(video=0))
    numbers = [read_barcode(frame.to_ndarray(format="rgb24")) for frame in frames]
    return numbers, [frame.pts * frame.time_base for frame in frames], [f.to_ndarray().tobytes() for f in frames]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_readers_of_edit_lists_show_the_span(source: Callable[..., Known], tmp_path: Path, data: st.DataObject) -> None:
    path, tables, facts = source(data.draw(st.sampled_from(sorted(KINDS))))
    first = data.draw(st.integers(0, FRAMES - 8))
    last = data.draw(st.integers(first + 3, FRAMES - 1))
    clip = tmp_path / "clip.mp4"
    result = cut_clip(str(path), tables, facts, first, last, clip, options=HIDING)
    wanted = list(range(first, last + 1))
    numbers, times, pictures = shown(clip)
    assert numbers == wanted
    table = tables.frames
    assert times == [int(table.pts[i] - table.pts[first]) * table.time_base for i in wanted]
    reader = cv2.VideoCapture(str(clip))
    seen = []
    while (read := reader.read())[0]:
        seen.append(read_barcode(read[1][:, :, ::-1]))
    assert seen == wanted
    if path.name != "refresh":  # where what stands before a recovery point is missed
        assert result.method in ("copy", "edit_list")
    if result.method != "reencode":
        assert result.encoded == 0 or result.method == "hybrid"
    if result.method in ("copy", "edit_list"):
        assert pictures == shown(path)[2][first : last + 1]
        with av.open(str(clip)) as opened:
            video = opened.streams.video[0]
            length = table.end_pts(last) - int(table.pts[first])
            assert video.duration is not None and video.time_base is not None
            sound = float((opened.duration or 0) / 1e6)
        assert sound == pytest.approx(float(length * table.time_base), abs=0.05)


def test_what_may_be_hidden_has_a_limit(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("one_key")
    plan = hiding(tables, Order(tables), 60, 75)
    assert plan is not None
    share = plan.hidden / plan.bytes
    assert share > 0.5
    clip = tmp_path / "clip.mp4"
    for limit, method in ((share - 0.01, "reencode"), (share + 0.01, "edit_list")):
        options = CutOptions(method="edit_list", max_hidden_bytes=limit)
        assert cut_clip(str(path), tables, facts, 60, 75, clip, options=options).method == method
    assert cut_clip(str(path), tables, facts, 60, 75, clip).method == "reencode"
    path, tables, facts = source("closed")
    options = CutOptions(method="edit_list", max_hidden_bytes=0)
    assert cut_clip(str(path), tables, facts, 10, 70, clip, options=options).method == "hybrid"
    assert cut_clip(str(path), tables, facts, 25, 49, clip, options=options).method == "copy"


def test_the_check_sees_other_frames(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("closed")
    clip = tmp_path / "clip.mp4"
    assert cut_clip(str(path), tables, facts, 30, 47, clip, options=HIDING).method == "edit_list"
    table = tables.frames
    assert check_edit_list(clip, table, 30, 47, 25, to_the_end=True) == "exact"
    for first, last, key in ((29, 46, 25), (31, 48, 25), (30, 46, 25), (30, 48, 25)):
        with pytest.raises(MediaError, match="cut_mismatch"):
            check_edit_list(clip, table, first, last, key, to_the_end=True)
    with pytest.raises(MediaError, match="first hidden frame"):
        check_edit_list(clip, table, 30, 47, 26, to_the_end=False)
    for index in (30, 47):
        table.hash[index] ^= np.uint64(1)
        try:
            with pytest.raises(MediaError, match="frame is not frame"):
                check_edit_list(clip, table, 30, 47, 25, to_the_end=True)
        finally:
            table.hash[index] ^= np.uint64(1)


def test_hevc_says_that_its_parameter_sets_stand_in_the_header(source: Callable[..., Known], tmp_path: Path) -> None:
    path, tables, facts = source("hevc")
    clip = tmp_path / "clip.mp4"
    for span in ((25, 49), (30, 47)):
        cut_clip(str(path), tables, facts, *span, clip, options=HIDING)
        assert b"hvc1" in clip.read_bytes()
        assert b"hev1" not in clip.read_bytes()
