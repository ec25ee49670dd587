"""Where a clip is written before it goes into a shard: memory, as a file; a real file where there is no such thing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

IN_MEMORY = 256_000_000
"""Bytes from which on a clip is written to disk: a worker holds one clip at a time."""


@contextlib.contextmanager
def clip_space(scratch: Path, name: str = "clip.mp4") -> Iterator[ClipSpace]:
    """Room for one clip at a time. `scratch` is a folder that exists, for the clips that are too large for memory."""
    space = ClipSpace(scratch / name)
    try:
        yield space
    finally:
        space.close()


class ClipSpace:
    """`path(size)` names a file for a clip of about `size` bytes; the clip before it is gone by then."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle: int | None = None

    def path(self, size: int) -> Path:
        """An empty file in memory (Linux only), or the one on disk."""
        self._file.unlink(missing_ok=True)
        if size > IN_MEMORY or not hasattr(os, "memfd_create"):
            return self._file
        if self._handle is None:
            self._handle = os.memfd_create("clip")
        os.ftruncate(self._handle, 0)
        # Opened anew by name: muxer, check and shard writer each read and write from where they like.
        return Path(f"/proc/self/fd/{self._handle}")

    def close(self) -> None:
        self._file.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def discard(path: Path) -> None:
    """What is in the file is worth nothing: remove it, or empty it where it has no name of its own."""
    if path.parent == Path("/proc/self/fd"):
        os.truncate(path, 0)
    else:
        path.unlink(missing_ok=True)
