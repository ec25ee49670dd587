"""Which rows a thumbnail is made of, and what its hash tells of a picture whose block edges were not smoothed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import render

from vidcap.errors import MediaError
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.media.opening import UNSMOOTHED
from vidcap.media.source import SourceReader
from vidcap.media.thumbnails import Thumbnailer, hashes, resembles

UInt8 = npt.NDArray[np.uint8]


def thumbnail(rows: UInt8) -> UInt8:
    frame = av.VideoFrame.from_ndarray(rows, format="gray")
    frame.time_base = Fraction(1, 25)
    return Thumbnailer()(frame)


@pytest.mark.parametrize(
    ("height", "every"), [(162, 1), (323, 1), (324, 2), (360, 2), (647, 2), (648, 4), (720, 4), (1080, 4), (1296, 8)]
)
def test_rows_are_left_out_where_six_are_left_for_each_row_of_a_thumbnail(height: int, every: int) -> None:
    rng = np.random.default_rng(height)
    rows = rng.integers(0, 256, (height, 96), dtype=np.uint8)
    plain = thumbnail(rows)
    unseen = rows.copy()
    for offset in range(1, every):
        unseen[offset::every] = 255 - unseen[offset::every]
    assert (thumbnail(unseen) == plain).all()
    seen = rows.copy()
    seen[::every] = 255 - seen[::every]
    assert (thumbnail(seen) != plain).mean() > 0.9
    assert -(-height // every) / 27 >= 6


@given(st.integers(0, 2**32 - 1), st.integers(0, 26), st.integers(0, 47))
def test_a_hash_is_resembled_by_what_has_it_and_by_what_is_off_by_a_level(seed: int, row: int, column: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 255, (27, 48, 3), dtype=np.uint8)
    code = hashes(picture[None])[0]
    assert resembles(picture, code)
    picture[row, column] += 1
    assert resembles(picture, code)
    assert not resembles(picture[:, ::-1], code) and not resembles(np.roll(picture, 9, 0), code)


def test_flat_pictures_resemble_each_other_and_no_others() -> None:
    dark, noise = np.zeros((27, 48, 3), np.uint8), np.random.default_rng(0).integers(0, 2, (27, 48, 3), dtype=np.uint8)
    assert resembles(noise, hashes(dark[None])[0]) and resembles(dark, hashes(noise[None])[0])
    ramp = np.broadcast_to(np.arange(0, 240, 5, dtype=np.uint8)[None, :, None], (27, 48, 3)).copy()
    assert not resembles(ramp, hashes(dark[None])[0]) and not resembles(255 - ramp, hashes(ramp[None])[0])


def test_only_pictures_that_no_other_needs_are_left_unsmoothed(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", frames=40, options={"crf": "38", "preset": "medium"})
    decode_source(str(path), tmp_path / "e", DecodeOptions())
    evidence = Evidence(tmp_path / "e")
    smooth, rough = _thumbnails(path, "default"), _thumbnails(path, "all")
    changed = [bool((seen != wanted).any()) for seen, wanted in zip(evidence.thumbnails, smooth, strict=True)]
    assert 5 < sum(changed) < 35, "some are, and those that others need are not"
    assert np.abs(np.array(smooth, int) - evidence.thumbnails).max() <= 6
    assert np.abs(np.array(rough, int) - smooth).max() > 6, "otherwise this film would show nothing"
    assert UNSMOOTHED == {"skip_loop_filter": "noref"}
    # Smoothed, the frames are still those of the table.
    with SourceReader(str(path), evidence.tables) as source:
        assert [index for index, *_ in source.frames(0, 39, compared=40)] == list(range(40))


def test_packets_of_another_size_are_noticed_where_the_pictures_look_alike(tmp_path: Path) -> None:
    one, other = (
        render(tmp_path / name, frames=40, options={"crf": crf}) for name, crf in (("a.mp4", "20"), ("b.mp4", "21"))
    )
    decode_source(str(one), tmp_path / "e", DecodeOptions())
    tables = Evidence(tmp_path / "e").tables
    with SourceReader(str(other), tables) as source, pytest.raises(MediaError, match="packet 0 is not as") as caught:
        list(source.frames(3, 20, from_start=True))
    assert caught.value.reason == "source.changed"


def _thumbnails(path: Path, left_out: str) -> list[UInt8]:
    with av.open(str(path)) as media:
        media.streams.video[0].codec_context.options = {"skip_loop_filter": left_out}
        return [Thumbnailer()(frame) for frame in media.decode(video=0)]
