"""The sound of a clip: AAC packets copied where the source has AAC, else the exact samples encoded to AAC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidcap.media.adts import SAMPLE_RATES, NotPlainError, frame_of
from vidcap.media.mp4 import ClipFile, Track
from vidcap.media.source import SourceReader

Float32 = npt.NDArray[np.float32]

_RATES = tuple(rate for rate in SAMPLE_RATES if rate >= 8_000)
"""Sample rates that sound is encoded at; of lower ones players know nothing."""

_BLOCK = 1024
_BITS_PER_CHANNEL = 64_000


@dataclass(frozen=True, slots=True)
class Sound:
    """What a clip's audio track is; `codec` is "" where there is none."""

    codec: str = ""
    sample_rate: int = 0
    channels: int = 0
    copied: bool = False


def add_sound(source: SourceReader, start: Fraction, end: Fraction, out: ClipFile) -> Sound:
    """Add the sound of [start, end), in the container's seconds; nothing where the source has none there.

    A copy begins with the packet that `start` falls into and the one before it, which AAC's overlapping windows need;
    both are hidden up to `start` by the edit list. Its end may reach past `end` by less than a packet.
    """
    stream = source.audio
    if stream is None:
        return Sound()
    if stream.codec_context.codec.canonical_name != "aac":
        return _encode(source, start, end, out)
    packets = source.audio_packets(start, end)
    if not packets:
        return Sound()
    config = None
    if not stream.codec_context.extradata:
        # Without a stored configuration (a transport stream) the packets carry headers that MP4 does not allow.
        try:
            config, packets = _without_headers(packets, stream.codec_context.sample_rate)
        except NotPlainError:
            return _encode(source, start, end, out)
    return _copy(stream, packets, start, out, config)


def _without_headers(packets: list[Any], sample_rate: int) -> tuple[bytes, list[Any]]:
    """The configuration that all have, and the packets as MP4 holds them. Raises `NotPlainError`."""
    frames = [frame_of(bytes(packet)) for packet in packets]
    if len({frame.config for frame in frames}) > 1 or frames[0].sample_rate != sample_rate:
        raise NotPlainError("the configuration changes, or its extensions are not named")
    plain = []
    for packet, frame in zip(packets, frames, strict=True):
        bare = av.Packet(frame.payload)
        bare.pts, bare.duration = packet.pts, packet.duration
        plain.append(bare)
    return frames[0].config, plain


def _copy(stream: Any, packets: list[Any], start: Fraction, out: ClipFile, config: bytes | None) -> Sound:
    base = stream.time_base
    track = out.copied(stream, extradata=config)
    zero = round(start / base)
    before: int | None = None
    for packet in packets:
        at = packet.pts - zero
        if before is not None and at <= before:
            continue  # Two packets at one time: the muxer wants them to rise.
        track.add(packet, pts=at, dts=at, duration=packet.duration or 0)
        before = at
    context = stream.codec_context
    return Sound("aac", context.sample_rate, context.channels, copied=True)


def _encode(source: SourceReader, start: Fraction, end: Fraction, out: ClipFile) -> Sound:
    stream = source.audio
    assert stream is not None
    context = stream.codec_context
    rate = min((known for known in _RATES if known >= context.sample_rate), default=max(_RATES))
    layout = "mono" if context.channels == 1 else "stereo"
    frames = list(source.audio_frames(start, end))
    if not frames:
        return Sound()
    samples = _samples(frames, start, end, rate, layout)
    channels = samples.shape[0]
    base = Fraction(1, rate)
    track = out.encoded("aac", rate, base, {"b": str(_BITS_PER_CHANNEL * channels)})
    track.stream.codec_context.layout = layout
    for block in _blocks(samples, rate, layout):
        _put(track, track.stream.encode(block))
    _put(track, track.stream.encode(None))
    return Sound("aac", rate, channels)


def _put(track: Track, packets: Iterable[Any]) -> None:
    for packet in packets:
        track.add(packet, pts=packet.pts, dts=packet.pts, duration=packet.duration or _BLOCK)


def _samples(frames: list[Any], start: Fraction, end: Fraction, rate: int, layout: str) -> Float32:
    """Channels×samples of exactly [start, end): placed by timestamps, silence where the source has none."""
    count = round((end - start) * rate)
    channels = 1 if layout == "mono" else 2
    wave = np.zeros((channels, count), np.float32)
    for at, block in _resampled(frames, rate, layout):
        offset = round((at - start) * rate)
        begin, stop = max(0, offset), min(count, offset + block.shape[1])
        if begin < stop:
            wave[:, begin:stop] = block[:, begin - offset : stop - offset]
    return wave


def _resampled(frames: list[Any], rate: int, layout: str) -> Iterator[tuple[Fraction, Float32]]:
    """(seconds, channels×samples) of every unbroken stretch; a resampler must not see a gap."""
    stretch: list[Any] = []
    due = Fraction(0)
    for frame in frames:
        at = frame.pts * frame.time_base
        if stretch and abs(at - due) > Fraction(1, 50):
            yield _stretch(stretch, rate, layout)
            stretch = []
        if not stretch:
            due = at
        stretch.append(frame)
        due += Fraction(frame.samples, frame.sample_rate)
    if stretch:
        yield _stretch(stretch, rate, layout)


def _stretch(frames: list[Any], rate: int, layout: str) -> tuple[Fraction, Float32]:
    at = frames[0].pts * frames[0].time_base
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    parts = []
    for frame in frames:
        frame.pts = None  # Counted from the first one; rounded timestamps would make it stretch.
        parts += [piece.to_ndarray() for piece in resampler.resample(frame)]
    parts += [piece.to_ndarray() for piece in resampler.resample(None)]
    return at, np.concatenate(parts, axis=1)


def _blocks(samples: Float32, rate: int, layout: str) -> Iterator[Any]:
    for start in range(0, samples.shape[1], _BLOCK):
        part = np.ascontiguousarray(samples[:, start : start + _BLOCK])
        block = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
        yield block
