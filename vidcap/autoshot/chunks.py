"""Runs the small network over a video of any length, a bounded number of frames at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from vidcap.autoshot.histograms import colour_histograms

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

Network = Callable[[UInt8, Float32], Float32]
"""Frames T×27×48×3 and histograms T×512 → 2×T probabilities."""

CHUNK, CONTEXT = 512, 40
"""Frames scored at a time, and those added on both sides. The network looks 32 frames far: chunks leave no trace."""
ENDS = 24
"""The first and last frame are repeated this often, so that the video's ends look like a still and not like a cut."""


def probabilities(thumbnails: UInt8, network: Network, threads: int = 1) -> Float32:
    """2×N: for each of N ≥ 1 frames that it is the middle of a transition, and that it is part of one.

    With several `threads` several chunks are scored at once; each comes out as it does alone.
    """
    count = len(thumbnails)
    places = np.clip(np.arange(-ENDS, count + ENDS), 0, count - 1)

    def scored(first: int) -> Float32:
        stop = min(first + CHUNK, len(places))
        start, end = max(0, first - CONTEXT), min(len(places), stop + CONTEXT)
        frames = np.ascontiguousarray(thumbnails[places[start:end]])
        return network(frames, colour_histograms(frames))[:, first - start : stop - start]

    starts = range(0, len(places), CHUNK)
    if threads == 1:
        parts = [scored(first) for first in starts]
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(scored, starts))
    return np.concatenate(parts, 1)[:, ENDS : ENDS + count]
