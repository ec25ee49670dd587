"""The hybrid cut of H.264: the edges of a clip encoded, its inner packets copied as they are, in one plain track.

The encoder is told to number its parameter sets otherwise than the source does and to delay and buffer pictures as the
source does, so that one header holds both and a decoder goes from one to the other as from any IDR picture to the next.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidcap.media import h264
from vidcap.media.copying import NotCopyableError, copyable_packets, latest_decode_times, span_times
from vidcap.media.mp4 import ClipFile
from vidcap.media.program_encoding import Encoding
from vidcap.media.reencoding import X264
from vidcap.media.snap import Inner
from vidcap.media.source import SourceReader

LEAST = 8
"""Frames that must be saved: two encoders and two more seeks cost as much as encoding about so many."""

Thumbnail = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Made:
    """What became of the edges: thumbnails (N×27×48×3) of the frames that were encoded before and after the copy."""

    inner: Inner
    head: Thumbnail
    tail: Thumbnail


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture in decode order: its time in the source's ticks, its units, whether decoding may start on it."""

    pts: int
    data: bytes
    key: bool


def encodes(encoding: Encoding) -> bool:
    """Whether edges are encoded as this asks for: libx264 through PyAV, of which all is known that joining needs."""
    return encoding.through == "pyav" and encoding.encoder == "libx264"


def write_hybrid(
    source: SourceReader, inner: Inner, first: int, last: int, out: ClipFile, *, rate: Fraction, encoding: Encoding
) -> Made:
    """Write the frames `first` to `last`, of which `inner` is copied.

    Raises `NotCopyableError` before anything is written, `OutOfStepError` where seeking leads to other frames.
    """
    packets = copyable_packets(source, inner.run)
    extradata = bytes(source.video.codec_context.extradata or b"")
    try:
        copied = [
            _Picture(packet.pts, h264.joined(h264.units(bytes(packet), extradata)), packet.is_keyframe)
            for packet in packets
        ]
        style = _Style.of(extradata, [picture.data for picture in copied if picture.key])
    except h264.BrokenError as error:
        raise NotCopyableError(str(error)) from error
    if style.reorder is None:
        # Players would have to guess how many pictures to hold back, and guess from the head.
        if any(one.pts > other.pts for one, other in itertools.pairwise(copied)):
            raise NotCopyableError("the stream does not say how far its pictures are out of order")
        style.reorder = 0
    head, shown_head, sets = _encoded(source, first, inner.first - 1, style, rate, encoding)
    tail, shown_tail, others = _encoded(source, inner.last + 1, last, style, rate, encoding)
    if sets and others and sets != others:
        raise NotCopyableError("both edges are not encoded alike")
    every = [*head, *copied, *tail]
    ours = sets or others
    assert ours is not None
    joined = h264.Sets((*style.sets.sequence, *ours.sequence), (*style.sets.picture, *ours.picture))
    _write(source, every, h264.header(joined), first, out)
    return Made(inner, shown_head, shown_tail)


def _write(source: SourceReader, every: list[_Picture], header: bytes, first: int, out: ClipFile) -> None:
    table = source.tables.frames
    track = out.copied(source.video, extradata=header)
    times = np.array([picture.pts for picture in every], np.int64)
    pts, durations = span_times(table, times, first)
    dts = latest_decode_times(pts)
    durations[-1] = max(1, int(pts.max()) + durations[int(pts.argmax())] - (dts[-1] - dts[0]))
    for picture, at, decoded, duration in zip(every, pts.tolist(), dts, durations, strict=True):
        packet = av.Packet(picture.data)
        packet.is_keyframe = picture.key
        track.add(packet, pts=at, dts=decoded, duration=duration)


@dataclass(slots=True)
class _Style:
    """How the source's pictures were encoded, as far as the edges must be encoded alike."""

    sets: h264.Sets
    number: int
    profile: str
    reorder: int | None
    buffered: int

    @classmethod
    def of(cls, extradata: bytes, keys: list[bytes]) -> _Style:
        stored = h264.stored_sets(extradata)
        # Some encoders repeat their sets before key pictures; numbers taken there are taken too.
        repeated = [
            unit for data in keys for unit in h264.units(data, _FOUR) if h264.kind(unit) in (h264.SPS, h264.PPS)
        ]
        taken = h264.Sets(
            stored.sequence + tuple(unit for unit in repeated if h264.kind(unit) == h264.SPS),
            stored.picture + tuple(unit for unit in repeated if h264.kind(unit) == h264.PPS),
        )
        facts = [h264.sequence_facts(unit) for unit in taken.sequence]
        reorder = [known.reorder for known in facts]
        known_orders = [order for order in reorder if order is not None]
        profile = h264.PROFILES.get(max(known.profile for known in facts))
        if profile is None:
            raise h264.BrokenError("a profile that x264 does not have")
        return cls(
            stored,
            taken.free_id(),
            profile,
            max(known_orders) if len(known_orders) == len(reorder) else None,
            max(known.buffered if known.buffered is not None else known.references for known in facts),
        )

    def options(self, encoding: Encoding) -> dict[str, str]:
        # The same delay and the same number of kept pictures: a decoder may drop what it has not shown yet where a new
        # sequence keeps another number of them (C.4.4).
        reorder = self.reorder or 0
        pyramid = reorder >= 2 and self.buffered >= 4
        frames = 0 if not reorder or self.profile == "baseline" else 3
        own = {
            "annexb": 0,
            "sps-id": self.number,
            "dpb-size": max(1, min(16, self.buffered)),
            "b-pyramid": "normal" if pyramid else "none",
            "bframes": frames,
        }
        joined = ":".join([X264, *(f"{name}={value}" for name, value in own.items())])
        return {
            "preset": encoding.preset,
            "crf": str(encoding.crf),
            "threads": "1",
            "profile": self.profile,
            "x264-params": joined,
        }


_FOUR = b"\1\0\0\0\xff"
"""The head of an `avcC` record with lengths of four bytes."""


def _encoded(
    source: SourceReader, first: int, last: int, style: _Style, rate: Fraction, encoding: Encoding
) -> tuple[list[_Picture], Thumbnail, h264.Sets | None]:
    """The frames as pictures in decode order, their thumbnails, the parameter sets; nothing for no frames."""
    if first > last:
        return [], np.empty((0, 27, 48, 3), np.uint8), None
    table = source.tables.frames
    context: Any = None
    packets: list[Any] = []
    seen: list[Thumbnail] = []
    for index, frame, thumbnail in source.frames(first, last, compared=last - first + 1):
        if context is None:
            context = _encoder(frame, source, rate, style.options(encoding))
        elif (frame.width, frame.height, frame.format.name) != (context.width, context.height, context.pix_fmt):
            raise NotCopyableError("the picture's size changes")
        frame.pts, frame.time_base, frame.pict_type = int(table.pts[index]), table.time_base, 0
        assert thumbnail is not None
        seen.append(thumbnail)
        packets += context.encode(frame)
    packets += context.encode(None)
    pictures = []
    for packet in packets:
        kept = (unit for unit in h264.units(bytes(packet), context.extradata) if h264.kind(unit) != h264.SEI)
        pictures.append(_Picture(packet.pts, h264.joined(kept), packet.is_keyframe))
    return pictures, np.stack(seen), h264.stored_sets(context.extradata)


def _encoder(picture: Any, source: SourceReader, rate: Fraction, options: dict[str, str]) -> Any:
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = picture.width, picture.height, picture.format.name
    context.time_base, context.framerate = source.tables.frames.time_base, rate
    context.sample_aspect_ratio = source.video.codec_context.sample_aspect_ratio or Fraction(0, 1)
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.bitexact.value | av.codec.context.Flags.global_header.value
    context.options = options
    for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
        setattr(context, name, getattr(picture, name))
    return context
