"""Validation: sound runs pass; every kind of damage is named with its shard and key."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shard_factory as factory

from vidcap.errors import UsageError
from vidcap.shards import validate as module
from vidcap.shards.metadata import flat_row, write_metadata
from vidcap.shards.reader import RawSample
from vidcap.shards.schema import SampleJson
from vidcap.shards.validate import Report, validate
from vidcap.shards.writer import ShardWriter, write_sizes


def codes(report: Report) -> set[str]:
    return {fault.fault.split(":")[0] for fault in report.faults}


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    import io

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def plain(tree: dict[str, Any], **replaced: bytes | None) -> list[tuple[str, bytes]]:
    """The members of a sample as the writer lays them out, some replaced or (None) left out."""
    members: dict[str, bytes | None] = {
        "json": json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode(),
        "mp4": b"clip",
        "txt": tree["captions"][tree["primary"]].encode(),
    }
    members |= replaced
    return [(f"{tree['key']}.{kind}", data) for kind, data in members.items() if data is not None]


def test_sound_runs_pass(tmp_path: Path) -> None:
    first = factory.write_run(tmp_path / "shards", 3, flac=True, max_samples=2)
    second = factory.write_run(tmp_path / "shards", 2, flac=True, part=1, source="another")
    write_sizes(tmp_path / "shards", {info.name: info.samples for info in first + second})
    report = validate([tmp_path])
    assert report.to_json() == {"ok": True, "shards": 3, "samples": 5, "faults": []}
    assert validate([tmp_path / "shards" / first[0].name]).ok


def test_members_written_by_hand_pass_too(tmp_path: Path) -> None:
    """The faults below come from what each test changes, not from how it writes."""
    write_tar(tmp_path / "x.tar", plain(factory.raw_record(0)) + plain(factory.raw_record(10)))
    assert validate([tmp_path / "x.tar"]).to_json() == {"ok": True, "shards": 1, "samples": 2, "faults": []}


def with_change(**parts: Any) -> Callable[[], list[tuple[str, bytes]]]:
    def members() -> list[tuple[str, bytes]]:
        tree = factory.raw_record(0)
        for name, value in parts.items():
            tree[name] = tree[name] | value if isinstance(value, dict) else value
        return plain(tree)

    return members


def reordered() -> list[tuple[str, bytes]]:
    tree = factory.raw_record(0)
    return plain({name: tree[name] for name in reversed(tree)})


def renamed() -> list[tuple[str, bytes]]:
    return [(f"other_00000000_00000009.{name.split('.')[1]}", data) for name, data in plain(factory.raw_record(0))]


def unsorted() -> list[tuple[str, bytes]]:
    return plain(factory.raw_record(10)) + plain(factory.raw_record(0))


def mixed() -> list[tuple[str, bytes]]:
    first, *others = [plain(factory.raw_record(n), flac=b"x" if n == 0 else None) for n in (0, 10, 20)]
    return first + [member for other in others for member in other]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        (lambda: plain(factory.raw_record(), mp4=None), "member.missing"),
        (lambda: plain(factory.raw_record(), json=None), "member.missing"),
        (lambda: plain(factory.raw_record(), txt=None), "member.missing"),
        (lambda: plain(factory.raw_record(), mp4=b""), "member.empty"),
        (lambda: plain(factory.raw_record(), json=b"{}"), "json.schema"),
        (lambda: plain(factory.raw_record(), json=b"\xff"), "json.schema"),
        (lambda: plain(factory.raw_record(), json=b"[" * 50_000), "json.schema"),
        (lambda: plain(factory.raw_record(), txt=b"something else"), "txt.differs"),
        (lambda: plain(factory.raw_record(), txt=b"a bar moves to the right\n"), "txt.differs"),
        (with_change(scores={"motion": 1}), "json.not_canonical"),
        (with_change(scores={"motion": 3.12345}), "json.not_canonical"),
        (reordered, "json.not_canonical"),
        (with_change(scores={"similarity_a": 0.5}), "json.invariant"),
        (with_change(schema="vidcap/2"), "json.schema"),
        (renamed, "json.key"),
        (unsorted, "key.order"),
        (mixed, "member.mixed"),
    ],
    ids=range(17),
)
def test_each_fault_is_named(tmp_path: Path, members: Callable[[], list[tuple[str, bytes]]], code: str) -> None:
    write_tar(tmp_path / "x.tar", members())
    report = validate([tmp_path / "x.tar"])
    assert codes(report) == {code}
    assert not report.ok
    assert {fault.shard for fault in report.faults} == {"x.tar"}
    assert all(fault.key for fault in report.faults)
    assert all(fault.fault.isascii() and fault.fault.isprintable() for fault in report.faults)


def test_untrusted_text_in_a_fault_is_spelled_out(tmp_path: Path) -> None:
    tree = factory.raw_record()
    tree["\x1b[2J\u202e"] = 1
    write_tar(tmp_path / "x.tar", plain(tree))
    (fault,) = validate([tmp_path / "x.tar"]).faults
    assert fault.fault.startswith(r"json.schema: \x1b[2J\u202e")


def test_keys_are_unique_over_all_shards(tmp_path: Path) -> None:
    factory.write_run(tmp_path / "a", 2)
    factory.write_run(tmp_path / "b", 1, part=4)
    report = validate([tmp_path / "a", tmp_path / "b"])
    assert [(f.shard, f.key, f.fault) for f in report.faults] == [
        ("demo-000004-00.tar", factory.record(0).key, "key.duplicate: also in demo-000000-00.tar")
    ]


def test_keys_ascend_over_the_shards_of_a_part(tmp_path: Path) -> None:
    for number, first in enumerate((50, 0)):
        with ShardWriter(tmp_path / str(number), "demo", 0, max_bytes=10**6, flac=False) as writer:
            writer.add(factory.sample(first))
        for kind in ("tar", "parquet"):
            (tmp_path / str(number) / f"demo-000000-00.{kind}").rename(tmp_path / f"demo-000000-{number:02d}.{kind}")
    write_sizes(tmp_path, {f"demo-000000-{number:02d}.tar": 1 for number in (0, 1)})
    report = validate([tmp_path])
    assert [(f.shard, f.fault.split(":")[0]) for f in report.faults] == [("demo-000000-01.tar", "key.order")]


def test_flac_in_a_whole_shard_of_a_run_without_is_mixed(tmp_path: Path) -> None:
    infos = factory.write_run(tmp_path, 4, max_samples=2) + factory.write_run(
        tmp_path, 1, part=1, source="b", flac=True
    )
    write_sizes(tmp_path, {info.name: info.samples for info in infos})
    assert [(f.shard, f.fault.split(":")[0]) for f in validate([tmp_path]).faults] == [
        ("demo-000001-00.tar", "member.mixed")
    ]


def remove_sizes(folder: Path) -> None:
    (folder / "sizes.json").unlink()


def miscount(folder: Path) -> None:
    write_sizes(folder, {"demo-000000-00.tar": 2, "demo-000000-01.tar": 2})


def break_sizes(folder: Path) -> None:
    (folder / "sizes.json").write_text("{")


def lose_shard(folder: Path) -> None:
    (folder / "demo-000000-01.tar").unlink()


def unlist(folder: Path) -> None:
    write_sizes(folder, {"demo-000000-00.tar": 2})


def lose_metadata(folder: Path) -> None:
    (folder / "demo-000000-01.parquet").unlink()


def break_metadata(folder: Path) -> None:
    (folder / "demo-000000-01.parquet").write_bytes(b"PAR1")


def stale_metadata(folder: Path) -> None:
    write_metadata([flat_row(factory.record(0))], folder / "demo-000000-01.parquet")


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (remove_sizes, "sizes.missing"),
        (miscount, "sizes.differs"),
        (break_sizes, "sizes.malformed"),
        (lose_shard, "shard.missing"),
        (unlist, "shard.unlisted"),
        (lose_metadata, "metadata.missing"),
        (break_metadata, "metadata.unreadable"),
        (stale_metadata, "metadata.differs"),
    ],
)
def test_the_files_beside_the_shards_must_agree(tmp_path: Path, damage: Callable[[Path], None], code: str) -> None:
    factory.write_run(tmp_path, 3, max_samples=2)
    damage(tmp_path)
    assert codes(validate([tmp_path])) == {code}


def test_a_truncated_shard_is_a_fault_and_the_others_are_still_checked(tmp_path: Path) -> None:
    infos = factory.write_run(tmp_path, 3, max_samples=1)
    path = tmp_path / infos[0].name
    path.write_bytes(path.read_bytes()[:6000])
    report = validate([tmp_path])
    assert codes(report) >= {"shard.truncated", "member.missing"}
    assert {fault.shard for fault in report.faults} == {infos[0].name}
    assert (report.shards, report.samples) == (3, 3)


def test_an_unreadable_shard_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factory.write_run(tmp_path, 1)

    def denied(path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "scan", denied)
    assert "shard.unreadable" in codes(validate([tmp_path]))


def test_faults_of_one_shard_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAULTS_PER_SHARD", 5)
    write_tar(tmp_path / "x.tar", [(f"bad{n}.mp4", b"x") for n in range(50)])
    report = validate([tmp_path / "x.tar"])
    assert len(report.faults) == 6
    assert report.faults[-1].fault.startswith("more than 5")


def test_the_media_check_sees_every_sample_and_its_words_are_faults(tmp_path: Path) -> None:
    factory.write_run(tmp_path, 2)
    seen = []

    def check(sample: RawSample, record: SampleJson) -> list[str]:
        seen.append((sample.key, record.key))
        return ["too dark"] if len(seen) == 2 else []

    report = validate([tmp_path], media=check)
    assert seen == [(factory.record(n).key,) * 2 for n in (0, 10)]
    assert [(f.key, f.fault) for f in report.faults] == [(factory.record(10).key, "media: too dark")]


def test_nothing_to_check_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError):
            validate([path])
