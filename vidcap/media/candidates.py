"""Candidate frames: which frames the model stages may look at, written as JPEGs while the source is decoded."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from vidcap.store import replacing

Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

QUALITY = 90
MAX_EXTRA_PER_SECOND = 4
PEAK_FLOOR = 10.0
PEAK_RATIO = 3.0
PEAK_MEMORY = 0.2
"""A thumbnail difference is a peak if it is over `PEAK_FLOOR` grey levels and `PEAK_RATIO` times the running mean,
which takes in each new one with weight `PEAK_MEMORY`. Loose on purpose: a spare frame costs 20 kB, a shot without a
frame costs the clip."""
MAX_ASPECT = 8
INDEX = "candidates.npz"


class CandidatePicker:
    """Says of each frame, in order, whether it is a candidate.

    One every 1/`frames_per_second` seconds of presentation time, and the first frame after each peak of the thumbnail
    difference, of these at most four a second.
    """

    def __init__(self, frames_per_second: float) -> None:
        import cv2

        self._norm = partial(cv2.norm, normType=cv2.NORM_L1)
        self._rate = frames_per_second
        self._next = 0.0
        self._last_extra = float("-inf")
        self._mean = 0.0
        self._before: UInt8 | None = None

    def __call__(self, seconds: float, thumbnail: UInt8, inside: bool) -> bool:
        """`inside`: whether the frame lies in the window that the manifest asks for; outside none is picked."""
        # The mean absolute difference over all samples; their sum is whole numbers, so no machine rounds otherwise.
        change = 0.0 if self._before is None else self._norm(thumbnail, self._before) / thumbnail.size
        peak = change > max(PEAK_FLOOR, PEAK_RATIO * self._mean)
        self._mean += PEAK_MEMORY * (change - self._mean)
        self._before = thumbnail
        if not inside:
            return False
        if seconds >= self._next - 1e-6:
            self._next = (int(seconds * self._rate + 1e-6) + 1) / self._rate
            return True
        if peak and seconds - self._last_extra >= 1 / MAX_EXTRA_PER_SECOND - 1e-6:
            self._last_extra = seconds
            return True
        return False


class JpegMaker:
    """Upright JPEGs with square pixels, at most `height` rows, never enlarged.

    Pictures are scaled as 8-bit 4:2:0, which a JPEG holds anyway, and only then turned into RGB: FFmpeg has fast code
    for each of the two, and none for both at once (0.2 ms against 1.0 for 640×360, the encoder taking another 0.4).
    """

    def __init__(self, height: int, sar: Fraction) -> None:
        self._height, self._sar = height, sar
        self._scale, self._colour = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: VideoFrame) -> bytes:
        import cv2

        turns = round(frame.rotation / 90) % 4
        width, height = picture_size(frame.width, frame.height, self._sar, turns, self._height)
        if turns % 2:
            width, height = height, width
        layout = frame.format.name
        if layout.startswith("yuv"):
            planar = "yuvj420p" if layout.startswith("yuvj") else "yuv420p"
            frame = self._scale.reformat(frame, width, height, planar, interpolation="AREA", threads=1)
        small: Any = self._colour.reformat(frame, width, height, "bgr24", interpolation="AREA", threads=1)
        rows = np.frombuffer(small.planes[0], np.uint8).reshape(height, -1)
        picture = rows[:, : 3 * width].reshape(height, width, 3)
        if turns:
            picture = np.ascontiguousarray(np.rot90(picture, turns))
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise OSError("the JPEG encoder gave nothing")
        return data.tobytes()


def picture_size(width: int, height: int, sar: Fraction, turns: int, limit: int) -> tuple[int, int]:
    """Width and height of a candidate after `turns` quarter turns: at most `limit` high and 8 × `limit` wide."""
    wide, high = max(1.0, width * float(sar)), float(height)
    if turns % 2:
        wide, high = high, wide
    scale = min(1.0, limit / high, MAX_ASPECT * limit / wide)
    return max(1, round(wide * scale)), max(1, round(high * scale))


class CandidateWriter:
    """Appends JPEGs to `candidates.jpgs` in a folder and writes their index at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / "candidates.jpgs").open("wb")
        self._frames, self._sizes = array("q"), array("q")

    def add(self, frame: int, jpeg: bytes) -> None:
        self._file.write(jpeg)
        self._frames.append(frame)
        self._sizes.append(len(jpeg))

    def close(self) -> None:
        self._file.close()

    def finish(self) -> None:
        self.close()
        _write_index(self._folder / INDEX, list(self._frames), list(self._sizes), "candidates.jpgs")


class Candidates:
    """Read side: the candidate frames of a folder. The index names the file of JPEGs, so both change in one rename."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with (folder / INDEX).open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            self.frames: Int64 = stored["frame"]
            self._offsets: Int64 = stored["offset"]
            self._sizes: Int64 = stored["size"]
            self.file: str = str(stored["name"])

    def jpegs(self, frames: Sequence[int]) -> Iterator[bytes]:
        """The JPEG of each frame. Raises KeyError for a frame that is no candidate."""
        with (self._folder / self.file).open("rb") as handle:
            for frame in frames:
                at = int(np.searchsorted(self.frames, frame))
                if at == len(self.frames) or self.frames[at] != frame:
                    raise KeyError(frame)
                handle.seek(int(self._offsets[at]))
                data = handle.read(int(self._sizes[at]))
                if len(data) != self._sizes[at]:
                    raise OSError(f"`{self.file}` is shorter than its index says")
                yield data

    def keep(self, kept: Sequence[int]) -> None:
        """Drop all candidates but these; a kill at any moment leaves the old or the new set, never half of one."""
        name = f"candidates-{hashlib.blake2b(np.asarray(kept, '<i8').tobytes(), digest_size=4).hexdigest()}.jpgs"
        if name == self.file or len(kept) == len(self.frames):
            return
        sizes = []
        with replacing(self._folder / name) as temporary, temporary.open("wb") as out:
            for data in self.jpegs(kept):
                out.write(data)
                sizes.append(len(data))
        with replacing(self._folder / INDEX) as temporary:
            _write_index(temporary, kept, sizes, name)
        (self._folder / self.file).unlink(missing_ok=True)


def _write_index(path: Path, frames: Sequence[int], sizes: Sequence[int], name: str) -> None:
    size = np.asarray(sizes, np.int64)
    arrays: dict[str, Any] = {
        "frame": np.asarray(frames, np.int64),
        "offset": np.cumsum(size) - size,
        "size": size,
        "name": np.array(name),
    }
    with path.open("wb") as handle:
        np.savez(handle, **arrays)
