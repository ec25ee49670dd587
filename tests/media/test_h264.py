"""NAL units, parameter sets and the `avcC` record: against x264's own, and against bytes that mean nothing."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.media import h264


def encoded(options: str, *, profile: str = "high", header: bool = True) -> tuple[bytes, list[bytes]]:
    """The header and the packets of some pictures of noise."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.thread_count = 1
    context.options = {"preset": "medium", "profile": profile, "x264-params": f"annexb={int(not header)}:{options}"}
    if header:
        context.flags |= av.codec.context.Flags.global_header.value
    packets = []
    for number in range(12):
        noise = np.random.default_rng(number).integers(0, 255, (72, 64), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(noise, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += context.encode(frame)
    packets += context.encode(None)
    return bytes(context.extradata or b""), [bytes(packet) for packet in packets]


@pytest.mark.parametrize(
    ("options", "profile", "number", "reorder", "buffered"),
    [
        ("sps-id=0:bframes=0:ref=1", "high", 0, 0, 1),
        ("sps-id=7:bframes=3:b-pyramid=none:ref=2", "high", 7, 1, 2),
        ("sps-id=31:bframes=3:b-pyramid=normal:ref=6", "main", 31, 2, 6),
        ("sps-id=3:bframes=0:ref=3:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500", "baseline", 3, 0, 3),
        ("sps-id=2:bframes=0:ref=1:dpb-size=4:cqm=jvt:overscan=show:chromaloc=1:colorprim=bt709", "high", 2, 0, 4),
    ],
)
def test_sets_say_what_the_encoder_was_asked(
    options: str, profile: str, number: int, reorder: int, buffered: int
) -> None:
    extradata, _ = encoded(options, profile=profile)
    (unit,) = h264.stored_sets(extradata).sequence
    facts = h264.sequence_facts(unit)
    assert (facts.number, facts.reorder, facts.buffered) == (number, reorder, buffered)
    assert h264.PROFILES[facts.profile] == profile


def test_a_header_that_is_taken_apart_goes_together_again() -> None:
    extradata, _ = encoded("sps-id=4")
    assert h264.header(h264.stored_sets(extradata)) == extradata


def test_units_are_the_same_behind_lengths_and_start_codes() -> None:
    extradata, packets = encoded("bframes=2")
    _, others = encoded("bframes=2:repeat-headers=0", header=False)
    for one, other in zip(packets, others, strict=True):
        ours = [unit for unit in h264.units(one, extradata) if h264.kind(unit) not in (h264.SEI,)]
        kept = (h264.SEI, h264.SPS, h264.PPS)
        assert [unit for unit in h264.units(other, None) if h264.kind(unit) not in kept] == ours
        assert list(h264.units(h264.joined(ours), b"\1\0\0\0\xff")) == ours
    assert h264.starts_clean(packets[0], extradata)
    assert not h264.starts_clean(packets[1], extradata)


def test_the_first_number_that_is_free() -> None:
    stored = [h264.stored_sets(encoded(f"sps-id={number}")[0]) for number in (0, 1, 3)]
    joined = h264.Sets(tuple(s.sequence[0] for s in stored), tuple(s.picture[0] for s in stored))
    assert joined.free_id() == 2


@given(st.binary(max_size=60), st.binary(max_size=40))
def test_bytes_that_mean_nothing_are_refused(data: bytes, extradata: bytes) -> None:
    for lead in (b"", b"\1", b"\1\x64\0\x1f\xff\xe1\0"):
        try:
            sets = h264.stored_sets(lead + extradata)
            for unit in sets.sequence:
                h264.sequence_facts(unit)
            sets.free_id()
        except h264.BrokenError:
            pass
        with contextlib.suppress(h264.BrokenError):
            list(h264.units(data, lead + extradata))
        h264.starts_clean(data, lead + extradata)
    with contextlib.suppress(h264.BrokenError):
        h264.sequence_facts(bytes((0x67,)) + data)
