"""From a captioned sound to what is learned in one step: the stretch that is heard, an instruction, a caption."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from vidcap.backends.audible import SHORTEST, SILENT_PEAK
from vidcap.captioner_training.wavcaps import CaptionedSound, LeftOut
from vidcap.errors import MediaError
from vidcap.media.audio import SAMPLE_RATE
from vidcap.media.sound_file import read_sound
from vidcap.seeds import seed_of

LONGEST_SECONDS = 600.0
"""No more of a file is decoded: FreeSound has recordings of hours, whose captions tell of how they begin."""


@dataclass(frozen=True, slots=True)
class Example:
    """`sound`: 16 kHz mono, at most what the captioner hears at once."""

    name: str
    sound: npt.NDArray[np.float32]
    instruction: str
    caption: str


@dataclass(frozen=True, slots=True)
class ExampleMaker:
    """Chooses by content: the same seed, epoch and sound give the same example, whatever stands beside it."""

    seed: int
    seconds: float
    """What the captioner hears at most; of a longer sound a random stretch of that length."""
    instructions: Sequence[str]

    def make(self, sound: CaptionedSound, epoch: int) -> Example | tuple[str, str]:
        """The example, or why there is none (a reason of `LEFT_OUT`) and the detail."""
        try:
            heard = read_sound(sound.path, max_seconds=LONGEST_SECONDS)
        except MediaError as error:
            return "unreadable_file", f"{error.reason}: {error.detail}"
        if len(heard) < SHORTEST or float(np.abs(heard).max()) <= SILENT_PEAK:
            return "silent", ""
        length = round(self.seconds * SAMPLE_RATE)
        if len(heard) > length:
            start = self._chance(sound, epoch, "stretch", len(heard) - length + 1)
            heard = heard[start : start + length].copy()
        instruction = self.instructions[self._chance(sound, epoch, "instruction", len(self.instructions))]
        caption = sound.captions[self._chance(sound, epoch, "caption", len(sound.captions))]
        return Example(sound.name, heard, instruction, caption)

    def _chance(self, sound: CaptionedSound, epoch: int, what: str, count: int) -> int:
        return seed_of(self.seed, f"{sound.name}\0{epoch}", what) % count


def shuffled(sounds: Sequence[CaptionedSound], seed: int, epoch: int) -> list[CaptionedSound]:
    """In an order that depends on the seed and what there is, not on the order it was read in."""
    return sorted(sounds, key=lambda sound: (seed_of(seed, sound.name, f"order {epoch}"), sound.name))


def batches(
    maker: ExampleMaker,
    sounds: Sequence[CaptionedSound],
    epoch: int,
    size: int,
    workers: int,
    left_out: LeftOut,
) -> Iterator[list[Example]]:
    """The examples of one epoch, `size` at a time, the last batch as large as what is left.

    Files are decoded by `workers` threads ahead of their use; what gives no example goes to `left_out` and its place to
    the next.
    """
    batch: list[Example] = []
    with ThreadPoolExecutor(workers) as pool:
        waiting = iter(shuffled(sounds, maker.seed, epoch))
        coming: deque[tuple[CaptionedSound, Future[Example | tuple[str, str]]]] = deque()

        def ask(count: int) -> None:
            coming.extend((sound, pool.submit(maker.make, sound, epoch)) for sound in islice(waiting, count))

        ask(size + 2 * workers)
        while coming:
            sound, future = coming.popleft()
            made = future.result()
            ask(1)
            if isinstance(made, Example):
                batch.append(made)
            elif epoch == 0:  # once: it is the same file in every epoch
                left_out.add(sound.name, *made)
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch
