"""Drives a run from plan to shards: parts through their steps, then selection over all, then packing."""

from __future__ import annotations

import itertools
import signal
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidcap.errors import InterruptedRunError, InvariantError, StoreError, TransientError, UsageError
from vidcap.pipeline.faults import OutOfMemoryError
from vidcap.pipeline.packing import finish_shards
from vidcap.pipeline.part import Outcome, Task, stop_file
from vidcap.pipeline.plan import Part, Plan, Step
from vidcap.pipeline.run_lock import RunLock
from vidcap.pipeline.schedule import due_of
from vidcap.pipeline.selection import PackDue, run_selection
from vidcap.runners.base import Runner, WorkerLostError
from vidcap.runners.failures import Failures
from vidcap.runners.waiting import Waiting
from vidcap.store import sweep, writing

POISON_ALLOWED = 10
"""Items of one part that may kill their workers before the part is given up."""
GRACE_SECONDS = 120.0
"""How long a stopping run waits for the sources its workers have in hand."""


@dataclass(slots=True)
class Summary:
    """What a run did."""

    stages_run: Counter[str] = field(default_factory=Counter)
    """Stage → parts in which it was executed."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Stage → seconds of work, over all workers."""
    failed: dict[int, str] = field(default_factory=dict)
    """Parts given up, with the last error."""


_RETRIED = (WorkerLostError, TransientError, InterruptedRunError, OSError, MemoryError)
"""An `InterruptedRunError` that nobody here has asked for: the lock was away for a moment."""

Listener = Callable[[str, dict[str, Any]], None]
"""Told what happens: `phase`, `todo`, `begin` (a step of a part), `part` (done with it), `retry`, `failed`, `tick`."""


class Drive:
    def __init__(
        self,
        plan: Plan,
        parts: Sequence[Part],
        output: Path,
        runner: Runner,
        *,
        listener: Listener = lambda event, facts: None,
        retry_failed: bool = False,
        lock: RunLock | None = None,
    ) -> None:
        self.plan = plan
        self.parts = {part.number: part for part in parts}
        self.output = output
        self.runner = runner
        self.lock = lock
        self.listen = listener
        self.summary = Summary()
        self.failures = Failures(output)
        if retry_failed:
            self.failures.clear()
        self._config = plan.config.model_dump_json()
        self._run = lock.run if lock is not None else uuid.uuid4().hex[:12]
        self._tokens = itertools.count()
        self._fingerprints: dict[int, dict[str, str]] = {}
        """Of the parts in work: each of their steps asks for them."""
        self._stopping = threading.Event()
        self._deadline = 0.0
        self.signal_number = 0
        """The signal that asked to stop, 0 for none."""

    def run(self) -> Summary:
        """Raises `InterruptedRunError` when asked to stop; what is done is committed."""
        stop_file(self.output).unlink(missing_ok=True)
        self._check_pools()
        with writing(self.output), self._signals():
            for folder in ("", "ledger", "failed"):
                sweep(self.output / "_vidcap" / folder)
            self.listen("phase", {"phase": "parts"})
            self._through(due_of(self.plan, self.parts.values(), self.output))
            self._select_and_pack()
        return self.summary

    def _check_pools(self) -> None:
        """A pool that no worker offers would wait for ever: refuse before anything runs."""
        steps = [*self.plan.steps, *([self.plan.pack_step] if self.plan.pack_step else [])]
        for pool in {step.pool for step in steps}:
            self.runner.window(pool)

    def _check_lock(self) -> None:
        if self.lock is not None:
            self.lock.check()

    def _select_and_pack(self) -> None:
        self._check_lock()
        if "select" not in self.plan.order and "pack" not in self.plan.order:
            return
        self.summary.failed.update({n: e for n, e in self.failures.parts().items() if n in self.parts})
        self.listen("phase", {"phase": "select"})
        selection = run_selection(self.plan, list(self.parts.values()), self.output, failed=set(self.summary.failed))
        if selection is None:
            return  # refused: parts have failed and the options do not allow to go on
        self.summary.stages_run["select"] += selection.executed
        step = self.plan.pack_step
        if step is None:
            return
        self.listen("phase", {"phase": "pack", "parts": len(selection.due)})
        again = Step(("decode",), next(s.pool for s in self.plan.config.stages if s.stage == "decode"))
        whole, alone = (again, step), (step,)
        self._through(
            {due.part: whole if due.decode else alone for due in selection.due},
            {due.part: due for due in selection.due},
        )
        self._check_lock()
        finish_shards(self.plan, self.output)

    def _through(self, steps: Mapping[int, Sequence[Step]], packing: dict[int, PackDue] | None = None) -> None:
        """Take every part through its steps; a bounded window per pool, parts that have begun first."""
        given_up = self.failures.parts()
        waiting = Waiting({number: queue for number, queue in steps.items() if number not in given_up})
        self.listen("todo", {"numbers": waiting.numbers()})
        in_work: Counter[str] = Counter()
        pools: dict[str, str] = {}

        def hand_over(task: Task, pool: str) -> None:
            in_work[pool] += 1
            pools[task.token] = pool
            self.runner.submit(task, pool)

        def has_room(pool: str) -> bool:
            return in_work[pool] < self.runner.window(pool)

        while waiting or pools:
            while not self._stopping.is_set():
                taken = waiting.take(has_room)
                if taken is None:
                    break
                hand_over(self._task(*taken, packing), taken[1].pool)
                self.listen("begin", {"part": taken[0]})
                if self.runner.promises:
                    break  # inline: this process works on it in `wait`
            if not pools:
                break
            self._check_lock()
            for task, result in self.runner.wait(0.5):
                number, pool = task.part.number, pools.pop(task.token)
                in_work[pool] -= 1
                again = self._ended(task, result)
                if again is not None:
                    hand_over(again, pool)
                elif not isinstance(result, Outcome):
                    waiting.drop(number)
                    self._fingerprints.pop(number, None)
                elif waiting.done(number):
                    self._fingerprints.pop(number, None)
            self.listen("tick", {})
            if self._stopping.is_set() and time.monotonic() > self._deadline:
                break
        self._fingerprints.clear()
        if self._stopping.is_set():
            raise InterruptedRunError("stopped", hint="run the same command again to continue")

    def _task(self, number: int, step: Step, packing: dict[int, PackDue] | None) -> Task:
        part = self.parts[number]
        due = packing[number] if packing is not None else None
        if number not in self._fingerprints:
            self._fingerprints[number] = self.plan.fingerprints(part)
        fingerprints = dict(self._fingerprints[number])
        if due is not None and "pack" in step.stages:
            fingerprints["pack"] = due.fingerprint
        return Task(
            output=str(self.output),
            config=self._config,
            prompt_folders=tuple(str(folder) for folder in self.plan.prompt_folders),
            part=part,
            stages=step.stages,
            fingerprints=fingerprints,
            token=self._token(),
            item_timeout=None if self.runner.promises else self.plan.config.runner.item_timeout,
            run=self._run if self.lock is not None else "",
        )

    def _token(self) -> str:
        return f"{self._run}-{next(self._tokens)}"

    def _ended(self, task: Task, result: Outcome | BaseException) -> Task | None:
        """Book an outcome; returns the task to submit again, if any."""
        number = task.part.number
        if isinstance(result, Outcome):
            for stage in result.stages:
                self.summary.stages_run[stage] += 1
                self.summary.seconds[stage] += result.seconds.get(stage, 0.0)
            self.listen("part", {"part": number, "stages": result.stages, "clips": result.clips})
            return None
        if isinstance(result, UsageError | InvariantError):
            raise result
        if self._stopping.is_set():
            return None
        lost = isinstance(result, WorkerLostError | OutOfMemoryError | MemoryError)
        # A lost worker blames an item, and the item is out after two deaths: such a part may need a few tries more.
        limit = self.plan.config.runner.attempts + (2 * min(len(task.part.sources), POISON_ALLOWED) if lost else 0)
        if task.attempt < limit and isinstance(result, _RETRIED):
            self.listen("retry", {"part": number, "attempt": task.attempt, "error": str(result)})
            return replace(task, token=self._token(), attempt=task.attempt + 1, blame=task.token if lost else "")
        if isinstance(result, StoreError):
            raise result  # no part is to blame, and the next ones would fare no better
        message = f"{type(result).__name__}: {result}"
        self.failures.add(number, message)
        self.summary.failed[number] = message
        self.listen("failed", {"part": number, "error": message})
        return None

    @contextmanager
    def _signals(self) -> Any:
        """The first SIGINT or SIGTERM asks for an orderly stop, the second is obeyed at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            del frame
            if self._stopping.is_set():
                raise KeyboardInterrupt
            self.signal_number = number
            self._deadline = time.monotonic() + GRACE_SECONDS
            self._stopping.set()
            with suppress(OSError):  # a full disk: then the workers are ended with the run
                stop_file(self.output).touch()
            self.listen("stopping", {"signal": number})

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            stop_file(self.output).unlink(missing_ok=True)
