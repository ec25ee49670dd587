"""Reads a sound file as 16 kHz mono."""

from __future__ import annotations

from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from vidcap.errors import MediaError
from vidcap.media.audio import SAMPLE_RATE
from vidcap.media.probe import audio_stream, open_media


def read_sound(path: Path, *, max_seconds: float) -> npt.NDArray[np.float32]:
    """The first `max_seconds` of a file as float32 in [-1, 1], all channels mixed into one.

    Raises `MediaError` as `open_media` does, and `media.unrecognised` where nothing can be decoded or the decoder stops
    midway: half a sound may not be what its caption tells of.
    """
    wanted = round(max_seconds * SAMPLE_RATE)
    parts: list[npt.NDArray[np.float32]] = []
    with open_media(str(path)) as container:
        stream = audio_stream(container)
        if stream is None or stream.codec_context is None:
            raise MediaError("media.unrecognised", "there is no sound in it that can be decoded")
        stream.codec_context.thread_count = 1
        # 16 bits, as the evidence of a run has it: FFmpeg takes the mean of the channels for integers, for floating
        # point numbers a sum that may exceed 1.
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        count = 0
        try:
            for frame in container.decode(stream):
                frame.pts = None  # samples are counted; timestamps with gaps would stretch them
                for block in resampler.resample(frame):
                    parts.append(_samples(block))
                    count += len(parts[-1])
                if count >= wanted:
                    break
            else:
                parts += map(_samples, resampler.resample(None))
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError("media.unrecognised", str(getattr(error, "strerror", None) or error)) from error
    if not parts:
        raise MediaError("media.unrecognised", "it holds no samples")
    return np.concatenate(parts)[:wanted]


def _samples(block: AudioFrame) -> npt.NDArray[np.float32]:
    samples: npt.NDArray[np.float32] = block.to_ndarray().reshape(-1).astype(np.float32)
    return samples * np.float32(2.0**-15)
