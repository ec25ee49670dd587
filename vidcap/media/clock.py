"""Presentation times of decoded frames, made strictly ascending."""

from __future__ import annotations


class FrameClock:
    """Gives each decoded frame, in the order the decoder returns them, its time in ticks of the stream.

    A frame without a pts takes its dts as long as no frame had a pts (AVI, raw streams), else the time before it plus
    one step. A pts that does not ascend is moved one tick behind the one before it; where the clock jumped back by more
    than `restart` ticks (concatenated streams) all that follow are shifted, so that they keep their distances.
    """

    def __init__(self, step: int, restart: int) -> None:
        self.step = max(1, step)
        self.restart = max(1, restart)
        self.repaired = 0
        """Frames whose time is not the pts the decoder gave."""
        self.stuck = 0
        """Frames that had a pts that did not ascend."""
        self.made_up = 0
        """Ticks by which the times before the first pts, made up from 0 on, lie after the container's."""
        self._last: int | None = None
        self._shift = 0
        self._placed = self._anchored = False  # a time from the container was met, and it was a pts

    def time_of(self, pts: int | None, dts: int | None, duration: int | None) -> int:
        given = pts
        due = 0 if self._last is None else self._last + self.step
        if pts is None and dts is not None and not self._anchored:
            pts = dts
        if pts is not None and not self._placed and self._last is not None:
            self.made_up = self._shift = due - pts
        self._placed |= pts is not None
        self._anchored |= given is not None
        time = due if pts is None else pts + self._shift
        if self._last is not None and time <= self._last:
            self.stuck += 1
            if self._last - time > self.restart:
                self._shift += due - time
                time = due
            else:
                time = self._last + 1
        self.repaired += time != given
        self._last = time
        if duration:
            self.step = duration
        return time
