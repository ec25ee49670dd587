"""Reading a source again by its tables: exactly the packets of a run, exactly the frames of a span, its sound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from vidcap.errors import MediaError
from vidcap.media.frames import NO_TIME, SourceTables
from vidcap.media.probe import audio_stream, open_media, video_stream
from vidcap.media.snap import Order
from vidcap.media.thumbnails import Thumbnailer, resembles

_SLACK = Fraction(1, 2)
"""Seconds of sound to seek ahead of what is wanted: containers land on packets, not on samples."""
_BEFORE = 10
"""Seconds that no stream begins before the picture."""
_EVERY = 8
"""One frame in so many is compared with its thumbnail hash; the packets of all were compared with the index."""

_REMEMBERING = frozenset({"aac", "ac3", "eac3", "dts"})
"""Sound whose decoders carry the state of their noise over a seek: each clip gets a new one, or its bytes would depend
on the clip before. Their packets say all that a decoder must know."""

Thumbnail = npt.NDArray[np.uint8]


class OutOfStepError(Exception):
    """After a seek the decoder's frames were not those of the table; read from the start instead."""


class SourceReader:
    """One source, opened once. Every method may be called in any order; near-by spans in order seek least.

    What is read is compared with the tables, packet by packet or thumbnail by thumbnail; where it differs a method
    raises `MediaError("source.changed")`. It is opened again only where seeking leads nowhere.
    """

    def __init__(self, path: str, tables: SourceTables) -> None:
        self.path = path
        self.tables = tables
        self.order = Order(tables)
        self._container: Any = None
        self._video: Any = None
        self._audio: Any = None
        self._fresh = False
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
        return self._audio

    def packets(self, run: range) -> list[Any]:
        """The video packets of that run of the packet index, in decode order."""
        for position in (*self._towards(run.start), self._rewind, self._reopen):
            if position():
                found = self._match(run)
                if found is not None:
                    return found
        raise MediaError(
            "source.changed", f"packets {run.start} to {run.stop - 1} are not where the decode pass saw them"
        )

    def frames(
        self, first: int, last: int, *, from_start: bool = False, compared: int = 0
    ) -> Iterator[tuple[int, Any, Thumbnail | None]]:
        """(index, frame, thumbnail) of the span, decoded with one thread.

        The first `compared` frames, the last one and one in eight of the others are compared with the table's thumbnail
        hash and come with their thumbnail. Raises `OutOfStepError` where seeking did not lead to the same frames: ask
        again with `from_start`.
        """
        try:
            yield from self._in_step(first, last, from_start, compared)
        except OutOfStepError as error:
            if from_start:
                raise MediaError("source.changed", f"{error} is not as the decode pass saw it") from error
            raise

    def _in_step(
        self, first: int, last: int, from_start: bool, compared: int
    ) -> Iterator[tuple[int, Any, Thumbnail | None]]:
        table, thumbnail = self.tables.frames, Thumbnailer()
        wanted = first
        for index, frame in self._from_start() if from_start else self._from_key(first, last):
            if index < first:
                continue
            seen = None
            good = index == wanted
            if good and (index - first < max(1, compared) or index == last or index % _EVERY == 0 or frame.is_corrupt):
                seen = thumbnail(frame)
                good = resembles(seen, table.hash[index])
            if not good:
                raise OutOfStepError(f"frame {wanted}")
            yield index, frame, seen
            if index == last:
                return
            wanted += 1
        raise OutOfStepError(f"the end, before frame {wanted},")

    def audio_packets(self, start: Fraction, end: Fraction) -> list[Any]:
        """Packets of the first audio stream that overlap [start, end) in the container's seconds, and one before."""
        return self._audio_from(start, end, lambda stream: self._container.demux(stream))

    def audio_frames(self, start: Fraction, end: Fraction) -> Iterator[Any]:
        """Decoded audio that overlaps [start, end) in the container's seconds; starts up to a second before."""
        yield from self._audio_from(start, end, self._heard)

    def _heard(self, stream: Any) -> Iterator[Any]:
        """Frames from where the container stands, whatever was decoded before."""
        context = stream.codec_context
        if context.codec.canonical_name not in _REMEMBERING:
            yield from _decoded(self._container.demux(stream), stream)
            return
        fresh: Any = av.CodecContext.create(context.codec.name, "r")
        if context.extradata:
            fresh.extradata = context.extradata
        fresh.thread_count = 1
        with contextlib.suppress(av.error.FFmpegError):
            for packet in self._container.demux(stream):
                try:
                    frames = fresh.decode(packet if packet.size else None)
                except av.error.FFmpegError:
                    continue
                for frame in frames:
                    frame.time_base = stream.time_base
                    yield frame

    def _audio_from(self, start: Fraction, end: Fraction, read: Callable[[Any], Any]) -> list[Any]:
        if self.audio is None:
            return []
        base = self.audio.time_base
        begin, stop = start / base, end / base  # Compared with whole ticks, which is what packets count in.
        kept: list[Any] = []
        seek = partial(self._seek, self.audio, start - _SLACK)
        for position in (seek, self._rewind, self._reopen):
            if not position():
                continue
            kept, late = [], False
            for item in read(self.audio):
                if item.pts is None or getattr(item, "size", 1) == 0:
                    continue
                at = item.pts if item.time_base == base else item.pts * item.time_base / base
                if not kept and position == seek and at > begin:
                    late = True  # The seek overshot.
                    break
                if at >= stop:
                    break
                if len(kept) == 1 and _end(kept[0]) <= start and _end(item) <= start:
                    kept.clear()  # read from the very start, hours of what nobody wants would pile up
                kept.append(item)
            if not late:
                break
        return _from_before(kept, start)

    def _open(self) -> None:
        self.close()
        self._container = open_media(self.path)
        self._video = video_stream(self._container)
        self._video.codec_context.thread_count = 1
        sound: Any = audio_stream(self._container)
        self._audio = sound if sound is not None and sound.codec_context is not None else None
        self._fresh = True

    def _reopen(self) -> bool:
        if not self._fresh:
            self._open()
        self._fresh = False
        return True

    def _rewind(self) -> bool:
        """To the very start; for sure only where the first packets are then those of the index, which callers check."""
        if self._fresh:
            self._fresh = False
            return True
        index = self.tables.packets
        times = index.dts[:1] if len(index) and index.dts[0] != NO_TIME else index.pts[:1]
        at = int(times[0]) if len(times) and times[0] != NO_TIME else 0
        # Well before the first packet, because sound may begin before the picture; some containers refuse that.
        for target in (at - int(_BEFORE / self.tables.frames.time_base), at, 0):
            try:
                self._container.seek(target, stream=self.video, backward=True, any_frame=False)
            except (av.error.FFmpegError, OverflowError):
                continue
            return True
        return False

    def _seek(self, stream: Any, seconds: Fraction) -> bool:
        try:
            self._container.seek(int(seconds / stream.time_base), stream=stream, backward=True, any_frame=False)
        except (av.error.FFmpegError, OverflowError):
            return False
        self._fresh = False
        return True

    def _match(self, run: range) -> list[Any] | None:
        """The packets of the run, if those that come now are the very ones of the index."""
        index = self.tables.packets
        wanted = list(zip(*(column[run.start : run.stop].tolist() for column in _identity(index)), strict=True))
        final = wanted[-1][1]
        found: list[Any] = []
        try:
            for packet in self._container.demux(self.video):
                if packet.size == 0:
                    continue
                if (*_times(packet), packet.size) != wanted[len(found)]:
                    if found or (packet.dts if packet.dts is not None else NO_TIME) > final > NO_TIME:
                        return None
                    continue
                found.append(packet)
                if len(found) == len(wanted):
                    return found
        except av.error.FFmpegError:
            return None
        return None

    def _from_start(self) -> Iterator[tuple[int, Any]]:
        """Frames with their indices, counted from the start of the source, which is opened anew."""
        self._reopen()
        yield from enumerate(_decoded(self._known(self._container.demux(self.video), 0), self.video))

    def _from_key(self, first: int, last: int) -> Iterator[tuple[int, Any]]:
        """Frames with their indices after a seek to a key frame; those before `first` may be left out.

        H.264 pictures that no other picture needs are not decoded before `first`, and decoding ends with the last
        packet that `last` can need.
        """
        table, index = self.tables.frames, self.tables.packets
        begin = int(table.pts[first])
        final = self.order.final(last)
        ending = None if final is None else (index.pts[final].item(), index.size[final].item())
        context = self.video.codec_context
        skipping = context.codec.canonical_name == "h264"

        def wanted() -> Iterator[Any]:
            for packet in self._since(first):
                if skipping and packet.pts is not None:
                    context.skip_frame = "NONREF" if packet.pts < begin else "DEFAULT"
                yield packet
                if (packet.pts, packet.size) == ending:
                    return

        try:
            for frame in _decoded(wanted(), self.video):
                at = int(np.searchsorted(table.pts, frame.pts)) if frame.pts is not None else len(table)
                if at < len(table) and table.pts[at] == frame.pts:
                    yield at, frame
        finally:
            if skipping:
                context.skip_frame = "DEFAULT"

    def _since(self, first: int) -> Iterator[Any]:
        """The packets from the last key packet at or before frame `first` on, where the index says which that is."""
        index, key = self.tables.packets, self.order.key(first)
        if key is None:
            if not self._seek(self.video, int(self.tables.frames.pts[first]) * self.tables.frames.time_base):
                raise OutOfStepError("no seek")
            yield from self._container.demux(self.video)
            return
        wanted, decoded = (index.pts[key].item(), index.size[key].item()), index.dts[key].item()
        for position in self._towards(key):
            if not position():
                continue
            packets = self._container.demux(self.video)
            for packet in packets:
                if (packet.pts, packet.size) == wanted:
                    yield from self._known(_chain(packet, packets), key)
                    return
                if packet.size == 0 or (packet.dts if packet.dts is not None else NO_TIME) > decoded > NO_TIME:
                    break
        raise OutOfStepError(f"no way to packet {key}")

    def _known(self, packets: Iterator[Any], number: int) -> Iterator[Any]:
        """The packets as they come, while they are those of the index from `number` on."""
        index = self.tables.packets
        for packet in packets:
            if packet.size:
                if number == len(index) or (_times(packet)[0], packet.size) != (index.pts[number], index.size[number]):
                    raise OutOfStepError(f"packet {number}")
                number += 1
            yield packet

    def _towards(self, packet: int) -> Iterator[Callable[[], bool]]:
        """Ways to seek to a packet: most containers find it by its time of presentation, some by that of decoding."""
        index = self.tables.packets
        for time in dict.fromkeys((int(index.pts[packet]), int(index.dts[packet]))):
            if time != NO_TIME:
                yield partial(self._seek, self.video, time * self.tables.frames.time_base)


def _identity(index: Any) -> tuple[Any, Any, Any]:
    return index.pts, index.dts, index.size


def _chain(first: Any, others: Any) -> Iterator[Any]:
    if first is not None:
        yield first
    yield from others


def _decoded(packets: Iterator[Any], stream: Any) -> Iterator[Any]:
    """Frames as the decode pass gets them: what cannot be decoded is passed over, what cannot be read is the end.

    Where the packets end before the stream does, the decoder is emptied.
    """
    ended = False
    try:
        for packet in packets:
            ended = packet.size == 0
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            yield from frames
    except av.error.FFmpegError:
        ended = False
    if not ended:
        with contextlib.suppress(av.error.FFmpegError):
            for frame in stream.codec_context.decode(None):
                frame.time_base = stream.time_base  # Otherwise taken from the packet.
                yield frame


def _times(packet: Any) -> tuple[int, int]:
    pts = packet.pts if packet.pts is not None else NO_TIME
    return pts, packet.dts if packet.dts is not None else NO_TIME


def _end(item: Any) -> Fraction:
    """When a packet or frame ends, in the container's seconds."""
    at: Fraction = (item.pts + (item.duration or 0)) * item.time_base
    return at


def _from_before(items: list[Any], start: Fraction) -> list[Any]:
    """Without what ends before `start`, but with the one item before the first that reaches past it."""
    begin = 0
    for i, item in enumerate(items):
        if _end(item) > start:
            break
        begin = i
    return items[begin:]
