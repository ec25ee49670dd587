"""A batch that grows: how many jobs run, in which order they begin, what ends them all and what ends one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from vidcap.backends.served.batch import Batch, StoppedError
from vidcap.errors import BackendError, ItemError, TransientError

WAIT = 120.0


def batch(width: int = 4, begins: Callable[[], None] = lambda: None) -> Batch:
    return Batch(width, begins)


def test_gives_what_the_jobs_give_and_each_its_own_error() -> None:
    def job(number: int) -> int:
        if number == 3:
            raise ItemError("llm.failed", "no")
        if number == 5:
            raise ValueError("a mistake in this job")
        return number * number

    with batch() as jobs:
        found = [jobs.add(lambda n=n: job(n)) for n in range(40)]
        for number, future in enumerate(found):
            if number == 3:
                assert isinstance(future.exception(WAIT), ItemError)
            elif number == 5:
                assert isinstance(future.exception(WAIT), ValueError)
            else:
                assert future.result(WAIT) == number * number


def test_as_many_at_a_time_as_it_is_wide() -> None:
    lock, together = threading.Lock(), threading.Barrier(3)
    now, most = 0, 0

    def job() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(WAIT)  # three must run at once, or this breaks
        with lock:
            now -= 1

    with batch(3) as jobs:
        for future in [jobs.add(job) for _ in range(30)]:
            future.result(WAIT)
    assert most == 3


def test_a_slow_job_keeps_none_but_itself_waiting() -> None:
    slow = threading.Event()
    with batch(2) as jobs:
        first = jobs.add(lambda: slow.wait(WAIT))
        others = [jobs.add(lambda n=n: n) for n in range(20)]
        assert [other.result(WAIT) for other in others] == list(range(20))
        assert not first.done()
        # What is added later needs no new batch either.
        assert jobs.add(lambda: "later").result(WAIT) == "later"
        slow.set()
        assert first.result(WAIT)


def test_jobs_begin_in_the_order_they_were_added() -> None:
    begun: list[int] = []
    with batch(1) as jobs:
        for future in [jobs.add(lambda n=n: begun.append(n)) for n in range(50)]:
            future.result(WAIT)
    assert begun == list(range(50))


@pytest.mark.parametrize("error", [TransientError("no server"), BackendError("no such model")])
def test_an_error_that_is_no_items_ends_all(error: Exception) -> None:
    ready = threading.Event()

    def fail() -> None:
        ready.wait(WAIT)
        raise error

    with batch(2) as jobs:
        waiting = jobs.add(lambda: jobs.stop.wait(WAIT))
        failing, never = jobs.add(fail), jobs.add(lambda: pytest.fail("it began after the end"))
        ready.set()
        for future in (waiting, failing, never):
            assert future.exception(WAIT) is error
        with pytest.raises(type(error)):
            jobs.add(lambda: None)


def test_leaving_it_gives_up_what_is_not_done() -> None:
    begun = threading.Event()

    def job() -> None:
        begun.set()
        jobs.stop.wait(WAIT)
        raise StoppedError

    with batch(1) as jobs:
        running, waiting = jobs.add(job), jobs.add(lambda: None)
        assert begun.wait(WAIT)
    assert isinstance(running.exception(WAIT), StoppedError)
    assert isinstance(waiting.exception(WAIT), StoppedError)
    with pytest.raises(StoppedError):
        jobs.add(lambda: None)


def test_says_when_it_begins_after_a_pause() -> None:
    begun: list[int] = []
    gate = threading.Event()
    with batch(2, lambda: begun.append(1)) as jobs:
        held: list[Any] = [jobs.add(lambda: gate.wait(WAIT)) for _ in range(5)]
        assert len(begun) == 1
        gate.set()
        assert all(future.result(WAIT) for future in held)
        jobs.add(lambda: None).result(WAIT)
        assert len(begun) == 2
