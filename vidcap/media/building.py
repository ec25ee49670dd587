"""A folder that appears whole or not at all: made under another name, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vidcap.store import sync_folder


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`; leftovers of killed workers for the same source are swept."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def commit(temporary: Path, folder: Path, *, durable: bool) -> None:
    """Put it in the place of `folder`. Not `durable`: it need not survive a power cut."""
    if durable:
        for path in temporary.iterdir():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        sync_folder(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    if durable:
        sync_folder(folder.parent)
