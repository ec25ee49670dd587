"""The exact k-th best of any number of scored keys, found by reading them a few times and never holding them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidcap.errors import InvariantError

UInt64 = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.bytes_]
Rows = npt.NDArray[np.intp]

SCORE_DIGITS = (22, 21, 21)
"""Bits per pass over the 64-bit order code: 2²² counters take 32 MB; a pass splits an octave of scores in 1,024."""
KEY_DIGIT_BYTES = 2
HOLD = 1_000_000
"""Records that may be held at once: about 90 MB of codes and keys."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records: their order codes (`order_codes`), and of each the row of its key in `all_keys`.

    Keys are wide and hardly ever looked at, so they are not copied until they are.
    """

    codes: UInt64
    all_keys: Bytes
    rows: Rows

    def keys(self, which: npt.NDArray[np.bool_]) -> Bytes:
        found: Bytes = self.all_keys[self.rows[which]]
        return found


class FirstDigits:
    """How many records have which leading digit: the first pass of `find_cutoff`, for who reads all records anyway."""

    def __init__(self) -> None:
        self.counts = np.zeros(1 << SCORE_DIGITS[0], dtype=np.int64)

    def add(self, codes: UInt64) -> None:
        np.add.at(self.counts, (codes >> np.uint64(64 - SCORE_DIGITS[0])).astype(np.intp), 1)


@dataclass(frozen=True, slots=True)
class Cutoff:
    """The last record that is in. Records order by code, then key; the smallest is the best."""

    code: np.uint64
    key: bytes

    def admits(self, chunk: Chunk) -> npt.NDArray[np.bool_]:
        inside = chunk.codes < self.code
        tied = chunk.codes == self.code
        if tied.any():
            inside[tied] = chunk.keys(tied) <= np.bytes_(self.key)
        return inside


def order_codes(scores: npt.NDArray[np.float64]) -> UInt64:
    """64-bit codes that order like falling scores: the best score has the smallest code. NaN is not allowed."""
    # Adding 0.0 makes −0.0 equal to 0.0, as it is for every comparison of floats.
    bits = np.ascontiguousarray(scores + 0.0, dtype=np.float64).view(np.uint64)
    negative = (bits >> np.uint64(63)).astype(bool)
    rising = np.where(negative, ~bits, bits | np.uint64(1 << 63))
    return ~rising


def key_bytes(keys: object) -> Bytes:
    """Keys as a fixed-width byte array; they order byte by byte, as the ASCII of keys does."""
    found: Bytes = np.asarray(keys, dtype=np.bytes_)
    return found


def find_cutoff(
    chunks: Callable[[], Iterator[Chunk]], k: int, *, first: FirstDigits | None = None, hold: int = HOLD
) -> Cutoff:
    """The k-th record in order, 1 ≤ k ≤ the number of records. `chunks` starts a new pass each time it is called.

    Each pass counts the next digit of the records that still share the searched record's leading digits (`first`: what
    the first pass would find); once at most `hold` are left they are collected and sorted. Ties of the score go on into
    the digits of the key. Memory: one chunk, the counters, `hold` records.
    """
    seen = _Leading(np.uint64(0), 0, b"")
    wanted = k
    counts = first.counts if first is not None else _counted(chunks, seen)
    while True:
        upto = np.cumsum(counts)
        digit = int(np.searchsorted(upto, wanted))
        if digit >= len(counts):
            raise InvariantError(f"asked for the {k}-th of fewer records")
        wanted -= int(upto[digit] - counts[digit])
        left = int(counts[digit])
        seen = seen.extended(digit)
        if left <= hold or seen.key_exhausted:
            return _collect(chunks, seen, wanted)
        counts = _counted(chunks, seen)


def _counted(chunks: Callable[[], Iterator[Chunk]], seen: _Leading) -> npt.NDArray[np.int64]:
    """How many of the records that begin like `seen` have which next digit."""
    counts = np.zeros(1 << seen.next_bits, dtype=np.int64)
    for chunk in chunks():
        mask = seen.matches(chunk)
        if mask.any():
            np.add.at(counts, seen.next_digit(chunk, mask), 1)
    return counts


@dataclass(frozen=True, slots=True)
class _Leading:
    """The digits found so far: `level` digits of the code, then leading bytes of the key."""

    code: np.uint64
    level: int
    key: bytes

    @property
    def bits(self) -> int:
        """Leading bits of the code that are known."""
        return sum(SCORE_DIGITS[: self.level])

    @property
    def next_bits(self) -> int:
        return SCORE_DIGITS[self.level] if self.level < len(SCORE_DIGITS) else 8 * KEY_DIGIT_BYTES

    @property
    def key_exhausted(self) -> bool:
        # A digit of NULs lies beyond the end of the key: all that is left are equal.
        return self.key.endswith(b"\0" * KEY_DIGIT_BYTES)

    def matches(self, chunk: Chunk) -> npt.NDArray[np.bool_]:
        if self.bits == 0:
            return np.ones(len(chunk.codes), dtype=bool)
        shift = np.uint64(64 - self.bits)
        mask: npt.NDArray[np.bool_] = (chunk.codes >> shift) == self.code
        if self.key and mask.any():
            mask[mask] = _window(chunk.keys(mask), 0, len(self.key)) == np.bytes_(self.key)
        return mask

    def next_digit(self, chunk: Chunk, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """Of the records in `mask`."""
        if self.bits < 64:
            shift = np.uint64(64 - self.bits - self.next_bits)
            return ((chunk.codes[mask] >> shift) & np.uint64((1 << self.next_bits) - 1)).astype(np.intp)
        piece = _window(chunk.keys(mask), len(self.key), KEY_DIGIT_BYTES)
        return np.ascontiguousarray(piece).view(">u2").astype(np.intp)

    def extended(self, digit: int) -> _Leading:
        if self.level < len(SCORE_DIGITS):
            return _Leading(np.uint64((int(self.code) << self.next_bits) | digit), self.level + 1, b"")
        return _Leading(self.code, self.level, self.key + digit.to_bytes(KEY_DIGIT_BYTES, "big"))


def _window(keys: Bytes, begin: int, size: int) -> Bytes:
    """Bytes `begin` to `begin + size` of each key, padded with NULs."""
    width = keys.dtype.itemsize
    table = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), width)
    piece = np.zeros((len(keys), size), dtype=np.uint8)
    part = table[:, begin : begin + size]
    piece[:, : part.shape[1]] = part
    found: Bytes = piece.view(f"S{size}").reshape(len(keys))
    return found


def _collect(chunks: Callable[[], Iterator[Chunk]], seen: _Leading, wanted: int) -> Cutoff:
    codes_left, keys_left = [], []
    for chunk in chunks():
        mask = seen.matches(chunk)
        if mask.any():
            codes_left.append(chunk.codes[mask])
            keys_left.append(chunk.keys(mask))
    if sum(map(len, codes_left)) < wanted:
        raise InvariantError("scores changed between two readings of the same part")
    codes, keys = np.concatenate(codes_left), np.concatenate(keys_left)
    at = np.lexsort((keys, codes))[wanted - 1]
    return Cutoff(codes[at], bytes(keys[at]))
