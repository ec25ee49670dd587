"""How much moves in a span, measured on thumbnails alone: still pictures, ordinary footage, wild dynamics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FREEZE = 0.4
"""Grey levels (of 255) per second below which a moment counts as frozen.

On annotated footage every shot of slides measured at most 0.05 (the codec's noise), the calmest talking head 1.8.
"""

_SECOND = 1.0
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Motion:
    """Change per second in grey levels, 0 to 255, and the share of moments that stand still, 0 to 1."""

    mean: float
    p95: float
    freeze_ratio: float


def measure(thumbnails: npt.NDArray[np.uint8], times: npt.NDArray[np.float64]) -> Motion:
    """The mean absolute luma difference between frames one second of presentation time apart.

    `thumbnails`: N×27×48×3 RGB, `times`: N seconds, ascending. A fixed distance in time, not from frame to frame: the
    sum over frames grows with the frame rate and with the codec's noise, this does not. Each moment is weighed by how
    long its frame is shown. A span shorter than two seconds is measured over half its length, and one frame alone does
    not move.
    """
    if len(times) < 2:
        return Motion(0.0, 0.0, 1.0)
    length = float(times[-1] - times[0])
    distance = min(_SECOND, length / 2)
    later = np.searchsorted(times, times + distance - _ROUNDING)
    starts = np.flatnonzero(later < len(times))
    change = np.empty(len(starts))
    # In pieces: a shot can be minutes long, and only two frames are looked at together.
    for begin in range(0, len(starts), 512):
        piece = starts[begin : begin + 512]
        change[begin : begin + 512] = np.abs(_luma(thumbnails[later[piece]]) - _luma(thumbnails[piece])).mean(
            axis=(1, 2)
        )
    # Over frames further apart than the distance (a frame shown for two seconds) the change takes that long.
    change *= np.minimum(1.0, distance / np.maximum(times[later[starts]] - times[starts], _ROUNDING)) / distance
    weights = np.diff(times)[starts]
    order = np.argsort(change, kind="stable")
    reached = np.cumsum(weights[order]) >= 0.95 * weights.sum()
    return Motion(
        mean=float(np.average(change, weights=weights)),
        p95=float(change[order][np.argmax(reached)]),
        freeze_ratio=float(np.average(change < FREEZE, weights=weights)),
    )


def _luma(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return thumbnails.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
