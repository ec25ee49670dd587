"""How many tasks to hand over ahead of the workers: the next one for long tasks, some for tasks of milliseconds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

AHEAD_SECONDS = 0.2
"""Work of so much time lies ready: more than a handing over takes, less than anybody would mind to see lost."""
LEAST, MOST = 2, 32
"""Tasks per worker, in work and ahead."""
MEASURED_SECONDS = 1.0
LOOK_SECONDS = 0.2


class Pace:
    """Counts what ends; no result depends on it, only how much is under way at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = self._looked = clock()
        self._ended: Counter[str] = Counter()
        self._ahead: dict[str, int] = {}

    def ended(self, pool: str) -> None:
        self._ended[pool] += 1

    def window(self, pool: str, workers: int) -> int:
        """How many tasks of the pool may be under way.

        One in work and one waiting per worker, so that none idles and a lost one takes little along; more where they
        end faster than they can be handed over one by one.
        """
        self._measure()
        return min(max(LEAST * workers, self._ahead.get(pool, 0)), MOST * workers)

    def looks(self) -> bool:
        """Whether it is time to look at all that is under way."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return True

    def _measure(self) -> None:
        passed = self._clock() - self._since
        if passed < MEASURED_SECONDS:
            return
        self._ahead = {pool: round(count / passed * AHEAD_SECONDS) for pool, count in self._ended.items()}
        self._ended.clear()
        self._since += passed
