"""The one door through which every media file is opened: once, and nothing beside it is ever read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from types import TracebackType

import av
import av.error
from av.container import InputContainer

from vidcap.errors import MediaError, TransientError
from vidcap.media.sniff import HEAD_BYTES, ends_early, playlist_kind

# Demuxers that read their own bytes only. Playlists (hls, dash, concat), devices, image sequences and everything that
# composes other files stay out. FFmpeg knows a demuxer by any of its names.
CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,ogg,asf,gif,h264,hevc,h263,vc1,av1,obu,ivf,mjpeg,mxf,"
    "nut,dv,rm,yuv4mpegpipe,wav,w64,flac,mp3,aac,ac3,eac3,amr,aiff,caf,au"
)

UNSMOOTHED = {"skip_loop_filter": "noref"}
"""Option of a decoder that leaves out the smoothing of block edges in pictures that no other picture is built on.

H.264, HEVC and VP8 decode in up to 0.87 of the time. Of 41 films the pictures concerned stayed above 47 dB, most above
55: for looking, measuring and comparing, never for what is encoded again.
"""

_OF_THE_DISK = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)


class SourceFile:
    """A source that was opened once, for whoever reads its bytes and for libav, which gets the same descriptor.

    Raises `MediaError` (`source.missing`, `media.not_a_file`, `.empty`, `.unreadable`, `.forbidden_protocol`) unless it
    is a regular, readable file with bytes (no pipe is opened); `TransientError` where the disk failed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with _explained(path):
            _check_regular(os.stat(path))
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - `close` closes it
            try:
                self.status = _check_regular(os.fstat(self._file.fileno()))
                kind = playlist_kind(self._file.read(HEAD_BYTES))
                if kind:
                    raise MediaError("media.forbidden_protocol", f"no media but a text of the kind: {kind}")
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """libav's own copy of the descriptor stays open until its container is closed."""
        self._file.close()

    def sha256(self) -> str:
        """Of all bytes. Reading them first also warms the cache for the decoder."""
        with self._reading():
            self._file.seek(0)
            return hashlib.file_digest(self._file, "sha256").hexdigest()

    def ends_early(self) -> str:
        """In words, how the file is shorter than its container announces (`vidcap.media.sniff`)."""
        with self._reading():
            return ends_early(self._file, self.status.st_size)

    def check_unchanged(self) -> None:
        """Raises `MediaError` (`source.changed`) where its name stands for other bytes than were opened."""
        with _explained(self.path):
            now, then = os.stat(self.path), self.status
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (then.st_ino, then.st_size, then.st_mtime_ns):
            raise MediaError("source.changed", "the file was written to while it was decoded")

    def media(self) -> InputContainer:
        """The opened container, read through this descriptor: nobody else may move it meanwhile. Close it yourself.

        Raises what `open_media` does.
        """
        with self._reading():
            self._file.seek(0)
        try:
            # Of other protocols none is allowed, so that nothing but this file is ever read.
            return _open("fd:", {"fd": str(self._file.fileno()), "protocol_whitelist": "fd"})
        except (av.error.InvalidDataError, ValueError):
            pass  # what the bytes do not tell, the suffix of the name may
        except (OSError, MemoryError, av.error.FFmpegError) as error:  # not all of FFmpeg's errors are OSErrors
            raise self._refused(error) from error
        try:
            # `file:` keeps a name with a colon or a pipe from being read as another protocol.
            return _open(f"file:{self.path}", {"protocol_whitelist": "file"})
        except (OSError, ValueError, MemoryError, av.error.FFmpegError) as error:
            raise self._refused(error) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransientError(f"reading `{self.path}` failed: {error.strerror}") from error

    def _refused(self, error: Exception) -> Exception:
        if isinstance(error, PermissionError):
            return MediaError("media.forbidden_protocol", "it names other files or addresses")
        if isinstance(error, MemoryError):
            return MediaError("media.too_large", "it asks for more memory than there is")
        if getattr(error, "errno", None) in _OF_THE_DISK:
            return TransientError(f"reading `{self.path}` failed: {error}")
        early = self.ends_early()
        if early:
            return MediaError("media.truncated", early)
        return MediaError("media.unrecognised", getattr(error, "strerror", None) or str(error))


def _check_regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("media.not_a_file", "no regular file")
    if status.st_size == 0:
        raise MediaError("media.empty", "no bytes")
    return status


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """What the system says of a file that cannot be read, as a verdict on it or on the disk."""
    try:
        yield
    except PermissionError as error:
        raise MediaError("media.unreadable", str(error.strerror)) from error
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise TransientError(f"reading `{path}` failed: {error.strerror}") from error
        raise MediaError("source.missing", str(error.strerror)) from error
    except ValueError as error:
        raise MediaError("source.missing", str(error)) from error


def _open(url: str, options: dict[str, str]) -> InputContainer:
    return av.open(url, metadata_errors="replace", options={**options, "format_whitelist": CONTAINERS})


def open_media(path: str) -> InputContainer:
    """Open one regular file for reading, once; close it yourself. Nothing but this file is ever read.

    Raises `MediaError` (`source.missing`, `media.not_a_file`, `.empty`, `.unreadable`, `.forbidden_protocol`,
    `.truncated`, `.unrecognised`, `.too_large`) and `TransientError` where the disk failed.
    """
    with SourceFile(path) as file:
        return file.media()
