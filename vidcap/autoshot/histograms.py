"""Colour histograms of thumbnails, the second input of the shot networks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 512
"""Three bits for each of red, green and blue."""


def colour_histograms(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """N×512 float32 from N×H×W×3 uint8: square roots of the shares of pixels, so every row has length one.

    The dot product of two rows is then the Bhattacharyya coefficient of the two pictures' colours.
    """
    frames, height, width, _ = thumbnails.shape
    # Red in the highest bits; the frame's number makes the bins of one frame distinct from the next one's.
    red, green, blue = (thumbnails[..., channel].astype(np.int32) >> 5 for channel in range(3))
    bins = (red << 6) | (green << 3) | blue
    bins += (np.arange(frames, dtype=np.int32) * BINS)[:, None, None]
    counts = np.bincount(bins.ravel(), minlength=frames * BINS).reshape(frames, BINS)
    return np.sqrt(counts / np.float32(height * width), dtype=np.float32)
