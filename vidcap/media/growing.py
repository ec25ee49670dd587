"""The tables of a source while they grow, eight bytes an entry: what a decode pass notes of packets and frames."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from vidcap.media.frames import NO_TIME, FrameTable, PacketIndex, SourceTables


def _integers() -> array[int]:
    return array("q")


@dataclass
class GrowingTables:
    """Frames in the order they are shown, packets in the order they are decoded."""

    pts: array[int] = field(default_factory=_integers)
    duration: array[int] = field(default_factory=_integers)
    key: bytearray = field(default_factory=bytearray)
    corrupt: bytearray = field(default_factory=bytearray)
    packet_pts: array[int] = field(default_factory=_integers)
    packet_dts: array[int] = field(default_factory=_integers)
    packet_duration: array[int] = field(default_factory=_integers)
    packet_key: bytearray = field(default_factory=bytearray)
    packet_size: array[int] = field(default_factory=_integers)
    packet_offset: array[int] = field(default_factory=_integers)
    packet_discard: bytearray = field(default_factory=bytearray)

    def add_frame(self, pts: int, frame: Any, *, corrupt: bool) -> None:
        self.pts.append(pts)
        self.duration.append(max(0, frame.duration or 0))
        self.key.append(frame.key_frame)
        self.corrupt.append(corrupt)

    def add_packet(self, packet: Any) -> None:
        self.packet_pts.append(NO_TIME if packet.pts is None else packet.pts)
        self.packet_dts.append(NO_TIME if packet.dts is None else packet.dts)
        self.packet_duration.append(packet.duration or 0)
        self.packet_key.append(packet.is_keyframe)
        self.packet_size.append(packet.size)
        self.packet_offset.append(-1 if packet.pos is None else packet.pos)
        self.packet_discard.append(packet.is_discard)

    def packets(self) -> PacketIndex:
        return PacketIndex(
            np.array(self.packet_pts, np.int64),
            np.array(self.packet_dts, np.int64),
            np.array(self.packet_key, np.bool_),
            np.array(self.packet_size, np.int64),
            np.array(self.packet_offset, np.int64),
            np.array(self.packet_discard, np.bool_),
        )

    def tables(self, time_base: Fraction, hashes: npt.NDArray[np.uint64]) -> SourceTables:
        """`hashes`: one for each frame (`thumbnails.hashes`)."""
        frames = FrameTable(
            time_base,
            np.array(self.pts, np.int64),
            np.array(self.duration, np.int64),
            np.array(self.key, np.bool_),
            np.array(self.corrupt, np.bool_),
            hashes,
        )
        return SourceTables(frames, self.packets())
