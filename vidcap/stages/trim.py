"""trim: from shots to clips. Length, a window of long shots, snapping to what can be copied, motion, corruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from vidcap.backends.audible import SILENT_PEAK
from vidcap.media.checking import rate_of
from vidcap.media.cut import copyable
from vidcap.media.evidence import Evidence
from vidcap.media.frames import FrameTable
from vidcap.media.hybrid import LEAST
from vidcap.media.motion import Motion, measure
from vidcap.media.reencoding import upright_size
from vidcap.media.snap import Span, snap, snap_end
from vidcap.records import StageResult, Verdict
from vidcap.seeds import seed_of
from vidcap.stages.base import ClipStage, EvidenceOf, Row, StageOptions

_ROUNDING = 1e-6


class MotionLimits(StageOptions):
    """Mean change per second in grey levels (0 to 255), see `vidcap.media.motion`; both ends are kept."""

    low: float = Field(default=0.4, ge=0)
    high: float = Field(default=60.0, gt=0)
    max_freeze_ratio: float = Field(default=0.9, ge=0, le=1)
    """Share of a clip that may stand still: over it, two slides with a missed cut between them are slides."""


class TrimOptions(StageOptions):
    min_seconds: float = Field(default=2.0, ge=0)
    """A clip is strictly longer."""
    max_seconds: float = Field(default=30.0, gt=0)
    long_shots: Literal["window", "reject"] = "window"
    """`window` takes a uniformly random stretch of `max_seconds` of a longer shot."""
    motion: MotionLimits = MotionLimits()
    snap_seconds: float = Field(default=1.0, ge=0)
    """What each end may lose so that the clip can be cut without re-encoding; 0 never moves one."""
    video: Literal["h264", "keep"] = "h264"
    """As pack's option: which sources are worth snapping, because pack will copy their packets."""
    max_corrupt_ratio: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> TrimOptions:
        if self.min_seconds >= self.max_seconds:
            raise ValueError("`min_seconds` must be below `max_seconds`")
        if self.motion.low >= self.motion.high:
            raise ValueError("`motion.low` must be below `motion.high`")
        return self


class Trim(ClipStage):
    name: ClassVar[str] = "trim"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"shot_first", "shot_last", "evidence"})
    sees: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[Mapping[str, pa.DataType]] = {
        "first_frame": pa.int64(),
        "last_frame": pa.int64(),
        "start": pa.float64(),
        "end": pa.float64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "fps": pa.string(),
        "vfr": pa.bool_(),
        "has_audio": pa.bool_(),
        "silent": pa.bool_(),
        "corrupt_frames": pa.int64(),
        "motion_mean": pa.float64(),
        "motion_p95": pa.float64(),
        "freeze_ratio": pa.float64(),
        "snapped": pa.bool_(),
    }
    Options: ClassVar[type[StageOptions]] = TrimOptions

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        """`rows` are shots: `source_id`, `shot_first`, `shot_last`, `shot_key`. Rejected ones get their values too."""
        columns: dict[str, list[Any]] = {name: [] for name in self.gives}
        verdicts: dict[int, Verdict] = {}
        for position, row in enumerate(rows):
            known = evidence(row["source_id"])
            span, verdict = self._span(known, row)
            values, motion = _facts(known, span)
            for name, value in values.items():
                columns[name].append(value)
            verdict = verdict or self._judged(motion, values["corrupt_frames"], span)
            if verdict is not None:
                verdicts[position] = verdict
        return StageResult(columns, verdicts)

    def _span(self, evidence: Evidence, row: Row) -> tuple[Span, Verdict | None]:
        """The clip's span inside its shot, or the shot itself and why its length rules it out."""
        options: TrimOptions = self.options
        table = evidence.tables.frames
        shot = Span(row["shot_first"], row["shot_last"])
        seconds = _seconds(table, shot)
        if seconds <= options.min_seconds:
            return shot, Verdict("rejected", "trim.too_short", seconds)
        span = shot
        if seconds > options.max_seconds + _ROUNDING:
            if options.long_shots == "reject":
                return shot, Verdict("rejected", "trim.too_long", seconds)
            seed = seed_of(self.context.seed, row["shot_key"], self.name)
            span = random_window(table, shot, options.max_seconds, seed)
            if _seconds(table, span) <= options.min_seconds:
                detail = "no window of the shot is long enough: its frames are too far apart"
                return shot, Verdict("rejected", "trim.too_short", _seconds(table, span), detail)
        limits = {"max_seconds": options.snap_seconds, "min_seconds": options.min_seconds}
        whole = copyable(evidence.facts, options.video)
        snapped = snap(evidence.tables, span.first, span.last, **limits, copyable=whole, order=evidence.order)
        if not snapped.hides_nothing and copyable(evidence.facts):
            # Pack encodes the head and copies the rest: an end where a copy may end saves decoding up to it.
            snapped = snap_end(evidence.order, snapped, **limits, least=LEAST)
        return snapped, None

    def _judged(self, motion: Motion, corrupt: int, span: Span) -> Verdict | None:
        options: TrimOptions = self.options
        ratio = corrupt / (span.last - span.first + 1)
        if ratio > options.max_corrupt_ratio:
            return Verdict("rejected", "trim.corrupt_frames", round(ratio, 6))
        if motion.mean < options.motion.low:
            return Verdict("rejected", "trim.still", motion.mean)
        if motion.freeze_ratio > options.motion.max_freeze_ratio:
            detail = f"stands still for {motion.freeze_ratio:.0%} of its length"
            return Verdict("rejected", "trim.still", motion.mean, detail)
        if motion.mean > options.motion.high:
            return Verdict("rejected", "trim.extreme_motion", motion.mean)
        return None


def random_window(table: FrameTable, shot: Span, seconds: float, seed: int) -> Span:
    """A stretch of at most `seconds` of a longer shot; its start is uniform over the times that leave room for it."""
    room = _seconds(table, shot) - seconds
    start = table.start(shot.first) + float(np.random.default_rng(seed).uniform(0.0, room))
    times = table.times()
    # The last frame that starts by then, so that the end stays inside the shot whatever the frame distances.
    first = max(shot.first, int(np.searchsorted(times, start + _ROUNDING, side="right")) - 1)
    last = min(shot.last, int(np.searchsorted(times, times[first] + seconds + _ROUNDING, side="right")) - 1)
    while last > first and table.end(last) - table.start(first) > seconds + _ROUNDING:
        last -= 1
    return Span(first, last)


def _facts(evidence: Evidence, span: Span) -> tuple[dict[str, Any], Motion]:
    """One value per column of `Trim.gives`, but for what the verdict says."""
    table, first, last = evidence.tables.frames, span.first, span.last
    inside = slice(first, last + 1)
    motion = measure(evidence.thumbnails[inside], evidence.times[inside])
    motion = Motion(round(motion.mean, 3), round(motion.p95, 3), round(motion.freeze_ratio, 3))
    width, height = upright_size(evidence.facts)
    rate = rate_of(table, first, last)
    part = FrameTable(table.time_base, *(getattr(table, name)[inside] for name in _PER_FRAME))
    values = {
        "first_frame": first,
        "last_frame": last,
        "start": table.start(first),
        "end": table.end(last),
        "width": width,
        "height": height,
        "fps": f"{rate.numerator}/{rate.denominator}",
        "vfr": part.vfr,
        "has_audio": evidence.facts.has_audio,
        "silent": evidence.sound(first, last).peak() <= SILENT_PEAK if evidence.has_sound else None,
        "corrupt_frames": int(table.corrupt[inside].sum()),
        "motion_mean": motion.mean,
        "motion_p95": motion.p95,
        "freeze_ratio": motion.freeze_ratio,
        "snapped": span.hides_nothing,
    }
    return values, motion


_PER_FRAME = ("pts", "duration", "key", "corrupt", "hash")


def _seconds(table: FrameTable, span: Span) -> float:
    return round(table.end(span.last) - table.start(span.first), 6)
