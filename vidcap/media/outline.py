"""What a listing of media says of each file: its headers and its first picture, without decoding it all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidcap.errors import MediaError
from vidcap.media.probe import audio_stream, facts_of, open_media, video_stream

MAX_PIXELS = 1 << 26
"""A larger first picture is not decoded: 64 million pixels are four times 4K in both directions."""
MAX_PACKETS = 200_000
"""How many packets are read at most in search of a first picture, or of the end of a file that does not say it."""
_ONE_PICTURE = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """`seconds` and `fps` as the container says them (0.0 where it does not), `width` and `height` as decoded.

    `rotation`: degrees counter-clockwise that show the picture upright. `audio_languages`: the language codes of
    the audio streams as the file has them, that of the one which players play first, joined by commas.
    """

    container: str = ""
    seconds: float = 0.0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    rotation: int = 0
    video_codec: str = ""
    has_audio: bool = False
    audio_codec: str = ""
    audio_languages: str = ""


def outline(path: str) -> Outline:
    """The outline of one file. Raises what `open_media` and `video_stream` do, and `MediaError` (`media.no_frames`)."""
    with open_media(path) as container:
        stream = video_stream(container)
        if container.format.name in ("mjpeg", "image2") and _is_picture(path):
            raise MediaError("media.unrecognised", "a picture, no video")
        facts = facts_of(container, _first_picture(container, stream))
        said = _said(container, stream)
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        played = audio_stream(container)
        streams = [*([played] if played is not None else []), *container.streams.audio]
        languages = [language for audio in streams if (language := _language(audio))]
    if not said:
        with open_media(path) as container:
            said = _measured(container, video_stream(container))
    return Outline(
        container=facts.container,
        seconds=round(float(said), 3),
        fps=round(float(rate), 6),
        width=facts.width,
        height=facts.height,
        rotation=facts.rotation,
        video_codec=facts.video_codec,
        has_audio=facts.has_audio,
        audio_codec=facts.audio_codec,
        audio_languages=",".join(dict.fromkeys(languages)),
    )


def _is_picture(path: str) -> bool:
    with open(path, "rb") as handle:
        return handle.read(8).startswith(_ONE_PICTURE)


def _first_picture(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    """The first picture that can be decoded; None for one that is too large to look at."""
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        return None
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        for packet in _packets(container, stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            if frames:
                found: VideoFrame = frames[0]
                return found
    except av.error.FFmpegError:
        pass
    raise MediaError("media.no_frames", "no picture could be decoded")


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    for count, packet in enumerate(container.demux(stream)):
        if count >= MAX_PACKETS:
            return
        yield packet


def _said(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds of the video, else of the whole, as the headers say it; 0 where they do not."""
    if stream.duration and stream.duration > 0 and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, 1_000_000) if container.duration and container.duration > 0 else Fraction(0)


def _measured(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds between the first and the end of the last video packet; nothing is decoded."""
    first, end = None, 0
    try:
        for packet in _packets(container, stream):
            if packet.pts is not None:
                first = packet.pts if first is None else min(first, packet.pts)
                end = max(end, packet.pts + (packet.duration or 0))
    except av.error.FFmpegError:
        pass  # up to here it can be read
    return (end - first) * stream.time_base if first is not None and stream.time_base else Fraction(0)


def _language(stream: Any) -> str:
    """The language of a stream as its header has it; "" where it has none, or one that is no code."""
    code = str(stream.metadata.get("language", "")).strip().lower()
    return code if code.isascii() and code.replace("-", "").isalnum() and len(code) <= 35 and code != "und" else ""
