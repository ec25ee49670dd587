"""H.264 as bytes: NAL units, parameter sets and the `avcC` record; enough to join two encoders' pictures in one track.

Clause numbers are those of ITU-T H.264; `avcC` is ISO/IEC 14496-15. Nothing here trusts a length it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

IDR, SEI, SPS, PPS = 5, 6, 7, 8
_TYPE = 0x1F

_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose parameter sets name the chroma format (7.3.2.1.1)."""
_WITH_TAIL = frozenset({100, 110, 122, 144})
"""Profiles whose `avcC` ends with chroma format and bit depths."""

PROFILES = {66: "baseline", 77: "main", 100: "high"}
"""`profile_idc` → what x264 calls it."""


class BrokenError(ValueError):
    """The bytes are not what they should be."""


def kind(unit: bytes) -> int:
    """`nal_unit_type`"""
    return unit[0] & _TYPE


def units(data: bytes, extradata: bytes | None) -> Iterator[bytes]:
    """The NAL units of a packet: behind lengths where the stream's header is an `avcC` record, else behind start codes.

    A length that reaches past the end raises `BrokenError`.
    """
    if not extradata or extradata[0] != 1 or len(extradata) < 5:
        for part in data.split(b"\0\0\1")[1:]:
            unit = part.rstrip(b"\0")  # The last byte of a unit is never 0 (7.4.1).
            if unit:
                yield unit
        return
    width, at = (extradata[4] & 3) + 1, 0
    while at + width <= len(data):
        length = int.from_bytes(data[at : at + width], "big")
        at += width
        if at + length > len(data):
            raise BrokenError("a unit reaches past its packet")
        if length:
            yield data[at : at + length]
        at += length


def joined(parts: Iterable[bytes]) -> bytes:
    """The units, each behind a length of four bytes."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in parts)


def starts_clean(data: bytes, extradata: bytes | None) -> bool:
    """Whether an access unit holds an IDR slice. Other key packets may need what stands before them."""
    try:
        return any(kind(unit) == IDR for unit in units(data, extradata))
    except BrokenError:
        return False


@dataclass(frozen=True, slots=True)
class Sets:
    """The parameter sets of a stream, as units: sequence (SPS) and picture (PPS)."""

    sequence: tuple[bytes, ...]
    picture: tuple[bytes, ...]

    def free_id(self) -> int:
        """The smallest number that no set of either kind has. Raises `BrokenError` where x264 could not use it."""
        taken = {sequence_facts(unit).number for unit in self.sequence}
        taken |= {_Bits(unit[1:]).unsigned() for unit in self.picture}
        number = next(n for n in range(257) if n not in taken)
        if number > 31:
            raise BrokenError("no free number")
        return number


def stored_sets(extradata: bytes | None) -> Sets:
    """The sets in a stream's header, an `avcC` record or units behind start codes. Raises `BrokenError`."""
    if not extradata:
        raise BrokenError("no parameter sets")
    if extradata[0] != 1:
        found = list(units(extradata, None))
    else:
        found, at = [], 5
        for mask in (0x1F, 0xFF):
            if at >= len(extradata):
                raise BrokenError("the header ends early")
            count, at = extradata[at] & mask, at + 1
            for _ in range(count):
                length = int.from_bytes(extradata[at : at + 2], "big")
                unit = extradata[at + 2 : at + 2 + length]
                if not unit or len(unit) != length:
                    raise BrokenError("the header ends early")
                found.append(unit)
                at += 2 + length
    sets = Sets(tuple(unit for unit in found if kind(unit) == SPS), tuple(unit for unit in found if kind(unit) == PPS))
    if not sets.sequence or not sets.picture:
        raise BrokenError("no parameter sets")
    return sets


def header(sets: Sets) -> bytes:
    """The `avcC` record that holds these sets, for 8-bit 4:2:0 and lengths of four bytes."""
    # What is said of the stream must hold for all of it: the greatest profile and level, the constraints all keep.
    profile = max(unit[1] for unit in sets.sequence)
    level = max(unit[3] for unit in sets.sequence)
    constraints = 0xFF
    for unit in sets.sequence:
        constraints &= unit[2]
    out = bytearray((1, profile, constraints, level, 0xFF, 0xE0 | len(sets.sequence)))
    for unit in sets.sequence:
        out += len(unit).to_bytes(2, "big") + unit
    out.append(len(sets.picture))
    for unit in sets.picture:
        out += len(unit).to_bytes(2, "big") + unit
    if profile in _WITH_TAIL:
        out += bytes((0xFC | 1, 0xF8, 0xF8, 0))
    return bytes(out)


@dataclass(frozen=True, slots=True)
class SequenceFacts:
    """What joining needs of an SPS. `reorder`, `buffered`: frames that output may lag behind decoding and that a
    decoder keeps, both None where the set does not say; `reorder` is 0 where it follows from the order of pictures.
    """

    number: int
    profile: int
    references: int
    reorder: int | None
    buffered: int | None


def sequence_facts(unit: bytes) -> SequenceFacts:
    """Read an SPS (7.3.2.1.1 and E.1.1). Raises `BrokenError`."""
    if len(unit) < 5 or kind(unit) != SPS:
        raise BrokenError("no sequence parameter set")
    profile = unit[1]
    bits = _Bits(unit[4:])
    number = bits.unsigned()
    if profile in _WITH_CHROMA:
        _chroma(bits)
    bits.unsigned()  # log2_max_frame_num
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.skip(1)
        for _ in range(2):
            bits.unsigned()
        for _ in range(bits.count(255)):
            bits.unsigned()
    references = bits.unsigned()
    bits.skip(1)
    for _ in range(2):
        bits.unsigned()  # width and height in macroblocks
    if not bits.flag():
        bits.skip(1)
    bits.skip(1)
    if bits.flag():
        for _ in range(4):
            bits.unsigned()  # cropping
    reorder, buffered = _restriction(bits) if bits.flag() else (None, None)
    if reorder is None and (order == 2 or profile == 66):
        reorder = 0
    return SequenceFacts(number, profile, references, reorder, buffered)


def _chroma(bits: _Bits) -> None:
    lists = 8
    if bits.unsigned() == 3:
        bits.skip(1)
        lists = 12
    for _ in range(2):
        bits.unsigned()
    bits.skip(1)
    if bits.flag():
        for number in range(lists):
            if bits.flag():
                _scaling_list(bits, 16 if number < 6 else 64)


def _scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _restriction(bits: _Bits) -> tuple[int | None, int | None]:
    """max_num_reorder_frames and max_dec_frame_buffering of the VUI, None where it has none."""
    if bits.flag() and bits.read(8) == 255:
        bits.skip(32)
    if bits.flag():
        bits.skip(1)
    if bits.flag():
        bits.skip(4)
        if bits.flag():
            bits.skip(24)
    if bits.flag():
        for _ in range(2):
            bits.unsigned()
    if bits.flag():
        bits.skip(65)
    buffers = [_reference_decoder(bits) for _ in range(2)]
    if any(buffers):
        bits.skip(1)
    bits.skip(1)
    if not bits.flag():
        return None, None
    bits.skip(1)
    for _ in range(4):
        bits.unsigned()
    return bits.unsigned(), bits.unsigned()


def _reference_decoder(bits: _Bits) -> bool:
    if not bits.flag():
        return False
    count = bits.count(31) + 1
    bits.skip(8)
    for _ in range(count):
        bits.unsigned()
        bits.unsigned()
        bits.skip(1)
    bits.skip(20)
    return True


class _Bits:
    """Reads the payload of a unit bit by bit, without the bytes that prevent start codes (7.4.1)."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def read(self, count: int) -> int:
        if count > self._left:
            raise BrokenError("a parameter set ends early")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        self.read(count)

    def flag(self) -> bool:
        return bool(self.read(1))

    def unsigned(self) -> int:
        """ue(v), 9.1"""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise BrokenError("a number without end")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        """se(v), 9.1.1"""
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)

    def count(self, most: int) -> int:
        value = self.unsigned()
        if value > most:
            raise BrokenError(f"{value} where at most {most} make sense")
        return value
