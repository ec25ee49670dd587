"""Whether there is anything in a clip for a captioner of sound to hear."""

from __future__ import annotations

import numpy as np

from vidcap.backends.roles import ClipView
from vidcap.errors import ItemError

REASON = "caption.failed"
SILENT_PEAK = 10 ** (-60 / 20)
"""Sound whose peak does not exceed -60 dBFS is silence, for every captioner and in every record."""
SHORTEST = 400
"""Samples (25 ms): what is shorter has no spectrum."""


def audible(clip: ClipView) -> bool | ItemError:
    """False where the clip has no track, next to none, or silence; an error where its samples are no sound."""
    if clip.audio.ndim != 1 or not np.isfinite(clip.audio).all():
        return ItemError(REASON, "the sound is not one row of finite numbers")
    return clip.has_audio and len(clip.audio) >= SHORTEST and float(np.abs(clip.audio).max()) > SILENT_PEAK
