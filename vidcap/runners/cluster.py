"""Runs steps on Dask: a local cluster whose nannies restart crashed workers, or a cluster that runs already."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import time
from collections import Counter, defaultdict
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, Status, WorkerPlugin, get_worker
from distributed.scheduler import KilledWorker

from vidcap.errors import TransientError, UsageError
from vidcap.pipeline.config import RunnerConfig
from vidcap.pipeline.part import Outcome, Task, run_step
from vidcap.runners import steady_clock
from vidcap.runners.base import Result, Work, WorkerLostError
from vidcap.runners.pace import Pace

CPU = "cpu"
"""The pool that every worker offers unless it names pools of its own."""

TOPIC = "vidcap-outcomes"
"""Of Dask's events. Tokens say whose they are: several runs may share a scheduler."""

SETTINGS = {
    # A lost worker is the driver's business at once: it names the item to blame before anybody touches it again.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.comm.timeouts.connect": "30s",
    "distributed.admin.tick.limit": "60s",
    # Heartbeats are compared by the wall clock: when that steps, all workers would count as dead. Nannies watch them.
    "distributed.scheduler.worker-ttl": None,
    # A nanny whose worker is away when that time is over is closed for good, also one that is just starting the worker
    # again: on a slow machine, or after a second death just then, its pool would be empty and the run wait for ever.
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # Nobody looks at these, and on tasks of milliseconds they cost as much as the tasks.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.scheduler.active-memory-manager.start": False,
    # One thread per library, as Dask has it; without its MALLOC_TRIM_THRESHOLD_, which fetches the memory of every
    # picture anew: a third of the time of the stages that look at pictures.
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1},
}


_GONE = (Status.closing, Status.closed, Status.failed)
"""Of a nanny: it starts no worker any more."""


class IgnoreInterrupt(WorkerPlugin):  # type: ignore[misc]  # distributed carries no types
    """Ctrl-C reaches the whole process group; workers finish their item, the driver decides."""

    name = "vidcap-ignore-interrupt"

    def setup(self, worker: Any) -> None:
        del worker
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class _Running:
    task: Task
    pool: str
    future: Any


def work_and_tell(work: Work, task: Task) -> Outcome:
    """In a worker. The outcome goes along with the word that the task is done: fetching it would cost a round trip."""
    outcome = work(task)
    news = (task.token, outcome.part, outcome.stages, outcome.clips, outcome.seconds)
    get_worker().log_event(TOPIC, news)
    return outcome


class DaskRunner:
    promises = ""

    def __init__(self, config: RunnerConfig, *, work: Work = run_step) -> None:
        """`work` is what workers do with a task."""
        self._work = work
        self._cluster: Any = None  # where it is our own
        steady_clock.install()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(dask.config.set(SETTINGS))
        for name in ("distributed", "distributed.client"):  # what matters of it we say in sentences of our own
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self._client = self._connect(config)
            if config.scheduler is None:  # other people's workers keep their own manners
                self._client.register_plugin(IgnoreInterrupt())
            self._address = str(self._client.scheduler_info()["address"])
            self._offers = self._pools()
        except BaseException:
            self._stack.close()
            raise
        self._pace = Pace()
        self._outbox: defaultdict[str, list[Task]] = defaultdict(list)
        self._running: dict[str, _Running] = {}
        self._news: queue.SimpleQueue[tuple[str, Outcome]] = queue.SimpleQueue()
        self._client.subscribe_topic(TOPIC, self._hear)

    def _hear(self, event: tuple[float, tuple[str, int, tuple[str, ...], dict[str, int], dict[str, float]]]) -> None:
        _, (token, part, stages, clips, seconds) = event
        self._news.put((token, Outcome(part, tuple(stages), clips, seconds)))

    def _connect(self, config: RunnerConfig) -> Any:
        if config.scheduler is not None:
            try:
                client = self._stack.enter_context(Client(config.scheduler, timeout="20s"))
                with contextlib.suppress(TimeoutError):  # none at all: the check of the pools says it in a sentence
                    client.wait_for_workers(1, timeout="20s")
                return client
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"no Dask scheduler answers at `{config.scheduler}`", hint="start one with `dask scheduler`"
                ) from error
        pools = {CPU: config.workers, **config.pools}
        limit = "auto" if config.memory_limit == "auto" else config.memory_limit
        workers = {
            f"{pool}-{index}": {
                "cls": Nanny,
                "options": {
                    "nthreads": 1,
                    "resources": {pool: 1},
                    "memory_limit": limit,
                    "dashboard_address": None,
                    "silence_logs": logging.CRITICAL,
                    "preload": [steady_clock.__name__],
                },
            }
            for pool, count in pools.items()
            for index in range(count)
        }
        address = "127.0.0.1:0"  # without an address it would take a well-known port, also for the pages it always has
        scheduler = {
            "cls": Scheduler,
            "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": address, "dashboard": config.dashboard},
        }
        try:
            self._cluster = self._stack.enter_context(SpecCluster(workers=workers, scheduler=scheduler))
            client = self._stack.enter_context(Client(self._cluster))
            client.wait_for_workers(len(workers), timeout="120s")
        except (OSError, RuntimeError) as error:  # a time-out is an OSError; a nanny that cannot start a RuntimeError
            hint = "run the same command again, with fewer --workers if memory is short"
            raise UsageError(f"the workers did not start: {str(error).splitlines()[0]}", hint=hint) from error
        return client

    def _pools(self) -> dict[str, int]:
        """Pool → how many steps it can work on at a time. A worker without resources offers `cpu`."""
        named = [w.get("resources") for w in self._client.scheduler_info(n_workers=-1)["workers"].values()]
        self._plain = not any(named)
        return dict(Counter(pool for resources in named for pool in resources or (CPU,)))

    def window(self, pool: str) -> int:
        if pool not in self._offers:
            here = ", ".join(sorted(self._offers)) or "none"
            raise UsageError(
                f"no worker offers the pool `{pool}`",
                hint=f"pools here: {here}; set `runner.pools`, or start workers with --resources {pool}=1",
            )
        return self._pace.window(pool, self._offers[pool])

    def submit(self, task: Task, pool: str) -> None:
        self._outbox[pool].append(task)  # `wait` hands over all there are at once: a graph costs more than a task

    def _hand_over(self) -> None:
        for pool, tasks in self._outbox.items():
            futures = self._client.map(
                work_and_tell,
                [self._work] * len(tasks),
                tasks,
                key=[f"vidcap-{task.token}" for task in tasks],
                pure=False,
                retries=0,
                resources=None if pool == CPU and self._plain else {pool: 1},
            )
            for task, future in zip(tasks, futures, strict=True):
                self._running[task.token] = _Running(task, pool, future)
        self._outbox.clear()

    def wait(self, seconds: float) -> list[Result]:
        self._check_connection()
        self._hand_over()
        results: list[Result] = []
        with contextlib.suppress(queue.Empty):
            results += self._told(self._news.get(timeout=seconds))
        ended: list[str] = []
        if not results or self._pace.looks():
            self._check_workers()
            # Everything but success is found by looking; what ended well has been told before its future says so.
            ended = [token for token, running in self._running.items() if running.future.status != "pending"]
        results += self._drained()
        return results + [self._result(self._running.pop(token)) for token in ended if token in self._running]

    def _drained(self) -> list[Result]:
        results: list[Result] = []
        with contextlib.suppress(queue.Empty):
            while True:
                results += self._told(self._news.get_nowait())
        return results

    def _told(self, news: tuple[str, Outcome]) -> list[Result]:
        """The result that a worker has told of; none where the task is not ours, or was looked up already."""
        token, outcome = news
        running = self._running.pop(token, None)
        if running is None:
            return []
        self._pace.ended(running.pool)
        return [(running.task, outcome)]

    def _check_connection(self) -> None:
        """Wait while the client looks for a scheduler that is gone. Raises `UsageError` where it gives up."""
        while self._client.status == "connecting":  # for `distributed.comm.timeouts.connect`
            time.sleep(0.1)
        if self._client.status != "running":
            raise UsageError(
                f"the Dask scheduler at `{self._address}` is gone",
                hint="start it and its workers again, then run the same command to continue",
            )

    def _check_workers(self) -> None:
        """Raises `UsageError` where the last worker of a pool died and could not be started again: nobody would ever
        take its tasks."""
        if self._cluster is None:
            return
        nannies = list(self._cluster.workers.items())
        left = {name.rpartition("-")[0] for name, nanny in nannies if nanny.status not in _GONE}
        for pool in sorted({running.pool for running in self._running.values()} - left):
            raise UsageError(
                f"the workers of the pool `{pool}` died and could not be started again",
                hint="run the same command again to continue, with fewer --workers if memory is short",
            )

    def _result(self, running: _Running) -> Result:
        """What became of a task whose worker has told nothing."""
        task, future = running.task, running.future
        if future.status == "finished":
            with contextlib.suppress(OSError, CancelledError):  # the connection may break before the result is here
                return task, future.result()
        self._check_connection()
        if future.status != "error":  # cancelled, as all are when the connection breaks: nobody died of it
            return task, TransientError("the connection to the Dask scheduler was lost", hint="none needed")
        error = future.exception()
        if isinstance(error, KilledWorker):
            return task, WorkerLostError(f"the worker of part {task.part.number} is gone")
        return task, error

    def close(self) -> None:
        self._stack.close()
