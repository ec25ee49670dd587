"""The stub stages of the dispatch benchmark go through the whole pipeline; what its parts do is counted."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vidcap.pipeline import columns, packing, part, selection
from vidcap.pipeline.config import load_config
from vidcap.pipeline.plan import Part, Plan, save_parts
from vidcap.records import Source
from vidcap.runners.drive import Drive
from vidcap.runners.inline import InlineRunner
from vidcap.shards.validate import validate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def stub_stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for module in (part, packing):
        monkeypatch.setattr(module, "ready_stage", module.ready_stage)  # what the stubs put there goes with the test
    yield importlib.import_module("stub_stages")
    sys.modules.pop("stub_stages")


def test_parts_of_stubs_are_committed_as_real_ones(
    stub_stages: ModuleType, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(load_config(repository / "pipelines" / "demo.yaml", ("evidence.keep=always",)))
    parts = [Part(n, (Source(f"{n:016x}", n, f"{n}.mp4", f"/nowhere/{n}.mp4", 1),)) for n in range(3)]
    save_parts(tmp_path, parts)
    counts: Counter[str] = Counter()

    def counting(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*given: Any, **named: Any) -> Any:
            counts[f"{module.__name__.rpartition('.')[2]}.{name}"] += 1
            return real(*given, **named)

        monkeypatch.setattr(module, name, call)

    counting(columns, "read_columns")
    counting(selection, "read_columns")
    summary = Drive(plan, parts, tmp_path, InlineRunner(work=stub_stages.stub_step)).run()
    assert not summary.failed
    assert set(summary.stages_run.values()) == {3} and set(summary.stages_run) == set(plan.order)
    assert {path.name.partition(".")[2] for path in (tmp_path / "_vidcap" / "ledger").iterdir()} == {
        f"{stage}.json" for stage in plan.order
    }
    report = validate([tmp_path / "shards"])
    assert report.ok, report
    assert report.samples == 3 * stub_stages.SHOTS
    rows = len(plan.order) - 3  # without decode, select and pack
    per_part = {name: count / 3 for name, count in counts.items()}
    # Packing reads each column file once, and the sources; nothing reads again what it has just written. Selection
    # reads the scores once, the sources, and the keep-list.
    assert per_part["columns.read_columns"] == (rows + 1) + 1 + 1
    assert per_part["selection.read_columns"] == rows + 1
