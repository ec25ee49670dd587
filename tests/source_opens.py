"""Counts how often files are opened, by whatever process and library: the kernel tells (inotify, Linux only)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

_ACCESS, _CLOSE, _OPEN, _OVERFLOW = 0x1, 0x8 | 0x10, 0x20, 0x4000
_EVENT = struct.Struct("iIII")


@contextlib.contextmanager
def opens_of(paths: Iterable[Path]) -> Iterator[Callable[[], dict[Path, int]]]:
    """Yields a function that says how often each of the files was opened since, in this process or any other.

    Whatever name a file is opened by counts: links, `/proc/self/fd`. Neither `stat` nor a second use of a descriptor
    is an opening. Skips the test where the system cannot tell.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells who opens files")
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if queue < 0:
        pytest.skip(f"inotify: {os.strerror(ctypes.get_errno())}")
    files: dict[int, Path] = {}
    counts: Counter[Path] = Counter()

    def so_far() -> dict[Path, int]:
        with contextlib.suppress(BlockingIOError):
            while held := os.read(queue, 1 << 20):
                at = 0
                while at < len(held):
                    watch, mask, _, length = _EVENT.unpack_from(held, at)
                    at += _EVENT.size + length
                    assert not mask & _OVERFLOW, "more events than the kernel keeps: ask more often"
                    if mask & _OPEN:
                        counts[files[watch]] += 1
        return {path: counts[path] for path in files.values()}

    try:
        for path in paths:
            # Equal events behind each other become one. Reading and closing are watched to stand between two openings.
            watch = libc.inotify_add_watch(queue, os.fsencode(path), _OPEN | _ACCESS | _CLOSE)
            assert watch >= 0, f"{path}: {os.strerror(ctypes.get_errno())}"
            files[watch] = path
        yield so_far
    finally:
        os.close(queue)
