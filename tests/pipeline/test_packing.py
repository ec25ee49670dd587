"""Packing a part whose sources went or changed since they were decoded: each clip is quarantined, the part ends."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vidcap.pipeline.config import load_config
from vidcap.pipeline.packing import pack_part
from vidcap.pipeline.part import Outcome, Task
from vidcap.pipeline.plan import Part, Plan, load_parts


def packed(run: Path, repository: Path, part: Part) -> Outcome:
    config = load_config(repository / "pipelines" / "demo.yaml")
    plan = Plan(config)
    return pack_part(
        Task(
            output=str(run),
            config=config.model_dump_json(),
            prompt_folders=(),
            part=part,
            stages=("pack",),
            fingerprints={**plan.fingerprints(part), "pack": "x"},
            token="t",
        )
    )


def chosen_part(run: Path) -> Part:
    """The part with the most kept clips."""
    counts = {p.stem: pq.read_metadata(p).num_rows for p in (run / "_vidcap" / "selections").glob("*/[0-9]*.parquet")}
    number = int(max(counts, key=lambda stem: (counts[stem], stem)))
    return load_parts(run)[number]


@pytest.mark.parametrize("reason", ["source.missing", "source.changed"])
def test_what_cannot_be_cut_is_quarantined(reference: Path, repository: Path, tmp_path: Path, reason: str) -> None:
    part = chosen_part(reference)
    before = packed(reference, repository, part)
    assert before.clips["kept"] > 0
    moved = []
    for source in part.sources:
        copy = tmp_path / "moved" / Path(source.path).name
        copy.parent.mkdir(exist_ok=True)
        if reason == "source.changed":
            copy.write_bytes(b"another file")
        moved.append(replace(source, path=str(copy)))
    after = packed(reference, repository, replace(part, sources=tuple(moved)))
    assert after.clips["kept"] == 0
    assert after.clips["quarantined"] == before.clips["quarantined"] + before.clips["kept"]
    table = pq.read_table(reference / "_vidcap" / "parts" / f"{part.number:06d}" / "pack.parquet")
    assert set(table["reason"].to_pylist()) - {""} == {reason}


def test_a_changed_file_of_the_same_size_is_noticed(reference: Path, repository: Path, tmp_path: Path) -> None:
    part = chosen_part(reference)
    moved = []
    for source in part.sources:
        copy = Path(shutil.copyfile(source.path, tmp_path / f"{source.id}.bin"))
        tables = reference / "_vidcap" / "parts" / f"{part.number:06d}" / "evidence" / source.id / "packets.parquet"
        data = bytearray(copy.read_bytes())
        for row in pq.read_table(tables).to_pylist() if tables.exists() else []:
            middle = row["offset"] + row["size"] // 2
            data[middle : row["offset"] + row["size"]] = bytes(row["size"] - row["size"] // 2)
        copy.write_bytes(data)
        moved.append(replace(source, path=str(copy)))
    after = packed(reference, repository, replace(part, sources=tuple(moved)))
    assert after.clips["kept"] == 0
