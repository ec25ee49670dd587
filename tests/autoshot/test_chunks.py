"""A video of any length through the network, a bounded number of frames at a time."""

from __future__ import annotations

import numpy as np
import pytest

from vidcap.autoshot.chunks import CHUNK, CONTEXT, Float32, UInt8, probabilities
from vidcap.autoshot.histograms import colour_histograms


def local_mean(frames: UInt8, histograms: Float32) -> Float32:
    """Looks 32 frames far to both sides, as the network does, with zeros outside."""
    assert len(frames) == len(histograms) <= CHUNK + 2 * CONTEXT
    level = frames.mean((1, 2, 3), dtype=np.float64) / 255
    smooth = np.convolve(level, np.ones(65) / 65, "same")[: len(level)] if len(level) >= 65 else level
    return np.stack([smooth, histograms.max(1)]).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 24, 511, 512, 513, 1400])
def test_one_value_per_frame_whatever_the_length(count: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (count, 27, 48, 3), np.uint8)
    assert probabilities(frames, local_mean).shape == (2, count)


def test_chunks_leave_no_trace() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1400, 27, 48, 3), np.uint8)
    padded = np.concatenate([frames[:1].repeat(24, 0), frames, frames[-1:].repeat(24, 0)])
    level = np.convolve(padded.mean((1, 2, 3), dtype=np.float64) / 255, np.ones(65) / 65, "same")[24:-24]
    assert probabilities(frames, local_mean)[0] == pytest.approx(level, abs=1e-6)


def test_threads_change_nothing() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2000, 27, 48, 3), np.uint8)
    assert np.array_equal(probabilities(frames, local_mean), probabilities(frames, local_mean, threads=3))


def test_histograms_are_unit_vectors_and_see_colour_alone() -> None:
    frames = np.random.default_rng(2).integers(0, 256, (5, 27, 48, 3), np.uint8)
    found = colour_histograms(frames)
    assert found.shape == (5, 512)
    assert (found**2).sum(1) == pytest.approx(np.ones(5), abs=1e-6)
    assert np.array_equal(found, colour_histograms(frames[:, ::-1, ::-1]))
    red = np.zeros((1, 27, 48, 3), np.uint8)
    red[..., 0] = 255
    assert colour_histograms(red)[0, 7 << 6] == 1
