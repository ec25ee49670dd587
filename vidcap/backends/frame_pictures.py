"""Frames on their way to a captioner: checked, made smaller where asked, as JPEG for a server."""

from __future__ import annotations

import base64
import math

import numpy as np

from vidcap.backends.roles import ClipView, UInt8
from vidcap.errors import ItemError

REASON = "caption.failed"


def unseen(clip: ClipView) -> ItemError | None:
    """Why a clip cannot be looked at; None where it can."""
    if not clip.frames or len(clip.frames) != len(clip.times):
        return ItemError(REASON, "the clip has no frames to look at")
    for frame in clip.frames:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            return ItemError(REASON, f"a frame of shape {frame.shape} and type {frame.dtype} is no RGB picture")
    return None


def smaller(frame: UInt8, *, height: int | None = None, pixels: int | None = None) -> UInt8:
    """The frame (H×W×3) of at most `height` rows and `pixels` pixels, its shape kept; never enlarged."""
    rows, columns = frame.shape[:2]
    scale = 1.0 if height is None else min(1.0, height / rows)
    if pixels is not None:
        scale = min(scale, math.sqrt(pixels / (rows * columns)))
    if scale == 1.0:
        return frame
    return _resized(frame, max(1, int(rows * scale + 1e-9)), max(1, int(columns * scale + 1e-9)))


def of_one_size(frames: list[UInt8]) -> list[UInt8]:
    """All frames as large as the first: a source may change its picture size, a video tensor cannot."""
    rows, columns = frames[0].shape[:2]
    return [frame if frame.shape[:2] == (rows, columns) else _resized(frame, rows, columns) for frame in frames]


def jpeg_url(frame: UInt8, quality: int) -> str:
    """`data:image/jpeg;base64,…` of an RGB frame; the same bytes every time. Raises `ItemError`."""
    import cv2

    done, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ItemError(REASON, f"a frame of shape {frame.shape} cannot be encoded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _resized(frame: UInt8, rows: int, columns: int) -> UInt8:
    import cv2

    resized: UInt8 = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_AREA)
    return resized
