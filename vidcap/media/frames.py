"""What the one decode pass writes down of a source: its presented frames and its packets.

A frame index is the position in presentation order among the frames the decoder returns after the source's own edit
list. Both tables are kept for good (some 40 bytes a frame before compression): cutting and checking need nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


USUAL_RATES = tuple(
    rate
    for whole in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120)
    for rate in (Fraction(whole), Fraction(whole * 1000, 1001))
)


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The presented frames: `pts` and `duration` in units of `time_base`, ascending pts; `hash` of each thumbnail.

    `duration[i]` is 0 where the container does not say. `corrupt` frames are counted and kept.
    """

    time_base: Fraction
    pts: Int64
    duration: Int64
    key: Bool
    corrupt: Bool
    hash: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.pts)

    def step(self) -> int:
        """The median distance of neighbouring frames, in units of `time_base`; at least 1."""
        if len(self.pts) > 1:
            return max(1, int(np.median(np.diff(self.pts))))
        return max(1, int(self.duration[0])) if len(self.pts) else 1

    def end_pts(self, index: int) -> int:
        """When the frame's presentation ends: the next frame's pts; for the last its duration, else the median step."""
        if index + 1 < len(self.pts):
            return int(self.pts[index + 1])
        # Some containers claim durations of a tick or so; such a last frame lasts as long as the others.
        own, step = int(self.duration[index]), self.step()
        return int(self.pts[index]) + (own if 2 * own >= step else step)

    def start(self, index: int) -> float:
        """Seconds from the first presented frame, rounded to 1e-6."""
        return round(float((int(self.pts[index]) - int(self.pts[0])) * self.time_base), 6)

    def end(self, index: int) -> float:
        return round(float((self.end_pts(index) - int(self.pts[0])) * self.time_base), 6)

    def times(self) -> npt.NDArray[np.float64]:
        """Seconds of every frame from the first one."""
        base = self.pts - (self.pts[0] if len(self.pts) else 0)
        return np.round(base.astype(np.float64) * float(self.time_base), 6)

    def part(self, first: int, last: int) -> FrameTable:
        """The table of the frames `first` to `last`, both inclusive."""
        span = slice(first, last + 1)
        return FrameTable(
            self.time_base, self.pts[span], self.duration[span], self.key[span], self.corrupt[span], self.hash[span]
        )

    @property
    def vfr(self) -> bool:
        """Whether neighbouring frames are unevenly spaced by more than one tick of rounding."""
        gaps = np.diff(self.pts)
        return bool(len(gaps) and (gaps.max() - gaps.min()) > max(1, 0.02 * float(np.median(gaps))))

    @property
    def fps(self) -> Fraction:
        """Frames per second: the mean rate; for even steps the usual rate that differs from it by rounding only.

        Containers that count milliseconds round every time, so that 30000/1001 comes out as 29.9996 or so.
        """
        if len(self.pts) < 2:
            return Fraction(1, 1) / (self.step() * self.time_base)
        steps, ticks = len(self.pts) - 1, int(self.pts[-1] - self.pts[0])
        if not ticks:
            return Fraction(1, 1)
        if not self.vfr:
            off = {rate: abs(steps / (rate * self.time_base) - ticks) for rate in USUAL_RATES}
            nearest = min(off, key=lambda rate: off[rate])
            if off[nearest] <= 1:
                return nearest
        return (Fraction(steps, ticks) / self.time_base).limit_denominator(1001)


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The video packets in decode order. `pts` and `dts` in the frame table's units; a missing dts is `NO_TIME`.

    `discard` marks packets that the source's own edit list hides.
    """

    pts: Int64
    dts: Int64
    key: Bool
    size: Int64
    offset: Int64
    discard: Bool

    def __len__(self) -> int:
        return len(self.pts)


NO_TIME = -(2**63)
"""Stands for a timestamp that is not there."""


@dataclass(frozen=True, slots=True)
class SourceTables:
    """Frame table and packet index of one source, as one pair of Parquet files."""

    frames: FrameTable
    packets: PacketIndex

    def save(self, folder: Path) -> None:
        """Write `frames.parquet` and `packets.parquet` into `folder`."""
        f, p = self.frames, self.packets
        meta = {b"time_base": json.dumps([f.time_base.numerator, f.time_base.denominator]).encode()}
        frames = _table(
            pts=f.pts, duration=f.duration, key=f.key, corrupt=f.corrupt, hash=f.hash
        ).replace_schema_metadata(meta)
        packets = _table(pts=p.pts, dts=p.dts, key=p.key, size=p.size, offset=p.offset, discard=p.discard)
        pq.write_table(frames, folder / "frames.parquet", compression="zstd")
        pq.write_table(packets, folder / "packets.parquet", compression="zstd")

    @classmethod
    def load(cls, folder: Path) -> SourceTables:
        f = _read(folder / "frames.parquet")
        p = _read(folder / "packets.parquet")
        base = Fraction(*json.loads((f.schema.metadata or {})[b"time_base"]))
        frames = FrameTable(base, *(_column(f[name]) for name in ("pts", "duration", "key", "corrupt", "hash")))
        packets = PacketIndex(*(_column(p[name]) for name in ("pts", "dts", "key", "size", "offset", "discard")))
        return cls(frames, packets)


def _table(**columns: npt.NDArray[Any]) -> pa.Table:
    """Of the arrays as they lie there: `pa.table` would import pandas to ask whether they are its own (0.2 s)."""
    arrays = []
    for column in columns.values():
        kind = pa.from_numpy_dtype(column.dtype)
        held: Any = np.packbits(column, bitorder="little") if column.dtype == np.bool_ else np.ascontiguousarray(column)
        arrays.append(pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(held)]))
    return pa.Table.from_arrays(arrays, names=list(columns))


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read()


def _column(stored: Any) -> npt.NDArray[Any]:
    """The way back, which avoids pandas too. Raises ValueError where values are missing: the tables have none."""
    if stored.null_count:
        raise ValueError("a table with missing values")
    dtype = np.dtype(str(stored.type))
    parts: list[npt.NDArray[Any]] = [np.zeros(0, dtype)]
    for chunk in stored.chunks:
        data: Any = chunk.buffers()[1]
        end = chunk.offset + len(chunk)
        if dtype == np.bool_:
            held = np.unpackbits(np.frombuffer(data, np.uint8), count=end, bitorder="little").astype(dtype)
        else:
            held = np.frombuffer(data, dtype, end)
        parts.append(held[chunk.offset :])
    return parts[1] if len(parts) == 2 else np.concatenate(parts)
