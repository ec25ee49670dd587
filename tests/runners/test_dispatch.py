"""What driving costs, counted: tasks per part, how often a waiting part is touched, what the scheduler still knows."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stub_work
from command import wait_for
from hypothesis import given
from hypothesis import strategies as st

from vidcap.errors import UsageError
from vidcap.pipeline.config import PipelineConfig, RunnerConfig, load_config
from vidcap.pipeline.part import Outcome, Task
from vidcap.pipeline.plan import Part, Plan, Step
from vidcap.records import Source
from vidcap.runners.base import Result
from vidcap.runners.drive import Drive
from vidcap.runners.pace import AHEAD_SECONDS, LEAST, MOST, Pace
from vidcap.runners.waiting import Waiting

POOLS = ("stages.caption_video.pool=gpu", "stages.caption_audio.pool=gpu")


def parts_of(count: int) -> list[Part]:
    return [Part(n, (Source(f"{n:016x}", n, f"{n}.mp4", f"/nowhere/{n}.mp4", 1),)) for n in range(count)]


@pytest.fixture
def plan(repository: Path) -> Plan:
    """Three steps on two pools; nothing is selected or packed, because nothing is written."""
    config = load_config(repository / "pipelines" / "demo.yaml", POOLS)
    stages = tuple(stage for stage in config.stages if stage.stage not in ("select", "pack"))
    return Plan(config.model_copy(update={"stages": stages}))


class Counting:
    """A runner whose tasks end at once, `at_a_time` of them per wait; it counts what it is asked."""

    promises = ""

    def __init__(self, window: int = 4, at_a_time: int = 3) -> None:
        self._window, self._at_a_time = window, at_a_time
        self.tasks: list[Task] = []
        self.open: list[tuple[Task, str]] = []
        self.asked: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def window(self, pool: str) -> int:
        self.asked["window"] += 1
        return self._window

    def submit(self, task: Task, pool: str) -> None:
        self.tasks.append(task)
        self.open.append((task, pool))
        now = Counter(pool for _, pool in self.open)
        self.most = self.most | now

    def wait(self, seconds: float) -> list[Result]:
        self.asked["wait"] += 1
        ended, self.open = self.open[: self._at_a_time], self.open[self._at_a_time :]
        return [(task, Outcome(task.part.number, task.stages)) for task, _ in ended]

    def close(self) -> None:
        pass


def test_a_part_is_as_many_tasks_as_it_has_steps(plan: Plan, tmp_path: Path) -> None:
    runner = Counting()
    summary = Drive(plan, parts_of(50), tmp_path, runner).run()
    assert len(plan.steps) == 3
    assert Counter(task.part.number for task in runner.tasks) == dict.fromkeys(range(50), 3)
    assert all(count == 50 for count in summary.stages_run.values())
    assert max(runner.most.values()) == 4, "a window is kept"


def test_the_work_per_task_does_not_grow_with_the_parts_that_wait(plan: Plan, tmp_path: Path) -> None:
    """A driver that looked through its queue at every turn would ask for the window once per waiting part."""
    asked = []
    for count in (20, 400):
        runner = Counting()
        Drive(plan, parts_of(count), tmp_path, runner).run()
        asked.append(runner.asked["window"] / len(runner.tasks))
    assert asked[1] < 4
    assert asked[1] <= asked[0] * 1.1


def test_what_all_parts_share_is_made_once(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def counted(cls: type[Any], name: str) -> None:
        real: Callable[..., Any] = getattr(cls, name)

        def call(self: Any, *given: Any, **named: Any) -> Any:
            calls[name] += 1
            return real(self, *given, **named)

        monkeypatch.setattr(cls, name, call)

    counted(PipelineConfig, "model_dump_json")
    counted(Plan, "fingerprints")
    runner = Counting()
    drive = Drive(plan, parts_of(30), tmp_path, runner)
    drive.run()
    assert calls == {"model_dump_json": 1, "fingerprints": 30}
    assert all(task.config is runner.tasks[0].config for task in runner.tasks)
    assert not drive._fingerprints, "nothing is kept of parts that are done"


class OneFails(Counting):
    def wait(self, seconds: float) -> list[Result]:
        return [(t, ValueError("no") if t.part.number == 3 else done) for t, done in super().wait(seconds)]


def test_a_part_that_fails_goes_no_further(plan: Plan, tmp_path: Path) -> None:
    runner = OneFails()
    summary = Drive(plan, parts_of(6), tmp_path, runner).run()
    assert summary.failed == {3: "ValueError: no"}
    assert Counter(task.part.number for task in runner.tasks) == {0: 3, 1: 3, 2: 3, 3: 1, 4: 3, 5: 3}


steps_of_parts = st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=12)


@given(pools=steps_of_parts, room=st.integers(1, 3), order=st.randoms(use_true_random=False))
def test_every_step_is_handed_out_once_in_order_and_within_its_window(
    pools: list[list[str]], room: int, order: Any
) -> None:
    steps = {n: tuple(Step((f"{n}.{at}",), pool) for at, pool in enumerate(each)) for n, each in enumerate(pools)}
    waiting, in_work = Waiting(steps), list[tuple[int, Step]]()
    seen: dict[int, list[Step]] = {n: [] for n in steps}
    assert waiting.numbers() == [n for n, each in steps.items() if each]
    while waiting or in_work:
        while (taken := waiting.take(lambda pool: sum(s.pool == pool for _, s in in_work) < room)) is not None:
            seen[taken[0]].append(taken[1])
            in_work.append(taken)
            assert max(Counter(step.pool for _, step in in_work).values()) <= room
        number, _ = in_work.pop(order.randrange(len(in_work)))
        assert waiting.done(number) == (len(seen[number]) == len(steps[number]))
    assert {n: tuple(each) for n, each in seen.items()} == steps
    assert not waiting._begun


def test_parts_that_have_begun_go_first() -> None:
    waiting = Waiting({0: (Step(("x",), "a"), Step(("y",), "b")), 1: (Step(("x",), "a"),)})
    assert waiting.take(lambda pool: True) == (0, Step(("x",), "a"))
    assert not waiting.done(0)
    assert waiting.take(lambda pool: True) == (0, Step(("y",), "b")), "its evidence is on the disk"
    assert waiting.take(lambda pool: pool != "a") is None


def test_short_tasks_are_handed_over_ahead_and_long_ones_one_by_one() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.window("cpu", 3) == 3 * LEAST
    for ended, window in ((300, 300 * AHEAD_SECONDS), (1, 3 * LEAST), (100_000, 3 * MOST), (0, 3 * LEAST)):
        for _ in range(ended):
            pace.ended("cpu")
        now[0] += 1.0
        assert pace.window("cpu", 3) == window
        assert pace.window("gpu", 1) == LEAST


def driven(plan: Plan, output: Path, runner: Any, count: int) -> Drive:
    drive = Drive(plan, parts_of(count), output, runner)
    try:
        drive.run()
    finally:
        runner.close()
    return drive


@pytest.mark.cluster
def test_the_scheduler_forgets_what_is_done(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every outcome comes with the word that its task is done; nothing is fetched, and nothing of a task stays."""
    from distributed import Client, Future

    from vidcap.runners.cluster import DaskRunner

    graphs: Counter[str] = Counter()
    real = Client._graph_to_futures

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        graphs["sent"] += 1
        return real(self, *given, **named)

    def fetched(self: Any, timeout: Any = None) -> None:
        raise AssertionError("an outcome was fetched")

    monkeypatch.setattr(Client, "_graph_to_futures", counted)
    monkeypatch.setattr(Future, "result", fetched)
    runner = DaskRunner(RunnerConfig(workers=1, pools={"gpu": 1}), work=stub_work.nothing)
    known: dict[str, int] = {}
    close = runner.close

    def look_and_close() -> None:
        scheduler = runner._client.cluster.scheduler

        def look() -> None:
            known.update(prefixes=len(scheduler.task_prefixes), tasks=len(scheduler.tasks))

        def forgotten() -> bool:
            runner._client.sync(_called, look)
            return not known["tasks"]

        try:  # what is done is released by messages that are still under way when the last outcome is told
            wait_for(forgotten)
        finally:
            close()

    monkeypatch.setattr(runner, "close", look_and_close)
    drive = driven(plan, tmp_path, runner, 100)
    assert drive.summary.stages_run["score"] == 100
    assert drive.summary.seconds["score"] == 50.0
    assert graphs["sent"] < 300, "several tasks go in one graph"
    assert known["prefixes"] <= 2, "keys share a prefix, or the scheduler keeps one for each"
    assert known["tasks"] == 0
    assert not runner._running


async def _called(work: Callable[[], None]) -> None:
    work()


@pytest.mark.cluster
def test_outcomes_that_nobody_told_are_fetched_and_errors_are_found(plan: Plan, tmp_path: Path) -> None:
    from vidcap.runners.cluster import TOPIC, DaskRunner

    runner = DaskRunner(RunnerConfig(workers=1, pools={"gpu": 1}), work=stub_work.raises_on_odd)
    runner._client.unsubscribe_topic(TOPIC)
    drive = driven(plan, tmp_path, runner, 6)
    assert drive.summary.failed == {n: f"ValueError: part {n}" for n in (1, 3, 5)}
    assert drive.summary.stages_run["score"] == 3


@pytest.mark.cluster
def test_tasks_that_were_handed_over_ahead_survive_their_worker(plan: Plan, tmp_path: Path) -> None:
    from vidcap.runners.cluster import DaskRunner

    runner = DaskRunner(RunnerConfig(workers=1, pools={"gpu": 1}), work=stub_work.dies_once)
    drive = driven(plan, tmp_path, runner, 8)
    assert not drive.summary.failed
    assert all(count == 8 for count in drive.summary.stages_run.values())


@pytest.mark.cluster
def test_a_worker_that_takes_long_to_come_back_is_waited_for(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask gives up a worker that is away after 15 seconds, which are one here."""
    from distributed.deploy import spec
    from distributed.nanny import WorkerProcess

    from vidcap.runners.cluster import DaskRunner

    start, parsed = WorkerProcess.start, spec.parse_timedelta
    started: Counter[int] = Counter()

    async def slow(self: Any) -> Any:
        started[id(self)] += 1
        if started[id(self)] > 1:
            await asyncio.sleep(2)
        return await start(self)

    monkeypatch.setattr(WorkerProcess, "start", slow)
    monkeypatch.setattr(spec, "parse_timedelta", lambda given: parsed(given) / 15)
    runner = DaskRunner(RunnerConfig(workers=1, pools={"gpu": 1}), work=stub_work.dies_once)
    drive = driven(plan, tmp_path, runner, 4)
    assert max(started.values()) > 1 and not drive.summary.failed
    assert all(count == 4 for count in drive.summary.stages_run.values())


@pytest.mark.cluster
def test_a_pool_that_lost_its_workers_for_good_ends_the_run_with_a_sentence(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed.nanny import WorkerProcess

    from vidcap.runners.cluster import DaskRunner

    runner = DaskRunner(RunnerConfig(workers=1, pools={"gpu": 1}), work=stub_work.dies_once)

    async def fails(self: Any) -> Any:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(WorkerProcess, "start", fails)
    with pytest.raises(UsageError, match="the workers of the pool `cpu` died and could not be started again") as caught:
        driven(plan, tmp_path, runner, 4)
    assert "run the same command again" in caught.value.hint
