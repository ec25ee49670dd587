"""The committed sample shard is what the format says, so that a fresh clone has something real to open."""

from __future__ import annotations

from pathlib import Path

from vidcap.inspector.clip_check import check_media
from vidcap.shards.reader import find_shards, iter_samples
from vidcap.shards.validate import validate


def test_the_sample_shard_is_valid(repository: Path) -> None:
    report = validate([repository / "shards" / "sample"], media=check_media)
    assert report.faults == []
    assert report.samples >= 3


def test_the_sample_shard_has_all_five_kinds(repository: Path) -> None:
    records = [sample.record() for sample in iter_samples(find_shards([repository / "shards" / "sample"]))]
    assert any(all(record.captions.model_dump().values()) for record in records)
