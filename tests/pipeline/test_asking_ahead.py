"""What the first stage of a step is told of the rows to come: what it would see of them, and nothing after a death."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vidcap.pipeline.columns import PartFolder
from vidcap.pipeline.config import load_config
from vidcap.pipeline.journal import Entry
from vidcap.pipeline.part import Task, _StepRun
from vidcap.pipeline.plan import Part, Plan
from vidcap.records import Source, Verdict
from vidcap.stages.base import EvidenceOf


class Asks:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] | None = None

    @contextmanager
    def ahead(self, rows: Sequence[dict[str, Any]], evidence: EvidenceOf) -> Iterator[None]:
        self.told = list(rows)
        self.evidence = evidence
        yield


def source(name: str) -> Source:
    return Source(id=name, row=0, uri=name, path=name, bytes=1)


def row(key: str, stopped_by: str = "") -> dict[str, Any]:
    verdicts = {stopped_by: Verdict("rejected", "trim.too_short")} if stopped_by else {}
    captions = {"caption_v": "A dog.", "caption_a": "", "caption_s": "Go!"}
    return {"key": key, "source_id": key[0], **captions, "similarity_v": 0.5, "verdicts": verdicts}


@pytest.fixture
def step(repository: Path, tmp_path: Path) -> Any:
    made = _StepRun.__new__(_StepRun)
    part = Part(0, (source("a"), source("b"), source("c")))
    made.task = Task(str(tmp_path), "", (), part, ("fuse", "score"), {}, "token")
    made.folder = PartFolder(tmp_path, 0)
    made.plan = Plan(load_config(repository / "pipelines" / "demo.yaml"))
    made.stages = {"fuse": Asks(), "score": object()}
    return made


ROWS = {"a": [row("a1"), row("a2")], "b": [row("b1", "trim"), row("b2"), row("b3", "select")], "c": [row("c1")]}


def test_rows_of_all_sources_that_are_left_and_only_what_the_stage_may_see(step: Any) -> None:
    with step._asking_ahead(ROWS, {"c": Entry("c", None, {})}, {}):
        told = step.stages["fuse"].told
    # b3 was stopped by a stage that fuse does not stand on.
    assert [one["key"] for one in told] == ["a1", "a2", "b2", "b3"]
    assert all("caption_s" in one and "similarity_v" not in one and "verdicts" not in one for one in told)


def test_each_source_has_its_own_evidence(step: Any) -> None:
    with step._asking_ahead(ROWS, {}, {}):
        evidence = step.stages["fuse"].evidence
        assert [evidence(name).folder for name in "aab"] == [step.folder.evidence(name) for name in "aab"]
        assert evidence("b") is evidence("b"), "its tables are read once, not for each clip"


def test_nothing_is_asked_ahead_after_a_death_or_where_the_step_makes_the_rows(step: Any) -> None:
    with step._asking_ahead(None, {}, {}):
        assert step.stages["fuse"].told is None
    with step._asking_ahead(ROWS, {}, {"b": {"died": 1, "hung": 0}}):
        assert step.stages["fuse"].told is None
    step.task = Task(str(step.task.output), "", (), step.task.part, ("fuse",), {}, "token", 2, blame="before")
    with step._asking_ahead(ROWS, {}, {}):
        assert step.stages["fuse"].told is None


def test_a_first_stage_that_asks_nobody_is_told_nothing(step: Any) -> None:
    step.task = Task(str(step.task.output), "", (), step.task.part, ("score", "fuse"), {}, "token")
    with step._asking_ahead(ROWS, {}, {}):
        assert step.stages["fuse"].told is None
