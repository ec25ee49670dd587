"""Makes the rows of a manifest out of a folder: media told by their content, with what the files beside them say."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidcap.errors import ManifestError, MediaError, TransientError
from vidcap.media import sidecars
from vidcap.media.outline import Outline, outline
from vidcap.pipeline.manifest import MEDIA, NON_MEDIA

COLUMNS: dict[str, pa.DataType] = {
    "uri": pa.string(),
    "bytes": pa.int64(),
    "seconds": pa.float64(),
    "fps": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "rotation": pa.int32(),
    "container": pa.string(),
    "video_codec": pa.string(),
    "has_audio": pa.bool_(),
    "audio_codec": pa.string(),
    "audio_languages": pa.string(),
    "license": pa.string(),
    "transcript": pa.string(),
    "transcript_language": pa.string(),
    "meta": pa.string(),
    "sha256": pa.string(),
    "error": pa.string(),
}
"""What a row holds; no value is ever null. `error`: why the file cannot be read as video, "" where it can."""

AHEAD = 64
"""Files that are looked at before the first of them is asked for, per thread pool: bounds what waits in memory."""


@dataclass(slots=True)
class Summary:
    """What was found in a folder. `skipped`: reason → files; `faults`: of sidecars, the file relative to the folder."""

    files: int = 0
    media: int = 0
    bytes: int = 0
    seconds: float = 0.0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    transcripts: int = 0
    licenses: int = 0
    described: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    faults: list[sidecars.Fault] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """The files of a folder, by their paths relative to it, sorted by bytes; and the sidecars of each folder in it."""

    files: list[str]
    skipped: Counter[str]
    beside: dict[str, dict[str, list[sidecars.Sidecar]]]


def look_through(folder: Path) -> Found:
    """Every file below `folder` that is not hidden; links out of it are not followed, nor links to folders.

    Raises `ManifestError` where `folder` is none.
    """
    if not folder.is_dir():
        raise ManifestError(f"there is no folder `{folder}`", hint="name the folder that holds the media")
    top = os.path.realpath(folder)
    found = Found([], Counter(), {})

    def unreadable(error: OSError) -> None:
        del error
        found.skipped["a folder that cannot be read"] += 1

    for current, folders, files in os.walk(folder, onerror=unreadable):
        found.skipped["hidden"] += sum(name.startswith(".") for name in (*folders, *files))
        links = {name for name in folders if os.path.islink(os.path.join(current, name))}
        found.skipped["a link to a folder"] += sum(not name.startswith(".") for name in links)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in links]
        inside = []
        for name in files:
            if name.startswith("."):
                continue
            path = os.path.join(current, name)
            if os.path.islink(path) and os.path.commonpath([top, os.path.realpath(path)]) != top:
                found.skipped["a link that leaves the folder"] += 1
            elif not _is_text(name):
                found.skipped["a name that is not UTF-8"] += 1
            else:
                inside.append(name)
        here = os.path.relpath(current, folder)
        found.files += [os.path.normpath(os.path.join(here, name)) for name in inside]
        found.beside[here] = sidecars.by_video(inside)
    found.files.sort(key=os.fsencode)
    return found


def rows(
    folder: Path,
    found: Found,
    summary: Summary,
    *,
    uri_of: Callable[[str], str],
    sha256: bool = False,
    threads: int = 4,
    on_file: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """One row per media file, in order; what is no media, and what was wrong, is counted in `summary`.

    `uri_of(relative path)` is what stands in the manifest. `sha256`: also hash every file, which reads all of it.
    """
    summary.skipped.update(+found.skipped)
    summary.files = len(found.files)
    used = {
        os.path.normpath(os.path.join(os.path.dirname(name), sidecar.name))
        for name in found.files
        if os.path.splitext(name)[1].lower() not in NON_MEDIA
        for sidecar in _beside(found, name)
    }

    def look(name: str) -> _Seen | str:
        return _seen(folder, name, _beside(found, name), sha256)

    with ThreadPoolExecutor(threads) as pool:
        for at in range(0, len(found.files), AHEAD):
            chunk = found.files[at : at + AHEAD]
            for name, seen in zip(chunk, pool.map(look, chunk), strict=True):
                on_file()
                if isinstance(seen, str):
                    why = "a file beside a video" if name in used else seen
                    summary.skipped[why] = summary.skipped.get(why, 0) + 1
                    continue
                yield _counted(seen, name, summary) | {"uri": uri_of(name)}


@dataclass(slots=True)
class _Seen:
    outline: Outline
    bytes: int
    sha256: str
    error: str
    beside: sidecars.Gathered


def _seen(folder: Path, name: str, beside: list[sidecars.Sidecar], sha256: bool) -> _Seen | str:
    """What one file is, or why it is no media."""
    path = folder / name
    suffix = path.suffix.lower()
    if suffix in NON_MEDIA:
        return "not media, by the name"
    facts, error = Outline(), ""
    try:
        facts = outline(str(path))
    except (MediaError, TransientError) as problem:
        if suffix not in MEDIA:
            only_sound = getattr(problem, "reason", "") == "media.no_video"
            return "no video, only sound" if only_sound else "not media, by the content"
        error = problem.message if isinstance(problem, MediaError) else f"source.failed: {problem.message}"
    size, digest = 0, ""
    try:
        size = path.stat().st_size
        if sha256:
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as problem:
        error = error or f"media.unreadable: {problem.strerror}"
    return _Seen(facts, size, digest, error, sidecars.gather(path.parent, beside))


def _counted(seen: _Seen, name: str, summary: Summary) -> dict[str, Any]:
    """The row, and its share of the summary."""
    beside = seen.beside
    spoken_in = [*seen.outline.audio_languages.split(","), str(beside.info.get("language", ""))]
    transcript = sidecars.spoken(beside.transcripts, [language for language in spoken_in if language])
    summary.media += 1
    summary.bytes += seen.bytes
    summary.seconds += seen.outline.seconds
    summary.transcripts += transcript is not None
    summary.licenses += bool(beside.license)
    summary.described += bool(beside.info)
    if seen.error:
        summary.unreadable.append((name, seen.error))
    for fault in beside.faults:
        at = os.path.normpath(os.path.join(os.path.dirname(name), fault.file))
        summary.faults.append(sidecars.Fault(at, fault.line, fault.what))
    meta: dict[str, Any] = dict(beside.info)
    if beside.transcripts:
        meta["transcripts"] = [{"file": given.file, "language": given.language} for given in beside.transcripts]
    return asdict(seen.outline) | {
        "bytes": seen.bytes,
        "license": beside.license,
        "transcript": transcript.text if transcript else "",
        "transcript_language": transcript.language if transcript else "",
        "meta": json.dumps(meta, ensure_ascii=False, sort_keys=True),
        "sha256": seen.sha256,
        "error": seen.error,
    }


def _beside(found: Found, name: str) -> list[sidecars.Sidecar]:
    return sidecars.of_video(found.beside[os.path.dirname(name) or "."], os.path.basename(name))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
