"""Reads the list of sources: a folder, a glob, one media file, or a CSV, JSONL or Parquet manifest."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vidcap.errors import ManifestError
from vidcap.records import Source

NON_MEDIA = frozenset(
    """.json .jsonl .txt .md .csv .tsv .parquet .yaml .yml .npz .npy .py .srt .vtt .ass .html .log .jpg .jpeg .png .webp
    .pdf .zip .tar .gz .sha256 .nfo .part""".split()
)
MEDIA = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .flv .wmv .3gp .3g2 .ogv .gif .mxf .vob .asf".split()
)
TABLES = frozenset({".csv", ".jsonl", ".parquet"})
META_BYTES = 64_000
FIELD_BYTES = 1 << 27
"""The csv module ends a field at 128 kB unless told otherwise; the captions of three hours are longer."""
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SIGNATURE = re.compile(r"^(x-(amz|goog)-.*|sig|signature|hmac)$")
SECRET_FIELD = re.compile(r"(token|secret|password|passwd|credential|api_?key)s?$")
"""Fields of an address that let its holder in."""
OF_SIGNATURES = frozenset(
    "expires policy key-pair-id awsaccesskeyid googleaccessid se sp sv sr st spr sks ske skt skoid sktid skv".split()
)
"""Fields that mean something else where no signature stands beside them (Amazon's, Google's and Azure's)."""


@dataclass(slots=True)
class Manifest:
    sources: list[Source]
    skipped: list[str] = field(default_factory=list)
    """Entries of a folder that are not sources, with the reason; nothing is left out in silence."""


def read_manifest(where: str, root: str | None = None, *, limit: int | None = None) -> Manifest:
    """The sources of `where` in order. Raises `ManifestError` for what is missing, empty, malformed or ambiguous."""
    path = Path(where)
    if path.is_dir():
        rows, skipped = _walk(path)
        base = root or where
    elif path.suffix.lower() in TABLES and path.is_file():
        rows, skipped = list(_table(path)), []
        base = root or str(path.parent)
    elif os.path.lexists(where):
        rows, skipped = [{"uri": path.name}], []
        base = root or str(path.parent)
    elif glob.has_magic(where):
        found = sorted(glob.glob(where, recursive=True))
        base = root or _glob_root(where)
        kept = [name for name in found if Path(name).suffix.lower() not in NON_MEDIA and not Path(name).is_dir()]
        skipped = [f"{_readable(name)}: not media" for name in found if name not in set(kept)]
        rows = [{"uri": os.path.relpath(name, base)} for name in kept]
    else:
        raise ManifestError(
            f"there is no manifest or folder `{_readable(where)}`", hint="check `input.manifest` or --input"
        )
    if not rows:
        raise ManifestError(
            f"`{_readable(where)}` lists no source", hint="a source is a media file; see pipelines/README.md"
        )
    rows = rows[:limit]
    sources = [_source(row, index, base) for index, row in enumerate(rows)]
    _unique(sources)
    return Manifest(sources, skipped)


def _walk(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Files below a folder, sorted by relative path; links to folders are not followed (they may loop)."""
    found: list[str] = []
    skipped: list[str] = []
    for current, folders, files in os.walk(folder):
        for name in [*files, *folders]:
            full = os.path.join(current, name)  # names may hold undecodable bytes; keep them as they are
            relative = os.path.relpath(full, folder)
            suffix = os.path.splitext(name)[1].lower()  # as above
            if name in folders and os.path.islink(full):  # as above
                skipped.append(f"{_readable(relative)}: a link to a folder")
            elif name in folders and suffix not in MEDIA:
                continue
            elif suffix in NON_MEDIA:
                skipped.append(f"{_readable(relative)}: not media")
            else:
                found.append(relative)
    return [{"uri": name} for name in sorted(found, key=os.fsencode)], sorted(skipped)


def _glob_root(pattern: str) -> str:
    parts = Path(pattern).parts
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(Path(*parts[:plain])) if plain else "."


def _table(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            yield from pq.read_table(path).to_pylist()
            return
        with path.open(encoding="utf-8", newline="") as handle:
            if path.suffix.lower() == ".csv":
                csv.field_size_limit(FIELD_BYTES)
                yield from csv.DictReader(handle, strict=True)
                return
            for number, line in enumerate(handle, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ManifestError(f"{path}:{number}: not a JSON object", hint="one object per line")
                    yield row
    except ManifestError:
        raise
    except (ValueError, OSError, csv.Error, RecursionError) as error:
        raise ManifestError(f"cannot read the manifest `{path}`: {error}", hint="mend or export it again") from error


def _source(row: dict[str, Any], index: int, root: str) -> Source:
    uri = row.get("uri") or row.get("file")
    if not isinstance(uri, str) or not uri or "\0" in uri:
        raise ManifestError(f"row {index}: no `uri` (or `file`)", hint="every row names its media file")
    start, end = _seconds(row, "start", index), _seconds(row, "end", index)
    if start is not None and end is not None and end <= start:
        raise ManifestError(f"row {index}: `end` {end} is not after `start` {start}", hint="give seconds, start < end")
    meta = row.get("meta")
    meta_text = meta if isinstance(meta, str) else json.dumps(meta or {}, sort_keys=True, ensure_ascii=False)
    if len(meta_text.encode(errors="replace")) > META_BYTES:
        raise ManifestError(f"row {index}: `meta` is larger than {META_BYTES} bytes", hint="carry less")
    given = row.get("id")
    if given is not None and given != "" and not ID.fullmatch(str(given)):
        raise ManifestError(
            f"row {index}: id `{_readable(str(given))}`", hint="use 1 to 64 letters, digits, `_` or `-`"
        )
    remote = "://" in uri
    if remote and (urlsplit(uri).username or urlsplit(uri).password):
        raise ManifestError(f"row {index}: the address holds credentials", hint="give them to fsspec's configuration")
    path = uri if remote else os.path.abspath(os.path.join(root, uri))  # keeps undecodable bytes
    try:
        size = 0 if remote else os.stat(path).st_size  # as above
    except (OSError, ValueError):
        size = 0  # the decode stage says why
    named = without_secrets(uri) if remote else uri
    return Source(
        id=str(given) if given else source_id(named),
        row=index,
        uri=_readable(named),
        path=path,
        bytes=size,
        start=start,
        end=end,
        license=_text(row.get("license")),
        transcript=_text(row.get("transcript")),
        caption=_text(row.get("caption")),
        meta=_readable(meta_text) or "{}",
    )


def without_secrets(address: str) -> str:
    """The address without what lets its holder in: tokens, and signatures with what belongs to them.

    So a source keeps its id when its address is signed anew, and shards may be published.
    """
    parts = urlsplit(address)
    if not parts.query:
        return address
    fields = parts.query.split("&")
    names = [field.partition("=")[0].lower() for field in fields]
    signed = any(SIGNATURE.search(name) for name in names)
    kept = [
        field
        for field, name in zip(fields, names, strict=True)
        if not (SECRET_FIELD.search(name) or SIGNATURE.search(name) or (signed and name in OF_SIGNATURES))
    ]
    return urlunsplit(parts._replace(query="&".join(kept)))


def source_id(uri: str) -> str:
    """BLAKE2b-64 (16 hex digits) of the normalised URI: `a/./b.mp4` and `a/b.mp4` are the same source."""
    normal = uri if "://" in uri else Path(os.path.normpath(uri)).as_posix()
    return hashlib.blake2b(os.fsencode(normal), digest_size=8).hexdigest()


def _unique(sources: list[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        if source.id in seen:
            raise ManifestError(
                f"rows {seen[source.id].row} and {source.row} have the same id `{source.id}`",
                hint="ids are unique; rows without an id must differ in `uri`",
            )
        seen[source.id] = source


def _seconds(row: dict[str, Any], name: str, index: int) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ManifestError(f"row {index}: `{name}` is `{value}`", hint="give seconds from the first frame")
    return seconds


def _text(value: Any) -> str:
    return _readable(value) if isinstance(value, str) else ""


def _readable(text: str) -> str:
    """Valid UTF-8: bytes a file system allows and Unicode does not are written as escapes."""
    return unicodedata.normalize("NFC", text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
