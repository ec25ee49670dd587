"""Cuts clips from a source, encoding as few frames as can be: copy, hybrid, edit list or re-encode; always checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

import av.error

from vidcap.errors import MediaError
from vidcap.media.checking import (
    Check,
    check_copy,
    check_edit_list,
    check_hybrid,
    check_reencode,
    frames_to_compare,
    rate_of,
)
from vidcap.media.clip_sound import Sound, add_sound
from vidcap.media.clip_space import discard
from vidcap.media.copying import MP4_CODECS, NotCopyableError, begins_clean, copy_video, copyable_packets, write_copy
from vidcap.media.edit_list import Hiding, hiding, shorten
from vidcap.media.facts import MediaFacts, SourceFacts
from vidcap.media.frames import SourceTables
from vidcap.media.hybrid import LEAST, encodes, write_hybrid
from vidcap.media.mp4 import ClipFile
from vidcap.media.program_encoding import Encoding
from vidcap.media.reencoding import encode_video, upright_size
from vidcap.media.snap import Inner
from vidcap.media.source import OutOfStepError, SourceReader
from vidcap.store import is_of_the_machine

Picture = Literal["h264", "keep"]

_PLAIN_PROFILES = frozenset({"Baseline", "Constrained Baseline", "Main", "High"})
_PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p"})

_SAMPLE = 8
"""One clip in so many is decoded to its last frame. The packets of all were compared with the index one by one."""


Method = Literal["copy", "hybrid", "edit_list", "reencode"]


@dataclass(frozen=True, slots=True)
class CutOptions:
    """`method`: "exact" copies what it can without hiding a frame and encodes the rest; "edit_list" copies nearly all
    and hides what is too much, up to `max_hidden_bytes` of a clip's bytes; "reencode" never copies. `video`: "keep"
    also copies other codecs that MP4 can hold. `encoding` is that of what is not copied.
    """

    method: Literal["exact", "edit_list", "reencode"] = "exact"
    video: Picture = "h264"
    audio: Literal["aac", "none"] = "aac"
    encoding: Encoding = field(default_factory=Encoding)
    max_hidden_bytes: float = 0.5


@dataclass(frozen=True, slots=True)
class CutResult:
    """What became of a clip. `check`: see `vidcap.media.checking`. `sound.codec` is "" where there is no track.

    `encoded`: how many of its frames were encoded.
    """

    method: Method
    check: Check
    codec: str
    width: int
    height: int
    frames: int
    fps: Fraction
    sound: Sound
    encoded: int = 0


def copyable(facts: MediaFacts, video: Picture = "h264") -> bool:
    """Whether the pictures of a source may be copied at all, so that a clip plays anywhere (or, with "keep", in MP4).

    "Anywhere" is H.264 in 8-bit 4:2:0, progressive, standard range, square pixels, upright, one size throughout.
    """
    if facts.video_codec not in MP4_CODECS or (isinstance(facts, SourceFacts) and facts.sizes != 1):
        return False
    if video == "keep":
        return True
    return (
        facts.video_codec == "h264"
        and facts.profile in _PLAIN_PROFILES
        and facts.pix_fmt in _PLAIN_FORMATS
        and not facts.interlaced
        and not facts.hdr
        and facts.rotation == 0
        and upright_size(facts) == (facts.width, facts.height)
    )


class Cutter:
    """Opens a source once and cuts clips from it; cheapest in time order. The file must be the one that was decoded."""

    def __init__(
        self, path: str, tables: SourceTables, facts: MediaFacts, *, options: CutOptions | None = None
    ) -> None:
        self.tables = tables
        self.facts = facts
        self.options = options or CutOptions()
        self._source = SourceReader(path, tables)
        self._copyable = copyable(facts, self.options.video)
        self._unclean: set[int] = set()
        """Key packets that turned out not to be clean starts: not to be read again for every clip."""

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._source.close()

    def size(self, first: int, last: int) -> int:
        """About as many bytes as the clip of those frames will have: what its frames take in the source."""
        packets, pts = self.tables.packets, self.tables.frames.pts
        inside = (packets.pts >= pts[first]) & (packets.pts <= pts[last])
        return int(packets.size[inside].sum())

    def cut(self, first: int, last: int, out_path: Path) -> CutResult:
        """Write the frames `first` to `last` (inclusive) as a plain MP4 and check it; the same bytes each time.

        Raises `MediaError`: `pack.cut_failed`, `pack.cut_mismatch`, `source.changed`. What was written is then removed.
        """
        if not 0 <= first <= last < len(self.tables.frames):
            raise MediaError("pack.cut_failed", f"frames {first} to {last} of {len(self.tables.frames)}")
        try:
            if self.options.method != "reencode" and self._copyable:
                for way in self._ways(first, last):
                    try:
                        return way(out_path)
                    except NotCopyableError:
                        pass  # Only the bytes could tell.
            try:
                return self._reencode(first, last, out_path, from_start=False)
            except OutOfStepError:
                return self._reencode(first, last, out_path, from_start=True)
        except av.error.FFmpegError as error:
            discard(out_path)
            if is_of_the_machine(error):
                raise
            raise MediaError("pack.cut_failed", f"frames {first} to {last}: {error.strerror}") from error
        except MediaError:
            discard(out_path)
            raise

    def _ways(self, first: int, last: int) -> Iterator[Callable[[Path], CutResult]]:
        """How the span may be cut without encoding all of it, best first; each may turn out not to work."""
        order = self._source.order
        run = order.run(first, last)
        if run is not None:
            yield partial(self._copy, run, first, last)
        if self.options.method == "edit_list" and self.facts.video_codec != "av1":  # of AV1 some readers show one more
            plan = hiding(self.tables, order, first, last)
            if plan is not None and 0 < plan.hidden <= self.options.max_hidden_bytes * plan.bytes:
                yield partial(self._hide, plan, first, last)
        if self.facts.video_codec == "h264" and encodes(self.options.encoding) and copyable(self.facts):
            for inner in order.inner(first, last, LEAST):
                if inner.run.start not in self._unclean and len(inner.run) < last - first + 1:
                    yield partial(self._hybrid, inner, first, last)

    def _copy(self, run: range, first: int, last: int, out_path: Path) -> CutResult:
        with ClipFile(out_path, self.tables.frames.time_base) as out:
            copy_video(self._source, run, first, last, out)
            sound = self._sound(first, last, out)
            out.finish()
        check = check_copy(out_path, self.tables.frames, first, last, to_the_end=_sampled(first, last))
        facts = self.facts
        return self._result("copy", check, facts.video_codec, (facts.width, facts.height), first, last, sound)

    def _hide(self, plan: Hiding, first: int, last: int, out_path: Path) -> CutResult:
        table = self.tables.frames
        packets = copyable_packets(self._source, plan.run, clean=False)
        clean = begins_clean(packets[0], self._source.video.codec_context)
        with ClipFile(out_path, table.time_base) as out:
            write_copy(self._source, packets, plan.run, first, last, out)
            sound = self._sound(first, last, out)
            out.finish()
        shorten(out_path, (table.end_pts(last) - int(table.pts[first])) * table.time_base)
        sampled, shown = _sampled(first, last), plan.shown if clean else None
        try:
            check = check_edit_list(out_path, table, first, last, shown, to_the_end=sampled)
        except MediaError as error:
            # What stands before a recovery point may be missed only many frames later.
            raise NotCopyableError(str(error)) from error
        facts = self.facts
        return self._result("edit_list", check, facts.video_codec, (facts.width, facts.height), first, last, sound)

    def _hybrid(self, inner: Inner, first: int, last: int, out_path: Path) -> CutResult:
        table = self.tables.frames
        with ClipFile(out_path, table.time_base) as out:
            try:
                rate, encoding = rate_of(table, first, last), self.options.encoding
                made = write_hybrid(self._source, inner, first, last, out, rate=rate, encoding=encoding)
            except NotCopyableError:
                self._unclean.add(inner.run.start)
                raise
            except OutOfStepError as error:
                raise NotCopyableError(str(error)) from error
            sound = self._sound(first, last, out)
            out.finish()
        try:
            check = check_hybrid(
                out_path, table, first, last, inner, made.head, made.tail, to_the_end=_sampled(first, last)
            )
        except MediaError as error:
            raise NotCopyableError(str(error)) from error
        facts = self.facts
        encoded = last - first + 1 - len(inner.run)
        return self._result("hybrid", check, "h264", (facts.width, facts.height), first, last, sound, encoded)

    def _reencode(self, first: int, last: int, out_path: Path, *, from_start: bool) -> CutResult:
        table, options = self.tables.frames, self.options
        count = last - first + 1
        compared = count if _sampled(first, last) else frames_to_compare(table, first, last)
        with ClipFile(out_path, table.time_base) as out:
            given = encode_video(
                self._source.frames(first, last, from_start=from_start, compared=compared),
                table,
                first,
                out,
                facts=self.facts,
                rate=rate_of(table, first, last),
                encoding=options.encoding,
                compared=compared,
            )
            sound = self._sound(first, last, out)
            out.finish()
        check = check_reencode(out_path, table, first, last, given)
        size = upright_size(self.facts)
        return self._result("reencode", check, options.encoding.codec, size, first, last, sound, count)

    def _sound(self, first: int, last: int, out: ClipFile) -> Sound:
        table = self.tables.frames
        if self.options.audio == "none":
            return Sound()
        start = int(table.pts[first]) * table.time_base
        return add_sound(self._source, start, table.end_pts(last) * table.time_base, out)

    def _result(
        self,
        method: Method,
        check: Check,
        codec: str,
        size: tuple[int, int],
        first: int,
        last: int,
        sound: Sound,
        encoded: int = 0,
    ) -> CutResult:
        rate = rate_of(self.tables.frames, first, last)
        return CutResult(method, check, codec, *size, last - first + 1, rate, sound, encoded)


def _sampled(first: int, last: int) -> bool:
    return (first + last) % _SAMPLE == 0


def cut_clip(
    source_path: str,
    tables: SourceTables,
    facts: MediaFacts,
    first: int,
    last: int,
    out_path: Path,
    *,
    options: CutOptions | None = None,
) -> CutResult:
    """One clip from one source; for several take a `Cutter`."""
    with Cutter(source_path, tables, facts, options=options) as cutter:
        return cutter.cut(first, last, out_path)
