"""Whether a clip is silent, asked of the clip itself: for pipelines that decode no sound on the way."""

from __future__ import annotations

from pathlib import Path

import av
import av.error
import numpy as np

from vidcap.backends.audible import SILENT_PEAK
from vidcap.store import is_of_the_machine


def is_silent(path: Path) -> bool:
    """Whether nothing in the clip's audio track rises above `SILENT_PEAK`; true where it has none.

    Decodes up to the first sample that does, which is mostly the first packet. Sound that cannot be decoded is silent.
    """
    with av.open(str(path)) as clip:
        if not clip.streams.audio:
            return True
        resampler = av.AudioResampler(format="flt")
        try:
            for frame in clip.decode(audio=0):
                for block in resampler.resample(frame):
                    if np.abs(block.to_ndarray()).max(initial=0.0) > SILENT_PEAK:
                        return False
        except av.error.FFmpegError as error:
            if is_of_the_machine(error):
                raise
        return True
