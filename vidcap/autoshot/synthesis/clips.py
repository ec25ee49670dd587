"""Puts training clips together: shots, what disturbs them, the transitions between them, and the labels.

Transitions of 2 to 45 frames and their shares, disturbances and their rates are choices of this project, made on held
back footage (docs/models/fast-shots.md); they are no figures of a paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vidcap.autoshot.footage import Footage, Piece
from vidcap.autoshot.synthesis import camera, clutter, damage, light, scenes, transitions

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 27, 48
AROUND = 24
"""Frames made on both sides of a clip, so that transitions may run over its edges."""
EDGE = 8
"""Frames at the clip's edges that do not count: what happens there cannot be judged from the clip."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """How clips are drawn; the shares of `kinds` follow `transitions.KINDS`."""

    kinds: tuple[float, ...] = (0.50, 0.24, 0.11, 0.07, 0.05, 0.03)
    continuous: float = 0.3
    """Share of clips taken from continuous footage with the teacher's labels."""
    quiet: float = 0.16
    """Share of made clips without any transition."""
    procedural: float = 0.12
    longest: int = 45
    shot_frames: tuple[float, ...] = (18, 35, 70, 160)
    """Mean lengths of shots, one of which holds for a clip."""


@dataclass(frozen=True, slots=True)
class Example:
    """`frames`: T×27×48×3; `one_hot`: the middle of a transition; `many_hot`: all its frames; `counts`: 0 or 1."""

    frames: UInt8
    one_hot: Float32
    many_hot: Float32
    counts: Float32


class ClipMaker:
    """Draws examples of `length` frames from footage; the same `rng`, the same example."""

    def __init__(self, footage: Footage, length: int, mixture: Mixture | None = None) -> None:
        self.footage, self.length, self.mixture = footage, length, mixture or Mixture()
        self._by_source: dict[str, list[int]] = {}
        for number, piece in enumerate(footage.shots):
            self._by_source.setdefault(piece.source, []).append(number)
        # Long pieces and sources with many pieces count more, but less than in proportion.
        weights = [
            min(len(piece.frames), 400) ** 0.5 / len(self._by_source[piece.source]) ** 0.5 for piece in footage.shots
        ]
        self._shots = np.cumsum(weights) / np.sum(weights)
        lengths = [min(len(piece.frames), 600) for piece in footage.continuous]
        self._continuous = np.cumsum(lengths) / max(1, np.sum(lengths))

    def example(self, rng: np.random.Generator) -> Example:
        if self.footage.continuous and rng.random() < self.mixture.continuous:
            return self._filmed(rng)
        return self._edited(rng)

    def _filmed(self, rng: np.random.Generator) -> Example:
        """A stretch of continuous footage, graded, with the teacher's probabilities as labels."""
        piece = self.footage.continuous[
            min(int(np.searchsorted(self._continuous, rng.random())), len(self._continuous) - 1)
        ]
        first = int(rng.integers(max(1, len(piece.frames) - self.length + 1)))
        frames, labels = piece.frames[first : first + self.length], piece.teacher[first : first + self.length]
        short = self.length - len(frames)
        counts = np.concatenate([np.ones(len(frames), np.float32), np.zeros(short, np.float32)])
        frames = np.concatenate([frames, frames[-1:].repeat(short, 0)])
        labels = np.concatenate([labels, np.zeros((short, 2), np.float32)])
        if rng.random() < 0.5:
            frames = frames[:, :, ::-1]
        graded = light.graded(frames.astype(np.float32), rng, 0.6)
        return Example(damage.recorded(graded, rng), labels[:, 0].copy(), labels[:, 1].copy(), counts)

    def _edited(self, rng: np.random.Generator) -> Example:
        """Shots put together with transitions whose frames are known."""
        total = self.length + 2 * AROUND
        bounds, kinds, lengths = self._plan(total, rng)
        film = np.zeros((total, HEIGHT, WIDTH, 3), np.float32)
        one_hot, many_hot = np.zeros(total, np.float32), np.zeros(total, np.float32)
        last: Piece | None = None
        look: tuple[Float32, Float32] | None = None
        for number, (start, end) in enumerate(pairwise(bounds)):
            kind, blended = (kinds[number - 1], lengths[number - 1]) if number else ("", 0)
            after = lengths[number] if number < len(lengths) else 0
            first, stop = start - blended // 2, min(total, end + after - after // 2)
            if kind == "cut" and last is not None and rng.random() < 0.07:
                frames = self._punched_in(last, stop - first, rng)
            else:
                last, frames = self._shot(stop - first, last, rng)
            if look is not None and rng.random() < 0.18:
                frames = _looking_like(frames, look, np.float32(rng.uniform(0.5, 1)))
            look = _look(frames)
            frames = np.clip(frames, 0, 255)
            if blended:
                span = slice(first, first + blended)
                film[span] = transitions.joined(kind, film[span], frames[:blended], rng)
                many_hot[span] = 1
                core = max(1, round(blended / 3))
                middle = first + (blended - core) // 2
                one_hot[middle : middle + core] = 1
            elif number:
                one_hot[start - 1] = many_hot[start - 1] = 1
            film[first + blended : stop] = frames[blended:]
        inner = slice(AROUND, AROUND + self.length)
        counts = np.ones(self.length, np.float32)
        counts[:EDGE] = counts[-EDGE:] = 0
        return Example(damage.recorded(film[inner], rng), one_hot[inner].copy(), many_hot[inner].copy(), counts)

    def _plan(self, total: int, rng: np.random.Generator) -> tuple[list[int], list[str], list[int]]:
        """Where shots meet, by which kind of transition, of how many frames (0 for a cut)."""
        mean = float(rng.choice(self.mixture.shot_frames)) if rng.random() >= self.mixture.quiet else 1e6
        bounds = [0]
        while (at := bounds[-1] + int(8 + rng.exponential(mean))) < total - 4:
            bounds.append(at)
        bounds.append(total)
        kinds = [str(kind) for kind in rng.choice(transitions.KINDS, len(bounds) - 2, p=self.mixture.kinds)]
        lengths = []
        for number, kind in enumerate(kinds, 1):
            room = min(bounds[number] - bounds[number - 1], bounds[number + 1] - bounds[number]) - 2
            longest = max(2, min(self.mixture.longest, room))
            longest = longest if rng.random() < 0.7 else min(longest, 14)
            lengths.append(0 if kind == "cut" else int(rng.integers(2, longest + 1)))
        return bounds, kinds, lengths

    def _shot(self, count: int, last: Piece | None, rng: np.random.Generator) -> tuple[Piece | None, Float32]:
        """A shot of `count` frames, other than the last one; None for its piece where it is procedural."""
        if rng.random() < self.mixture.procedural:
            piece, frames = None, scenes.rendered(count, rng)
        else:
            piece = self._piece(last, rng)
            frames = _played(piece.frames, count, rng)
        if rng.random() < 0.3:
            frames = camera.moved(frames, rng)
        if rng.random() < 0.5:
            frames = frames[:, :, ::-1]
        if rng.random() < 0.05:
            frames = frames[:, ::-1]
        if rng.random() < 0.06:
            frames = clutter.keyed(frames, _played(self._piece(last, rng).frames, count, rng), rng)
        if rng.random() < 0.04:
            frames = clutter.aflame(frames, rng)
        if rng.random() < 0.18:
            frames = clutter.passed_by(frames, self._texture(rng), rng)
        if rng.random() < 0.14:
            frames = clutter.captioned(frames, rng)
        graded = light.graded(frames.astype(np.float32), rng)
        return piece, light.disturbed(graded, rng)

    def _piece(self, last: Piece | None, rng: np.random.Generator) -> Piece:
        """Another piece than the last one; often of the same video, where cuts are hardest to see."""
        if last is not None and rng.random() < 0.3:
            near = [n for n in self._by_source[last.source] if self.footage.shots[n] is not last]
            if near:
                return self.footage.shots[int(rng.choice(near))]
        while True:
            number = min(int(np.searchsorted(self._shots, rng.random())), len(self._shots) - 1)
            if self.footage.shots[number] is not last or len(self._shots) == 1:
                return self.footage.shots[number]

    def _texture(self, rng: np.random.Generator) -> UInt8:
        frames = self._piece(None, rng).frames
        texture: UInt8 = frames[int(rng.integers(len(frames)))]
        return texture

    def _punched_in(self, piece: Piece, count: int, rng: np.random.Generator) -> Float32:
        """The same shot closer up, or mirrored: a jump cut, and still a cut."""
        size = np.full(count, rng.uniform(0.35, 0.65))
        across, down = np.full(count, rng.uniform(-10, 10)), np.full(count, rng.uniform(-5, 5))
        frames = camera.seen(_played(piece.frames, count, rng), across, down, size)
        return (frames[:, :, ::-1] if rng.random() < 0.5 else frames).astype(np.float32)


def _played(frames: UInt8, count: int, rng: np.random.Generator) -> UInt8:
    """`count` frames of a piece: as it is, faster, stuttering, at another cadence, backwards, or a still of it."""
    chance = rng.random()
    if chance < 0.06:
        return np.repeat(frames[int(rng.integers(len(frames)))][None], count, 0)
    at = np.arange(count)
    if chance < 0.20:
        at = at * int(rng.integers(2, 4))
    elif chance < 0.28:
        at = at // int(rng.integers(2, 4))
    elif chance < 0.42:
        every = int(rng.integers(3, 7))
        at = at - at // every if rng.random() < 0.5 else at + at // every
    # To and fro where the piece is too short: no jump at its ends.
    period = max(1, 2 * len(frames) - 2)
    spare = len(frames) - int(at[-1]) - 1
    at = (at + int(rng.integers(spare + 1 if spare >= 0 else period))) % period
    at = np.where(at >= len(frames), period - at, at)
    return frames[at[::-1] if rng.random() < 0.3 else at]


def _looking_like(frames: Float32, look: tuple[Float32, Float32], share: np.float32) -> Float32:
    """Colours moved towards those of the shot before: neighbours in one video look alike."""
    mean, spread = _look(frames)
    # One scale and one shift for both steps: the match, and how far it goes.
    scale = 1 - share + share * look[1] / spread
    return frames * scale + np.float32(share) * (look[0] - mean * look[1] / spread)


def _look(frames: Float32) -> tuple[Float32, Float32]:
    """Mean and spread of the three colours, from four of the frames."""
    some = frames[:: max(1, len(frames) // 4)]
    return some.mean((0, 1, 2)), some.std((0, 1, 2)) + 8
