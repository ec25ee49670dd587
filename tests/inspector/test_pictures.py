"""Pictures come from where they should, whatever the key frames, and broken files give none."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest

from vidcap.inspector.pictures import clip_pictures, small, targets


def film(*, gop: int, seconds: int = 6, fps: int = 10, size: tuple[int, int] = (96, 64)) -> bytes:
    """A clip that grows evenly brighter, so that a picture tells its own time."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as box:
        options = {"preset": "ultrafast", "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
        video: Any = box.add_stream("libx264", rate=fps, options=options)
        video.width, video.height = size
        video.pix_fmt, video.thread_count = "yuv420p", 1
        for index in range(seconds * fps):
            grey = np.full((size[1], size[0], 3), 20 + 200 * index // (seconds * fps), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
    return target.getvalue()


def brightness(jpeg: bytes) -> float:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return float(picture.mean())


@pytest.mark.parametrize("gop", [1, 7, 250])
def test_pictures_are_evenly_spaced_and_show_their_time(gop: int) -> None:
    found = clip_pictures(io.BytesIO(film(gop=gop)), 6.0)
    assert len(found) == 6
    for picture, wanted in zip(found, targets(6.0), strict=True):
        assert abs(picture.time - wanted) <= 0.5 + 1e-6
        assert abs(brightness(picture.jpeg) - (20 + 200 * picture.time / 6)) < 8
    assert [p.time for p in found] == sorted({p.time for p in found})


def test_pictures_are_small(tmp_path: Any) -> None:
    found = clip_pictures(io.BytesIO(film(gop=5, size=(640, 480), seconds=2)), 2.0, height=120)
    shapes = {cv2.imdecode(np.frombuffer(p.jpeg, np.uint8), cv2.IMREAD_COLOR).shape for p in found}
    assert shapes == {(120, 160, 3)}
    assert all(len(p.jpeg) < 12_000 for p in found)


@pytest.mark.parametrize("broken", [b"", b"x" * 5000, film(gop=5)[:900]])
def test_broken_clips_give_nothing(broken: bytes) -> None:
    assert clip_pictures(io.BytesIO(broken), 6.0) == []


def test_what_is_no_jpeg_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JPEG"):
        small(b"GIF89a")
