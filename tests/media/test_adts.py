"""AAC behind ADTS headers: what is told apart, what is refused, and that a copy plays as the source does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_sources import decoded
from media_factory import render

from vidcap.media.adts import SAMPLE_RATES, NotPlainError, frame_of
from vidcap.media.cut import cut_clip


def packet(
    payload: bytes, *, profile: int = 1, rate: int = 4, channels: int = 2, checked: bool = False, more: int = 0
) -> bytes:
    """An ADTS frame, bit by bit as the standard's table has it."""
    length = len(payload) + (9 if checked else 7)
    fields = [(0xFFF, 12), (0, 1), (0, 2), (not checked, 1), (profile, 2), (rate, 4), (0, 1), (channels, 3), (0, 4)]
    fields += [(length, 13), (0x7FF, 11), (more, 2)]
    bits = "".join(format(int(value), f"0{width}b") for value, width in fields)
    return int(bits, 2).to_bytes(7, "big") + (b"cc" if checked else b"") + payload


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 3), st.integers(0, 12), st.integers(1, 7), st.booleans())
def test_a_frame_is_its_configuration_and_its_bytes(
    payload: bytes, profile: int, rate: int, channels: int, checked: bool
) -> None:
    frame = frame_of(packet(payload, profile=profile, rate=rate, channels=channels, checked=checked))
    assert frame.payload == payload and frame.sample_rate == SAMPLE_RATES[rate]
    assert f"{int.from_bytes(frame.config, 'big'):016b}" == f"{profile + 1:05b}{rate:04b}{channels:04b}000"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xf1",
        packet(b""),
        packet(b"x", rate=13),
        packet(b"x", rate=15),
        packet(b"x", channels=0),
        packet(b"x", more=1),
        packet(b"x") + b"y",
        packet(b"xy")[:-1],
        packet(b"xy", checked=True)[:8],
        b"\0" + packet(b"x"),
    ],
)
def test_what_is_no_single_plain_frame_is_refused(data: bytes) -> None:
    with pytest.raises(NotPlainError):
        frame_of(data)


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_a_frame_or_refused(data: bytes, synced: bool) -> None:
    data = b"\xff\xf1" + data if synced else data
    try:
        frame = frame_of(data)
    except NotPlainError:
        return
    assert data.endswith(frame.payload) and len(data) - len(frame.payload) in (7, 9)


def heard(path: Path) -> npt.NDArray[Any]:
    with av.open(str(path)) as opened:
        return np.concatenate([frame.to_ndarray() for frame in opened.decode(audio=0)], axis=1)


def test_a_copy_out_of_a_transport_stream_has_the_source_s_samples(tmp_path: Path) -> None:
    path, tables, facts = decoded(render(tmp_path / "a.ts", frames=100, audio="click", clicks=[0.5, 1.7, 3.1]))
    clip = tmp_path / "clip.mp4"
    sound = cut_clip(str(path), tables, facts, 25, 80, clip).sound
    assert sound.copied
    source, cut = heard(path), heard(clip)
    # The first block of the clip has no block before it to overlap with.
    inner = cut[:, 2048:-2048]
    windows = np.lib.stride_tricks.sliding_window_view(source, inner.shape[1], axis=1)
    assert any((windows[:, at] == inner).all() for at in range(windows.shape[1])), "sample for sample, somewhere"


def test_sound_whose_real_rate_is_not_in_its_headers_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tables, facts = decoded(render(tmp_path / "a.ts", frames=60, audio="sine"))
    from vidcap.media import adts

    monkeypatch.setattr(adts, "SAMPLE_RATES", tuple(rate // 2 for rate in SAMPLE_RATES))
    sound = cut_clip(str(path), tables, facts, 5, 50, tmp_path / "clip.mp4").sound
    assert sound.codec == "aac" and not sound.copied
