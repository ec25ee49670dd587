"""What the embedded backends measure of writing: are there lines of letters, and where? It reads nothing.

Where gradients lie close together in a row, the row is split into two tones; letters are a row of strokes of one tone:
several, alike in height and in the width of their stroke, but not in shape. Fitted weights say how sure that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vidcap.backends.embedded.text_weights import MEAN, SCALE, TEXT

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

TEXT_FIELDS = (
    "text",  # logit that there is a line of letters: that of the best line, the least over the frames looked at
    "text_down",  # where the best line lies, 0 top to 1 bottom: mean over the frames; NaN without a line
    "text_settled",  # 1 less how far up or down it goes between the frames, in frame heights
)
"""Layout of the vector of `measure_text`."""

LINE_FEATURES = (
    "letters width_spread height_spread stroke stroke_spread fill fill_spread two_tones gap gap_spread reach "
    "baseline solidity_spread background ink_tone contrast edges"
).split()
"""What the logit of a line is computed from, in the order of the weights."""

NO_LINE = -10.0
_LOOKS = 3
_AREA = 426 * 240
_MOST_LINES = 24
_FEWEST_LETTERS = 5


def measure_text(frames: Sequence[UInt8]) -> Float32:
    """The vector of `TEXT_FIELDS`. `frames`: H×W×3 RGB, at least one."""
    count = min(_LOOKS, len(frames))
    logits, places = [], []
    for at in range(count):
        found = lines(frames[(2 * at + 1) * len(frames) // (2 * count)])
        scored = [(logit_of(features), place) for features, place in found]
        best = max(scored, key=lambda line: line[0], default=(NO_LINE, (0.0, np.nan, 0.0, np.nan)))
        logits.append(best[0])
        places.append((best[1][1] + best[1][3]) / 2)
        if best[0] < 0:
            break
    least = min(logits)
    certain = least > 0
    return np.asarray(
        [least, np.mean(places) if certain else np.nan, 1 - np.ptp(places) if certain else np.nan], np.float32
    )


def logit_of(features: Float64) -> float:
    inside = np.clip((features - np.asarray(MEAN)) / np.asarray(SCALE), -4, 4)
    return float(np.clip(np.append(inside, 1.0) @ np.asarray(TEXT), NO_LINE, -NO_LINE))


def lines(frame: UInt8) -> list[tuple[Float64, tuple[float, float, float, float]]]:
    """Rows that could be letters: the vector of `LINE_FEATURES`, and left, top, right and bottom (0-1)."""
    import cv2

    cv2.setNumThreads(1)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = (_AREA / grey.size) ** 0.5
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = grey.shape
    found = []
    for x, y, w, h in _rows(grey):
        room = max(2, h // 8)
        top, left = max(0, y - room), max(0, x - room)
        bottom, right = min(height, y + h + room), min(width, x + w + room)
        features = _line_features(grey[top:bottom, left:right])
        if features is not None:
            found.append((features, (left / width, top / height, right / width, bottom / height)))
    return found


def _rows(grey: Any) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, width and height of where strong gradients lie close together in a row, the largest first."""
    import cv2

    gradient = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    strong = (gradient > max(40.0, float(np.percentile(gradient, 75)))).astype(np.uint8)
    boxes = set()
    for reach in (7, 15):
        closed = cv2.morphologyEx(strong, cv2.MORPH_CLOSE, np.ones((1, reach), np.uint8))
        closed = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((3, 5), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=4)
        for x, y, w, h, area in stats[1:].tolist():
            if h >= 7 and w >= 2.2 * h and h <= 0.4 * grey.shape[0] and area >= 0.35 * w * h:
                boxes.add((x, y, w, h))
    yield from sorted(boxes, key=lambda box: (-box[2] * box[3], box))[:_MOST_LINES]


def _line_features(cut: Any) -> Float64 | None:
    """The better of dark on bright and bright on dark; None where neither has enough letters."""
    import cv2

    level, dark = cv2.threshold(cut, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    # Letters touch the frame of their line less than what lies behind them.
    border = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]])
    ink = dark if border.mean() < 0.5 else 1 - dark
    if border.mean() in (0.0, 1.0) and ink.mean() < 0.02:
        return None
    return _of_ink(cut, np.ascontiguousarray(ink), float(level))


def _of_ink(cut: Any, ink: Any, level: float) -> Float64 | None:
    import cv2

    _, marks, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    height = cut.shape[0]
    w, h, area = stats[1:, 2], stats[1:, 3], stats[1:, 4]
    tall = (h >= 0.3 * height) & (h <= 0.98 * height) & (area >= 6) & (w <= 2.5 * height)
    if tall.sum() < _FEWEST_LETTERS:
        return None
    x, y, w, h, area = stats[1:][tall].T.astype(np.float64)
    kept = np.isin(marks, 1 + np.flatnonzero(tall))
    distance = cv2.distanceTransform(kept.astype(np.uint8), cv2.DIST_L2, 3)
    ridge = kept & (distance >= cv2.dilate(distance, np.ones((3, 3), np.uint8)) - 1e-6)
    strokes = distance[ridge]
    order = np.argsort(x)
    gaps = (x[order][1:] - (x + w)[order][:-1]) / height
    values = cut.astype(np.float32)
    inked, plain = values[kept], values[cut <= level] if ink[cut <= level].mean() < 0.5 else values[cut > level]
    spread = values.var() + 1.0
    between = ink.mean() * (1 - ink.mean()) * (values[ink > 0].mean() - values[ink == 0].mean()) ** 2
    fill = area / (w * h)
    return np.asarray(
        [
            np.log(len(x)),
            w.std() / w.mean(),
            h.std() / h.mean(),
            strokes.mean() / h.mean(),
            strokes.std() / strokes.mean(),
            fill.mean(),
            fill.std(),
            between / spread,
            np.median(gaps),
            gaps.std(),
            w.sum() / cut.shape[1],
            (y + h).std() / height,
            _solidity_spread(marks, np.flatnonzero(tall) + 1, stats),
            plain.std() / 40,
            inked.std() / 40,
            abs(inked.mean() - plain.mean()) / 100,
            area.sum() / max(1.0, float(ink.sum())),
        ],
        np.float64,
    )


def _solidity_spread(marks: Any, labels: Any, stats: Any) -> float:
    """How differently the shapes fill a 6×6 raster of their boxes: what is drawn once and repeated does not differ."""
    import cv2

    rasters = []
    for label in labels[:24]:
        x, y, w, h, _ = stats[label]
        shape = (marks[y : y + h, x : x + w] == label).astype(np.float32)
        rasters.append(cv2.resize(shape, (6, 6), interpolation=cv2.INTER_AREA).ravel())
    return float(np.asarray(rasters).std(axis=0).mean())
