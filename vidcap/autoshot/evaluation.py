"""How well detected shots agree with the truth: the matching that AutoShot and TransNetV2 are scored with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vidcap.records import Shot

Interval = tuple[int, int]
"""A transition: last frame of the shot before, first frame of the shot after."""

TOLERANCE = 2
"""Frames, as in the published evaluations: each interval is widened by tolerance / 2 - 0.5 on both sides."""


@dataclass(frozen=True, slots=True)
class Counts:
    hits: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits + other.hits, self.false + other.false, self.missed + other.missed)

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.false) if self.hits + self.false else 1.0

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else 1.0

    @property
    def f1(self) -> float:
        total = 2 * self.hits + self.false + self.missed
        return 2 * self.hits / total if total else 1.0


def transitions(shots: Sequence[Shot]) -> list[Interval]:
    """The intervals between consecutive shots."""
    return [(before.last, after.first) for before, after in pairwise(shots)]


def compared(truth: Sequence[Interval], found: Sequence[Interval], tolerance: float = TOLERANCE) -> Counts:
    """One-to-one matching from left to right of intervals that overlap once widened; both in order of time."""
    wide = tolerance / 2 - 0.5
    hits = i = j = 0
    while i < len(truth) and j < len(found):
        (start, end), (first, last) = truth[i], found[j]
        if min(end, last) + wide > max(start, first) - wide:
            hits, i, j = hits + 1, i + 1, j + 1
        elif end < last:
            i += 1
        else:
            j += 1
    return Counts(hits, len(found) - hits, len(truth) - hits)
