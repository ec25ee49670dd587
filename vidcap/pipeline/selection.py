"""Selection over the score columns of all parts: a keep-list per part, and which parts have to be packed anew."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from vidcap.errors import InvariantError
from vidcap.media.evidence import Evidence
from vidcap.pipeline.columns import PartFolder, file_digest, read_columns, stage_columns
from vidcap.pipeline.ledger import Ledger, Record
from vidcap.pipeline.plan import Part, Plan
from vidcap.records import VERDICT_COLUMNS
from vidcap.seeds import digest_of
from vidcap.stages.select import REASONS, PartSelection, ScoreColumns, Select, duplicate_sources, score_columns
from vidcap.store import PosixStore, replacing, sweep

DUPLICATES = "duplicates.json"
pc: Any = pyarrow.compute
"""Untyped: the stubs know neither plain values as operands nor chunked results."""


@dataclass(frozen=True, slots=True)
class PackDue:
    """A part whose shards do not match its keep-list or columns."""

    part: int
    fingerprint: str
    decode: bool = False
    """Its samples carry sound, which went with the evidence of an earlier packing."""


@dataclass(slots=True)
class SelectionRun:
    executed: int
    """Parts that were selected anew: all or none."""
    due: list[PackDue] = field(default_factory=list)


def run_selection(plan: Plan, parts: Sequence[Part], output: Path, *, failed: Collection[int]) -> SelectionRun | None:
    """Select over the parts that are there. None where parts have failed and the options refuse to go on without."""
    here = [part for part in parts if part.number not in failed]
    fingerprints = {part.number: plan.fingerprints(part) for part in here}
    executed = 0
    config = plan.config.stage("select")
    if config is not None:
        stage = Select(Select.Options.model_validate(config.options))
        if failed and not stage.options.allow_failed:
            return None
        wanted = plan.selection_fingerprint([fingerprints[part.number] for part in here])
        ledger = Ledger(output)
        records = [ledger.get(part.number, "select") for part in here]
        if any(record is None or record.fingerprint != wanted for record in records):
            _select(plan, stage, here, output, wanted)
            executed = len(here)
    run = SelectionRun(executed)
    if "pack" in plan.order:
        run.due = _pack_due(plan, here, fingerprints, output)
    return run


class StoredScores:
    """The scores of one part, read from its column files when asked for."""

    def __init__(self, plan: Plan, folder: PartFolder, by: str) -> None:
        self.folder = folder
        self.part = folder.number
        self.stages = _row_stages(plan)
        self.by = by
        self.alive: Any = None
        """Of the rows as `load` read them last."""

    def table(self) -> tuple[pa.Table, Any]:
        """Key, source and the score columns of all rows, and which rows no stage has stopped."""
        wanted = {"source_id", "first_frame", "last_frame", *score_columns(self.by)}
        columns: dict[str, Any] = {}
        alive: list[Any] = []
        for stage in self.stages:
            mine = [name for name in stage_columns(stage) if name in wanted and name not in VERDICT_COLUMNS]
            read = read_columns(self.folder.stage_file(stage), [*mine, "verdict"])
            columns |= {name: read[name] for name in mine}
            alive.append(pc.equal(read["verdict"], ""))
        first, last = (
            pc.utf8_lpad(pc.cast(pc.fill_null(columns[name], 0), pa.string()), 8, "0")
            for name in ("first_frame", "last_frame")
        )
        columns["key"] = pc.binary_join_element_wise(columns["source_id"], first, last, "_")
        mask = reduce(pc.and_, alive)
        return pa.table(columns), mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask

    def load(self) -> ScoreColumns:
        table, self.alive = self.table()
        return ScoreColumns.from_table(table.filter(self.alive), self.by)


def _row_stages(plan: Plan) -> list[str]:
    return [name for name in plan.order if name not in ("decode", "select", "pack")]


def _select(plan: Plan, stage: Select, parts: Sequence[Part], output: Path, fingerprint: str) -> None:
    by = stage.options.by
    stored = [StoredScores(plan, PartFolder(output, part.number), by) for part in parts]
    duplicates = duplicate_sources(lambda: _contents(parts, output))
    selection_id = fingerprint[:16]
    sweep(output / "_vidcap" / "selections" / selection_id)
    for part, scores, chosen in zip(parts, stored, stage.run(stored, duplicates=duplicates), strict=True):
        _commit(plan, part, scores, chosen, output, fingerprint, selection_id, duplicates)
    PosixStore(output / "_vidcap" / "selections").write_json(
        f"{selection_id}/selection.json",
        {"fingerprint": fingerprint, "options": stage.options.model_dump(mode="json"), "parts": len(parts)},
    )


def _contents(parts: Sequence[Part], output: Path) -> list[tuple[str, str]]:
    """(id, content) of every usable source in manifest order. Two windows of one file are two contents."""
    found = []
    for part in parts:
        rows = {row["id"]: row for row in PartFolder(output, part.number).sources()}
        for source in part.sources:
            row = rows[source.id]
            content = "" if row["verdict"] else f"{row['sha256']}:{source.start}:{source.end}"
            found.append((source.row, source.id, content))
    return [(source_id, content) for _, source_id, content in sorted(found)]


def _commit(
    plan: Plan,
    part: Part,
    scores: StoredScores,
    chosen: PartSelection,
    output: Path,
    fingerprint: str,
    selection_id: str,
    duplicates: dict[str, str],
) -> None:
    """Write a part's verdicts and keep-list, then its record."""
    folder = scores.folder
    alive, scores.alive = scores.alive, None  # the part has just been loaded to be judged
    verdicts = _verdict_table(alive.to_numpy(zero_copy_only=False), chosen)
    ledger = Ledger(output)
    ledger.forget(part.number, "select")
    sweep(folder.path)
    path = folder.stage_file("select")
    with replacing(path) as temporary:
        pq.write_table(verdicts, temporary, compression="zstd")
    mine = {source.id: duplicates[source.id] for source in part.sources if source.id in duplicates}
    PosixStore(folder.path).write_json(DUPLICATES, mine)
    kept = chosen.columns.keys[chosen.keep]
    keep_list = output / "_vidcap" / "selections" / selection_id / f"{part.number:06d}.parquet"
    with replacing(keep_list) as temporary:
        keys = pa.array(kept, pa.binary()).cast(pa.string())
        pq.write_table(pa.table({"key": keys, "score": chosen.columns.scores[chosen.keep]}), temporary)
    clips = {"found": len(alive), "kept": len(kept), "rejected": len(chosen.codes) - len(kept)}
    outputs = {folder.relative(name): file_digest(name) for name in (keep_list, folder.path / DUPLICATES, path)}
    ledger.commit(
        Record(part.number, "select", Select.version, fingerprint, plan.fingerprints(part), outputs, clips=clips)
    )


def _verdict_table(alive: npt.NDArray[np.bool_], chosen: PartSelection) -> pa.Table:
    """The column file of `select`; row by row it would take longer than the whole selection."""
    codes = np.zeros(len(alive), np.int8)
    codes[alive] = chosen.codes
    values = np.full(len(alive), np.nan)
    values[alive] = np.where(chosen.codes > 0, chosen.columns.scores, np.nan)
    kinds = ["", *("rejected" for _ in REASONS[1:])]

    def named(names: Sequence[str]) -> Any:
        return pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())).cast(pa.string())

    details = pa.array(np.full(len(alive), ""), pa.string())
    columns = {"verdict": named(kinds), "reason": named(REASONS), "value": pa.array(values), "detail": details}
    return pa.table({name: columns[name] for name in VERDICT_COLUMNS})


def _pack_due(
    plan: Plan, parts: Sequence[Part], fingerprints: dict[int, dict[str, str]], output: Path
) -> list[PackDue]:
    ledger = Ledger(output)
    due = []
    for part in parts:
        keep_digest = "all"
        if "select" in plan.order:
            record = ledger.get(part.number, "select")
            if record is None:
                raise InvariantError(f"part {part.number} is selected but has no record of it")
            keep_list = next(name for name in record.outputs if name.startswith("_vidcap/selections/"))
            keys = read_columns(output / keep_list, ["key"])["key"].to_pylist()
            keep_digest = digest_of(*(str(key) for key in keys))
        fingerprint = plan.pack_fingerprint(fingerprints[part.number], keep_digest)
        packed = ledger.get(part.number, "pack")
        if packed is None or packed.fingerprint != fingerprint:
            due.append(PackDue(part.number, fingerprint, decode=_sound_is_gone(plan, part, output)))
    return due


def _sound_is_gone(plan: Plan, part: Part, output: Path) -> bool:
    pack = plan.config.stage("pack")
    if pack is None or pack.options.get("audio") != "flac":
        return False
    folder = PartFolder(output, part.number)
    return any(not row["verdict"] and not Evidence(folder.evidence(row["id"])).has_sound for row in folder.sources())


def duplicates_of(folder: PartFolder) -> dict[str, str]:
    """Id of each duplicate source of a part → id of the source it repeats."""
    path = folder.path / DUPLICATES
    found: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return found
