"""Reading a source again by its tables: exactly the packets of a run, exactly the frames of a span, its sound."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import av.error
import numpy as np

from vidcap.errors import MediaError
from vidcap.media.frames import NO_TIME, SourceTables
from vidcap.media.probe import audio_stream, open_media, video_stream
from vidcap.media.thumbnails import Thumbnailer, hashes

_SLACK = Fraction(1, 2)
"""Seconds of sound to seek ahead of what is wanted: containers land on packets, not on samples."""


class OutOfStepError(Exception):
    """After a seek the decoder's frames were not those of the table; read from the start instead."""


class SourceReader:
    """One opened source. Every method may be called in any order; near-by spans in order seek least.

    What is read is compared with the tables, packet by packet or thumbnail by thumbnail; where it differs a method
    raises `MediaError("source.changed")`.
    """

    def __init__(self, path: str, tables: SourceTables) -> None:
        self.path = path
        self.tables = tables
        self._container: Any = None
        self._video: Any = None
        self._open()

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def video(self) -> Any:
        return self._video

    @property
    def audio(self) -> Any | None:
        """The first audio stream, or None where there is none that can be decoded."""
        stream: Any = audio_stream(self._container)
        return stream if stream is not None and stream.codec_context is not None else None

    def packets(self, run: range) -> list[Any]:
        """The video packets of that run of the packet index, in decode order."""
        for from_start in (False, True):
            found = self._match(run, from_start)
            if found is not None:
                return found
        raise MediaError(
            "source.changed", f"packets {run.start} to {run.stop - 1} are not where the decode pass saw them"
        )

    def frames(self, first: int, last: int, *, from_start: bool = False) -> Iterator[tuple[int, Any]]:
        """(index, frame) of the span, decoded with one thread, each compared with the table's thumbnail hash.

        Raises `OutOfStepError` where seeking did not lead to the same frames: ask again with `from_start`.
        """
        table, thumbnail = self.tables.frames, Thumbnailer()
        wanted = first
        for index, frame in self._decoded(first, from_start):
            if index < first:
                continue
            if index != wanted or hashes(thumbnail(frame)[None])[0] != table.hash[index]:
                if from_start:
                    raise MediaError("source.changed", f"frame {wanted} does not decode as it did")
                raise OutOfStepError(f"frame {wanted}")
            yield index, frame
            if index == last:
                return
            wanted += 1
        if from_start:
            raise MediaError("source.changed", f"the source ends before frame {wanted}")
        raise OutOfStepError(f"frame {wanted}")

    def audio_packets(self, start: Fraction, end: Fraction) -> list[Any]:
        """Packets of the first audio stream that overlap [start, end) in the container's seconds, and one before."""
        return self._audio_from(start, end, lambda stream: self._container.demux(stream))

    def audio_frames(self, start: Fraction, end: Fraction) -> Iterator[Any]:
        """Decoded audio that overlaps [start, end) in the container's seconds; starts up to a second before."""
        yield from self._audio_from(start, end, lambda stream: _decode(self._container, stream))

    def _audio_from(self, start: Fraction, end: Fraction, read: Any) -> list[Any]:
        if self.audio is None:
            return []
        for from_start in (False, True):
            if from_start or start < _SLACK or not self._seek(self.audio, start - _SLACK):
                self._open()
                from_start = True
            kept: list[Any] = []
            late = False
            for item in read(self.audio):
                if item.pts is None or getattr(item, "size", 1) == 0:
                    continue
                at = item.pts * item.time_base
                if not kept and not from_start and at > start:
                    late = True  # The seek overshot.
                    break
                if at >= end:
                    break
                kept.append(item)
            if not late:
                break
        return _from_before(kept, start)

    def _open(self) -> None:
        self.close()
        self._container = open_media(self.path)
        self._video = video_stream(self._container)
        self._video.codec_context.thread_count = 1

    def _seek(self, stream: Any, seconds: Fraction) -> bool:
        try:
            self._container.seek(int(seconds / stream.time_base), stream=stream, backward=True, any_frame=False)
        except (av.error.FFmpegError, OverflowError):
            return False
        return True

    def _match(self, run: range, from_start: bool) -> list[Any] | None:
        """The packets of the run, if those read after the seek (or from the start) are the very ones of the index."""
        index = self.tables.packets
        if from_start or not self._seek(self.video, int(index.pts[run.start]) * self.tables.frames.time_base):
            self._open()
        found: list[Any] = []
        try:
            for packet in self._container.demux(self.video):
                if packet.size == 0:
                    continue
                at = run.start + len(found)
                if _times(packet) != (index.pts[at], index.dts[at]) or packet.size != index.size[at]:
                    if found or (packet.dts or NO_TIME) > index.dts[run.stop - 1] > NO_TIME:
                        return None
                    continue
                found.append(packet)
                if len(found) == len(run):
                    return found
        except av.error.FFmpegError:
            return None
        return None

    def _decoded(self, first: int, from_start: bool) -> Iterator[tuple[int, Any]]:
        """Frames with their indices: by counting from the start, or by pts after a seek to a key frame."""
        table = self.tables.frames
        if from_start:
            self._open()
            yield from enumerate(_decode(self._container, self.video))
            return
        if not self._seek(self.video, int(table.pts[first]) * table.time_base):
            raise OutOfStepError("no seek")
        for frame in _decode(self._container, self.video):
            at = int(np.searchsorted(table.pts, frame.pts)) if frame.pts is not None else len(table)
            if at < len(table) and table.pts[at] == frame.pts:
                yield at, frame


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """Frames as the decode pass gets them: what cannot be decoded is passed over, what cannot be read is the end."""
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            yield from frames
    except av.error.FFmpegError:
        with contextlib.suppress(av.error.FFmpegError):
            yield from stream.codec_context.decode(None)


def _times(packet: Any) -> tuple[int, int]:
    pts = packet.pts if packet.pts is not None else NO_TIME
    return pts, packet.dts if packet.dts is not None else NO_TIME


def _from_before(items: list[Any], start: Fraction) -> list[Any]:
    """Without what ends before `start`, but with the one item before the first that reaches past it."""
    begin = 0
    for i, item in enumerate(items):
        length = item.duration * item.time_base if item.duration else Fraction(0)
        if item.pts * item.time_base + length <= start:
            begin = i
    return items[begin:]
