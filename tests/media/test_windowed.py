"""Thumbnails and sound in windows: the values of plain arrays, and no more in memory than what was asked for last."""

from __future__ import annotations

import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_factory import render

from vidcap.autoshot.boundaries import black
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.media.frames import SourceTables
from vidcap.media.growing import GrowingTables
from vidcap.media.motion import measure
from vidcap.media.source import SourceReader
from vidcap.media.windowed import StoredSound, thumbnails_of

SHAPE = (27, 48, 3)
FRAME = 27 * 48 * 3


def resident_mb(path: Path) -> float:
    """How much of the file is mapped into this process now."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if "-" in name.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and name == "Rss":
            found += int(rest.split()[0])
    return found / 1000


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "thumbnails.rgb"
    np.random.default_rng(3).integers(0, 256, (300, *SHAPE)).astype(np.uint8).tofile(path)
    return path


@pytest.fixture
def long_pictures(tmp_path: Path) -> Path:
    """30,000 black frames, which take no room on the disk: twenty minutes, 117 MB."""
    path = tmp_path / "long.rgb"
    with path.open("wb") as handle:
        handle.truncate(30_000 * FRAME)
    return path


def test_mapped_pictures_are_the_files(pictures: Path) -> None:
    plain = np.fromfile(pictures, np.uint8).reshape(-1, *SHAPE)
    mapped = thumbnails_of(pictures, SHAPE)
    assert mapped.shape == plain.shape and mapped.dtype == np.uint8 and not mapped.flags.writeable
    early = mapped[3:9]
    assert (mapped[[5, 200, 299]] == plain[[5, 200, 299]]).all()
    assert (mapped[100:200][np.array([[0, 99], [7, 7]])] == plain[100:200][np.array([[0, 99], [7, 7]])]).all()
    assert mapped[4, 13, 24].tolist() == plain[4, 13, 24].tolist() and mapped[4, 13, 24, 1] == plain[4, 13, 24, 1]
    assert (np.stack(list(mapped)) == plain).all()
    assert (early == plain[3:9]).all()  # its pages were let go meanwhile, and come back
    assert (mapped.reshape(300, -1)[::50] == plain.reshape(300, -1)[::50]).all()
    assert type(mapped[[1, 2]]) is np.ndarray and (mapped.astype(int) + 1 == plain.astype(int) + 1).all()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_of_a_long_file_only_a_window_stays_mapped(long_pictures: Path) -> None:
    mapped = thumbnails_of(long_pictures, SHAPE)
    seen = []
    for first in range(0, 30_000, 1000):
        assert int(mapped[first : first + 1000].max()) == 0
        seen.append(resident_mb(long_pictures))
    # A window is 3.9 MB; the system maps some pages around what is read.
    assert 3 < max(seen) < 12
    assert black(mapped).all() and resident_mb(long_pictures) < 12
    motion = measure(mapped, np.arange(30_000) / 25)
    assert motion.freeze_ratio == 1.0 and resident_mb(long_pictures) < 12


@settings(deadline=None)  # files are written
@given(st.integers(0, 40), st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 30), st.integers(0, 60))
def test_slices_of_sound_are_those_of_an_array(
    tmp_path_factory: pytest.TempPathFactory, held: int, first: int, end: int, start: int, stop: int
) -> None:
    """Also where the file holds fewer samples than the source is long: it is silent there."""
    path = tmp_path_factory.mktemp("sound") / "audio.s16"
    samples = np.arange(1, held + 1, dtype="<i2") * 100
    samples.tofile(path)
    whole = np.zeros(max(held, stop), np.float32)
    whole[:held] = samples / np.float32(32768)
    expected = whole[start:stop]
    sound = StoredSound(path, start, stop)
    assert len(sound) == len(expected)
    for part in (slice(first, end), slice(None), slice(first, None)):
        assert sound[part].dtype == np.float32 and np.array_equal(sound[part], expected[part])
    assert np.array_equal(np.concatenate([np.zeros(0), *sound.blocks(7)]), expected)
    assert sound.peak() == (float(np.abs(expected).max()) if len(expected) else 0.0)


def test_no_sound_at_all_is_empty_and_a_lost_file_an_error(tmp_path: Path) -> None:
    assert len(StoredSound(None, 0, 100)) == 0 and StoredSound(None, 0, 100).peak() == 0.0
    with pytest.raises(FileNotFoundError):
        StoredSound(tmp_path / "gone", 0, 100)[:]
    with pytest.raises(ValueError, match="one piece"):
        StoredSound(None, 0, 100)[::2]


def test_tables_grow_by_a_hundred_bytes_a_frame(tmp_path: Path) -> None:
    """Three hours at 60 frames a second are then 65 MB, while they are made and once they are read."""
    count = 50_000
    GrowingTables().tables(Fraction(1, 25), np.zeros(0, np.uint64)).save(tmp_path)
    SourceTables.load(tmp_path)  # what libraries hold once they are imported is not counted
    frame = SimpleNamespace(duration=1, key_frame=True)
    packet = SimpleNamespace(pts=5, dts=None, duration=1, is_keyframe=True, size=900, pos=10, is_discard=False)
    tracemalloc.start()
    try:
        growing = GrowingTables()
        for pts in range(count):
            growing.add_frame(pts, frame, corrupt=False)
            growing.add_packet(packet)
        tables = growing.tables(Fraction(1, 25), np.arange(count, dtype=np.uint64))
        _, made = tracemalloc.get_traced_memory()
        tables.save(tmp_path)
        del growing, tables
        tracemalloc.reset_peak()
        read = SourceTables.load(tmp_path)
        _, loaded = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(read.frames) == len(read.packets) == count and int(read.frames.pts[-1]) == count - 1
    assert made < 160 * count and loaded < 100 * count


class Block:
    """A second of sound that is counted while somebody holds it."""

    alive = most = 0
    time_base, duration = Fraction(1), 1

    def __init__(self, pts: int) -> None:
        self.pts = pts
        Block.alive += 1
        Block.most = max(Block.most, Block.alive)

    def __del__(self) -> None:
        Block.alive -= 1


def test_sound_before_a_clip_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a container cannot seek, all sound from the start is read for a clip that lies hours later."""
    render(tmp_path / "a.mp4", frames=25, audio="sine")
    decode_source(str(tmp_path / "a.mp4"), tmp_path / "e", DecodeOptions())
    with SourceReader(str(tmp_path / "a.mp4"), Evidence(tmp_path / "e").tables) as reader:
        monkeypatch.setattr(reader, "_seek", lambda *_: False)
        got = reader._audio_from(Fraction(7001, 2), Fraction(3504), lambda _: map(Block, range(10_000)))
    assert [block.pts for block in got] == [3499, 3500, 3501, 3502, 3503]
    assert Block.most <= 8
