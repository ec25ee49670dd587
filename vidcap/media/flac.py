"""16 kHz mono sound as FLAC bytes."""

from __future__ import annotations

import io

import av
import numpy as np
import numpy.typing as npt

from vidcap.media.audio import SAMPLE_RATE


def flac_bytes(samples: npt.NDArray[np.float32]) -> bytes:
    """Encode float32 mono samples at 16 kHz as 16-bit FLAC; the same bytes each time."""
    scaled = np.clip(np.round(samples * 32768.0), -32768, 32767)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        stream.codec_context.thread_count = 1
        frame = av.AudioFrame.from_ndarray(scaled.astype(np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
