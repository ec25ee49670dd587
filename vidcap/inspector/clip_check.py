"""Decode a sample's media and hold it against its record: frames, size, rate, length, tracks, the 16 kHz sound."""

from __future__ import annotations

import itertools
import statistics
from fractions import Fraction
from typing import Any, BinaryIO

import av

from vidcap.shards.reader import RawSample
from vidcap.shards.schema import SampleJson

PIXEL_LIMIT = 2**26
"""Pictures above it are not decoded: a header of a few bytes can ask for gigabytes."""

SECONDS_OFF = 0.04
FLAC_RATE = 16_000


def check_media(sample: RawSample, record: SampleJson) -> list[str]:
    """What in the sample's `.mp4` and `.flac` does not agree with its record; never raises for what they hold.

    The whole clip is decoded with one thread. Lengths may differ from the span by half a frame, the sound's by 1 % or
    40 ms.
    """
    wrong = []
    for suffix, check in (("mp4", _check_clip), ("flac", _check_flac)):
        if suffix in sample.members:
            try:
                with sample.open(suffix) as file:
                    wrong += check(file, record)
            except (av.error.FFmpegError, OverflowError, ValueError) as error:
                wrong.append(f".{suffix} cannot be decoded ({type(error).__name__})")
    return wrong


def _open(file: BinaryIO, container: str) -> Any:
    # The demuxer is named, so that a playlist or script posing as a clip is never followed.
    return av.open(file, "r", format=container, metadata_errors="replace")


def _check_clip(file: BinaryIO, record: SampleJson) -> list[str]:
    with _open(file, "mp4") as box:
        if len(box.streams.video) != 1:
            return [f".mp4 has {len(box.streams.video)} video tracks"]
        wrong = _check_tracks(box, record)
        stream = box.streams.video[0]
        if stream.width * stream.height > PIXEL_LIMIT:
            return [*wrong, f"pictures of {stream.width}x{stream.height} are not decoded"]
        stream.thread_count = 1
        base = Fraction(stream.time_base)
        times: list[int] = []
        end = stream.duration
        for frame in box.decode(stream):
            if frame.pts is None:
                return [*wrong, "a frame has no presentation time"]
            times.append(frame.pts)
            if len(times) > record.video.frames:
                break
    wrong += _check_frames(times, end, base, record)
    file.seek(0)
    with _open(file, "mp4") as box:
        for sound in box.streams.audio[:1]:
            if next(box.decode(sound), None) is None:
                wrong.append("the audio track holds no sound")
    return wrong


def _check_tracks(box: Any, record: SampleJson) -> list[str]:
    """What the headers say against the record."""
    video, audio = record.video, record.audio
    stream = box.streams.video[0]
    wrong = []
    if (stream.width, stream.height) != (video.width, video.height):
        wrong.append(f"pictures are {stream.width}x{stream.height}, the record says {video.width}x{video.height}")
    if stream.codec_context.codec.canonical_name != video.codec:
        wrong.append(f"video codec is {stream.codec_context.codec.canonical_name}, not as recorded")
    # With an edit list the container counts hidden samples too.
    counted = stream.frames
    if counted and (counted < video.frames if video.cut == "edit_list" else counted != video.frames):
        wrong.append(f"the container counts {counted} frames, the record {video.frames}")
    tracks = box.streams.audio
    if bool(tracks) != audio.present:
        wrong.append(f"{len(tracks)} audio tracks, though the record says present: {str(audio.present).lower()}")
    elif tracks:
        sound = tracks[0].codec_context
        facts = (sound.codec.canonical_name, sound.sample_rate, sound.layout.nb_channels)
        if facts != (audio.codec, audio.sample_rate, audio.channels):
            wrong.append(f"audio is {facts[0]}, {facts[1]} Hz, {facts[2]} channels, not as recorded")
    return wrong


def _check_frames(times: list[int], length: int | None, base: Fraction, record: SampleJson) -> list[str]:
    """`length`: of the track. Single frames' durations are no help: MP4 has only differences of decode times."""
    video = record.video
    if len(times) != video.frames:
        many = "more than " if len(times) > video.frames else ""
        return [f"decodes to {many}{min(len(times), video.frames)} frames, the record says {video.frames}"]
    wrong = []
    if times[0] != 0:
        wrong.append(f"the first frame is at {float(times[0] * base):.3f} s, not 0")
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    if min(gaps, default=1) <= 0:
        wrong.append("presentation times do not ascend")
    rate = Fraction(video.fps)
    step = Fraction(statistics.median(gaps)) * base if gaps else 1 / rate
    end = length * base if length else times[-1] * base + step
    if abs(end - Fraction(record.seconds)) > step / 2:
        wrong.append(f"lasts {float(end):.3f} s, the span {record.seconds:.3f} s")
    if not video.vfr and abs(times[-1] * base - (len(times) - 1) / rate) > step / 2:
        wrong.append(f"frame rate is not {video.fps}: {len(times)} frames in {float(end):.3f} s")
    return wrong


def _check_flac(file: BinaryIO, record: SampleJson) -> list[str]:
    with _open(file, "flac") as box:
        context = box.streams.audio[0].codec_context
        rate, channels = context.sample_rate, context.layout.nb_channels
        context.thread_count = 1
        samples = sum(frame.samples for frame in box.decode(audio=0))
    if (rate, channels) != (FLAC_RATE, 1):
        return [f".flac is {rate} Hz with {channels} channels, not 16000 Hz mono"]
    seconds = samples / rate
    if abs(seconds - record.seconds) > max(SECONDS_OFF, 0.01 * record.seconds):
        return [f".flac lasts {seconds:.3f} s, the span {record.seconds:.3f} s"]
    return []
