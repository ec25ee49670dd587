"""AAC as transport streams carry it: each packet behind an ADTS header, which says what MP4 wants to hear once.

ADTS is ISO/IEC 13818-7, 6.2; the configuration that MP4 stores (`AudioSpecificConfig`) is ISO/IEC 14496-3, 1.6.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLE_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
"""By `sampling_frequency_index`."""


class NotPlainError(ValueError):
    """The packet is no single AAC frame that MP4 could hold without its header."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One AAC frame: what MP4 stores of its stream, its sample rate without extensions, and its bytes."""

    config: bytes
    sample_rate: int
    payload: bytes


def frame_of(data: bytes) -> Frame:
    """The frame in a packet. Raises `NotPlainError` where it holds several, or names its channels in its own way."""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        raise NotPlainError("no ADTS header")
    header = 7 if data[1] & 1 else 9  # the longer one ends with a checksum
    object_type = (data[2] >> 6) + 1
    rate = data[2] >> 2 & 15
    channels = (data[2] & 1) << 2 | data[3] >> 6
    length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    if length != len(data) or length <= header or data[6] & 3 or not channels or rate >= len(SAMPLE_RATES):
        raise NotPlainError("no single frame of a plain layout")
    config = object_type << 11 | rate << 7 | channels << 3
    return Frame(config.to_bytes(2, "big"), SAMPLE_RATES[rate], data[header:])
