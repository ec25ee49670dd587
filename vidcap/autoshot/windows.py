"""How a video is shown to the shot networks, 100 frames at a time, and how their probabilities become shots."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vidcap.records import Shot

LENGTH, STRIDE = 100, 50
"""Frames in a window, and from one window's start to the next."""
MARGIN = (LENGTH - STRIDE) // 2
"""Frames at either end of a window that only lend context: outputs 25 … 74 are kept."""


def window_frames(frames: int) -> npt.NDArray[np.int64]:
    """Which frame stands at each place of each window: W×100 indices into a video of `frames` ≥ 1 frames.

    The video is continued by 25 copies of its first frame, and at the end by copies of its last one: 25, and as many as
    make its length a multiple of 50.
    """
    places = STRIDE * np.arange(-(-frames // STRIDE))[:, None] + np.arange(LENGTH) - MARGIN
    inside: npt.NDArray[np.int64] = np.clip(places, 0, frames - 1)
    return inside


def kept(outputs: npt.NDArray[np.float32], frames: int) -> npt.NDArray[np.float32]:
    """One value per frame from W×100 values of the windows."""
    return outputs[:, MARGIN : MARGIN + STRIDE].reshape(-1)[:frames]


def shots_of(transition: npt.NDArray[np.bool_]) -> list[Shot]:
    """The paper's rule: per frame (at least one) whether it is called a transition → shots, in order, disjoint.

    A shot ends with the first frame of a run of transition frames; the other frames of the run belong to none. A run at
    the video's start ends no shot, a run at its end opens none. Where nothing is left the whole video is one shot.
    """
    frames = len(transition)
    change = np.diff(transition.astype(np.int8))
    firsts = (np.flatnonzero(change == -1) + 1).tolist()
    lasts = (np.flatnonzero(change == 1) + 1).tolist()
    if not transition[0]:
        firsts.insert(0, 0)
    if not transition[-1]:
        lasts.append(frames - 1)
    shots = [Shot(first, last) for first, last in zip(firsts, lasts, strict=True)]
    return shots or [Shot(0, frames - 1)]
