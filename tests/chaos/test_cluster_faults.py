"""Schedulers, workers and second drivers that come and go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_harness import CLUSTER, INLINE, Chaos, in_stage, same
from command import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


class Cluster:
    """A Dask scheduler and its workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self, workers: int = 2, environment: dict[str, str] | None = None) -> None:
        from distributed import Client

        file = self.folder / f"scheduler-{len(self.started)}.json"
        self.scheduler = self._process("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        self.address = json.loads(wait_for(lambda: file.is_file() and file.read_text()))["address"]
        for _ in range(workers):
            self._process("worker", self.address, "--nthreads", "1", environment=environment)
        with Client(self.address, timeout=120) as client:
            client.wait_for_workers(workers, timeout=120)

    def _process(self, *words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--no-dashboard"],
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(120)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.end()


def begun(chaos: Chaos) -> Any:
    return wait_for(lambda: list((chaos.output / "_vidcap" / "parts").glob("*/inflight.json")))


def test_a_killed_scheduler_ends_the_run_with_a_sentence(
    chaos: Chaos, cluster: Cluster, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    chaos.schedule([in_stage("trim", "stall", value=3, times=99)])
    cluster.start(environment=chaos.environment)
    chaos.environment = {}
    process = chaos.start(("--scheduler", cluster.address))
    begun(chaos)
    cluster.scheduler.kill()
    first = chaos.ended(process)
    assert first.code == 2 and "Traceback" not in first.error, first.error
    assert f"`{cluster.address}`" in first.error and "hint: " in first.error
    cluster.end()
    found = chaos.survive(INLINE, before=[first])
    same(found.digests, undisturbed)
    tell("scheduler killed", "transparent", codes=found.codes)


def test_workers_that_outlive_their_driver(
    chaos: Chaos, cluster: Cluster, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    """The next run finds them still in the folder, on the same cluster."""
    chaos.schedule([in_stage("decode", "stall", value=4, times=2), in_stage("fuse", "stall", value=2, times=2)])
    cluster.start(workers=4, environment=chaos.environment)
    chaos.environment = {}
    process = chaos.start(("--scheduler", cluster.address))
    begun(chaos)
    process.kill()
    process.wait()
    found = chaos.survive(("--scheduler", cluster.address))
    assert not found.report["reasons"]
    same(found.digests, undisturbed)
    tell("driver killed, its workers work on", "transparent", codes=found.codes)


def test_a_worker_of_a_cluster_elsewhere_is_killed(
    chaos: Chaos, cluster: Cluster, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    chaos.schedule([in_stage("score", "kill", nth=2)])
    cluster.start(environment=chaos.environment)
    found = chaos.survive(("--scheduler", cluster.address))
    same(found.digests, undisturbed)
    tell("worker of a cluster elsewhere killed", "transparent", codes=found.codes)


def test_two_runs_on_one_output(chaos: Chaos, undisturbed: dict[str, str], tell: Callable[..., None]) -> None:
    go_on = chaos.folder / "go_on"
    chaos.schedule([in_stage("decode", "until", value=str(go_on))])
    one = chaos.start(INLINE)
    wait_for((chaos.output / "_vidcap" / "lock.json").is_file)
    second = chaos.attempt(INLINE)
    assert second.code == 2 and f"process {one.pid} on " in second.error
    go_on.touch()
    first = chaos.ended(one)
    assert first.code == 0, first.error
    found = chaos.look([second, first])
    same(found.digests, undisturbed)
    tell("two runs on one output: the second refuses", "transparent", codes=found.codes)


def test_many_runs_find_the_lock_of_a_dead_one(
    chaos: Chaos, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    go_on = chaos.folder / "go_on"
    chaos.schedule([in_stage("decode", "kill", nth=1), in_stage("decode", "until", value=str(go_on), nth=2, times=4)])
    assert chaos.attempt(INLINE).code == -signal.SIGKILL
    started = [chaos.start(INLINE) for _ in range(4)]
    wait_for(lambda: sum(process.poll() is not None for process in started) >= 3)
    go_on.touch()
    ended = [chaos.ended(process) for process in started]
    assert sorted(attempt.code for attempt in ended) == [0, 2, 2, 2], [attempt.error for attempt in ended]
    found = chaos.look(ended)
    same(found.digests, undisturbed)
    tell("four runs find the lock of a dead one", "transparent", codes=found.codes)


@pytest.mark.parametrize("runner", [INLINE, CLUSTER], ids=["inline", "cluster"])
def test_a_run_whose_lease_is_lost_stops(
    runner: tuple[str, ...], chaos: Chaos, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    """Somebody elsewhere took it for dead, say while the machine was suspended."""
    lock = chaos.output / "_vidcap" / "lock.json"
    other = chaos.folder / "other.json"
    other.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "run": "another"}))
    chaos.schedule([in_stage("trim", "swap", nth=2, value=[str(other), str(lock)])])
    first = chaos.attempt(runner)
    assert first.code == 2 and "another run has taken" in first.error, first.error
    assert "elsewhere" in lock.read_text(), "the lock of the other run stays"
    lock.unlink()
    found = chaos.survive(runner, before=[first])
    same(found.digests, undisturbed)
    tell(f"lease lost ({runner[0]} {runner[1]})", "transparent", codes=found.codes)


def test_a_lock_that_somebody_removed_comes_back(
    chaos: Chaos, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    lock = chaos.output / "_vidcap" / "lock.json"
    chaos.schedule([in_stage("trim", "remove", nth=2, value=str(lock))])
    found = chaos.survive(INLINE)
    assert found.codes == [0]
    same(found.digests, undisturbed)
    tell("lock file removed in the middle of a run", "transparent", codes=found.codes)


def test_a_pool_that_nobody_offers(chaos: Chaos, tell: Callable[..., None]) -> None:
    chaos.settings |= {"stages.fuse.pool": "gpu"}
    found = chaos.attempt(CLUSTER)
    assert found.code == 2 and "no worker offers the pool `gpu`" in found.error and "hint: " in found.error
    assert not list(chaos.output.rglob("sources.parquet")), "it ends before anything runs"
    tell("no worker offers a pool", "refused at once", codes=[found.code])


def test_a_scheduler_that_tries_again_by_itself(
    chaos: Chaos, cluster: Cluster, without_last: dict[str, str], tell: Callable[..., None]
) -> None:
    """Its workers die of the same source, task by task: the deaths count although no driver has told of them."""
    from test_visible_faults import id_of

    chaos.schedule([in_stage("trim", "kill", match=id_of(chaos.corpus), times=99)])
    cluster.start(environment=chaos.environment)
    found = chaos.survive(("--scheduler", cluster.address))
    assert list(found.report["reasons"]) == ["worker_died"]
    same(found.digests, without_last)
    tell("poison on a cluster elsewhere", "visible, `worker_died`", codes=found.codes)
