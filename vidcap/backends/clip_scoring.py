"""Clips and their captions on the way to scores: pictures and texts stand in line until a batch of either is full."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from vidcap.backends.full_batches import Float64, Line
from vidcap.backends.roles import ClipView, Float32, Outcome
from vidcap.errors import ItemError

Scored: TypeAlias = tuple[Outcome[Float32], dict[str, Outcome[float]]]
"""The embedding of a clip, and the score of each of its texts; these are empty where it has no embedding."""

REMEMBERED = 256
"""Pieces of text whose vectors are kept beside those that a clip waits for: captions repeat themselves."""
NOT_FINITE = "the model gave numbers that are not finite; `precision: fp32` helps where fp16 overflows"


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Piece:
    vector: Float64 | None = None


@dataclass(eq=False, slots=True)
class _Clip:
    frames: int
    vectors: list[Float64]
    embedding: Outcome[Float32] | None
    texts: dict[str, list[_Piece]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        if self.embedding is None:
            return False
        return all(piece.vector is not None for pieces in self.texts.values() for piece in pieces)


class Scoring:
    """What comes of a clip comes in the order in which clips were added, once both its halves are there.

    Only vectors are kept of a clip that waits, and pictures of at most one batch; no more clips wait than two batches
    have rows.
    """

    def __init__(self, pictures: Line, texts: Line, pieces: Callable[[str], list[str]], rows: int) -> None:
        """`pieces` of a text, each of which the encoder reads whole; `rows` of the larger of the two batches."""
        self._pictures, self._texts = pictures, texts
        self._pieces = pieces
        self._most = 2 * rows
        self._clips: deque[_Clip] = deque()
        self._looked_at: deque[_Clip] = deque()
        self._read: deque[_Piece] = deque()
        self._known: WeakValueDictionary[str, _Piece] = WeakValueDictionary()
        self._remembered: deque[_Piece] = deque(maxlen=REMEMBERED)

    def add(self, clip: ClipView | Float32, texts: Mapping[str, str]) -> list[Scored]:
        """A clip, or the embedding it has, and its texts by any name. Returns what is finished by now."""
        if isinstance(clip, ClipView):
            unseen = _unseen(clip)
            entry = _Clip(0 if unseen else len(clip.frames), [], unseen)
        else:
            unseen, entry = None, _Clip(0, [], clip)
        self._clips.append(entry)
        if isinstance(clip, ClipView) and unseen is None:
            self._looked_at.append(entry)
            for frame in clip.frames:
                self._seen(self._pictures.add(frame))
        if unseen is None:
            for name, text in texts.items():
                entry.texts[name] = [self._piece(piece) for piece in self._pieces(text)]
        found = self._finished()
        if len(self._clips) > self._most:
            found += self.settle()
        if len(self._clips) > self._most:  # few texts among many clips
            found += self.rest()
        return found

    def settle(self) -> list[Scored]:
        """What is finished once the device has computed what it was asked."""
        self._seen(self._pictures.settle())
        self._heard(self._texts.settle())
        return self._finished()

    def rest(self) -> list[Scored]:
        """All that wait; the last batches are filled up."""
        self._seen(self._pictures.rest())
        self._heard(self._texts.rest())
        return self._finished()

    def _piece(self, text: str) -> _Piece:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = _Piece()
            self._remembered.append(known)
            self._read.append(known)
            self._heard(self._texts.add(text))
        return known

    def _seen(self, vectors: Sequence[Float64]) -> None:
        for vector in vectors:
            clip = self._looked_at[0]
            clip.vectors.append(vector)
            if len(clip.vectors) == clip.frames:
                clip.embedding = _pooled(np.stack(clip.vectors))
                clip.vectors.clear()
                self._looked_at.popleft()

    def _heard(self, vectors: Sequence[Float64]) -> None:
        for vector in vectors:
            self._read.popleft().vector = _of_length_one(vector)

    def _finished(self) -> list[Scored]:
        found: list[Scored] = []
        while self._clips and self._clips[0].finished:
            clip = self._clips.popleft()
            embedding = clip.embedding
            assert embedding is not None
            if isinstance(embedding, ItemError):
                found.append((embedding, {}))
            else:
                found.append((embedding, {name: _score(embedding, parts) for name, parts in clip.texts.items()}))
        return found


def _score(embedding: Float32, pieces: Sequence[_Piece]) -> Outcome[float]:
    """The mean cosine of the pieces; NaN where there are none."""
    if not pieces:
        return math.nan
    vectors = [piece.vector for piece in pieces if piece.vector is not None]
    if not all(np.isfinite(vector).all() for vector in vectors):
        return ItemError("score.failed", NOT_FINITE)
    clip = embedding.astype(np.float64)
    return min(1.0, max(-1.0, float(np.mean([vector @ clip for vector in vectors]))))


def _pooled(frames: npt.NDArray[np.float64]) -> Outcome[Float32]:
    """The mean direction of N×D vectors, of length 1."""
    pooled = _of_length_one(_of_length_one(frames).mean(0))
    return pooled.astype(np.float32) if np.isfinite(pooled).all() else ItemError("score.failed", NOT_FINITE)


def _of_length_one(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A vector without length stays one, and is found not finite by whoever asks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        return found


def _unseen(clip: ClipView) -> ItemError | None:
    """Why a clip cannot be looked at."""
    if not clip.frames:
        return ItemError("score.failed", "the clip has no frames to look at")
    try:
        for frame in clip.frames:  # decodes them: one that is no picture must not fail the clips beside it
            if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
                said = f"a frame of shape {frame.shape} and type {frame.dtype} is no RGB picture"
                return ItemError("score.failed", said)
    except ItemError as error:
        return error
    return None
