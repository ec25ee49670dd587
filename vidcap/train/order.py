"""Which samples make up which step: a function of (seed, epoch, step, process) alone, so that any step can be named.

An epoch holds every media type's samples once (or as often as `weight` says), shuffled by shard and, within windows of
neighbouring shards, by sample. Each step takes samples of one media type; the order of types is drawn, every type as
often as its samples fill steps, and the same in every process. What does not fill a step is left for another epoch's
shuffle. Each process takes its own share of a step, so that 2 processes of 8 see what 1 process of 16 sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vidcap.errors import ConfigError
from vidcap.seeds import seed_of
from vidcap.train.batch import MEDIA_TYPES, MediaType


class Ref(NamedTuple):
    """One sample in one epoch: source, unit (shard) and item of it, and the how-manieth time it comes."""

    source: int
    unit: int
    item: int
    turn: int


class Position(NamedTuple):
    """The next step: how many of its epoch came before it."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """A batch to make: micro-batch `micro` of a step, this process's share."""

    position: Position
    micro: int
    media_type: MediaType
    refs: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """What a plan needs to know of a source. `weight`: how often each sample comes in an epoch, on average."""

    media_type: MediaType
    counts: tuple[int, ...]
    weight: float = 1.0

    @property
    def samples(self) -> int:
        return sum(self.counts)

    @property
    def per_epoch(self) -> int:
        return round(self.samples * self.weight)


def rng(seed: int, *what: object) -> np.random.Generator:
    return np.random.default_rng(seed_of(seed, " ".join(map(str, what)), "train"))


class SourceOrder:
    """The samples of a source, each once, in the order drawn for one turn of one epoch."""

    def __init__(self, source: int, counts: Sequence[int], draw: tuple[int, ...], turn: int, window: int) -> None:
        """`draw`: what the order depends on, seed first; `window`: shards among which samples are mixed."""
        self.source, self.turn, self._draw = source, turn, draw
        self._units = rng(*draw, "units").permutation(len(counts))
        sizes = np.asarray(counts, np.int64)[self._units]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._edges = np.append(np.arange(0, len(counts), window), len(counts))
        self._windows = lru_cache(maxsize=2)(self._mixed)

    def __getitem__(self, place: int) -> Ref:
        window = int(np.searchsorted(self._starts[self._edges], place, side="right")) - 1
        low = int(self._starts[self._edges[window]])
        at = low + int(self._windows(window)[place - low])
        position = int(np.searchsorted(self._starts, at, side="right")) - 1
        return Ref(self.source, int(self._units[position]), at - int(self._starts[position]), self.turn)

    def _mixed(self, window: int) -> npt.NDArray[np.int64]:
        size = self._starts[self._edges[window + 1]] - self._starts[self._edges[window]]
        return rng(*self._draw, "window", window).permutation(int(size))


class TypeOrder:
    """The samples of all sources of one media type in one epoch."""

    def __init__(self, measures: Sequence[tuple[int, Measure]], seed: int, epoch: int, window: int) -> None:
        self._measures, self._seed, self._epoch, self._window = measures, seed, epoch, window
        self._orders = lru_cache(maxsize=2 * len(measures))(self._order)
        numbers = [measure.per_epoch for _, measure in measures]
        self.samples = sum(numbers)
        self._which: npt.NDArray[np.int32] | None = None
        if len(measures) > 1:
            media_type = measures[0][1].media_type
            which = np.repeat(np.arange(len(numbers), dtype=np.int32), numbers)
            self._which = rng(seed, epoch, "sources", media_type).permutation(which)
            self._count = np.empty(len(which), np.int64)
            for number in range(len(numbers)):
                self._count[self._which == number] = np.arange(numbers[number])

    def __getitem__(self, place: int) -> Ref:
        which, count = (0, place) if self._which is None else (int(self._which[place]), int(self._count[place]))
        turn, place = divmod(count, self._measures[which][1].samples)
        return self._orders(which, turn)[place]

    def _order(self, which: int, turn: int) -> SourceOrder:
        source, measure = self._measures[which]
        return SourceOrder(source, measure.counts, (self._seed, self._epoch, source, turn), turn, self._window)


class Plan:
    """All steps of a run; `share` of one process. Raises `ConfigError` where a media type fills no step."""

    def __init__(
        self,
        measures: Sequence[Measure],
        *,
        seed: int,
        batch: int,
        accumulation: int = 1,
        rank: int = 0,
        world: int = 1,
        window: int = 16,
    ) -> None:
        self.seed, self.batch, self.accumulation, self.rank, self.world = seed, batch, accumulation, rank, world
        self._window = window
        self._types: dict[MediaType, list[tuple[int, Measure]]] = {}
        for media_type in MEDIA_TYPES:
            found = [(number, measure) for number, measure in enumerate(measures) if measure.media_type == media_type]
            if found:
                self._types[media_type] = found
        self.samples_per_step = batch * accumulation * world
        self.steps = {
            media_type: sum(measure.per_epoch for _, measure in found) // self.samples_per_step
            for media_type, found in self._types.items()
        }
        for media_type, steps in self.steps.items():
            if not steps:
                there = sum(measure.per_epoch for _, measure in self._types[media_type])
                raise ConfigError(
                    f"{there} samples of media type `{media_type}` do not fill a step of {self.samples_per_step}",
                    hint="lower `batch` or `accumulation`, use fewer processes, or add samples",
                )
        self.steps_per_epoch = sum(self.steps.values())

    def types(self, epoch: int) -> list[MediaType]:
        """The media type of each step of an epoch."""
        names = list(self.steps)
        order = np.repeat(np.arange(len(names)), [self.steps[name] for name in names])
        return [names[number] for number in rng(self.seed, epoch, "types").permutation(order)]

    def after(self, position: Position) -> Position:
        epoch, step = position
        return Position(epoch, step + 1) if step + 1 < self.steps_per_epoch else Position(epoch + 1, 0)

    def work(self, position: Position) -> Iterator[Work]:
        """This process's batches from `position` on, without end."""
        while True:
            epoch = position.epoch
            types = self.types(epoch)
            orders = {
                media_type: TypeOrder(found, self.seed, epoch, self._window)
                for media_type, found in self._types.items()
            }
            before = dict.fromkeys(self.steps, 0)
            for media_type in types[: position.step]:
                before[media_type] += 1
            for step in range(position.step, len(types)):
                media_type = types[step]
                start = before[media_type] * self.samples_per_step + self.rank * self.batch
                before[media_type] += 1
                for micro in range(self.accumulation):
                    first = start + micro * self.batch * self.world
                    refs = tuple(orders[media_type][place] for place in range(first, first + self.batch))
                    yield Work(Position(epoch, step), micro, media_type, refs)
            position = Position(epoch + 1, 0)
