"""27×48 RGB thumbnails of decoded pictures, how far two differ, and the 64-bit hash that the frame table keeps."""

from __future__ import annotations

from typing import Any

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

UInt8 = npt.NDArray[np.uint8]

THUMBNAIL = (27, 48)
"""Height and width of a thumbnail."""

# `area` averages all pixels of a cell. The faster `fast_bilinear` looks at one pixel in some twenty: its thumbnails
# differ by 15 grey levels from `area` and flicker with every moving edge; `bicubic` is within 2 levels and slower.
_SCALE = "{width}:{height}:flags=area+accurate_rnd+bitexact"


class Thumbnailer:
    """Makes the thumbnails of one video. The picture is squeezed to 48×27 as decoded: not rotated, not cropped."""

    def __init__(self) -> None:
        self._layout: tuple[object, ...] = ()
        self._graph: Any = None

    def __call__(self, frame: VideoFrame) -> UInt8:
        """27×48×3 uint8 RGB. A change of resolution or pixel format inside the video is followed."""
        layout = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if layout != self._layout:
            self._graph, self._layout = _graph(frame), layout
        self._graph.vpush(frame)
        thumbnail: UInt8 = self._graph.vpull().to_ndarray()
        return thumbnail


def _graph(frame: VideoFrame) -> Any:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    height, width = THUMBNAIL
    scale = graph.add("scale", _SCALE.format(width=width, height=height))
    rgb = graph.add("format", "rgb24")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(rgb)
    rgb.link_to(sink)
    graph.configure()
    return graph


def difference(one: UInt8, other: UInt8) -> float:
    """Mean absolute difference of two thumbnails over all samples, 0 to 255."""
    return float((np.maximum(one, other) - np.minimum(one, other)).sum(dtype=np.int64)) / one.size


def hashes(thumbnails: UInt8) -> npt.NDArray[np.uint64]:
    """The 64-bit difference hash of each of N×27×48×3 thumbnails.

    Luma (77 R + 150 G + 29 B, of 256) is summed in 8 rows × 9 columns of cells (3 or 4 by 5 pixels, one column left out
    at the left and two at the right); bit `8 row + column`, most significant first, says whether a cell is darker than
    its right neighbour. Integers only, so every machine agrees.
    """
    luma = thumbnails[:, :, 1:46].astype(np.int32) @ np.array([77, 150, 29], np.int32)
    rows = np.add.reduceat(luma, np.array([0, 3, 6, 10, 13, 17, 20, 24]), axis=1)
    cells = rows.reshape(len(luma), 8, 9, 5).sum(axis=3)
    bits = (cells[:, :, :-1] < cells[:, :, 1:]).reshape(len(luma), 64)
    return np.packbits(bits, axis=1).view(">u8").reshape(-1).astype(np.uint64)
