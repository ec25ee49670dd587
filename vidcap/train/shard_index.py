"""Where each sample of a shard lies, so that it is read by itself: scanned once, kept beside the run."""

from __future__ import annotations

import functools
import io
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vidcap.seeds import digest_of
from vidcap.shards.headers import Member
from vidcap.shards.reader import Fault, RawSample, scan
from vidcap.store import replacing

MEMBERS = ("json", "mp4", "flac")


class ShardIndex(NamedTuple):
    """N samples of one tar: `keys`, and byte offset and size of each member, N×3×2 (size -1: there is none)."""

    path: Path
    keys: list[str]
    places: npt.NDArray[np.int64]
    faults: dict[str, int]
    """What the scan found wrong, by code: such members and samples are not among the N."""

    def __len__(self) -> int:
        return len(self.keys)

    def sample(self, item: int) -> RawSample:
        found = {
            name: Member(int(offset), int(size))
            for name, (offset, size) in zip(MEMBERS, self.places[item], strict=True)
            if size >= 0
        }
        return RawSample(self.path, self.keys[item], found)


def indexed(path: Path, folder: Path | None) -> ShardIndex:
    """The index of a shard: from `folder` where it was kept of these very bytes, else by a scan, and then kept there.

    Raises `OSError` where the shard cannot be read.
    """
    status = path.stat()
    return _indexed(path, folder, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=128)
def _indexed(path: Path, folder: Path | None, size: int, changed: int) -> ShardIndex:
    kept = folder / f"{digest_of(str(path.resolve()), str(size), str(changed))}.npz" if folder else None
    if kept is not None:
        found = _kept(path, kept)
        if found is not None:
            return found
    index = _scanned(path)
    if kept is not None:
        _keep(index, kept)
    return index


def _scanned(path: Path) -> ShardIndex:
    keys: list[str] = []
    places: list[list[tuple[int, int]]] = []
    faults: Counter[str] = Counter()
    for found in scan(path):
        if isinstance(found, Fault):
            faults[found.fault.partition(":")[0]] += 1
            continue
        keys.append(found.key)
        places.append([tuple(found.members.get(name, (0, -1))) for name in MEMBERS])  # type: ignore[misc]  # pairs
    return ShardIndex(path, keys, np.array(places, np.int64).reshape(-1, len(MEMBERS), 2), dict(faults))


def _keep(index: ShardIndex, path: Path) -> None:
    held = io.BytesIO()
    np.savez(
        held,
        keys=np.array(index.keys, dtype=np.bytes_),
        places=index.places,
        faults=np.array([f"{code} {count}" for code, count in sorted(index.faults.items())], dtype=np.bytes_),
    )
    with replacing(path) as temporary:
        temporary.write_bytes(held.getvalue())


def _kept(path: Path, kept: Path) -> ShardIndex | None:
    try:
        with np.load(kept, allow_pickle=False) as found:
            faults = dict(line.decode().rsplit(" ", 1) for line in found["faults"].tolist())
            keys = [key.decode() for key in found["keys"].tolist()]
            places = found["places"].astype(np.int64, copy=False)
            if places.shape != (len(keys), len(MEMBERS), 2):
                return None
            return ShardIndex(path, keys, places, {code: int(count) for code, count in faults.items()})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # absent, or torn: scanned anew
