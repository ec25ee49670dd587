"""The writer: round trips, identical bytes, splitting, and nothing visible before the commit."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import shard_factory as factory
import webdataset as wds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidcap.errors import InvariantError, ItemError, UsageError
from vidcap.shards import writer as module
from vidcap.shards.reader import iter_samples
from vidcap.shards.schema import Sample, SampleJson, broken_invariants, parse
from vidcap.shards.writer import ShardWriter, remove_stale, shard_name, write_sizes

GOLDEN = "cccd18b5d96bb678ebee9e2e5a2c1e7b9971ab337f168c2ca3432a6a2023fa82"
"""sha256 of the tar of `golden_samples`. It changes only with the schema version."""

EVIL = [
    "\x1b]0;owned\x07\x1b[2J\x00",
    "‮gnp.exe⁦ right to left ‏العربية",
    "👩‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿 é é ﷽",
    "[bold red]not markup[/] <script>alert(1)</script> & {{x}} ${HOME} `id`",
    "line\r\nline\u2028line\u0085\x7f\t",
    "﻿\\\"'\\u0000 \\ud800",
    "long " * 40_000,
]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(EVIL)


@st.composite
def records(draw: st.DrawFn) -> SampleJson:
    """Sound records with whatever text, spans and scores."""
    first = draw(st.integers(0, 99_999_000))
    frames = draw(st.integers(1, 900))
    source = draw(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
    texts = {"v": draw(text.filter(str.strip)), "a": draw(text), "s": draw(text), "av": "", "avs": ""}
    texts["av"] = draw(text) if texts["a"] else ""
    texts["avs"] = draw(text) if texts["a"] or texts["s"] else ""
    tree = factory.raw_record(first, source, **texts)
    similarity = st.floats(-1, 1, allow_subnormal=False)
    tree["key"] = f"{source}_{first:08d}_{first + frames - 1:08d}"
    start = draw(st.floats(0, 1e6))
    seconds = frames / 25
    tree["span"] |= {"start": start, "end": start + seconds, "last_frame": first + frames - 1}
    tree["span"]["shot_last"] = first + frames + draw(st.integers(0, 5))
    tree["video"]["frames"] = frames
    tree["source"] |= {"uri": draw(text.filter(bool)), "meta": json.dumps({"note": draw(text)[:9000]})}
    tree["scores"]["motion"] = draw(st.floats(0, 5000))
    for kind, value in texts.items():
        tree["scores"][f"similarity_{kind}"] = draw(similarity) if value else -1.0
    words = draw(st.lists(st.tuples(st.floats(0, seconds), st.floats(0, 1), text, st.floats(0, 1)), max_size=4))
    tree["transcript"]["words"] = [
        {"start": at - width / 2, "end": at + width / 2, "word": word, "p": p} for at, width, word, p in words
    ]
    return SampleJson.model_validate(tree)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records(), st.binary(min_size=1, max_size=2000), st.none() | st.binary(min_size=1, max_size=600))
def test_sample_to_bytes_to_sample(record: SampleJson, mp4: bytes, flac: bytes | None) -> None:
    assert broken_invariants(record) == []
    assert parse(record.to_bytes()) == record
    with tempfile.TemporaryDirectory() as name:
        with ShardWriter(Path(name), "p", 0, max_bytes=10**9, flac=flac is not None) as writer:
            writer.add(Sample(record, mp4, flac))
        (back,) = iter_samples([Path(name)])
        assert back.key == record.key
        assert back.record() == record
        assert back.read("json") == record.to_bytes()
        assert back.read("txt") == record.text.encode()
        assert back.read("mp4") == mp4
        assert ("flac" in back.members) == (flac is not None)
        assert flac is None or back.read("flac") == flac


def golden_samples() -> list[Sample]:
    """No encoder's bytes: they would change with the library."""
    return [factory.sample(n * 10, mp4=bytes([n]) * (700 + n), s=EVIL[n]) for n in range(3)]


def write(folder: Path, samples: list[Sample], *, max_bytes: int = 10**9, flac: bool = False) -> ShardWriter:
    with ShardWriter(folder, "demo", 7, max_bytes=max_bytes, flac=flac) as writer:
        for sample in samples:
            writer.add(sample)
    return writer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_golden_digest(tmp_path: Path) -> None:
    (info,) = write(tmp_path, golden_samples()).infos
    assert info.name == "demo-000007-00.tar"
    assert info.sha256 == GOLDEN


def test_info_describes_the_file(tmp_path: Path) -> None:
    (info,) = write(tmp_path, golden_samples()).infos
    data = (tmp_path / info.name).read_bytes()
    assert (info.samples, info.bytes, info.sha256) == (3, len(data), hashlib.sha256(data).hexdigest())


def test_the_same_samples_give_the_same_bytes_from_files_and_from_memory(tmp_path: Path) -> None:
    write(tmp_path / "a", golden_samples(), max_bytes=20_000)
    from_files = []
    for number, sample in enumerate(golden_samples()):
        path = tmp_path / f"{number}.mp4"
        assert isinstance(sample.mp4, bytes)
        path.write_bytes(sample.mp4)
        from_files.append(Sample(sample.json, path))
    write(tmp_path / "b", from_files, max_bytes=20_000)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 4


@pytest.mark.parametrize("flac", [None, b"sound"])
def test_bytes_are_those_of_webdatasets_own_writer(tmp_path: Path, flac: bytes | None) -> None:
    samples = [Sample(s.json, s.mp4, flac) for s in golden_samples()]
    (info,) = write(tmp_path, samples, flac=flac is not None).infos
    theirs = io.BytesIO()
    with wds.TarWriter(theirs, user="vidcap", group="vidcap", mtime=0, encoder=False) as writer:
        for s in samples:
            members = {"__key__": s.key, "mp4": s.mp4, "txt": s.txt.encode(), "json": s.json.to_bytes()}
            writer.write(members if flac is None else members | {"flac": flac})
    assert (tmp_path / info.name).read_bytes() == theirs.getvalue()


def test_headers_are_ustar_and_carry_nothing_of_the_machine(tmp_path: Path) -> None:
    (info,) = write(tmp_path, golden_samples()).infos
    with tarfile.open(tmp_path / info.name) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o444)
            assert (member.uname, member.gname) == ("vidcap", "vidcap")
    data = (tmp_path / info.name).read_bytes()
    assert data[257:265] == b"ustar\x0000"


def test_shards_split_before_they_pass_max_bytes(tmp_path: Path) -> None:
    samples = [factory.sample(n * 10, mp4=b"x" * 9_000) for n in range(9)]
    infos = write(tmp_path, samples, max_bytes=40_960).infos
    assert [info.samples for info in infos] == [3, 3, 3]
    assert [info.name for info in infos] == [f"demo-000007-{n:02d}.tar" for n in range(3)]
    assert all(info.bytes <= 40_960 for info in infos)
    assert [s.key for s in iter_samples([tmp_path])] == [s.key for s in samples]


def test_max_bytes_is_filled_to_the_last_block(tmp_path: Path) -> None:
    """Two samples take just 20 blocks with the end marker: one record of 10,240 bytes; one byte more does not fit."""
    record = factory.record(0)
    room = 20 - 2 - 2 * (2 + 1 + -(-len(record.to_bytes()) // 512) + 1)
    assert room % 2 == 0
    fill = room // 2 * 512
    for extra, wanted in ((0, 1), (1, 2)):
        samples = [factory.sample(0, mp4=b"x" * fill), factory.sample(10, mp4=b"x" * (fill + extra))]
        assert len(write(tmp_path / str(extra), samples, max_bytes=10_240).infos) == wanted


def test_a_sample_above_max_bytes_gets_its_own_shard(tmp_path: Path) -> None:
    sizes = [100, 50_000, 100]
    samples = [factory.sample(n * 10, mp4=b"x" * size) for n, size in enumerate(sizes)]
    assert [info.samples for info in write(tmp_path, samples, max_bytes=20_480).infos] == [1, 1, 1]


def test_max_samples(tmp_path: Path) -> None:
    infos = factory.write_run(tmp_path, 5, max_samples=2)
    assert [info.samples for info in infos] == [2, 2, 1]


def test_a_part_without_samples_gives_no_shard(tmp_path: Path) -> None:
    assert write(tmp_path, []).infos == []
    assert contents(tmp_path) == {}


def test_more_shards_than_the_name_can_number_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shard_name("demo", 0, module.MAX_SHARDS - 1) == "demo-000000-99.tar"
    monkeypatch.setattr(module, "MAX_SHARDS", 2)
    samples = [factory.sample(n * 10, mp4=b"x") for n in range(3)]
    assert len(write(tmp_path / "two", samples[:2], max_bytes=1).infos) == 2
    with pytest.raises(UsageError, match="more than 2 shards"):
        write(tmp_path / "three", samples, max_bytes=1)
    assert contents(tmp_path / "three") == {}


def test_nothing_is_visible_before_commit(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "demo", 0, max_bytes=20_000, flac=False)
    assert writer.current == ""
    for number in range(3):
        writer.add(factory.sample(number * 10, mp4=b"x" * 9_000))
        assert writer.current == f"demo-000000-0{number}.tar"
        assert not [*tmp_path.glob("*.tar"), *tmp_path.glob("*.parquet")]
    assert len(writer.commit()) == 3
    assert writer.commit() == writer.infos
    assert sorted(contents(tmp_path)) == [f"demo-000000-0{n}.{kind}" for n in range(3) for kind in ("parquet", "tar")]
    writer.abort()
    assert len(contents(tmp_path)) == 6
    with pytest.raises(InvariantError):
        writer.add(factory.sample(90))


def test_abort_and_errors_leave_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "demo", 0, max_bytes=20_000, flac=False)
    writer.add(factory.sample(0, mp4=b"x" * 19_000))
    writer.add(factory.sample(10, mp4=b"x" * 19_000))
    writer.abort()
    assert contents(tmp_path) == {}
    with pytest.raises(InvariantError):
        writer.commit()
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, "demo", 0, max_bytes=20_000, flac=False) as writer:
        writer.add(factory.sample(0))
        raise RuntimeError
    assert contents(tmp_path) == {}


def test_a_process_that_dies_before_commit_leaves_no_tar_and_its_remains_are_removed(tmp_path: Path) -> None:
    here = Path(__file__).parent
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(here)!r})
import shard_factory as factory
from vidcap.shards.writer import ShardWriter
writer = ShardWriter(Path({str(tmp_path)!r}), "demo", 0, max_bytes=20_000, flac=False)
for number in range(3):
    writer.add(factory.sample(number * 10, mp4=b"x" * 9_000))
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    left = contents(tmp_path)
    assert left
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
    assert remove_stale(tmp_path, "demo", 0, keep=[]) == sorted(left)
    assert contents(tmp_path) == {}


def test_a_clip_that_shrinks_while_it_is_written_aborts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x" * 100)
    writer = ShardWriter(tmp_path / "out", "demo", 0, max_bytes=20_000, flac=False)
    members = writer._members

    def shrink(sample: Sample) -> object:
        found = members(sample)
        clip.write_bytes(b"x")
        return found

    monkeypatch.setattr(writer, "_members", shrink)
    with pytest.raises(OSError, match="unexpected end of data"):
        writer.add(factory.sample(0, mp4=clip))
    assert contents(tmp_path / "out") == {}


def test_keys_must_ascend(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "demo", 0, max_bytes=10**6, flac=False)
    writer.add(factory.sample(10))
    for first in (10, 0):
        with pytest.raises(InvariantError, match="must ascend"):
            writer.add(factory.sample(first))
    writer.abort()


@pytest.mark.parametrize("bad", ["invariant", "flac", "empty"])
def test_a_bad_sample_is_an_item_error_and_leaves_the_tar_as_it_was(tmp_path: Path, bad: str) -> None:
    tree = factory.raw_record(10)
    if bad == "invariant":
        tree["video"]["frames"] = 3
    sample = Sample(
        SampleJson.model_validate(tree), b"" if bad == "empty" else b"clip", b"flac" if bad == "flac" else None
    )
    with ShardWriter(tmp_path / "a", "demo", 0, max_bytes=10**6, flac=False) as writer:
        writer.add(factory.sample(0))
        with pytest.raises(ItemError) as caught:
            writer.add(sample)
        assert caught.value.reason == "pack.bad_sample"
        writer.add(factory.sample(20))
    with ShardWriter(tmp_path / "b", "demo", 0, max_bytes=10**6, flac=False) as writer:
        writer.add(factory.sample(0))
        writer.add(factory.sample(20))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("name", ["", ".x", "a.b", "a/b", "../a", "a b", "ä"])
def test_names_that_do_not_fit_a_shard_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="hint"):
        ShardWriter(tmp_path, name, 0, max_bytes=1, flac=False)


def test_a_large_clip_is_streamed(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with clip.open("wb") as file:
        file.truncate(64 * 2**20)
    with ShardWriter(tmp_path, "demo", 0, max_bytes=10**9, flac=False) as writer:
        sample = factory.sample(0, mp4=clip)
        tracemalloc.start()
        writer.add(sample)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_metadata_has_a_row_for_every_sample(tmp_path: Path) -> None:
    (info,) = factory.write_run(tmp_path, 3)
    rows = pq.read_table((tmp_path / info.name).with_suffix(".parquet")).to_pylist()
    assert [row["key"] for row in rows] == [factory.record(n * 10).key for n in range(3)]
    assert rows[1]["start"] == 1.0
    assert rows[1]["caption_s"] == "so it moves"
    assert rows[1]["similarity_a"] == -1.0
    assert rows[1]["words"] == [{"start": 0.1, "end": 0.4, "word": "bar", "p": 0.9}]


def test_remove_stale_takes_only_what_a_re_pack_of_this_part_left(tmp_path: Path) -> None:
    factory.write_run(tmp_path, 3, max_samples=1)
    factory.write_run(tmp_path, 1, part=1)
    others = ["demo-000000-00.tar.bak", "xdemo-000000-01.tar", "demo-000000-001.tar", "notes.txt"]
    for name in others:
        (tmp_path / name).touch()
    before = set(contents(tmp_path))
    removed = remove_stale(tmp_path, "demo", 0, keep=[shard_name("demo", 0, 0)])
    assert removed == [f"demo-000000-0{n}.{kind}" for n in (1, 2) for kind in ("parquet", "tar")]
    assert set(contents(tmp_path)) == before - set(removed)
    assert remove_stale(tmp_path / "absent", "demo", 0, keep=[]) == []


def test_sizes_lists_committed_shards_only(tmp_path: Path) -> None:
    infos = factory.write_run(tmp_path, 3, max_samples=2)
    assert json.loads((tmp_path / "sizes.json").read_bytes()) == {infos[0].name: 2, infos[1].name: 1}
    before = (tmp_path / "sizes.json").read_bytes()
    with pytest.raises(InvariantError, match=re.escape("demo-000000-09.tar")):
        write_sizes(tmp_path, {"demo-000000-09.tar": 1})
    assert (tmp_path / "sizes.json").read_bytes() == before
