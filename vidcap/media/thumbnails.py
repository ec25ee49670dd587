"""27×48 RGB thumbnails of decoded pictures, how far two differ, and the 64-bit hash that the frame table keeps."""

from __future__ import annotations

import itertools
from array import array
from pathlib import Path
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
_LEAST_ROWS = 6
"""Rows of a picture that each row of its thumbnail averages at the least, once every second one has been left out."""

_ROWS = (0, 3, 6, 10, 13, 17, 20, 24, 27)
"""Where the rows of a hash's cells begin, and the last ends."""
_WEIGHTS = np.tile(np.array([77, 150, 29], np.int32), 5)
_AS_GOOD_AS_EQUAL = 2 * 256 * 15
"""Of two cells of 15 pixels: 2 grey levels. In 10,000 pictures left unsmoothed no bit changed at above 0.42."""


class Thumbnailer:
    """Makes the thumbnails of one video. The picture is squeezed to 48×27 as decoded: not rotated, not cropped.

    Each pixel is the average of a cell: of all its columns, and of every row, every second, fourth or eighth, so many
    that at least 6 are left. Of an interlaced picture that is one field.
    """

    def __init__(self) -> None:
        self._layout: tuple[object, ...] = ()
        self._graph: Any = None
        self._source: Any = None
        self._sink: Any = None

    def __call__(self, frame: VideoFrame) -> UInt8:
        """27×48×3 uint8 RGB. A change of resolution or pixel format inside the video is followed."""
        layout = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if layout != self._layout:
            self._graph, self._source, self._sink = _graph(frame)
            self._layout = layout
        # Not through the graph's own `vpush` and `vpull`, which look for both ends each time.
        self._source.push(frame)
        thumbnail: UInt8 = self._sink.pull().to_ndarray()
        return thumbnail


def _graph(frame: VideoFrame) -> tuple[Any, Any, Any]:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    height, width = THUMBNAIL
    # Leaving rows out costs nothing: the planes stay where they are and are read with longer strides.
    halvings = [graph.add("field", "top") for _ in range(_halvings(frame.height))]
    scale = graph.add("scale", _SCALE.format(width=width, height=height))
    rgb = graph.add("format", "rgb24")
    sink = graph.add("buffersink")
    for one, next_one in itertools.pairwise([source, *halvings, scale, rgb, sink]):
        one.link_to(next_one)
    graph.configure()
    return graph, source, sink


def _halvings(rows: int) -> int:
    """How often every second row of so many may be left out."""
    return max(0, (rows // (_LEAST_ROWS * THUMBNAIL[0])).bit_length() - 1)


class ThumbnailWriter:
    """Appends thumbnails to a file, many at once, and hashes them on the way. `close` it, after an error too."""

    AT_ONCE = 64

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._block: UInt8 = np.empty((self.AT_ONCE, *THUMBNAIL, 3), np.uint8)
        self._filled = 0
        self._hashes: array[int] = array("Q")

    def add(self, thumbnail: UInt8) -> None:
        self._block[self._filled] = thumbnail
        self._filled += 1
        if self._filled == self.AT_ONCE:
            self._flush()

    def finish(self) -> npt.NDArray[np.uint64]:
        """Write what is left; returns the hashes of all."""
        self._flush()
        self.close()
        return np.array(self._hashes, np.uint64)

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        block, self._filled = self._block[: self._filled], 0
        self._file.write(block.data)
        self._hashes.frombytes(hashes(block).tobytes())


def hashes(thumbnails: UInt8) -> npt.NDArray[np.uint64]:
    """The 64-bit difference hash of each of N×27×48×3 thumbnails.

    Luma (77 R + 150 G + 29 B, of 256) is summed in 8 rows × 9 columns of cells (3 or 4 by 5 pixels, one column left out
    at the left and two at the right); bit `8 row + column`, most significant first, says whether a cell is darker than
    its right neighbour. Integers only, so every machine agrees.
    """
    bits = (_steps(thumbnails) > 0).reshape(len(thumbnails), 64)
    return np.packbits(bits, axis=1).view(">u8").reshape(-1).astype(np.uint64)


def resembles(thumbnail: UInt8, code: np.uint64) -> bool:
    """Whether a 27×48×3 thumbnail can be of the frame that the table has this hash of.

    The decode pass does not smooth the block edges of pictures that no other needs (`vidcap.media.opening.UNSMOOTHED`),
    which moves a cell by a fraction of a grey level: bits may differ where neighbouring cells are as good as equal.
    """
    steps = _steps(thumbnail[None]).reshape(64)
    wanted = np.unpackbits(np.array([code], ">u8").view(np.uint8)).astype(bool)
    return bool((np.abs(steps[(steps > 0) != wanted]) <= _AS_GOOD_AS_EQUAL).all())


def _steps(thumbnails: UInt8) -> npt.NDArray[np.int32]:
    """N×8×8: by how much each cell of a hash is darker than its right neighbour, in its units."""
    # A cell's sums of red, green and blue stay below 2¹⁶: each is at most 20 pixels.
    samples = thumbnails[:, :, 1:46].reshape(len(thumbnails), 27, 135).astype(np.uint16)
    rows = np.empty((len(samples), 8, 135), np.uint16)
    for row, (first, last) in enumerate(itertools.pairwise(_ROWS)):
        np.add(samples[:, first], samples[:, first + 1], out=rows[:, row])
        for more in range(first + 2, last):
            rows[:, row] += samples[:, more]
    cells = rows.reshape(len(samples), 8, 9, 15).astype(np.int32) @ _WEIGHTS
    steps: npt.NDArray[np.int32] = cells[:, :, 1:] - cells[:, :, :-1]
    return steps
