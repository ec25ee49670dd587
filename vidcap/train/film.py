"""One opened media file: chosen frames of its picture track and a stretch of its sound, read in one opening.

The file is untrusted: FFmpeg reads the bytes it is given and nothing else, on one thread, and what breaks is an
`ItemError`.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
import numpy.typing as npt

from vidcap.errors import ItemError
from vidcap.models.fbank import RATE, WINDOW_SECONDS

Pixels = npt.NDArray[np.uint8]
Wave = npt.NDArray[np.float32]

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,wav,mp3,flac,aac,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,image2,gif"
"""What is opened. Playlists and scripts, which name other files, are not among them."""
MAX_PIXELS = 8_847_360
"""Of a frame: 4096×2160."""
MAX_PACKETS = 2_000_000
"""Of the picture track: 18 hours at 30 frames a second."""
GAP = 0.02
"""Seconds by which sound may be off its timestamps before it is placed anew."""
SEEK_AHEAD = 0.5
"""Seconds to seek ahead of wanted sound: decoders need a packet or two to settle."""
BEGINNING = 2 * SEEK_AHEAD + WINDOW_SECONDS + 2.0
"""So many seconds of sound packets are held while the picture track is looked through, which later sound need not be:
what begins after `2 * SEEK_AHEAD` is sought. Two seconds to spare for what a decoder holds back."""
MAX_HELD = 256 * 2**20
"""Bytes of them."""
UNKNOWN_SECONDS = 1800.0
"""How much of a sound track is looked at that does not say how long it is."""
SPARSE = frozenset({"h264"})
"""Codecs whose packets say whether other frames build on theirs, and whose decoder passes over those that none does."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The chosen frames, T times H×W×3, and the seconds that the span they are from covers in its file."""

    frames: list[Pixels]
    start: float
    end: float | None


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator[Film]:
    """Raises `ItemError` (`media.unrecognised`, and `sample.undecodable` for what breaks while it is open)."""
    try:
        box: Any = av.open(
            file, "r", metadata_errors="replace", options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
        )
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise ItemError("media.unrecognised", _told(error)) from error
    with box:
        try:
            yield Film(box)
        except (av.error.FFmpegError, MemoryError) as error:
            raise ItemError("sample.undecodable", _told(error)) from error


def _told(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


class Film:
    """Ask for its frames first, once, then for its sound."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self._beginning: list[Any] | None = None
        """Sound packets from the start on, once the file has been looked through."""

    def pictures(
        self,
        choose: Callable[[int], Sequence[int]],
        *,
        span: tuple[int, int | None] = (0, None),
        seconds: float | None = None,
        expected: int = 0,
    ) -> Pictures:
        """The frames that `choose` names, ascending, of the N it is told: those of `span` in the first `seconds`.

        Raises `ItemError` as `vidcap.train.decode.pictures` says.
        """
        box = self._box
        stream = self._picture_track("no video stream")
        stream.codec_context.thread_type = "NONE"
        times, keys = self._timetable(stream)
        if not times:
            raise ItemError("media.no_frames", "no frame has a time")
        if len(times) < expected:
            raise ItemError("media.truncated", f"{len(times)} of {expected} frames")
        base, zero = float(stream.time_base), times[0]
        first, last = span
        stop = len(times) if last is None else min(len(times), last + 1)
        if seconds is not None:
            stop = min(stop, bisect_right(times, zero + seconds / base))
        if not first < stop:
            raise ItemError("media.no_frames", f"frames {first} to {last} of {len(times)}")
        chosen = [first + place for place in choose(stop - first)]
        found = _exactly(box, stream, keys, [times[place] for place in chosen])
        if found is None:
            found = _frames_at(box, stream, times, keys, chosen)
        # A frame ends where the next one begins; the last one ends with the file.
        end = (times[stop] - zero) * base if stop < len(times) else None
        return Pictures([_pixels(frame) for frame in found], (times[first] - zero) * base, end)

    def picture(self) -> Pixels:
        """The first one of an image file. Raises `ItemError`."""
        self._picture_track("no picture")
        for frame in self._box.decode(video=0):
            return _pixels(frame)
        raise ItemError("media.no_frames", "not a picture in it")

    @property
    def seconds(self) -> float:
        """Where the sound track ends, counted as `sound` counts. Raises `ItemError` (`sample.no_sound`)."""
        box, stream = self._box, self._sound_track()
        zero = (box.start_time or 0) / av.time_base
        if stream.duration:
            return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - zero
        return (float(box.duration / av.time_base) if box.duration else UNKNOWN_SECONDS) - zero

    def sound(self, begin: float) -> Iterator[tuple[float, Wave]]:
        """(seconds, mono 16 kHz samples) from `begin` or somewhat before it, to the end of the track."""
        box, stream = self._box, self._sound_track()
        zero = (box.start_time or 0) / av.time_base
        at = zero + begin
        if at > 2 * SEEK_AHEAD:
            box.seek(int((at - SEEK_AHEAD) / stream.time_base), stream=stream, backward=True)
        elif self._beginning is not None:
            return _resampled(_decoded(stream, self._beginning), stream.time_base, zero)
        return _resampled(iter(box.decode(stream)), stream.time_base, zero)

    def _picture_track(self, otherwise: str) -> Any:
        box = self._box
        if not box.streams.video or box.streams.video[0].codec_context is None:
            raise ItemError("media.no_video", otherwise)
        context = box.streams.video[0].codec_context
        context.thread_count = 1
        if context.width * context.height > MAX_PIXELS:
            raise ItemError("media.too_large", f"{context.width}×{context.height} pixels")
        return box.streams.video[0]

    def _sound_track(self) -> Any:
        box = self._box
        if not box.streams.audio or box.streams.audio[0].codec_context is None:
            raise ItemError("sample.no_sound", "no audio track")
        box.streams.audio[0].codec_context.thread_count = 1
        return box.streams.audio[0]

    def _timetable(self, stream: Any) -> tuple[list[int], list[int]]:
        """Presentation times of all shown frames and of the key frames, ascending; nothing is decoded."""
        box = self._box
        times: set[int] = set()
        keys: set[int] = set()
        self._beginning, held, number = [], 0, 0
        heard = next(iter(box.streams.audio), None)
        until = ((box.start_time or 0) / av.time_base + BEGINNING) / heard.time_base if heard is not None else 0
        for packet in box.demux(stream) if heard is None else box.demux(stream, heard):
            if packet.stream is heard:
                if packet.size and (packet.pts is None or packet.pts < until) and held < MAX_HELD:
                    self._beginning.append(packet)
                    held += packet.size
                continue
            number += 1
            if number > MAX_PACKETS:
                raise ItemError("media.too_large", f"more than {MAX_PACKETS} packets")
            if not packet.size or packet.pts is None:
                continue
            if packet.is_keyframe:
                keys.add(packet.pts)
            if not packet.is_discard:
                times.add(packet.pts)
        return sorted(times), sorted(keys)


def _exactly(box: Any, stream: Any, keys: list[int], wanted: Sequence[int]) -> list[Any] | None:
    """The frames of these ascending times, without decoding others that no frame builds on.

    None for codecs outside of `SPARSE`, and where a frame does not come as its packet promised.
    """
    context = stream.codec_context
    if context.name not in SPARSE:
        return None
    found: dict[int, Any] = {}
    try:
        for before, group in groupby(dict.fromkeys(wanted), lambda time: bisect_right(keys, time)):
            if not before:
                return None
            missing = set(group)
            box.seek(keys[before - 1], stream=stream, backward=True)
            for packet in box.demux(stream):
                context.skip_frame = "DEFAULT" if packet.pts in missing else "NONREF"
                missing.discard(packet.pts)
                frames = packet.decode()
                if not missing and packet.size:
                    frames += context.decode(None)  # all were given: the decoder need not be pushed to let them go
                found |= {frame.pts: frame for frame in frames if frame.pts is not None}
                if not missing:
                    break
    except av.error.FFmpegError:
        return None
    finally:
        context.skip_frame = "DEFAULT"
    return [found[time] for time in wanted] if all(time in found for time in wanted) else None


def _frames_at(box: Any, stream: Any, times: list[int], keys: list[int], chosen: Sequence[int]) -> list[Any]:
    """The frames at these ascending places; one that the decoder does not give is replaced by the next it gives."""
    found: list[Any] = []
    reading: Iterator[Any] | None = None
    current: Any = None
    for place in chosen:
        target = times[place]
        before = bisect_right(keys, target)
        key = keys[before - 1] if before else times[0]
        if reading is None or current is None or (current.pts < target and key > current.pts):
            reading, current = _from(box, stream, key, target)
        while current is not None and current.pts < target:
            after = next(reading, None)
            if after is None:
                break
            current = after
        if current is None:
            raise ItemError("media.no_frames", f"no frame at place {place}")
        found.append(current)
    return found


def _from(box: Any, stream: Any, key: int, target: int) -> tuple[Iterator[Any], Any]:
    """Decoding from the key frame on, and the first frame; from further back where the seek lands behind the target."""
    for at in (key, min(0, key)):
        box.seek(at, stream=stream, backward=True)
        reading = (frame for frame in box.decode(stream) if frame.pts is not None)
        first = next(reading, None)
        if first is not None and first.pts <= target:
            break
    return reading, first


def _pixels(frame: Any) -> Pixels:
    # One thread: starting others costs more than the conversion of a small picture.
    pixels: Pixels = frame.to_ndarray(format="rgb24", threads=1)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _decoded(stream: Any, packets: Sequence[Any]) -> Iterator[Any]:
    for packet in packets:
        yield from packet.decode()
    yield from stream.codec_context.decode(None)


def _resampled(frames: Iterator[Any], base: Any, zero: float) -> Iterator[tuple[float, Wave]]:
    """Placed by timestamps (in units of `base`) at the start and after each gap, by counting in between."""
    resampler: Any = None
    setup: tuple[Any, ...] = ()
    at = due = 0.0
    ticks, per = base.numerator, base.denominator
    for frame in frames:
        samples, rate = frame.samples, frame.sample_rate
        if not samples or rate <= 0:
            continue
        time = due if frame.pts is None else frame.pts * ticks / per
        now = (frame.format.name, frame.layout.name, rate)
        if resampler is None or now != setup or abs(time - due) > GAP:
            if resampler is not None:
                yield from _placed(resampler.resample(None), at - zero)
            resampler, setup, at, due = av.AudioResampler(format="fltp", layout="mono", rate=RATE), now, time, time
        due += samples / rate
        frame.pts = None  # counted from the first one; rounded timestamps would make it stretch
        for block in resampler.resample(frame):
            yield from _placed([block], at - zero)
            at += block.samples / RATE
    if resampler is not None:
        yield from _placed(resampler.resample(None), at - zero)


def _placed(blocks: Sequence[Any], at: float) -> Iterator[tuple[float, Wave]]:
    for block in blocks:
        yield at, np.frombuffer(block.planes[0], np.float32, block.samples)
        at += block.samples / RATE
