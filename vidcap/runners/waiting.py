"""The parts that wait for a step, one line per pool: what may start is found without looking at what may not."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from vidcap.pipeline.plan import Step


class Waiting:
    """Parts in order of their numbers, each with its steps; parts that have begun go first, the latest before others.

    So the disk holds the evidence of few parts at a time. What is kept of a part that nobody has begun is its number;
    `steps` may give many parts the same sequence.
    """

    def __init__(self, steps: Mapping[int, Sequence[Step]]) -> None:
        self._steps = steps
        self._begun: dict[int, int] = {}
        """Part → how many of its steps have been handed out; only of parts in work."""
        self._fresh: defaultdict[str, deque[int]] = defaultdict(deque)
        self._going_on: defaultdict[str, deque[int]] = defaultdict(deque)
        for number in sorted(steps):
            if steps[number]:
                self._fresh[steps[number][0].pool].append(number)

    def __bool__(self) -> bool:
        return any(self._fresh.values()) or any(self._going_on.values())

    def numbers(self) -> list[int]:
        """Of the parts that have not begun."""
        return sorted(number for line in self._fresh.values() for number in line)

    def take(self, has_room: Callable[[str], bool]) -> tuple[int, Step] | None:
        """The next part and its step in a pool that has room; None where there is none."""
        for lines in (self._going_on, self._fresh):
            for pool, line in lines.items():
                if line and has_room(pool):
                    number = line.popleft()
                    at = self._begun.get(number, 0)
                    self._begun[number] = at + 1
                    return number, self._steps[number][at]
        return None

    def done(self, number: int) -> bool:
        """A step of the part has ended well; whether it was the last."""
        at = self._begun[number]
        if at == len(self._steps[number]):
            del self._begun[number]
            return True
        self._going_on[self._steps[number][at].pool].appendleft(number)
        return False

    def drop(self, number: int) -> None:
        """The part is given up."""
        self._begun.pop(number, None)
