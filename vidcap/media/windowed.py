"""Thumbnails and sound of a source of any length, of which no more is in memory than what is asked for at a time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidcap.media.audio import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]

BLOCK_SECONDS = 60


class MappedThumbnails(np.memmap[Any, np.dtype[np.uint8]]):
    """A mapped array whose pages are let go as soon as the next part of it is asked for.

    A mapped page counts as the process's own until something else needs the memory: three hours at 60 frames a second
    would look like 2.5 GB, and a worker that is held to a limit would be ended for it. What was let go is read again
    from the system's cache when an older view is looked at: values never change.
    """

    def __getitem__(self, index: Any) -> Any:
        mapped = _mapping(self)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
        found = super().__getitem__(index)
        # A copy has nothing to let go.
        return found.view(np.ndarray) if isinstance(found, MappedThumbnails) and _mapping(found) is None else found


def _mapping(array: MappedThumbnails) -> mmap.mmap | None:
    """What NumPy keeps for arrays that look into a mapped file; its stubs do not know it."""
    found: mmap.mmap | None = getattr(array, "_mmap", None)
    return found


def thumbnails_of(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The file as N pictures of `shape`, mapped. Raises FileNotFoundError."""
    return MappedThumbnails(path, np.uint8, "r").reshape(-1, *shape)


class StoredSound:
    """A stretch of 16 kHz mono in a file of int16, sliced like an array: `sound[first:end]` is float32 in [-1, 1)."""

    def __init__(self, path: Path | None, start: int, end: int) -> None:
        """Samples `start` to `end` of the file, silent where it is shorter; `path` None: there is no sound at all."""
        self._path = path
        self._start = start
        self._count = max(0, end - start) if path is not None else 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> Float32:
        """Only what is asked for is read. Raises OSError where the file is gone, ValueError for steps."""
        first, end, step = part.indices(self._count)
        if step != 1:
            raise ValueError("sound is read in one piece")
        wave = np.zeros(max(0, end - first), np.float32)
        if len(wave) and self._path is not None:
            samples = np.fromfile(self._path, "<i2", count=len(wave), offset=2 * (self._start + first))
            np.divide(samples, np.float32(32768), out=wave[: len(samples)], dtype=np.float32)
        return wave

    def blocks(self, samples: int = BLOCK_SECONDS * SAMPLE_RATE) -> Iterator[Float32]:
        """All of it in order, so many samples at a time."""
        for first in range(0, self._count, samples):
            yield self[first : first + samples]

    def peak(self) -> float:
        """The largest magnitude, 0 to 1; 0 where there is nothing."""
        return max((float(np.abs(block).max()) for block in self.blocks()), default=0.0)
