"""Checks what a caption claims against what was measured on the odd frames and half-seconds of its clip.

The embedding is the vector of measurements (`vidcap.backends.embedded.claims.FIELDS`), so any later caption is
checked without decoding. The score is the weighted truth of the claims found in the text: a text without a claim of
its kind scores 0, a false claim costs more than a true one gains, and one vague claim gains little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vidcap.backends.embedded.claim_parser import parse
from vidcap.backends.embedded.claims import agreement, measures_of
from vidcap.backends.embedded.measure_audio import measure_audio
from vidcap.backends.embedded.measure_picture import measure_picture
from vidcap.backends.embedded.measure_video import share_of
from vidcap.backends.roles import BackendConfig, ClipView, Outcome
from vidcap.errors import ItemError

Float32 = npt.NDArray[np.float32]

VERSION = 2
"""In the identity: raise it whenever the same clip and text give another score."""


class Backend:
    """Scores of all caption kinds; what is said (`s`) cannot be measured and scores 0."""

    class Config(BackendConfig):
        frames_per_clip: int = 16
        """How many frames are asked for; every second one is looked at, the others are left to the captioner."""

    embedded: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.frames_per_clip = config.frames_per_clip

    def identity(self) -> str:
        return f"descriptor@{VERSION}"

    def load(self, device: str) -> None:
        """Nothing to load; any device will do."""

    def embed(self, clips: Sequence[ClipView]) -> list[Outcome[Float32]]:
        """Per clip the measurements `FIELDS`; NaN for motion where there is a single frame."""
        return [_embed(clip) for clip in clips]

    def score(self, embeddings: Sequence[Float32], texts: Sequence[str], *, kinds: Sequence[str]) -> list[float]:
        return [
            agreement(parse(text), measures_of(vector), kind) if text.strip() else math.nan
            for vector, text, kind in zip(embeddings, texts, kinds, strict=True)
        ]


def _embed(clip: ClipView) -> Outcome[Float32]:
    if not clip.frames:
        return ItemError("score.failed", "the clip has no frames to look at")
    try:
        frames = share_of(clip.frames, 1)  # decodes them: one that is no picture must not fail the clips beside it
    except ItemError as error:
        return error
    seen = measure_picture(frames, share_of(clip.times, 1))
    heard = measure_audio(clip.audio, has_audio=clip.has_audio, parity=1)
    return np.concatenate([seen, heard])
