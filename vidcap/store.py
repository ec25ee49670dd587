"""Where run files live. A write is whole or absent: temporary file, fsync, rename, fsync of the folder.

Object stores offer the same promise through whole PUTs; they fit behind `Store` without touching its callers.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from vidcap.errors import StoreError

HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make space there, then run the same command again"),
    errno.EFBIG: "raise the limit on file sizes (`ulimit -f`), then run the same command again",
    errno.EROFS: "make it writable, then run the same command again",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (`ulimit -n`), then run again"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check the disk, then run the same command again"),
}
"""What is wrong with the machine or its disk, not with what was written → the mend."""


class Store(Protocol):
    """Atomic storing of small files under relative names."""

    def read(self, name: str) -> bytes: ...
    def write(self, name: str, data: bytes) -> None: ...
    def exists(self, name: str) -> bool: ...
    def delete(self, name: str) -> None: ...
    def names(self, folder: str) -> list[str]: ...


class PosixStore:
    """A folder of a POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        with replacing(self.path(name)) as temporary:
            temporary.write_bytes(data)

    def exists(self, name: str) -> bool:
        return self.path(name).is_file()

    def delete(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        path = self.path(folder)
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def read_json(self, name: str) -> Any:
        """The parsed file, or None where it is absent or not JSON (a torn write of another program)."""
        try:
            return json.loads(self.read(name))
        except (FileNotFoundError, ValueError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """As small files hold it: readable, ASCII, with a line end."""
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode()


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving it is synced and renamed, on an error removed.

    Not `durable`, it is renamed only: it outlives the process, but not a power cut.
    """
    temporary = _temporary(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if durable:
                _sync(temporary)
            temporary.replace(path)
            if durable:
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_all(folder: Path) -> Iterator[Callable[[Path], Path]]:
    """As `replacing`, for several files of one folder: each is whole or absent, and the folder is synced once.

    Yields what gives the temporary path for a target.
    """
    temporaries: dict[Path, Path] = {}

    def temporary_of(path: Path) -> Path:
        return temporaries.setdefault(path, _temporary(path))

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary_of
            for path, temporary in temporaries.items():
                _sync(temporary)
                temporary.replace(path)
            sync_folder(folder)
        finally:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """It carries the process id: a worker that outlives its driver never shares one with its successor."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk below `path` refuses in here into a `StoreError` that names it and the mend."""
    try:
        yield
    except OSError as error:
        if error.errno not in HINTS:
            raise
        said = os.strerror(error.errno or 0).lower()
        raise StoreError(
            f"cannot write to `{path}`: {said} (disk at `{_mount(path)}`)", hint=HINTS[error.errno]
        ) from error


def is_of_the_machine(error: BaseException) -> bool:
    """No memory, or a disk in trouble: it says nothing about the file that is being worked on."""
    number = error.errno if isinstance(error, OSError) else None
    return isinstance(error, MemoryError) or number == errno.ENOMEM or number in HINTS


def _mount(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_mount())


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in `folder`; nobody may be writing there."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else []:
        if not path.is_dir():
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append one line and sync it. A line torn by a crash is recognised by its missing line end."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as handle:
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())


def read_lines(path: Path) -> list[str]:
    """The whole lines of a journal; a torn last one is left out."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return whole.decode(errors="replace").splitlines() if whole else []


def sha256_of(path: Path) -> str:
    """Of a file, computed once per process for as long as it does not change: weights have gigabytes."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    del size, changed  # parts of the key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
