"""Stock loaders read the shards unchanged: HF `datasets`, webdataset's WebLoader (they need the torch extras)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shard_factory as factory

from vidcap.shards.card import features, write_cards
from vidcap.shards.writer import ShardWriter, write_sizes

pytestmark = pytest.mark.full

SILENT_FIRST = 7
"""More samples without speech than the builder looks at when it infers types."""


@pytest.fixture(params=[False, True], ids=["plain", "flac"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bool]:
    """Two shards whose first samples have no words, scores or captions but v."""
    folder, flac = tmp_path / "shards", bool(request.param)
    with ShardWriter(folder, "demo", 0, max_bytes=10**9, max_samples=6, flac=flac) as writer:
        for number in range(10):
            texts = {"s": "so it moves"} if number >= SILENT_FIRST else {}
            writer.add(factory.sample(number * 10, flac=factory.tiny_flac() if flac else None, **texts))
    write_sizes(folder, {info.name: info.samples for info in writer.infos})
    write_cards(folder, "demo", writer.infos, flac=flac)
    return folder, flac


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_hf_datasets_reads_every_sample_with_the_declared_types(
    run: tuple[Path, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    folder, flac = run
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 10
    assert _declared(loaded.features) == features(flac=flac)
    assert loaded.info.splits["train"].num_examples == 10
    loaded = loaded.cast_column("mp4", datasets.Video(decode=False))
    rows = list(loaded)
    for number, row in enumerate(rows):
        texts = {"s": "so it moves"} if number >= SILENT_FIRST else {}
        wanted = factory.raw_record(number * 10, **texts)
        assert row["__key__"] == wanted["key"]
        assert row["json"] == wanted
        assert row["txt"] == wanted["captions"]["v"]
        assert row["mp4"]["bytes"] == factory.tiny_mp4()
        assert not flac or row["flac"] == factory.tiny_flac()
    assert rows[-1]["json"]["transcript"]["words"] == [{"start": 0.1, "end": 0.4, "word": "bar", "p": 0.9}]


def _declared(loaded: Any) -> list[dict[str, Any]]:
    """Features as `datasets` understood them, in the form of a front matter."""
    import datasets
    import yaml

    plain = yaml.safe_load(yaml.safe_dump(datasets.Features(loaded)._to_yaml_list()))
    assert isinstance(plain, list)
    return plain


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files to the collector
def test_webloader_reads_every_sample(run: tuple[Path, bool]) -> None:
    pytest.importorskip("torch")
    import webdataset as wds

    folder, _ = run
    tars = [str(tar) for tar in sorted(folder.glob("*.tar"))]
    data = wds.WebDataset(tars, shardshuffle=False).to_tuple("__key__", "txt", "json")
    seen = list(wds.WebLoader(data, batch_size=None, num_workers=0))
    assert [key for key, _, _ in seen] == [factory.record(number * 10).key for number in range(10)]
    assert all(json.loads(data)["key"] == key for key, _, data in seen)
