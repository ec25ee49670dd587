"""Do two sequences of thumbnails show the same frames, or are they a frame or two apart?"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vidcap.errors import MediaError

Thumbnails = npt.NDArray[np.uint8]

MISFIT = "pack.cut_mismatch"
LAGS = (-2, -1, 1, 2)
MARGIN = 0.02
"""Mean grey-level difference (0–255) by which one lag must beat another to be told apart."""
FAR = 24.0
"""Mean grey-level difference from its source above which a single re-encoded frame is not that frame."""


def alignment(shown: Thumbnails, given: Thumbnails) -> Literal["aligned", "indistinct"]:
    """Compare two sequences of N thumbnails at lag 0 against lags ±1 and ±2, as a whole and at both ends.

    Raises `MediaError("pack.cut_mismatch")` where a lag fits better than none, or a frame is far from its source.
    """
    here = _distance(shown, given)
    told_apart = True
    for lag in LAGS:
        if len(shown) <= abs(lag):
            told_apart = False
            continue
        pairs = slice(max(0, -lag), len(shown) - max(0, lag))
        there = _distance(shown[pairs], given[max(0, lag) : len(given) + min(0, lag)])
        gain = here[pairs] - there
        # A shift may show in the whole, or, where most of the clip stands still, only where something moves.
        for part in (gain.mean(), gain[np.abs(gain).argmax()]):
            if part > MARGIN and gain.mean() > 0:
                raise MediaError(MISFIT, f"the clip fits its source better when shifted by {lag}")
        told_apart &= bool(gain.mean() < -MARGIN)
    if len(here) and here.max() > FAR:
        raise MediaError(MISFIT, f"frame {int(here.argmax())} of the clip differs from its source by {here.max():.1f}")
    return "aligned" if told_apart else "indistinct"


def _distance(one: Thumbnails, other: Thumbnails) -> npt.NDArray[np.float64]:
    """Mean absolute difference of each pair of thumbnails."""
    distance: npt.NDArray[np.float64] = np.abs(one.astype(np.int16) - other).mean(axis=(1, 2, 3))
    return distance
