"""The sound of a source as 16 kHz mono, placed by its timestamps so that sample 0 is the first presented frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet

from vidcap.store import is_of_the_machine

SAMPLE_RATE = 16_000
SOUND = "audio.s16"
MAX_DRIFT = 0.02
"""Seconds by which a timestamp may differ from the samples counted so far before the sound is placed anew."""
MAX_SECONDS = 24 * 3600
"""Sound that claims to lie further from its own start is left out: its timestamps are wrong."""
_COPY = 1 << 20
_AT_ONCE = 1 << 15
"""Samples of the source that are resampled together: a call costs more than the samples of one packet."""


class SoundTrack:
    """Collects the sound of one pass. `feed` and `finish` never raise for bad sound: it is silent where it fails.

    Samples go to a file with its own first timestamp as zero; `finish` moves them to the video's zero. Time that no
    packet covers is silent; where packets overlap the earlier one wins.
    """

    def __init__(self, folder: Path, stream: Any) -> None:
        self._target = folder / SOUND
        self._path = folder / f"{SOUND}.part"
        self._file = self._path.open("wb")
        self._stream = stream
        self._base: Fraction = stream.time_base or Fraction(1, SAMPLE_RATE)
        self._step, self._zero = float(self._base), 0.0
        self._origin: Fraction | None = None
        self._due = 0.0  # when the next input sample is due, in seconds from the origin
        self._setup: tuple[object, ...] = ()
        self._resampler: Any = None
        self._waiting: Any = None
        self._fresh = False  # nothing went through the resampler yet
        self._at = 0  # where the resampler's next sample belongs
        self._written = 0  # end of what is written
        self._packets = self._failed = 0
        self.error = ""
        if stream.codec_context is None:
            self.error = "there is no decoder for it"
        else:
            stream.codec_context.thread_count = 1

    def feed(self, packet: Packet[Any]) -> None:
        """Decode one packet of the stream; an empty one drains the decoder."""
        if self._stream.codec_context is None:
            return
        self._packets += packet.size > 0
        try:
            for frame in self._stream.codec_context.decode(packet if packet.size else None):
                self._take(frame)
        except (av.error.FFmpegError, ValueError) as error:
            if is_of_the_machine(error):
                raise
            if packet.size:
                self._failed += 1
                self.error = self.error or f"packet {self._packets - 1}: {getattr(error, 'strerror', error)}"

    def finish(self, zero: Fraction, seconds: float) -> None:
        """Write `audio.s16`: exactly `seconds` from `zero`, the time of the first presented frame in stream time."""
        try:
            self._drain()
        except (av.error.FFmpegError, ValueError) as error:
            if is_of_the_machine(error):
                raise
            self.error = self.error or f"its end: {getattr(error, 'strerror', error)}"
        self._file.close()
        wanted = round(seconds * SAMPLE_RATE)
        if self._packets and 2 * self._failed > self._packets:
            # What little decodes of a stream that mostly does not is noise.
            self.error = f"{self._failed} of {self._packets} packets cannot be decoded"
            self._written = 0
        elif not self._written and not self.error:
            self.error = "it holds no samples"
        shift = 0 if self._origin is None else round((self._origin - zero) * SAMPLE_RATE)
        first, last = max(0, -shift), min(self._written, wanted - shift)
        with self._path.open("rb") as source, self._target.open("wb") as out:
            out.seek(2 * max(0, shift))
            source.seek(2 * first)
            left = 2 * (last - first)
            while left > 0:
                block = source.read(min(_COPY, left))
                if not block:
                    break
                out.write(block)
                left -= len(block)
            out.truncate(2 * wanted)
        self._path.unlink()

    def close(self) -> None:
        """Let go of the file, after an error too."""
        self._file.close()

    def _take(self, frame: AudioFrame) -> None:
        rate = frame.sample_rate
        if rate <= 0 or not frame.samples:
            return
        if self._origin is None:
            self._origin = (frame.pts or 0) * self._base
            self._zero = float(self._origin)
        time = self._due if frame.pts is None else frame.pts * self._step - self._zero
        if not -MAX_DRIFT <= time < MAX_SECONDS:
            self.error = self.error or "timestamps far from its start"
            return
        setup = (frame.format.name, frame.layout.name, rate)
        if setup != self._setup or abs(time - self._due) > MAX_DRIFT:
            self._drain()
            self._setup = setup
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self._waiting = av.AudioFifo()
            self._fresh = True
            self._at = max(0, round(time * SAMPLE_RATE))
            self._due = time
        self._due += frame.samples / rate
        frame.pts = None  # where it belongs is known; here only its samples count
        self._waiting.write(frame)
        if self._fresh or self._waiting.samples >= _AT_ONCE:
            self._resample()

    def _resample(self) -> None:
        """What waits. The first frame goes alone: sound that cannot be resampled then fails packet by packet."""
        waiting = self._waiting.read()
        if waiting is None:
            return
        try:
            for block in self._resampler.resample(waiting):
                self._write(block)
        except (av.error.FFmpegError, ValueError):
            self._setup, self._resampler = (), None
            raise
        self._fresh = False

    def _drain(self) -> None:
        if self._resampler is not None:
            self._resample()
            for block in self._resampler.resample(None):
                self._write(block)
            self._resampler = self._waiting = None

    def _write(self, block: AudioFrame) -> None:
        plane: Any = block.planes[0]
        samples = np.frombuffer(plane, np.int16, block.samples).astype("<i2", copy=False)
        skip = min(len(samples), max(0, self._written - self._at))
        if skip < len(samples):
            if self._at + skip != self._written:
                self._file.seek(2 * (self._at + skip))
            self._file.write(samples[skip:].tobytes())
            self._written = self._at + len(samples)
        self._at += len(samples)
