"""A part of a run, read for looking: what was measured of each row, where it stopped, and single rows whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidcap.inspector.entries import Stopped
from vidcap.pipeline.columns import PartFolder, key_of, stage_columns
from vidcap.records import CAPTION_KINDS, VERDICT_COLUMNS
from vidcap.shards.schema import score_or_missing
from vidcap.stages.select import ScoreColumns, score_columns

Float64 = npt.NDArray[np.float64]
MEASURED = ("first_frame", "last_frame", "start", "end", "motion_mean", "corrupt_frames", "source_id")
SHOWN = (*(f"caption_{kind}" for kind in CAPTION_KINDS), "language", "transcript_text")


class PartTable:
    """The measured columns of one part, and where each row stopped."""

    def __init__(self, folder: PartFolder, stages: Sequence[str], by: str) -> None:
        self.folder = folder
        wanted = {*MEASURED, "shot_first", "shot_last", *(score_columns(by.split()[-1]) if by else ())}
        columns: dict[str, Any] = {}
        self.reasons: list[str] = []
        self.kinds: list[str] = []
        self.values: Float64 = np.zeros(0)
        for stage in stages:
            mine = [name for name in stage_columns(stage) if name in wanted and name not in VERDICT_COLUMNS]
            read = pq.read_table(
                folder.stage_file(stage), columns=[*mine, "verdict", "reason", "value"], memory_map=False
            )
            columns |= {name: read[name] for name in mine if name not in columns}
            reasons, kinds = ([str(text) for text in read[name].to_pylist()] for name in ("reason", "verdict"))
            values = _floats(read["value"])
            if not self.reasons:
                self.reasons, self.kinds, self.values = reasons, kinds, values
                continue
            for row, kind in enumerate(kinds):
                if kind and not self.kinds[row]:
                    self.reasons[row], self.kinds[row], self.values[row] = reasons[row], kind, values[row]
        self.table = pa.table(columns)
        self.keys = [key_of(row) for row in self.table.select(_key_columns(self.table)).to_pylist()]

    def measure(self, name: str) -> Float64:
        """What a rule compares, of every row; NaN where it is not known."""
        missing = np.full(len(self.keys), np.nan)
        if name.startswith("similarity "):
            by = name.split()[-1]
            if not any(column in self.table.column_names for column in score_columns(by)):
                return missing
            keyed = self.table.append_column("key", pa.array(self.keys, pa.string()))
            return ScoreColumns.from_table(keyed, by).scores
        if "start" not in self.table.column_names:
            return missing
        if name == "length":
            return _floats(self.table["end"]) - _floats(self.table["start"])
        if name == "motion":
            return _floats(self.table["motion_mean"])
        frames = _floats(self.table["last_frame"]) - _floats(self.table["first_frame"]) + 1
        return _floats(self.table["corrupt_frames"]) / frames


def _key_columns(table: pa.Table) -> list[str]:
    names = ("source_id", "shot_first", "shot_last", "first_frame", "last_frame")
    return [name for name in names if name in table.column_names]


class Rows:
    """The full rows of the few clips that are shown."""

    def __init__(self, parts: dict[int, tuple[PartFolder, list[str]]]) -> None:
        self.parts = parts
        self._sources: dict[int, dict[str, dict[str, Any]]] = {}

    def stopped(self, part: int, row: int) -> Stopped:
        folder, stages = self.parts[part]
        found: dict[str, Any] = {}
        verdict: tuple[str, dict[str, Any]] | None = None
        wanted = {*MEASURED, "shot_first", "shot_last", *SHOWN, *(f"similarity_{kind}" for kind in CAPTION_KINDS)}
        for stage in stages:
            names = [name for name in stage_columns(stage) if name in wanted or name in VERDICT_COLUMNS]
            table = pq.read_table(folder.stage_file(stage), columns=names, memory_map=False)
            values = table.slice(row, 1).to_pylist()[0]
            if values["verdict"] and verdict is None:
                verdict = (stage, values)
            found |= {name: value for name, value in values.items() if name not in VERDICT_COLUMNS}
        stage, why = verdict or ("", {"verdict": "", "reason": "", "value": None, "detail": ""})
        if part not in self._sources:
            self._sources[part] = {source["id"]: source for source in folder.sources()}
        source = self._sources[part][found["source_id"]]
        spanned = found.get("first_frame") is not None
        value = why["value"]
        return Stopped(
            key=key_of(found),
            source_id=found["source_id"],
            uri=source["uri"],
            license=source["license"],
            kind=why["verdict"],
            stage=stage,
            reason=why["reason"],
            value=None if value is None or math.isnan(value) else round(value, 6),
            detail=why["detail"],
            first_frame=found["first_frame" if spanned else "shot_first"],
            last_frame=found["last_frame" if spanned else "shot_last"],
            start=_plain(found.get("start")),
            end=_plain(found.get("end")),
            captions={kind: found.get(f"caption_{kind}") or "" for kind in CAPTION_KINDS},
            scores={kind: score_or_missing(found.get(f"similarity_{kind}")) for kind in CAPTION_KINDS},
            motion=score_or_missing(found.get("motion_mean")),
            language=found.get("language") or "",
            transcript=found.get("transcript_text") or "",
        )


def _plain(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else float(value)


def _floats(column: Any) -> Float64:
    found: Float64 = np.array(column.to_numpy(zero_copy_only=False), np.float64)
    return found
