"""What the container of a media file says: its streams and the facts of them."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidcap.errors import MediaError
from vidcap.media.facts import MediaFacts, SourceFacts
from vidcap.media.opening import CONTAINERS, open_media

__all__ = [
    "CONTAINERS",
    "MediaFacts",
    "SourceFacts",
    "audio_stream",
    "facts_of",
    "open_media",
    "probe",
    "video_stream",
]

PQ_AND_HLG = (16, 18)
"""Transfer characteristics of HDR pictures (ITU-T H.273, table 3)."""


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream that players show: marked as default, else the largest, else the first; never a cover picture.

    Raises `MediaError` (`media.no_video`, `media.unrecognised`).
    """
    films = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not films:
        raise MediaError("media.no_video", "no video stream")
    film = max(films, key=lambda stream: (_is_default(stream), _pixels(stream)))
    if film.codec_context is None:
        raise MediaError("media.unrecognised", "there is no decoder for its video")
    return film


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The audio stream that players play, decodable or not: marked as default, else the first; None without one."""
    return max(container.streams.audio, key=_is_default, default=None)


def _is_default(stream: VideoStream | AudioStream) -> bool:
    return "default" in (getattr(stream.disposition, "name", None) or "")


def _pixels(stream: VideoStream) -> int:
    context: Any = stream.codec_context
    return context.width * context.height if context is not None else 0


def _is_cover(stream: VideoStream) -> bool:
    return "attached_pic" in (getattr(stream.disposition, "name", None) or "")


def facts_of(container: InputContainer, frame: VideoFrame | None = None) -> MediaFacts:
    """The facts of an open container; `frame`, its first picture, tells cropping, rotation and interlacing best."""
    video, sound = video_stream(container), audio_stream(container)
    context: Any = video.codec_context
    heard: Any = sound.codec_context if sound is not None else None
    sar = video.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
    width, height = (frame.width, frame.height) if frame is not None else (context.width, context.height)
    transfer = int(frame.color_trc if frame is not None else context.color_trc or 0)
    return MediaFacts(
        container=container.format.name,
        video_codec=context.codec.canonical_name,
        pix_fmt=frame.format.name if frame is not None else context.pix_fmt or "",
        profile=context.profile or "",
        width=width,
        height=height,
        rotation=round(frame.rotation / 90) * 90 % 360 if frame is not None else 0,
        # A pixel eight times as wide as high is a broken header, not a picture.
        sar=sar if Fraction(1, 8) <= sar <= 8 else Fraction(1),
        interlaced=bool(frame is not None and frame.interlaced_frame) or int(context.field_order or 0) > 1,
        hdr=transfer in PQ_AND_HLG or int(context.color_trc or 0) in PQ_AND_HLG,
        time_base=video.time_base or Fraction(1, 1000),
        has_audio=sound is not None,
        audio_codec=heard.codec.canonical_name if heard is not None else "",
        sample_rate=heard.sample_rate or 0 if heard is not None else 0,
        channels=heard.channels or 0 if heard is not None else 0,
        extradata=hashlib.sha256(context.extradata).hexdigest() if context.extradata else "",
    )


def probe(path: str) -> MediaFacts:
    """The facts of a file from its headers and its first decodable picture. Raises as `open_media`, `video_stream`."""
    with open_media(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        frame = None
        try:
            frame = next(container.decode(stream), None)
        except (av.error.FFmpegError, StopIteration):
            frame = None  # the headers alone must do
        return facts_of(container, frame)
