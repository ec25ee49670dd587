"""What the embedded backends measure of the camera: does it pan, tilt, zoom or stand, and is that certain?

Between neighbouring frames one similarity transform is sought that most of the picture follows. Hypotheses come from
phase correlation and from matched corners (RANSAC); how much of the picture follows one is checked block by block, so
that neither what moves in front of the camera nor a caption laid over the picture passes for its movement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CAMERA_FIELDS = (
    "pan",  # frame widths the camera turned or moved to the right, first to last frame; negative to the left
    "pan_share",  # the same in parts of all camera movement: 1 is nothing else, 0 none or back and forth, -1 left
    "tilt",  # frame heights upwards
    "tilt_share",
    "zoom",  # natural logarithm of how much larger things get
    "zoom_share",
    "drift",  # largest movement between two neighbouring frames: mean of the corners, in parts of the diagonal
    "strayed",  # movement from the first frame to the last, as `drift`; NaN where they have too little in common
    "followed",  # the least share of the textured picture that follows the movement found, over the pairs of frames
    "held",  # the least share of it that stays where it is
)
"""Layout of the vector of `measure_camera`; all NaN where no movement found is followed by enough of the picture, or
where what moves may be a thing before a plain wall."""

_AREA = 192 * 108
"""Pixels every frame is brought to: displacements of a quarter of a percent of the width are seen."""
_BLOCK = 12
_TEXTURED = 4.0
"""Luma deviation from which a block says whether it matches."""
_ALIKE = 0.6
"""Correlation from which a block follows."""
_FEWEST_BLOCKS = 12
_FEWEST_PAIRS = 2
_FOLLOWED = 0.35
"""Where less of the picture follows, the movement is not known."""
_SPREAD = 0.45
"""Textured share that three sides of the picture need: only then is what moves the whole picture and no actor."""
_MOVED = 0.003
_CORNERS = 200
_ENOUGH = 0.85
"""Where this share of the picture follows a movement, no other is sought."""


def measure_camera(frames: Sequence[UInt8]) -> Float32:
    """The vector of `CAMERA_FIELDS`. `frames`: H×W×3 RGB of one size, in time order."""
    import cv2

    cv2.setNumThreads(1)
    unknown = np.full(len(CAMERA_FIELDS), np.nan, np.float32)
    pictures = [_luma(frame) for frame in frames]
    if len(pictures) <= _FEWEST_PAIRS:
        return unknown
    height, width = pictures[0].shape
    corners = _corners(pictures)
    moves, followed, held = [], [], []
    for (first, second), (a, b) in zip(pairwise(pictures), pairwise(corners), strict=True):
        move, share, stays = _best_move(first, second, a, b)
        moves.append(move)
        followed.append(share)
        held.append(stays)
        if share < _FOLLOWED:
            return unknown
    found = np.asarray(moves)
    # Between neighbours a slow movement may be too small to be seen.
    whole, share, _ = _best_move(pictures[0], pictures[-1], corners[0], corners[-1], gain=0.0, enough=1.0)
    path = np.abs(found).sum() + 1e-9
    pan, tilt, zoom, _ = found.sum(axis=0)
    reach = np.hypot(width, height) / 2
    drift = np.abs(found).sum(axis=1).max() / (2 * reach)
    if drift > _MOVED and min(map(_spread, pictures)) < _SPREAD:
        return unknown
    values = (
        pan / width,
        pan / path,
        tilt / height,
        tilt / path,
        zoom / reach,
        zoom / path,
        drift,
        np.abs(whole).sum() / (2 * reach) if share >= _FOLLOWED else np.nan,
        min(followed),
        min(held),
    )
    return np.asarray(values, np.float32)


def _luma(frame: UInt8) -> UInt8:
    import cv2

    height, width = frame.shape[:2]
    scale = (_AREA / (height * width)) ** 0.5
    size = (max(_BLOCK, round(width * scale)), max(_BLOCK, round(height * scale)))
    grey: UInt8 = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
    small: UInt8 = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small


def _spread(picture: UInt8) -> float:
    """The textured share of the outer sixth along a side, of the side that is third in it."""
    rows, columns = picture.shape[0] // _BLOCK, picture.shape[1] // _BLOCK
    textured = _blocks(picture).std(axis=1).reshape(rows, columns) > _TEXTURED
    down, across = max(1, rows // 6), max(1, columns // 6)
    sides = (textured[:down], textured[-down:], textured[:, :across], textured[:, -across:])
    return sorted(float(side.mean()) for side in sides)[1]


def _blocks(picture: UInt8) -> Float32:
    """The picture in blocks of `_BLOCK` pixels, row by row; what is left over at the right and below is left out."""
    rows, columns = picture.shape[0] // _BLOCK, picture.shape[1] // _BLOCK
    cut = picture[: rows * _BLOCK, : columns * _BLOCK].astype(np.float32)
    cells: Float32 = cut.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2).reshape(-1, _BLOCK * _BLOCK)
    return cells


def _corners(pictures: Sequence[UInt8]) -> list[tuple[Any, Any]]:
    """Places and descriptors of the corners of each picture."""
    import cv2

    finder = cv2.ORB.create(_CORNERS, 1.2, 5, 12, 0, 2, cv2.ORB_HARRIS_SCORE, 24, 8)
    found = []
    for picture in pictures:
        points, words = finder.detectAndCompute(picture, None)
        found.append((np.asarray([p.pt for p in points], np.float32).reshape(-1, 2), words))
    return found


def _best_move(
    first: UInt8, second: UInt8, a: tuple[Any, Any], b: tuple[Any, Any], gain: float = 0.02, enough: float = _ENOUGH
) -> tuple[Float64, float, float]:
    """The camera's (right, up, in, turn) in pixels of corner movement, how much of the picture follows, and stays.

    Standing still is the simpler account: another must be followed by `gain` more of the picture.
    """
    height, width = first.shape
    still = np.eye(2, 3)
    stays = _following(first, second, still)
    best, share = still, stays
    for matrix in _hypotheses(first, second, a, b):
        if share > enough:
            break
        followed = _following(first, second, matrix)
        if followed > share + gain:
            best, share = matrix, followed
    centre = np.asarray([width / 2, height / 2, 1.0])
    shift = best @ centre - centre[:2]
    scale = float(np.hypot(best[0, 0], best[1, 0]))
    reach = np.hypot(width, height) / 2
    turn = float(np.arctan2(best[1, 0], best[0, 0]))
    # What the camera turns to comes in from that side: the picture goes the other way.
    return np.asarray([-shift[0], shift[1], np.log(scale) * reach, turn * reach]), share, stays


def _hypotheses(first: UInt8, second: UInt8, a: tuple[Any, Any], b: tuple[Any, Any]) -> Iterator[Float64]:
    """Transforms from the first picture's places to the second's."""
    import cv2

    window = cv2.createHanningWindow((first.shape[1], first.shape[0]), cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(first.astype(np.float32), second.astype(np.float32), window)
    yield np.asarray([[1.0, 0.0, right], [0.0, 1.0, down]])
    if a[1] is None or b[1] is None:
        return
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(a[1], b[1])
    if len(matches) < 8:
        return
    here = a[0][[m.queryIdx for m in matches]]
    there = b[0][[m.trainIdx for m in matches]]
    matrix, _ = cv2.estimateAffinePartial2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=2.0, maxIters=400, confidence=0.995
    )
    if matrix is not None and 0.5 < np.hypot(matrix[0, 0], matrix[1, 0]) < 2:
        yield np.asarray(matrix, np.float64)


def _following(first: UInt8, second: UInt8, matrix: Float64) -> float:
    """Share of the textured blocks of `second` that look like `first` moved by `matrix`; 0 where few can be seen."""
    import cv2

    height, width = first.shape
    moved = cv2.warpAffine(first, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=0)
    there = cv2.warpAffine(np.full_like(first, 255), matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=0)
    old, new, seen = _blocks(moved), _blocks(second), _blocks(there).min(axis=1) > 0
    old, new = old[seen], new[seen]
    old, new = old - old.mean(axis=1, keepdims=True), new - new.mean(axis=1, keepdims=True)
    deviation = old.std(axis=1), new.std(axis=1)
    textured = np.maximum(*deviation) > _TEXTURED
    if textured.sum() < _FEWEST_BLOCKS or seen.mean() < 0.25:
        return 0.0
    alike = (old * new).mean(axis=1) / (np.maximum(deviation[0] * deviation[1], 1.0))
    return float((alike[textured] > _ALIKE).mean())
