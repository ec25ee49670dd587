"""A batch that grows: jobs asked side by side, the next begins as soon as one is done, whichever that is.

Nothing waits for the slowest: what is added while others are asked fills the places that become free. Jobs begin in the
order they were added, so what is wanted first is answered first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from vidcap.errors import ItemError, VidcapError

T = TypeVar("T")


class StoppedError(Exception):
    """The batch ended while a job of it waited."""


class Batch:
    """At most `width` jobs at a time, in threads. A context: leaving it gives up what is not done.

    `begins` is called whenever a job is added to a batch that has nothing to do.
    """

    def __init__(self, width: int, begins: Callable[[], None]) -> None:
        self.stop = threading.Event()
        """Set when the batch has ended; jobs that wait for something raise `StoppedError` then."""
        self._width = width
        self._begins = begins
        self._changed = threading.Condition()
        self._todo: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._open: set[Future[Any]] = set()
        self._threads = 0
        self._idle = 0
        self._error: BaseException | None = None

    def add(self, job: Callable[[], T]) -> Future[T]:
        """What `job` will give, or raise. Any error of VidCap's but an `ItemError` ends the batch: all that is left of
        it raises that error, and so does this."""
        future: Future[T] = Future()
        with self._changed:
            if self._error is not None:
                raise self._error
            if self.stop.is_set():
                raise StoppedError
            if not self._open:
                self._begins()
            self._open.add(future)
            self._todo.append((future, job))
            if self._idle >= len(self._todo):
                self._changed.notify()
            elif self._threads < self._width:
                self._threads += 1
                # A daemon: a worker that is told to stop does not wait for answers that nobody wants any more.
                threading.Thread(target=self._work, name="vidcap-request", daemon=True).start()
        return future

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            future, job = taken
            try:
                found = job()
            except ItemError as error:
                self._settle(future, None, error)
            except StoppedError:
                return
            except VidcapError as error:
                self.end(error)
                return
            except BaseException as error:  # of this job alone; the caller meets it where it asks for what the job gave
                self._settle(future, None, error)
            else:
                self._settle(future, found, None)

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            self._idle += 1
            while not self._todo and not self.stop.is_set():
                self._changed.wait()
            self._idle -= 1
            return None if self.stop.is_set() else self._todo.popleft()

    def _settle(self, future: Future[Any], found: Any, error: BaseException | None) -> None:
        with self._changed:
            if future not in self._open:
                return  # the batch has ended meanwhile
            self._open.discard(future)
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more begins; what is not done raises `error`, or `StoppedError`."""
        with self._changed:
            if self.stop.is_set():
                return
            self.stop.set()
            self._error = error
            left, self._open = self._open, set()
            self._todo.clear()
            self._changed.notify_all()
        for future in left:
            future.set_exception(error or StoppedError())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()
