"""Chooses the threshold of a trained network on held back footage, before it is scored on anything annotated.

Half of the evidence is continuous footage, where a teacher's shots are the truth; half is edited here, with shots as
long as real ones. Nothing of either was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidcap.autoshot import boundaries
from vidcap.autoshot.evaluation import Counts, Interval, compared
from vidcap.autoshot.footage import Footage
from vidcap.autoshot.synthesis.clips import EDGE, ClipMaker, Mixture

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

THRESHOLDS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))
TEACHER_THRESHOLD = 0.5
EDITED = Mixture(continuous=0.0, quiet=0.1, procedural=0.05, shot_frames=(80, 160, 320))
EDITED_FRAMES = 400


@dataclass(frozen=True, slots=True)
class Film:
    """A validation video: its frames, where the transitions are, and the frames that count, first and last."""

    frames: UInt8
    truth: list[Interval]
    span: tuple[int, int]


def films(footage: Footage, edited: int, seed: int = 77) -> Iterator[Film]:
    """Continuous pieces as the teacher sees them, then `edited` videos made from the single shots."""
    for piece in footage.continuous:
        truth = boundaries.gaps_of(piece.teacher[:, 0], piece.teacher[:, 1], TEACHER_THRESHOLD)
        yield Film(piece.frames, truth, (0, len(piece.frames) - 1))
    maker = ClipMaker(footage, EDITED_FRAMES, EDITED)
    for number in range(edited):
        example = maker.example(np.random.default_rng((seed, number)))
        truth = boundaries.gaps_of(example.many_hot, example.many_hot, 0.5)
        yield Film(example.frames, truth, (EDGE, EDITED_FRAMES - EDGE - 1))


def curve(
    probabilities_of: Callable[[UInt8], Float32],
    gaps_of: Callable[[Float32, float], list[Interval]],
    films: Sequence[Film],
) -> dict[float, Counts]:
    """Threshold → how the transitions found above it agree with the truth.

    `probabilities_of`: 2×N of a film's frames; `gaps_of`: the transitions in them above a threshold.
    """
    totals = dict.fromkeys(THRESHOLDS, Counts())
    for film in films:
        both = probabilities_of(film.frames)
        for threshold in THRESHOLDS:
            found = gaps_of(both, threshold)
            totals[threshold] += compared(_within(film.span, film.truth), _within(film.span, found))
    return totals


def best_threshold(curves: Sequence[dict[float, Counts]]) -> float:
    """The middle of the thresholds whose F1, over all curves together, is within a hundredth of the best."""
    totals = {threshold: sum((c[threshold] for c in curves), Counts()).f1 for threshold in curves[0]}
    good = [threshold for threshold, f1 in totals.items() if f1 >= max(totals.values()) - 0.01]
    return good[len(good) // 2]


def _within(span: tuple[int, int], gaps: Sequence[Interval]) -> list[Interval]:
    return [(start, end) for start, end in gaps if start >= span[0] and end <= span[1]]
