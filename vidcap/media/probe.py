"""Opening media: the one door through which every file is opened, and what its container says."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from fractions import Fraction
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidcap.errors import MediaError, TransientError
from vidcap.media.facts import MediaFacts, SourceFacts
from vidcap.media.sniff import HEAD_BYTES, ends_early, playlist_kind

__all__ = ["MediaFacts", "SourceFacts", "audio_stream", "check_file", "facts_of", "open_media", "probe", "video_stream"]

# Demuxers that read their own bytes only. Playlists (hls, dash, concat), devices, image sequences and everything that
# composes other files stay out. FFmpeg knows a demuxer by any of its names.
CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,ogg,asf,gif,h264,hevc,h263,vc1,av1,obu,ivf,mjpeg,mxf,"
    "nut,dv,rm,yuv4mpegpipe,wav,w64,flac,mp3,aac,ac3,eac3,amr,aiff,caf,au"
)

PQ_AND_HLG = (16, 18)
"""Transfer characteristics of HDR pictures (ITU-T H.273, table 3)."""


def check_file(path: str) -> os.stat_result:
    """The file's `stat`. Raises `MediaError` unless it is a regular, readable file with bytes; no pipe is opened."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError("media.not_a_file", "no regular file")
        if status.st_size == 0:
            raise MediaError("media.empty", "no bytes")
        with open(path, "rb") as handle:
            kind = playlist_kind(handle.read(HEAD_BYTES))
    except PermissionError as error:
        raise MediaError("media.unreadable", str(error.strerror)) from error
    except OSError as error:
        if error.errno in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE):
            raise TransientError(f"reading `{path}` failed: {error.strerror}") from error
        raise MediaError("source.missing", str(error.strerror)) from error
    except ValueError as error:
        raise MediaError("source.missing", str(error)) from error
    if kind:
        raise MediaError("media.forbidden_protocol", f"no media but a text of the kind: {kind}")
    return status


def open_media(path: str) -> InputContainer:
    """Open one regular file for reading; close it yourself. Nothing but this file is ever read.

    Raises `MediaError` (`source.missing`, `media.not_a_file`, `.empty`, `.unreadable`, `.forbidden_protocol`,
    `.truncated`, `.unrecognised`, `.too_large`) and `TransientError` where the disk failed.
    """
    size = check_file(path).st_size
    try:
        # `file:` keeps a name with a colon or a pipe from being read as another protocol.
        return av.open(
            f"file:{path}",
            metadata_errors="replace",
            options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS},
        )
    except PermissionError as error:
        raise MediaError("media.forbidden_protocol", "it names other files or addresses") from error
    except MemoryError as error:
        raise MediaError("media.too_large", "it asks for more memory than there is") from error
    except (OSError, ValueError, av.error.FFmpegError) as error:  # not all of FFmpeg's errors are OSErrors
        if getattr(error, "errno", None) in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE):
            raise TransientError(f"reading `{path}` failed: {error}") from error
        with open(path, "rb") as handle:
            early = ends_early(handle, size)
        if early:
            raise MediaError("media.truncated", early) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError("media.unrecognised", reason) from error


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
