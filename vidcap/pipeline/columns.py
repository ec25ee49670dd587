"""The tables of a part: one Parquet file per stage, one row per shot, joined by row; and one table of its sources."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidcap.errors import InvariantError
from vidcap.records import VERDICT_COLUMNS, StageResult, Verdict, clip_key
from vidcap.stages.registry import stage_class
from vidcap.store import replacing

Row = dict[str, Any]

BASE_COLUMNS: dict[str, pa.DataType] = {
    "source_id": pa.string(),
    "part": pa.int64(),
    "shot_first": pa.int64(),
    "shot_last": pa.int64(),
    "shot_key": pa.string(),
}
"""What `detect_shots` writes: the rows themselves."""


VERDICTS = frozenset(VERDICT_COLUMNS)
KEY_COLUMNS = frozenset({"source_id", "shot_first", "shot_last", "first_frame", "last_frame"})
"""What the key of a clip is made of."""


def stage_columns(stage: str) -> dict[str, pa.DataType]:
    """The columns of a stage's file, verdict columns last."""
    own = BASE_COLUMNS if stage == "detect_shots" else dict(stage_class(stage).gives)
    return {**own, **VERDICT_COLUMNS}


class PartFolder:
    """`<output>/_vidcap/parts/000123`: column files, journal, evidence."""

    def __init__(self, output: Path, number: int) -> None:
        self.output = output
        self.number = number
        self.path = output / "_vidcap" / "parts" / f"{number:06d}"

    def stage_file(self, stage: str) -> Path:
        return self.path / ("sources.parquet" if stage == "decode" else f"{stage}.parquet")

    def relative(self, path: Path) -> str:
        return path.relative_to(self.output).as_posix()

    def evidence(self, source_id: str) -> Path:
        return self.path / "evidence" / source_id

    def sources(self) -> list[Row]:
        return read_columns(self.stage_file("decode")).to_pylist()

    def rows(
        self,
        stages: Iterable[str],
        *,
        known: Mapping[str, Sequence[Row]] | None = None,
        only: Collection[str] | None = None,
    ) -> list[Row]:
        """The clip rows with the columns of these stages. Each row's verdicts stand in `row["verdicts"]` by stage.

        What is `known` of a stage is not read. With `only` the other columns are left out, but for the verdicts.
        """
        rows: list[Row] = []
        for stage in stages:
            wanted = (
                None if only is None else [name for name in stage_columns(stage) if name in only or name in VERDICTS]
            )
            table = (known or {}).get(stage)
            if table is None:
                table = read_columns(self.stage_file(stage), wanted).to_pylist()
            if stage == "detect_shots":
                rows = [{"verdicts": {}} for _ in table]
            if len(table) != len(rows):
                raise InvariantError(
                    f"part {self.number}: `{stage}` has {len(table)} rows, `detect_shots` {len(rows)}",
                    hint="remove the part's folder and ledger records and run again",
                )
            for row, added in zip(rows, table, strict=True):
                absorb(row, stage, added)
        for row in rows:
            row["key"] = key_of(row)
        return rows


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Of one of a part's files, in the file's order; all of them by default.

    These files are small and many: a pool of threads and a data set around each would cost more than the reading.
    """
    with pq.ParquetFile(path, memory_map=False) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)


def absorb(row: Row, stage: str, added: Mapping[str, Any]) -> None:
    """Join a stage's values to a row; its verdict goes under the stage's name."""
    verdict = Verdict(added["verdict"], added["reason"], added["value"], added["detail"]) if added["verdict"] else None
    if verdict is not None:
        row["verdicts"][stage] = verdict
    row.update({name: value for name, value in added.items() if name not in VERDICT_COLUMNS})


def key_of(row: Mapping[str, Any]) -> str:
    """The clip's key; of a shot that never got a span, the key of the shot."""
    if row.get("first_frame") is None:
        return clip_key(row["source_id"], row["shot_first"], row["shot_last"])
    return clip_key(row["source_id"], row["first_frame"], row["last_frame"])


def scatter(stage: str, rows: Sequence[Row], alive: Sequence[int], result: StageResult) -> list[Row]:
    """A stage's result over its alive rows, as one value set per row: defaults for rows it did not see.

    Raises `InvariantError` where the stage returned other columns, or another number of values, than it declares.
    """
    columns = stage_columns(stage)
    own = [name for name in columns if name not in VERDICT_COLUMNS]
    if set(result.columns) != set(own):
        raise InvariantError(f"stage `{stage}` gave {sorted(result.columns)}, it declares {sorted(own)}")
    for name, values in result.columns.items():
        if len(values) != len(alive):
            raise InvariantError(f"stage `{stage}` gave {len(values)} values of `{name}` for {len(alive)} rows")
    added: list[Row] = [{name: default(kind) for name, kind in columns.items()} for _ in rows]
    for position, index in enumerate(alive):
        added[index].update({name: result.columns[name][position] for name in own})
        verdict = result.verdicts.get(position)
        if verdict is not None:
            added[index].update(verdict_columns(verdict))
    return added


def verdict_columns(verdict: Verdict | None) -> Row:
    """A verdict as the columns of a stage file; without one the row goes on."""
    if verdict is None:
        return {"verdict": "", "reason": "", "value": math.nan, "detail": ""}
    value = math.nan if verdict.value is None else float(verdict.value)
    return {"verdict": verdict.kind, "reason": verdict.reason, "value": value, "detail": verdict.detail[:500]}


def default(kind: pa.DataType) -> Any:
    """The value of a column for a row that a stage did not see."""
    if pa.types.is_string(kind):
        return ""
    if pa.types.is_floating(kind):
        return math.nan
    if pa.types.is_boolean(kind):
        return False
    if pa.types.is_integer(kind):
        return None
    return []


def write_stage(path: Path, stage: str, rows: Sequence[Row]) -> str:
    """Write a stage's rows atomically; returns the file's digest."""
    with replacing(path) as temporary:
        return write_rows(temporary, stage, rows)


def write_rows(path: Path, stage: str, rows: Sequence[Row]) -> str:
    """Write a stage's rows to a file that nobody reads yet; returns its digest."""
    kinds = dict(stage_class("decode").gives) | VERDICT_COLUMNS if stage == "decode" else stage_columns(stage)
    fields = list(kinds.items())
    table = pa.table({name: pa.array([row.get(name) for row in rows], type=kind) for name, kind in fields})
    pq.write_table(table, path, compression="zstd")
    return file_digest(path)


def file_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def effective(row: Row, stages: Iterable[str]) -> tuple[str, Verdict] | None:
    """The first verdict along these stages: where the row stopped, or None while it goes on."""
    return next(((stage, row["verdicts"][stage]) for stage in stages if stage in row["verdicts"]), None)


def count_clips(rows: Sequence[Row], stages: Sequence[str]) -> dict[str, int]:
    """`found`, `rejected`, `quarantined` and `pending` of a part's rows after these stages."""
    counts = {"found": len(rows), "rejected": 0, "quarantined": 0, "pending": 0}
    for row in rows:
        stopped = effective(row, stages)
        counts[stopped[1].kind if stopped else "pending"] += 1
    return counts
