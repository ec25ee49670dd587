"""From the two probabilities of each frame to shots, as `fast` reads them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vidcap.records import Shot

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

PART = 0.5
"""Frames whose probability of being part of a transition is higher belong to the transition they touch."""
NEAR = 2
"""Runs at most this many frames apart are one transition."""
BLACK, EVEN = 28, 12
"""A frame is black where its lightest value is at most this, or this far above its darkest one in a dark picture."""


REMNANT = 4
"""Shots of fewer frames at a video's very start or end are none: the network sees the last frame repeated there, and
takes what still moves before it for a transition to a still."""


def gaps_of(middle: Float32, part: Float32, threshold: float) -> list[tuple[int, int]]:
    """(last frame of a shot, first frame of the next) of every transition, in order, disjoint.

    `middle`, `part`: per frame, the probability of being the middle of a transition and of being part of one. At a cut
    the network marks the last frame of the old shot.
    """
    found: list[tuple[int, int]] = []
    for first, last in _joined(runs(middle > threshold), part):
        while first > 0 and part[first - 1] > PART:
            first -= 1
        while last < len(part) - 1 and part[last + 1] > PART:
            last += 1
        if last - first < 2:
            cut = first + int(np.argmax(middle[first : last + 1]))
            gap = (cut, cut + 1)
        else:
            gap = (first - 1, last + 1)
        # Two transitions may have grown towards each other; a shot has at least one frame.
        if found and gap[0] < found[-1][1]:
            gap = (found.pop()[0], max(gap[1], last + 1))
        found.append(gap)
    return found


def shots_of(middle: Float32, part: Float32, threshold: float, thumbnails: UInt8) -> list[Shot]:
    """Shots of a source, in order, disjoint, at least one; black before the first picture and after the last is none.

    So a film that begins in black has no boundary there: nothing was shown before.
    """
    count = len(middle)
    pictures = np.flatnonzero(~black(thumbnails))
    if not len(pictures):
        return [Shot(0, count - 1)]
    start, end = int(pictures[0]), int(pictures[-1])
    edges = [start, *(edge for gap in gaps_of(middle, part, threshold) for edge in gap), end]
    shots = [Shot(max(first, start), min(last, end)) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    shots = [shot for shot in shots if shot.first <= shot.last] or [Shot(start, end)]
    if len(shots) > 1 and shots[-1].last - shots[-1].first + 1 < REMNANT:
        shots.pop()
    if len(shots) > 1 and shots[0].last - shots[0].first + 1 < REMNANT:
        shots.pop(0)
    return shots


def black(thumbnails: UInt8) -> npt.NDArray[np.bool_]:
    """Which of N×27×48×3 frames are black all over, noise and the odd logo of a leader aside."""
    dark = np.zeros(len(thumbnails), np.bool_)
    for first in range(0, len(thumbnails), 1024):
        window = thumbnails[first : first + 1024]
        flat = window.reshape(len(window), -1)
        most = flat.max(1)
        dark[first : first + 1024] = (most <= BLACK) | ((most <= 2 * BLACK) & (np.ptp(flat, 1) <= EVEN))
    return dark


def runs(marked: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(first), int(stop) - 1) for first, stop in zip(edges[::2], edges[1::2], strict=True)]


def _joined(runs: list[tuple[int, int]], part: Float32) -> list[tuple[int, int]]:
    """Runs next to each other, or with nothing between them but frames of a transition, are one."""
    merged = runs[:1]
    for (_, before), (first, last) in pairwise(runs):
        if first - before <= NEAR or (part[before + 1 : first] > PART).all():
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged
