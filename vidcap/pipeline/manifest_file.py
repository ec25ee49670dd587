"""Writes a manifest row by row, as JSONL, CSV or Parquet by its suffix; the file is whole or absent."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidcap.errors import ManifestError, UsageError
from vidcap.pipeline.manifest import TABLES
from vidcap.store import replacing

BATCH = 1_000
"""Rows of a Parquet file that are held back to be written together."""

Row = Mapping[str, Any]
Write = Callable[[Row], None]


def check_suffix(path: Path) -> None:
    """Raises `ManifestError` where the suffix names no form of manifest."""
    if path.suffix.lower() not in TABLES:
        raise ManifestError(
            f"`{path.name}` is no manifest by its suffix", hint=f"end it in one of: {', '.join(sorted(TABLES))}"
        )


@contextlib.contextmanager
def writing(path: Path, columns: Mapping[str, pa.DataType]) -> Iterator[Write]:
    """A function that writes a row with these columns. Only leaving without an error puts the file in place.

    Raises `ManifestError` for an unknown suffix and for a manifest without rows, `UsageError` where the disk refuses.
    """
    check_suffix(path)
    written = 0
    forms = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    try:
        with replacing(path) as temporary:
            with forms[path.suffix.lower()](temporary, columns) as write:

                def counted(row: Row) -> None:
                    nonlocal written
                    write({name: row[name] for name in columns})
                    written += 1

                yield counted
            if not written:
                raise ManifestError("no media was found, nothing is written", hint="name the folder that holds them")
    except OSError as error:
        raise UsageError(f"cannot write `{path}`: {error.strerror or error}", hint="choose another place") from error


@contextlib.contextmanager
def _jsonl(path: Path, columns: Mapping[str, pa.DataType]) -> Iterator[Write]:
    del columns
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        yield lambda row: print(json.dumps(row, ensure_ascii=False), file=handle)


@contextlib.contextmanager
def _csv(path: Path, columns: Mapping[str, pa.DataType]) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as handle:
        # With its own line ends the csv module quotes carriage returns too, which file names may hold.
        writer = csv.DictWriter(handle, list(columns), lineterminator="\r\n")
        writer.writeheader()
        spelled = {True: "true", False: "false"}
        yield lambda row: writer.writerow({k: spelled[v] if isinstance(v, bool) else v for k, v in row.items()})


@contextlib.contextmanager
def _parquet(path: Path, columns: Mapping[str, pa.DataType]) -> Iterator[Write]:
    schema = pa.schema(list(columns.items()))
    waiting: list[Row] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist([dict(row) for row in waiting], schema=schema))
            waiting.clear()

        def write(row: Row) -> None:
            waiting.append(row)
            if len(waiting) >= BATCH:
                flush()

        yield write
        flush()
