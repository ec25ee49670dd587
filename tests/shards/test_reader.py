"""The reader: other programs' view of our shards, and hostile tars that must give faults, never harm."""

from __future__ import annotations

import gc
import io
import json
import struct
import tarfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import shard_factory as factory
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap.errors import ShardError, UsageError
from vidcap.shards import reader
from vidcap.shards.reader import Fault, RawSample, find_shards, iter_samples, read_sample, read_sizes, scan

KEY = "9f2c4e1ab07d3355_00000000_00000009"
OTHER = "9f2c4e1ab07d3355_00000010_00000019"


def test_plain_tarfile_reads_every_member(tmp_path: Path) -> None:
    (info,) = factory.write_run(tmp_path, 2, flac=True)
    with tarfile.open(tmp_path / info.name) as tar:
        names = tar.getnames()
        assert names == [f"{key}.{kind}" for key in (KEY, OTHER) for kind in ("flac", "json", "mp4", "txt")]
        member = tar.extractfile(f"{OTHER}.mp4")
        assert member is not None
        assert member.read() == factory.tiny_mp4()


def test_webdataset_reads_every_sample(tmp_path: Path) -> None:
    infos = factory.write_run(tmp_path, 5, max_samples=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the collector
        seen = list(wds.WebDataset([str(tmp_path / info.name) for info in infos], shardshuffle=False))
        gc.collect()
    assert [sample["__key__"] for sample in seen] == [factory.record(n * 10).key for n in range(5)]
    for sample in seen:
        assert {name for name in sample if not name.startswith("__")} == {"json", "mp4", "txt"}
        assert json.loads(sample["json"])["key"] == sample["__key__"]
        assert sample["txt"] == b"a bar moves to the right"


def test_members_open_as_seekable_files(tmp_path: Path) -> None:
    (info,) = factory.write_run(tmp_path, 2)
    _, sample = iter_samples([tmp_path / info.name])
    clip = factory.tiny_mp4()
    with sample.open("mp4") as file:
        assert file.seek(-10, io.SEEK_END) == len(clip) - 10
        assert file.read() == clip[-10:]
        assert file.read() == b""
        assert file.seek(4) == 4
        assert file.read(4) == b"ftyp"
        assert file.seek(len(clip) + 5) and file.read(1) == b""
    with pytest.raises(KeyError):
        sample.open("flac")


# Hostile tars. Each takes entries of (name, type, content, claimed size or None).


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info.tobuf(tarfile.USTAR_FORMAT if size >= 0 else tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def entry(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    return header(name, len(content), kind, link) + content + b"\0" * (-len(content) % 512)


END = b"\0" * 1024
GOOD = entry(f"{KEY}.json", b"{}") + entry(f"{KEY}.mp4") + entry(f"{KEY}.txt")
LATER = entry(f"{OTHER}.json", b"{}") + entry(f"{OTHER}.mp4") + entry(f"{OTHER}.txt")


def damaged_checksum() -> bytes:
    block = bytearray(entry(f"{OTHER}.mp4"))
    block[0] ^= 1
    return bytes(block)


def negative_size() -> bytes:
    info = tarfile.TarInfo(f"{OTHER}.mp4")
    info.size = -512
    return info.tobuf(tarfile.GNU_FORMAT)


def bad_octal() -> bytes:
    block = bytearray(entry(f"{OTHER}.mp4"))
    block[124:136] = b"zzzzzzzzzzz\0"
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block[:512]):06o}\0 ".encode()
    return bytes(block)


PAX = b"30 mtime=1700000000.123456789\n"

HOSTILE: dict[str, tuple[bytes, str, int]] = {
    # what stands between a good sample and a later one; the fault; how many sound samples come out
    "symbolic link": (entry(f"{KEY}.flac", b"", tarfile.SYMTYPE, "/etc/passwd"), "member.kind", 2),
    "link that claims content": (header(f"{KEY}.flac", 300, tarfile.SYMTYPE, "/etc/passwd"), "member.kind", 2),
    "hard link": (entry(f"{KEY}.flac", b"", tarfile.LNKTYPE, f"{KEY}.mp4"), "member.kind", 2),
    "character device": (entry(f"{KEY}.flac", b"", tarfile.CHRTYPE), "member.kind", 2),
    "block device": (entry(f"{KEY}.flac", b"", tarfile.BLKTYPE), "member.kind", 2),
    "pipe": (entry(f"{KEY}.flac", b"", tarfile.FIFOTYPE), "member.kind", 2),
    "folder": (entry("folder/", b"", tarfile.DIRTYPE), "member.kind", 2),
    "pax header": (entry("pax", PAX, tarfile.XHDTYPE), "member.kind", 2),
    "global pax header": (entry("pax", PAX, tarfile.XGLTYPE), "member.kind", 2),
    "long name": (entry("long", b"x" * 600, tarfile.GNUTYPE_LONGNAME), "member.kind", 2),
    "absolute path": (entry(f"/{OTHER}.mp4"), "member.path", 2),
    "path upwards": (entry(f"../../{OTHER}.mp4"), "member.path", 2),
    "windows path": (entry(f"..\\{OTHER}.mp4"), "member.path", 2),
    "sub-folder": (entry(f"clips/{OTHER}.mp4"), "key.malformed", 2),
    "control characters": (entry("\x1b[2J_00000000_00000000.mp4"), "key.malformed", 2),
    "not UTF-8": (entry("\udcff_00000000_00000000.mp4"), "key.malformed", 2),
    "no key": (entry(".mp4"), "key.malformed", 2),
    "dotted key": (entry(f"{OTHER}.1.mp4"), "key.dotted", 2),
    "code to unpickle": (entry(f"{KEY}.pyd"), "member.unexpected", 2),
    "upper case": (entry(f"{KEY}.MP4"), "member.unexpected", 2),
    "no suffix": (entry(KEY), "member.unexpected", 2),
    "member twice": (entry(f"{KEY}.mp4", b"another"), "member.repeated", 2),
    "oversized text": (entry(f"{KEY}.flac") + entry(f"{OTHER}.txt", b"x" * (4 * 2**20 + 1)), "member.too_large", 2),
    "key again": (LATER + GOOD, "key.repeated", 2),
    "bomb": (header(f"{OTHER}.mp4", 8 * 2**30 - 1), "shard.truncated", 1),
    "negative size": (negative_size(), "shard.truncated", 1),
    "size that is no number": (bad_octal(), "shard.damaged", 1),
    "damaged checksum": (damaged_checksum(), "shard.damaged", 1),
    "early end": (END, "shard.trailing", 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tars_give_faults(tmp_path: Path, name: str) -> None:
    middle, code, sound = HOSTILE[name]
    path = tmp_path / "demo-000000-00.tar"
    path.write_bytes(GOOD + middle + (b"" if name == "key again" else LATER) + END)
    items = list(scan(path))
    faults = [item for item in items if isinstance(item, Fault)]
    samples = [item for item in items if isinstance(item, RawSample)]
    assert {fault.fault.split(":")[0] for fault in faults} == {code}
    assert all(fault.fault.isprintable() and fault.fault.isascii() for fault in faults)
    assert [sample.key for sample in samples] == [KEY, OTHER][:sound]
    assert samples[0].read("mp4") == b"x"
    with pytest.raises(ShardError, match=code):
        list(iter_samples([path]))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "shard.truncated"),
        (b"\0" * 512, "shard.truncated"),
        (GOOD, "shard.truncated"),
        (GOOD + END[:600], "shard.truncated"),
        (GOOD[:-1], "shard.truncated"),
        (GOOD[:-600], "shard.truncated"),
        (GOOD + END + b"hidden", "shard.trailing"),
        (GOOD + b"\0" * 20_000, "shard.trailing"),
        (b"not a tar at all" * 100, "shard.damaged"),
        (b"\x1f\x8b" + b"gzip" * 300, "shard.damaged"),
    ],
    ids=range(10),
)
def test_ends_and_other_files(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    assert [item.fault.split(":")[0] for item in scan(path) if isinstance(item, Fault)] == [code]


def test_an_empty_tar_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w"):
        pass
    assert list(scan(path)) == []


def test_a_claimed_size_costs_no_memory_or_time(tmp_path: Path) -> None:
    """A sparse file as large as its header says: passed over by its size, never read."""
    path = tmp_path / "x.tar"
    size = 3 * 2**30
    with path.open("wb") as file:
        file.write(header(f"{KEY}.mp4", size))
        file.truncate(512 + size)
        file.seek(512 + size)
        file.write(END)
    begin = time.process_time()
    items = list(scan(path))
    assert time.process_time() - begin < 1
    assert [item.fault.split(":")[0] for item in items if isinstance(item, Fault)] == ["member.too_large"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD + LATER + END) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_never_crash_the_scan(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(GOOD + LATER + END)
    for position, value in changes:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed.tar"
    path.write_bytes(data)
    for item in scan(path):
        if isinstance(item, RawSample):
            assert all(len(item.read(suffix)) == member.size for suffix, member in item.members.items())


# Finding shards.


def test_folders_files_and_sizes(tmp_path: Path) -> None:
    infos = factory.write_run(tmp_path / "run" / "shards", 4, max_samples=2)
    tars = [tmp_path / "run" / "shards" / info.name for info in infos]
    (tars[0].parent / "demo-000000-05.tar").write_bytes(END)  # not in sizes.json: left over
    for given_path in (tmp_path / "run", tmp_path / "run" / "shards"):
        assert find_shards([given_path]) == tars
    assert find_shards([tars[1], tars[0], tars[1]]) == [tars[1], tars[0]]
    (tars[0].parent / "sizes.json").unlink()
    assert [tar.name for tar in find_shards([tmp_path / "run"])] == [*(t.name for t in tars), "demo-000000-05.tar"]


def test_a_listed_shard_that_is_gone_is_an_error(tmp_path: Path) -> None:
    (info,) = factory.write_run(tmp_path, 1)
    (tmp_path / info.name).unlink()
    with pytest.raises(ShardError, match=info.name):
        find_shards([tmp_path])


@pytest.mark.parametrize("text", ["", "[]", '{"a.tar": "3"}', '{"a.tar": true}', '{"../a.tar": 3}', "[" * 100_000])
def test_malformed_sizes_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(ShardError, match="malformed"):
        read_sizes(tmp_path)


@pytest.mark.parametrize("make", [lambda p: p / "absent", lambda p: p])
def test_nothing_there_is_a_usage_error(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(UsageError, match="hint"):
        find_shards([make(tmp_path)])


def test_read_sample_finds_a_key_and_opens_only_its_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    infos = factory.write_run(tmp_path, 4, max_samples=1)
    opened = []

    def spy(path: Path) -> object:
        opened.append(path.name)
        return scan(path)

    monkeypatch.setattr(reader, "scan", spy)
    sample = read_sample([tmp_path], factory.record(20).key)
    assert sample.record().span.first_frame == 20
    assert opened == [infos[2].name]
    with pytest.raises(UsageError, match="no sample `nothing`"):
        read_sample([tmp_path], "nothing")


@pytest.mark.parametrize("metadata", [None, b"", struct.pack("<I", 7) * 50])
def test_read_sample_needs_no_metadata(tmp_path: Path, metadata: bytes | None) -> None:
    (info,) = factory.write_run(tmp_path, 2)
    path = (tmp_path / info.name).with_suffix(".parquet")
    path.unlink()
    if metadata is not None:
        path.write_bytes(metadata)
    assert read_sample([tmp_path], OTHER).key == OTHER
