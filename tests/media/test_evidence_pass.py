"""What makes the decode pass cheap changes nothing of what it finds: one opening, batches, scaling in two steps."""

from __future__ import annotations

import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from media_factory import render
from source_opens import opens_of

from vidcap.errors import MediaError
from vidcap.media import audio
from vidcap.media.candidates import CandidatePicker, JpegMaker
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.media.opening import SourceFile, open_media
from vidcap.media.thumbnails import Thumbnailer, ThumbnailWriter, hashes

UInt8 = npt.NDArray[np.uint8]


def picture(width: int, height: int, seed: int = 0) -> UInt8:
    """Smooth colours with some edges: height×width×3 uint8 RGB, nothing near black or white."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 215, (6, 9, 3)).astype(np.uint8)
    found: UInt8 = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    found[height // 3 : height // 2, width // 4 : width // 2] = (200, 60, 90)
    return found


def averaged(rgb: UInt8, width: int, height: int) -> npt.NDArray[np.float64]:
    """The mean of each cell, pixels shared by cells in proportion: the slow definition."""

    def weights(many: int, few: int) -> npt.NDArray[np.float64]:
        edges = np.arange(few + 1) * many / few
        at = np.arange(many)
        overlap = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
        found: npt.NDArray[np.float64] = np.clip(overlap, 0, 1) * few / many
        return found

    down = np.tensordot(weights(rgb.shape[0], height), rgb.astype(np.float64), 1)
    found: npt.NDArray[np.float64] = np.einsum("ycs,xc->yxs", down, weights(rgb.shape[1], width), optimize=True)
    return found


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.avi", "a.h264", "a.ts"])
def test_a_source_is_opened_once(name: str, tmp_path: Path) -> None:
    codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(Path(name).suffix, "libx264")
    path = render(tmp_path / name, frames=30, codec=codec)
    with opens_of([path]) as opened:
        decode_source(str(path), tmp_path / "e", DecodeOptions())
        assert opened() == {path: 1}
        with open_media(str(path)) as container:
            assert container.streams.video
        assert opened() == {path: 2}


def test_what_only_the_name_tells_is_looked_at_by_name(tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(bytes(range(7, 251)) * 40)
    with opens_of([path]) as opened:
        with pytest.raises(MediaError) as caught:
            open_media(str(path))
        assert caught.value.reason == "media.unrecognised" and opened() == {path: 2}


def test_libav_reads_on_after_the_file_is_closed_here(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mkv", frames=10)
    with SourceFile(str(path)) as file:
        container = file.media()
    with container:
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_a_file_replaced_while_it_is_decoded_is_refused(tmp_path: Path) -> None:
    path, other = render(tmp_path / "a.mp4", frames=10), render(tmp_path / "b.mp4", frames=10)
    with SourceFile(str(path)) as file:
        file.check_unchanged()
        other.replace(path)
        with pytest.raises(MediaError) as caught:
            file.check_unchanged()
    assert caught.value.reason == "source.changed"


@pytest.mark.parametrize(("width", "height"), [(640, 360), (362, 640), (854, 480), (1280, 720), (161, 121), (50, 30)])
def test_a_thumbnail_is_the_average_of_its_cells(width: int, height: int) -> None:
    rgb = picture(width, height)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    frame.time_base = Fraction(1, 25)
    shown = Thumbnailer()(frame)
    # The filter's own weights are of 14 bits and its coordinates of whole pixels at the borders of a cell.
    off = np.abs(shown - averaged(rgb, 48, 27))
    assert off.mean() < 1.5 and np.percentile(off, 95) < 6
    # Of 4:2:0 the colours have half the columns; what is grey is as near as before.
    grey = np.repeat(rgb[:, :, :1], 3, axis=2)
    frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuv420p")
    frame.time_base = Fraction(1, 25)
    off = np.abs(Thumbnailer()(frame) - averaged(grey, 48, 27))
    assert off.mean() < 2.5 and np.percentile(off, 95) < 8


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_thumbnails_written_in_blocks_are_those_given(count: int, tmp_path: Path) -> None:
    given = np.random.default_rng(count).integers(0, 256, (count, 27, 48, 3), np.uint8)
    writer = ThumbnailWriter(tmp_path / "t")
    for thumbnail in given:
        writer.add(thumbnail)
    assert (writer.finish() == hashes(given)).all()
    assert (tmp_path / "t").read_bytes() == given.tobytes()


def test_a_hash_is_what_its_definition_says() -> None:
    given = np.random.default_rng(3).integers(0, 256, (20, 27, 48, 3), np.uint8)
    given[0], given[1] = 255, 0
    rows, found = [0, 3, 6, 10, 13, 17, 20, 24, 27], []
    for one in given:
        luma, number = one.astype(int) @ np.array([77, 150, 29]), 0
        for row in range(8):
            sums = [luma[rows[row] : rows[row + 1], 1 + 5 * i : 6 + 5 * i].sum() for i in range(9)]
            for left, right in itertools.pairwise(sums):
                number = number << 1 | int(left < right)
        found.append(number)
    assert hashes(given).tolist() == found


def test_a_peak_is_measured_as_the_mean_difference() -> None:
    pick = CandidatePicker(0.001)
    first = np.full((27, 48, 3), 100, np.uint8)
    over, under = first.copy(), first.copy()
    over[:14] += 20  # 10.37 grey levels on average
    under[:13] += 20  # 9.63
    assert [pick(0.0, first, True), pick(1.0, over, True)] == [True, True]
    pick = CandidatePicker(0.001)
    assert [pick(0.0, first, True), pick(1.0, under, True)] == [True, False]


@pytest.mark.parametrize("width", [*range(320, 337), 427, 569, 597])
def test_jpegs_show_the_whole_picture_at_any_width(width: int) -> None:
    rgb = picture(2 * width, 300)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
    data = JpegMaker(150, Fraction(1))(frame)
    shown: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    off = np.abs(shown - averaged(rgb, width, 150))
    assert shown.shape == (150, width, 3) and off.mean() < 4
    assert off[:, -8:].mean() < 6 and off[-8:].mean() < 6


@pytest.mark.parametrize(
    "layout", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "rgb24", "gray"]
)
@pytest.mark.parametrize("size", [(640, 360), (320, 180)])
def test_jpegs_have_the_colours_of_every_layout(layout: str, size: tuple[int, int]) -> None:
    rgb = picture(*size)
    if layout == "gray":
        rgb = np.repeat(rgb[:, :, :1], 3, axis=2)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=layout)
    shown: Any = cv2.imdecode(np.frombuffer(JpegMaker(180, Fraction(1))(frame), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(shown - averaged(rgb, 320, 180)).mean() < 4


def test_jpegs_are_turned_upright(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", frames=3, rotation=90)
    decode_source(str(path), tmp_path / "e", DecodeOptions())
    assert Evidence(tmp_path / "e").clip_view("k", 0, 0, 1).frames[0].shape == (320, 180, 3)


@pytest.mark.parametrize("layout", ["a.mp4", "a.mkv"])
def test_sound_is_the_same_in_pieces_of_any_length(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, found = render(tmp_path / layout, frames=75, audio="sine"), []
    for at_once in (1, 5000, 1 << 15, 1 << 30):
        monkeypatch.setattr(audio, "_AT_ONCE", at_once)
        decode_source(str(path), tmp_path / "e", DecodeOptions())
        found.append((tmp_path / "e" / "audio.s16").read_bytes())
    assert len(found[0]) == 2 * 3 * 16_000 and found[0].strip(b"\0") and len(set(found)) == 1


def test_sound_that_cannot_be_resampled_is_told_and_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = render(tmp_path / "a.mp4", frames=50, audio="sine")

    class Deaf:
        def __init__(self, **given: Any) -> None: ...

        def resample(self, frame: Any) -> Any:
            raise ValueError("deaf")

    monkeypatch.setattr(av, "AudioResampler", Deaf)
    facts = decode_source(str(path), tmp_path / "e", DecodeOptions()).facts
    assert "packets cannot be decoded" in facts.audio_error
    assert not (tmp_path / "e" / "audio.s16").read_bytes().strip(b"\0")


def test_neither_the_pass_nor_its_tables_load_pandas(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", frames=5, audio="sine")
    code = (
        "import sys; from pathlib import Path; from vidcap.media.decode import *; from vidcap.media.evidence import *\n"
        "decode_source(sys.argv[1], Path(sys.argv[2]), DecodeOptions())\n"
        "assert len(Evidence(Path(sys.argv[2])).tables.frames) == 5\n"
        "sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path / "e")], check=True)
