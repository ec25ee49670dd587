"""Cuts clips from a source: a copy of the packets where that hides nothing, else a re-encode; checked either way."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import av.error

from vidcap.errors import MediaError
from vidcap.media.checking import Check, check_copy, check_reencode, rate_of
from vidcap.media.clip_sound import Sound, add_sound
from vidcap.media.copying import MP4_CODECS, NotCopyableError, copy_video
from vidcap.media.facts import MediaFacts, SourceFacts
from vidcap.media.frames import SourceTables
from vidcap.media.mp4 import ClipFile
from vidcap.media.program_encoding import Encoding
from vidcap.media.reencoding import encode_video, upright_size
from vidcap.media.snap import copy_run
from vidcap.media.source import OutOfStepError, SourceReader
from vidcap.store import is_of_the_machine

Picture = Literal["h264", "keep"]

_PLAIN_PROFILES = frozenset({"Baseline", "Constrained Baseline", "Main", "High"})
_PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p"})

_SAMPLE = 8
"""One copy in so many is decoded to its last frame. The packets of all were compared with the index one by one."""


@dataclass(frozen=True, slots=True)
class CutOptions:
    """`method`: "exact" copies where that hides nothing, "reencode" never does. `video`: "keep" also copies other
    codecs that MP4 can hold. `encoding` is that of what is not copied.
    """

    method: Literal["exact", "reencode"] = "exact"
    video: Picture = "h264"
    audio: Literal["aac", "none"] = "aac"
    encoding: Encoding = field(default_factory=Encoding)


@dataclass(frozen=True, slots=True)
class CutResult:
    """What became of a clip. `check`: see `vidcap.media.checking`. `sound.codec` is "" where there is no track."""

    method: Literal["copy", "reencode"]
    check: Check
    codec: str
    width: int
    height: int
    frames: int
    fps: Fraction
    sound: Sound


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

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._source.close()

    def cut(self, first: int, last: int, out_path: Path) -> CutResult:
        """Write the frames `first` to `last` (inclusive) as a plain MP4 and check it; the same bytes each time.

        Raises `MediaError`: `pack.cut_failed`, `pack.cut_mismatch`, `source.changed`. What was written is then removed.
        """
        if not 0 <= first <= last < len(self.tables.frames):
            raise MediaError("pack.cut_failed", f"frames {first} to {last} of {len(self.tables.frames)}")
        try:
            if self.options.method == "exact" and copyable(self.facts, self.options.video):
                run = copy_run(self.tables, first, last)
                if run is not None:
                    try:
                        return self._copy(run, first, last, out_path)
                    except NotCopyableError:
                        pass  # Only the bytes could tell; encode it.
            try:
                return self._reencode(first, last, out_path, from_start=False)
            except OutOfStepError:
                return self._reencode(first, last, out_path, from_start=True)
        except av.error.FFmpegError as error:
            out_path.unlink(missing_ok=True)
            if is_of_the_machine(error):
                raise
            raise MediaError("pack.cut_failed", f"frames {first} to {last}: {error.strerror}") from error
        except MediaError:
            out_path.unlink(missing_ok=True)
            raise

    def _copy(self, run: range, first: int, last: int, out_path: Path) -> CutResult:
        with ClipFile(out_path, self.tables.frames.time_base) as out:
            copy_video(self._source, run, first, last, out)
            sound = self._sound(first, last, out)
            out.finish()
        sampled = (first + last) % _SAMPLE == 0
        check = check_copy(out_path, self.tables.frames, first, last, to_the_end=sampled)
        facts = self.facts
        return self._result("copy", check, facts.video_codec, (facts.width, facts.height), first, last, sound)

    def _reencode(self, first: int, last: int, out_path: Path, *, from_start: bool) -> CutResult:
        table, options = self.tables.frames, self.options
        with ClipFile(out_path, table.time_base) as out:
            given = encode_video(
                self._source.frames(first, last, from_start=from_start),
                table,
                first,
                out,
                facts=self.facts,
                rate=rate_of(table, first, last),
                encoding=options.encoding,
            )
            sound = self._sound(first, last, out)
            out.finish()
        check = check_reencode(out_path, table, first, last, given)
        return self._result("reencode", check, options.encoding.codec, upright_size(self.facts), first, last, sound)

    def _sound(self, first: int, last: int, out: ClipFile) -> Sound:
        table = self.tables.frames
        if self.options.audio == "none":
            return Sound()
        start = int(table.pts[first]) * table.time_base
        return add_sound(self._source, start, table.end_pts(last) * table.time_base, out)

    def _result(
        self,
        method: Literal["copy", "reencode"],
        check: Check,
        codec: str,
        size: tuple[int, int],
        first: int,
        last: int,
        sound: Sound,
    ) -> CutResult:
        rate = rate_of(self.tables.frames, first, last)
        return CutResult(method, check, codec, *size, last - first + 1, rate, sound)


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
