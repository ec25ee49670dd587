"""From a clip's bytes to numbers: T frames of its pictures and a window of 10 s of its sound.

Frames are taken one from each of T equal intervals, the sound from one place; where `draw` is given (training) both
are drawn, and one crop and flip for all frames; without (evaluation) they are the middle ones and the whole picture.
"""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vidcap.errors import ItemError
from vidcap.models.fbank import RATE, WINDOW, WINDOW_SECONDS, encoder_input

Draw = np.random.Generator
Pixels = npt.NDArray[np.uint8]
Wave = npt.NDArray[np.float32]

MELS = 64
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,wav,mp3,flac,aac,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,image2,gif"
"""What is opened. Playlists and scripts, which name other files, are not among them."""
MEAN = (0.485, 0.456, 0.406)
SPREAD = (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, channels red, green, blue in [0, 1]."""
CROP_AREA = (0.5, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
CROP_TRIES = 10
MAX_PIXELS = 8_847_360
"""Of a frame: 4096×2160."""
MAX_PACKETS = 2_000_000
"""Of the picture track: 18 hours at 30 frames a second."""
GAP = 0.02
"""Seconds by which sound may be off its timestamps before it is placed anew."""
SEEK_AHEAD = 0.5
"""Seconds to seek ahead of wanted sound: decoders need a packet or two to settle."""
UNKNOWN_SECONDS = 1800.0
"""How much of a sound track is looked at that does not say how long it is."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The chosen frames, T times H×W×3, and the seconds that the span they are from covers in its file."""

    frames: list[Pixels]
    start: float
    end: float | None


def places(frames: int, count: int, draw: Draw | None) -> list[int]:
    """`count` ascending frame indices, one from each of as many equal intervals of `frames` (at least 1).

    Drawn inside each interval, or its middle. A clip with fewer frames gives each once, then the last again and again.
    """
    distinct = min(count, frames)
    bounds = [index * frames // distinct for index in range(distinct + 1)]
    found = [(low + high - 1) // 2 if draw is None else int(draw.integers(low, high)) for low, high in pairwise(bounds)]
    return found + [frames - 1] * (count - distinct)


def pictures(
    file: BinaryIO,
    count: int,
    draw: Draw | None,
    *,
    span: tuple[int, int | None] = (0, None),
    seconds: float | None = None,
    expected: int = 0,
) -> Pictures:
    """`count` frames of a film, of the frames `span` (first, last; both inclusive) and the first `seconds` alone.

    Frames are found by presentation time; only what lies between a key frame and a chosen frame is decoded. Raises
    `ItemError` (`media.unrecognised`, `.no_video`, `.no_frames`, `.too_large`, `.truncated` where fewer than
    `expected` frames are there, `sample.undecodable`).
    """
    with _opened(file) as box:
        if not box.streams.video or box.streams.video[0].codec_context is None:
            raise ItemError("media.no_video", "no video stream")
        stream = box.streams.video[0]
        context = stream.codec_context
        context.thread_count, context.thread_type = 1, "NONE"
        if context.width * context.height > MAX_PIXELS:
            raise ItemError("media.too_large", f"{context.width}×{context.height} pixels")
        times, keys = _timetable(box, stream)
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
        chosen = [first + place for place in places(stop - first, count, draw)]
        found = _frames_at(box, stream, times, keys, chosen)
        # A frame ends where the next one begins; the last one ends with the file.
        end = (times[stop] - zero) * base if stop < len(times) else None
        return Pictures([_pixels(frame) for frame in found], (times[first] - zero) * base, end)


def picture(file: BinaryIO) -> Pixels:
    """The first picture of an image file, H×W×3. Raises `ItemError`."""
    with _opened(file) as box:
        if not box.streams.video or box.streams.video[0].codec_context is None:
            raise ItemError("media.no_video", "no picture")
        context = box.streams.video[0].codec_context
        context.thread_count = 1
        if context.width * context.height > MAX_PIXELS:
            raise ItemError("media.too_large", f"{context.width}×{context.height} pixels")
        for frame in box.decode(video=0):
            return _pixels(frame)
    raise ItemError("media.no_frames", "not a picture in it")


def pictures_tensor(frames: Sequence[Pixels], size: int, draw: Draw | None) -> Tensor:
    """Frames of equal H×W×3 → T×3×`size`×`size`, normalised; with `draw` one random crop and flip for all."""
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    if draw is not None:
        top, left, height, width = crop(stacked.shape[2], stacked.shape[3], draw)
        stacked = stacked[:, :, top : top + height, left : left + width]
    # uint8 in and out, with anti-aliasing: what picture libraries do.
    resized = functional.interpolate(stacked, (size, size), mode="bicubic", antialias=True, align_corners=False)
    if draw is not None and draw.random() < 0.5:
        resized = resized.flip(-1)
    mean, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
    return (resized.float() / 255 - mean) / spread


def crop(height: int, width: int, draw: Draw) -> tuple[int, int, int, int]:
    """Top, left, height, width: half to all of the area, aspect 3:4 to 4:3; where that fits nowhere the middle."""
    for _ in range(CROP_TRIES):
        area = height * width * draw.uniform(*CROP_AREA)
        aspect = math.exp(draw.uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return int(draw.integers(0, height - high + 1)), int(draw.integers(0, width - wide + 1)), high, wide
    high = min(height, round(width / CROP_ASPECT[0]))
    wide = min(width, round(height * CROP_ASPECT[1]))
    return (height - high) // 2, (width - wide) // 2, high, wide


def sound(file: BinaryIO, draw: Draw | None, *, start: float = 0.0, end: float | None = None) -> Wave:
    """10 s of 16 kHz mono in [-1, 1] from [start, end) seconds of a file, silence after what is shorter.

    Of longer sound the window is drawn, or the middle one. Raises `ItemError` (`sample.no_sound`,
    `media.unrecognised`, `sample.undecodable`).
    """
    with _opened(file) as box:
        if not box.streams.audio or box.streams.audio[0].codec_context is None:
            raise ItemError("sample.no_sound", "no audio track")
        stream = box.streams.audio[0]
        stream.codec_context.thread_count = 1
        zero = (box.start_time or 0) / av.time_base
        if end is None:
            end = _seconds(box, stream) - zero
        spare = max(0.0, end - start - WINDOW_SECONDS)
        begin = start + (spare / 2 if draw is None else float(draw.uniform(0, spare)) if spare else 0.0)
        length = min(WINDOW, round((end - begin) * RATE))
        wave = np.zeros(WINDOW, np.float32)
        heard = False
        for at, block in _resampled(_sound_frames(box, stream, zero + begin)):
            offset = round((at - zero - begin) * RATE)
            if offset >= length:
                break
            low, high = max(0, offset), min(length, offset + len(block))
            if low < high:
                wave[low:high] = block[low - offset : high - offset]
                heard = True
        if not heard:
            raise ItemError("sample.no_sound", "no samples in its audio track")
        return wave


def spectrum(wave: Wave) -> Tensor:
    """10 s of sound → 998×64, as BEATs reads it."""
    return encoder_input(torch.from_numpy(wave), MELS)


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    """An untrusted file as a container; FFmpeg reads these bytes and nothing else."""
    try:
        box: Any = av.open(
            file, "r", metadata_errors="replace", options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
        )
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise ItemError("media.unrecognised", _told(error)) from error
    with box:
        try:
            yield box
        except (av.error.FFmpegError, MemoryError) as error:
            raise ItemError("sample.undecodable", _told(error)) from error


def _told(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _timetable(box: Any, stream: Any) -> tuple[list[int], list[int]]:
    """Presentation times of all shown frames and of the key frames, ascending; nothing is decoded."""
    times: set[int] = set()
    keys: set[int] = set()
    for number, packet in enumerate(box.demux(stream)):
        if number > MAX_PACKETS:
            raise ItemError("media.too_large", f"more than {MAX_PACKETS} packets")
        if not packet.size or packet.pts is None:
            continue
        if packet.is_keyframe:
            keys.add(packet.pts)
        if not packet.is_discard:
            times.add(packet.pts)
    return sorted(times), sorted(keys)


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
    pixels: Pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _seconds(box: Any, stream: Any) -> float:
    """Where a sound track ends, in the container's seconds."""
    if stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    return float(box.duration / av.time_base) if box.duration else UNKNOWN_SECONDS


def _sound_frames(box: Any, stream: Any, begin: float) -> Iterator[Any]:
    if begin > 2 * SEEK_AHEAD:
        box.seek(int((begin - SEEK_AHEAD) / stream.time_base), stream=stream, backward=True)
    return iter(box.decode(stream))


def _resampled(frames: Iterator[Any]) -> Iterator[tuple[float, Wave]]:
    """(seconds, mono 16 kHz samples): placed by timestamps at the start and after each gap, by counting in between."""
    resampler: Any = None
    setup: tuple[Any, ...] = ()
    at = due = 0.0
    for frame in frames:
        if not frame.samples or frame.sample_rate <= 0:
            continue
        time = due if frame.pts is None else float(frame.pts * frame.time_base)
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or now != setup or abs(time - due) > GAP:
            if resampler is not None:
                yield from _placed(resampler.resample(None), at)
            resampler, setup, at, due = av.AudioResampler(format="fltp", layout="mono", rate=RATE), now, time, time
        due += frame.samples / frame.sample_rate
        frame.pts = None  # counted from the first one; rounded timestamps would make it stretch
        for block in resampler.resample(frame):
            yield from _placed([block], at)
            at += block.samples / RATE
    if resampler is not None:
        yield from _placed(resampler.resample(None), at)


def _placed(blocks: Sequence[Any], at: float) -> Iterator[tuple[float, Wave]]:
    for block in blocks:
        yield at, block.to_ndarray().reshape(-1)
        at += block.samples / RATE
