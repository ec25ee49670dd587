"""Training footage: thumbnails of real videos, whole or in single shots, with a teacher's opinion of each frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidcap.autoshot.boundaries import runs
from vidcap.seeds import seed_of

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

TEACHER_SURE = 0.08
"""Frames whose teacher scores stay below this are inside a shot."""
SHORTEST = 24
"""Single shots of fewer frames are of no use for synthesis."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive frames of one video.

    `frames`: N×27×48×3 uint8; `source`: the video they are of; `teacher`: N×2 float32, the probabilities of another
    detector that a frame is the middle of a transition, and that it is part of one.
    """

    frames: UInt8
    source: str
    teacher: Float32


@dataclass(frozen=True, slots=True)
class Footage:
    """`shots`: pieces without a transition in them; `continuous`: pieces as they were filmed and edited."""

    shots: list[Piece]
    continuous: list[Piece]

    def sources(self) -> list[str]:
        return sorted({piece.source for piece in (*self.shots, *self.continuous)})

    def of(self, sources: Iterable[str]) -> Footage:
        """The part of the footage that comes from `sources`."""
        wanted = set(sources)
        return Footage(
            [piece for piece in self.shots if piece.source in wanted],
            [piece for piece in self.continuous if piece.source in wanted],
        )


def gathered(pieces: Sequence[Piece], continuous: Sequence[Piece]) -> Footage:
    """The footage of pieces said to be single shots and of continuous ones.

    The teacher has the last word: pieces are cut where it sees a transition, and what of the continuous footage it
    finds undisturbed serves as single shots too.
    """
    shots = [shot for piece in (*pieces, *continuous) for shot in undisturbed(piece)]
    return Footage(shots, list(continuous))


def undisturbed(piece: Piece) -> list[Piece]:
    """The runs of frames in which the teacher is sure that there is no transition, two frames away from any."""
    quiet = piece.teacher.max(1) < TEACHER_SURE
    found = []
    for first, last in runs(quiet):
        # A run that starts at the piece's own start needs no distance.
        start, end = first + 2 * (first > 0), last + 1 - 2 * (last + 1 < len(quiet))
        if end - start >= SHORTEST:
            found.append(Piece(piece.frames[start:end], piece.source, piece.teacher[start:end]))
    return found


def held_back(footage: Footage, share: float) -> tuple[Footage, Footage]:
    """Footage to train on and to choose thresholds on: whole sources, chosen by name."""
    held = [source for source in footage.sources() if seed_of(0, source, "held back") % 1000 < share * 1000]
    kept = set(footage.sources()) - set(held)
    return footage.of(kept), footage.of(held)
