"""Golden digests: what a stage gives for the demo corpus changes only together with the stage's version."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vidcap.pipeline.ledger import Ledger
from vidcap.pipeline.plan import load_parts
from vidcap.stages.registry import STAGES, stage_class

GOLDEN = Path(__file__).with_name("digests.json")


def rounded(value: Any) -> Any:
    """Floats to six significant digits: enough to see a change, and deaf to the last bit of another CPU."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return value


def digest(run: Path, stage: str) -> str:
    """Of the columns a stage gave over all parts. Backend identities name library versions, which may move."""
    state = hashlib.sha256()
    for part in load_parts(run):
        record = Ledger(run).get(part.number, stage)
        assert record is not None
        (table,) = (name for name in record.outputs if name.endswith(f"{part.number:06d}/{_file(stage)}"))
        for row in pq.read_table(run / table, memory_map=False).to_pylist():
            plain = {key: rounded(value) for key, value in row.items() if not key.endswith("_by")}
            state.update(json.dumps(plain, sort_keys=True, default=str).encode())
    return state.hexdigest()[:32]


def _file(stage: str) -> str:
    return "sources.parquet" if stage == "decode" else f"{stage}.parquet"


def test_writing_is_asked_for(made_once: Path) -> None:
    if os.environ.get("VIDCAP_WRITE_GOLDEN"):
        found = {s: {"version": stage_class(s).version, "digest": digest(made_once, s)} for s in STAGES}
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


@pytest.mark.parametrize("stage", STAGES)
def test_output_changes_only_with_the_version(made_once: Path, stage: str) -> None:
    golden = json.loads(GOLDEN.read_text())[stage]
    now = {"version": stage_class(stage).version, "digest": digest(made_once, stage)}
    if now["digest"] != golden["digest"] and now["version"] == golden["version"]:
        pytest.fail(f"`{stage}` gives something else: raise its version, then `make golden`")
    assert now == golden, "the version moved: `make golden`"
