"""What the Hugging Face hub's client keeps on this machine: models by name and revision, and whether they are whole.

Only the layout of its folders is known here, so that listing and checking need neither the client nor a network.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidcap.backends.weights.transformers_folder import HUB_NAME
from vidcap.store import sha256_of

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ftz", ".onnx")
"""Kinds of files without which a model is not here."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A file of a model and whether it is the published one; None: nobody has said what it should be."""

    path: Path
    digest: str
    whole: bool | None


def root() -> Path:
    """The client's cache, as its own environment variables name it."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def snapshot(name: str, revision: str | None = None, *, within: Path | None = None) -> Path | None:
    """The folder of a hub name's files, with weights among them; None where it was not fetched.

    `within`: another cache than the client's usual one.
    """
    if not HUB_NAME.fullmatch(name) or ".." in f"{revision}":
        return None
    kept = (within or root()) / f"models--{name.replace('/', '--')}"
    commit = revision or "main"
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (kept / "refs" / commit).read_text("ascii").strip()
        except (OSError, ValueError):
            return None
    folder = kept / "snapshots" / commit
    weights = (file for file in _files(folder) if file.suffix in WEIGHTS)
    return folder if _COMMIT.fullmatch(commit) and next(weights, None) is not None else None


def digests(folder: Path) -> Iterator[FileDigest]:
    """Every file of a snapshot, or of a folder that the client filled, against what the hub said when it was fetched.

    The cache names a file's content by its sha256 (or, for small ones, its git hash); a folder has notes of them.
    """
    for file in _files(folder):
        wanted = _wanted(folder, file)
        found = git_hash(file) if _COMMIT.fullmatch(wanted) else sha256_of(file)
        yield FileDigest(file, found, found == wanted if wanted else None)


def git_hash(file: Path) -> str:
    """What git calls the content of a file; how the hub names files that are no large ones."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _wanted(folder: Path, file: Path) -> str:
    """The hash that the hub told; "" where it is not known."""
    told = ""
    if file.is_symlink() and file.resolve().parent.name == "blobs":
        told = file.resolve().name
    else:
        notes = folder / ".cache" / "huggingface" / "download" / f"{file.relative_to(folder)}.metadata"
        try:
            told = notes.read_text("utf-8").splitlines()[1].strip()
        except (OSError, ValueError, IndexError):
            told = ""
    return told if _SHA256.fullmatch(told) or _COMMIT.fullmatch(told) else ""


def _files(folder: Path) -> list[Path]:
    """The files below a folder whose content is there, in order; what the client keeps for itself left out."""
    if not folder.is_dir():
        return []
    return sorted(
        file for file in folder.rglob("*") if file.is_file() and ".cache" not in file.relative_to(folder).parts
    )
