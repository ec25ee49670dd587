"""A source of hours is not taken for one that hangs: the watchdog begins anew whenever something of it is done."""

from __future__ import annotations

import faulthandler
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidcap.cli.main import main
from vidcap.errors import ItemError
from vidcap.media.decode import PROGRESS_EVERY
from vidcap.pipeline import inflight
from vidcap.pipeline.faults import AT_ONCE, guarded
from vidcap.pipeline.inflight import InFlight
from vidcap.records import StageResult
from vidcap.runners.inline import InlineRunner

MEDIA = Path(__file__).parents[2] / "pipelines" / "demo" / "media"


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time-outs that the watchdog was set with; every look at the clock takes ten seconds."""
    found: list[float] = []
    ticks = itertools.count(0.0, 10.0)
    monkeypatch.setattr(inflight.time, "monotonic", lambda: next(ticks))
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda timeout, **_: found.append(timeout))
    return found


def test_the_watchdog_begins_anew_until_the_item_is_done(tmp_path: Path, armed: list[float]) -> None:
    with InFlight(tmp_path, "t").working_on("a", timeout=60.0) as alive:
        for _ in range(5):
            alive()
    assert armed == [60.0] * 6
    alive()
    assert armed == [60.0] * 6, "nobody waits for what is done"
    with InFlight(tmp_path, "t").working_on("a", timeout=None) as alive:
        alive()
    assert armed == [60.0] * 6


def test_it_is_not_set_more_than_once_a_second(
    tmp_path: Path, armed: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(0.0, 0.125)
    monkeypatch.setattr(inflight.time, "monotonic", lambda: next(ticks))
    with InFlight(tmp_path, "t").working_on("a", timeout=60.0) as alive:
        for _ in range(80):
            alive()
    assert 9 <= len(armed) <= 11


class Halves:
    """A stage that halves numbers, and cannot halve odd ones."""

    name = "halves"
    gives: dict[str, Any] = {"half": pa.int64()}  # noqa: RUF012 - as stages have it

    def __init__(self) -> None:
        self.seen: list[int] = []

    def run(self, rows: Sequence[dict[str, int]], evidence: Callable[[str], Any]) -> StageResult:
        del evidence
        self.seen.append(len(rows))
        if any(row["number"] % 2 for row in rows):
            raise ItemError("stage.error", "odd")
        return StageResult({"half": [row["number"] // 2 for row in rows]})


def test_many_clips_are_given_some_at_a_time_and_each_time_is_told() -> None:
    stage, told = Halves(), []
    numbers = [2 * n for n in range(2 * AT_ONCE + 7)]
    found = guarded(stage, [{"number": n} for n in numbers], lambda _: None, lambda: told.append(len(stage.seen)))
    assert found.columns == {"half": [n // 2 for n in numbers]} and not found.verdicts
    assert stage.seen == [AT_ONCE, AT_ONCE, 7] and {0, 1, 2} <= set(told)


def test_one_bad_clip_among_many_is_found_where_it_stands() -> None:
    stage = Halves()
    bad = AT_ONCE + 3
    numbers = [2 * n + (n == bad) for n in range(3 * AT_ONCE)]
    found = guarded(stage, [{"number": n} for n in numbers], lambda _: None, lambda: None)
    assert list(found.verdicts) == [bad] and found.verdicts[bad].detail == "odd"
    assert [half for at, half in enumerate(found.columns["half"]) if at != bad] == [
        n // 2 for at, n in enumerate(numbers) if at != bad
    ]
    assert stage.seen == [AT_ONCE, AT_ONCE, *[1] * AT_ONCE, AT_ONCE]


def test_decoding_stages_and_clips_are_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda timeout, **_: armed.append(timeout))
    monkeypatch.setattr(InlineRunner, "promises", "")
    (tmp_path / "in").mkdir()
    shutil.copy(MEDIA / "sunrise.mp4", tmp_path / "in")
    folders = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    # So short that it is set at every word.
    settings = ["--runner", "inline", "--quiet", "--set", "runner.item_timeout=0.000001"]
    assert not main(["run", "pipelines/split.yaml", *folders, *settings])
    packed = pq.read_table(next((tmp_path / "out").glob("_vidcap/parts/*/pack.parquet"))).to_pylist()
    clips = sum(bool(row["cut"]) for row in packed)
    frames = 535
    begun, stages, slices = 2, 3, 1
    assert clips > 1 and len(armed) == begun + stages + -(-frames // PROGRESS_EVERY) + slices + clips
