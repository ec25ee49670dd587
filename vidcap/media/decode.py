"""The one decode pass over a source: everything later stages look at is written down here, in memory flat in length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidcap.errors import MediaError, TransientError
from vidcap.media.audio import MAX_SECONDS, SoundTrack
from vidcap.media.building import building, commit
from vidcap.media.candidates import CandidatePicker, CandidateWriter, JpegMaker
from vidcap.media.clock import FrameClock
from vidcap.media.evidence import FACTS, THUMBNAILS
from vidcap.media.facts import SourceFacts
from vidcap.media.frames import FrameTable, SourceTables
from vidcap.media.growing import GrowingTables
from vidcap.media.opening import UNSMOOTHED, SourceFile
from vidcap.media.probe import MediaFacts, audio_stream, facts_of, video_stream
from vidcap.media.program_decoding import (
    EXACT,
    Hwaccel,
    NotInStepError,
    Shown,
    check_key_packet,
    first_picture,
    program_frames,
)
from vidcap.media.thumbnails import Thumbnailer, ThumbnailWriter
from vidcap.store import is_of_the_machine

MIN_SIDE = 16
MAX_BARREN_PACKETS = 10_000
"""So many packets in a row without a picture, and the source is given up: no codec delays a picture that long."""
PROGRESS_EVERY = 128

Window = tuple[float | None, float | None]
"""Start (inclusive) and end (exclusive), in seconds from the first presented frame; None leaves a side open."""


class DecodeOptions(BaseModel):
    """Options of the decode stage. The limits are counted, never timed, so that they hold alike on every machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    through: Literal["pyav", "ffmpeg"] = "pyav"
    """`ffmpeg`: pictures come through the ffmpeg program, if it is installed. In software the evidence is the same."""
    hwaccel: Hwaccel = "none"
    """`cuda`: the program decodes on an Nvidia card (NVDEC) what that can; block edges are smoothed (ADR 0021)."""
    threads: int = Field(default=1, ge=1, le=64)
    frames_per_second: float = Field(default=2.0, gt=0, le=60)
    frame_height: int = Field(default=336, ge=16, le=4320)
    max_pixels: int = Field(default=8_847_360, ge=256)
    max_frames: int = Field(default=1_000_000, ge=1)
    max_bytes: int = Field(default=64_000_000_000, ge=1)
    pictures: bool | None = None
    """`false`: no candidate frames. A pipeline that names neither has them where a later stage looks at frames."""
    sound: bool | None = None
    """`false`: the sound is left alone. A pipeline that names neither has it where a later stage or sample needs it."""

    @model_validator(mode="after")
    def _hwaccel_needs_the_program(self) -> DecodeOptions:
        if self.hwaccel != "none" and self.through != "ffmpeg":
            raise ValueError(f"`hwaccel: {self.hwaccel}` goes through the program: add `through: ffmpeg`")
        return self


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a pass found; its files lie in the evidence folder."""

    facts: SourceFacts
    tables: SourceTables


def decode_source(
    path: str,
    folder: Path,
    options: DecodeOptions,
    window: Window | None = None,
    on_progress: Callable[[int], None] | None = None,
    *,
    sound: bool = True,
    durable: bool = True,
) -> Decoded:
    """Decode the file once and leave its evidence in `folder` (`vidcap.media.evidence`), whole or not at all.

    Raises `MediaError` with the reason where the source cannot be used, `TransientError` where reading failed for a
    passing reason. `on_progress` is told the number of frames from time to time. Without `sound` the file's audio is
    left alone, as if it had none. Not `durable`: `folder` is thrown away soon, and need not survive a power cut.

    What is done with damage: a packet that fails is left out and the next frame marked corrupt; a file that ends early
    gives what it holds, marked `truncated`. With several decoder threads damaged streams come out different from run
    to run: after any fault the source is decoded once more with one thread. Where the ffmpeg program is asked for and
    does not give the very frames that PyAV would, PyAV decodes the source, and its facts say so.
    """
    ways = [(threads, False) for threads in sorted({options.threads, 1}, reverse=True)]
    if options.through == "ffmpeg":
        ways.insert(0, (options.threads, True))
    passed_over = ""
    for threads, program in ways:
        last = (threads, program) == ways[-1]
        with building(folder) as temporary:
            work = _Pass(
                path, temporary, options, window, on_progress or _ignore, threads, wants_sound=sound, program=program
            )
            work.passed_over = passed_over
            try:
                decoded = work.run()
            except NotInStepError as error:
                passed_over = str(error)
                continue
            except MediaError:
                if last or not work.damaged:
                    raise
                continue
            finally:
                work.close()
            if last or not work.damaged:
                commit(temporary, folder, durable=durable)
                return decoded
    raise AssertionError("the pass with one thread returns or raises")


class _Pass:
    """One walk through one file with a fixed number of decoder threads."""

    def __init__(
        self,
        path: str,
        folder: Path,
        options: DecodeOptions,
        window: Window | None,
        on_progress: Callable[[int], None],
        threads: int,
        *,
        wants_sound: bool,
        program: bool,
    ) -> None:
        self.path, self.folder, self.options = path, folder, options
        self.window = window or (None, None)
        self.on_progress = on_progress
        self.threads, self.program = threads, program
        self.wants_sound = wants_sound and options.sound is not False
        self.passed_over = ""
        self.damaged = False
        self.lost = 0
        self.mark_next = False
        self.barren = 0
        self.sizes: set[tuple[int, int]] = set()
        self.columns = GrowingTables()
        self.facts: MediaFacts | None = None
        self.jpegs: JpegMaker | None = None
        self.sound: SoundTrack | None = None
        self.candidates: CandidateWriter | None = None
        self.pick: CandidatePicker | None = None
        self.base = Fraction(1, 1000)
        self.clock = FrameClock(1, 1)
        self.thumbnail_of = Thumbnailer()
        if options.pictures is not False:
            self.candidates, self.pick = CandidateWriter(folder), CandidatePicker(options.frames_per_second)
        self.thumbnails = ThumbnailWriter(folder / THUMBNAILS)

    def run(self) -> Decoded:
        with SourceFile(self.path) as file:
            size = file.status.st_size
            if size > self.options.max_bytes:
                raise MediaError("media.too_large", f"{size} bytes", value=float(size))
            sha256, early = file.sha256(), file.ends_early()
            with file.media() as container:
                self._open(container)
                stopped = self._walk(container)
                if self.facts is None:
                    if early:
                        raise MediaError("media.truncated", early)
                    raise MediaError("media.no_frames", f"no frame in {len(self.columns.packet_pts)} packets")
            file.check_unchanged()
        return self._finish(sha256, size, bool(early) or stopped)

    def close(self) -> None:
        """Let go of open files, after success too."""
        self.thumbnails.close()
        if self.candidates is not None:
            self.candidates.close()
        if self.sound is not None:
            self.sound.close()

    def _open(self, container: InputContainer) -> None:
        video = video_stream(container)
        sound = audio_stream(container) if self.wants_sound else None
        context = video.codec_context
        self._check_size(context.width, context.height, declared=True)
        context.thread_count = self.threads
        context.thread_type = "FRAME"
        context.options = {"max_pixels": str(self.options.max_pixels), **UNSMOOTHED}
        self.base = video.time_base or self.base
        rate = video.guessed_rate or video.average_rate or Fraction(25)
        self.clock = FrameClock(round(1 / (rate * self.base)) if rate > 0 else 1, round(1 / self.base))
        if sound is not None:
            self.sound = SoundTrack(self.folder, sound)

    def _walk(self, container: InputContainer) -> bool:
        """Feed all packets; returns whether reading stopped before the container's end."""
        video = video_stream(container)
        streams: list[Any] = [video]
        if self.sound is not None:
            streams.append(audio_stream(container))
        try:
            for packet in container.demux(streams):
                # Not `packet.stream_index`: it is 0 in the empty packets that drain the decoders at the end.
                if packet.stream.index != video.index:
                    if self.sound is not None:
                        self.sound.feed(packet)
                    continue
                if packet.size:
                    self._note_packet(packet)
                if self.program:
                    continue
                self._decode(container, packet.decode, packet.size > 0)
                if self.barren > MAX_BARREN_PACKETS:
                    self.damaged = True
                    return True
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            if isinstance(error, av.error.OSError) and error.errno == 5:
                raise TransientError(f"reading `{self.path}` failed: {error.strerror}") from error
            if self.program:
                raise NotInStepError("the file ends early") from error
            self._decode(container, lambda: video.codec_context.decode(None), False)
            return True
        if self.program:
            self._through_program(container)
        return False

    def _through_program(self, container: InputContainer) -> None:
        """All frames, now that the packets have said which there are."""
        codec = video_stream(container).codec_context.codec.canonical_name
        if codec not in EXACT:
            raise NotInStepError(f"two decoders need not agree about {codec}")
        if self.damaged:
            raise NotInStepError("damaged packets")
        shown = Shown.by(self.columns.packets(), np.array(self.columns.packet_duration, np.int64))
        like = first_picture(self.path, self.options.max_pixels)
        for frame in program_frames(
            self.path,
            container,
            like,
            shown,
            hwaccel=self.options.hwaccel,
            threads=self.threads,
            max_pixels=self.options.max_pixels,
        ):
            self._take(container, frame)

    def _note_packet(self, packet: Packet[Any]) -> None:
        if self.program and packet.is_keyframe:
            check_key_packet(packet, packet.stream.codec_context)
        self.columns.add_packet(packet)
        self.barren += 1
        if packet.is_corrupt:
            self.damaged = self.mark_next = True

    def _decode(self, container: InputContainer, decode: Callable[[], Any], counts: bool) -> None:
        try:
            frames = decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            if is_of_the_machine(error):
                raise
            self.damaged = self.mark_next = True
            self.lost += counts
            return
        for frame in frames:
            self._take(container, frame)

    def _take(self, container: InputContainer, frame: VideoFrame) -> None:
        c = self.columns
        self.barren = 0
        size = (frame.width, frame.height)
        if size not in self.sizes:
            self._check_size(*size)
            self.sizes.add(size)
        if self.facts is None:
            self.facts = facts_of(container, frame)
            self.jpegs = JpegMaker(self.options.frame_height, self.facts.sar) if self.candidates is not None else None
        index = len(c.pts)
        if index >= self.options.max_frames:
            raise MediaError("media.too_large", f"more than {self.options.max_frames} frames", value=float(index + 1))
        pts = self.clock.time_of(frame.pts, frame.dts, frame.duration)
        # Rounded once, as a Fraction would be.
        seconds = (pts - c.pts[0]) * self.base.numerator / self.base.denominator if index else 0.0
        if seconds > MAX_SECONDS:
            raise MediaError("media.bad_timestamps", f"frame {index} claims to lie {seconds:.0f} s after the first")
        corrupt = bool(frame.is_corrupt) or self.mark_next
        self.damaged |= corrupt
        self.mark_next = False
        c.add_frame(pts, frame, corrupt=corrupt)
        thumbnail = self.thumbnail_of(frame)
        self.thumbnails.add(thumbnail)
        if self.candidates is not None and self.pick is not None and self.jpegs is not None:
            start, end = self.window
            inside = (start is None or seconds >= start - 1e-6) and (end is None or seconds < end - 1e-6)
            if self.pick(seconds, thumbnail, inside):
                self.candidates.add(index, self.jpegs(frame))
        if index % PROGRESS_EVERY == 0:
            self.on_progress(index + 1)

    def _check_size(self, width: int, height: int, declared: bool = False) -> None:
        if width * height > self.options.max_pixels:
            raise MediaError("media.too_large", f"{width}×{height} pixels", value=float(width * height))
        if min(width, height) < MIN_SIDE and not (declared and not width * height):
            raise MediaError("media.too_small", f"{width}×{height} pixels", value=float(min(width, height)))

    def _finish(self, sha256: str, size: int, truncated: bool) -> Decoded:
        c, facts = self.columns, self.facts
        assert facts is not None
        count = len(c.pts)
        if 2 * self.clock.stuck > count:
            raise MediaError("media.bad_timestamps", f"{self.clock.stuck} of {count} frame times do not ascend")
        tables = c.tables(self.base, self.thumbnails.finish())
        frames = tables.frames
        seconds = frames.end(count - 1)
        if self.sound is not None:
            self.sound.finish((c.pts[0] - self.clock.made_up) * self.base, seconds)
        found = SourceFacts(
            **{name: getattr(facts, name) for name in MediaFacts.__dataclass_fields__},
            sha256=sha256,
            bytes=size,
            frames=count,
            corrupt_frames=sum(c.corrupt),
            seconds=seconds,
            window=self._window_frames(frames),
            truncated=truncated,
            lost_packets=self.lost,
            repaired_times=self.clock.repaired,
            sizes=len(self.sizes),
            audio_error=self.sound.error if self.sound is not None else "",
            passed_over=self.passed_over,
        )
        tables.save(self.folder)
        if self.candidates is not None:
            self.candidates.finish()
        (self.folder / FACTS).write_text(found.to_json(), "utf-8")
        return Decoded(found, tables)

    def _window_frames(self, frames: FrameTable) -> tuple[int, int]:
        start, end = self.window
        times = frames.times()
        first = 0 if start is None else int(np.searchsorted(times, start - 1e-6))
        last = len(times) - 1 if end is None else int(np.searchsorted(times, end - 1e-6)) - 1
        if first > last:
            whole = frames.end(len(times) - 1)
            raise MediaError("media.no_frames", f"no frame between {start} s and {end} s of {whole} s")
        return first, last


def _ignore(frames: int) -> None:
    """Nobody wants to hear of progress."""
