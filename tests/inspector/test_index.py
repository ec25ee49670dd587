"""The index finds what is asked for, page by page, whether the metadata is there or not."""

from __future__ import annotations

from pathlib import Path

import hostile_run
import pytest
import shard_factory as factory

from vidcap.inspector.index import Query, ShardIndex
from vidcap.shards.schema import SampleJson


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index")


@pytest.fixture(scope="module")
def records(folder: Path) -> list[SampleJson]:
    return hostile_run.write_hostile(folder / "shards")


@pytest.fixture
def index(folder: Path, records: list[SampleJson]) -> ShardIndex:
    return ShardIndex([folder])


def numbers(index: ShardIndex, records: list[SampleJson], query: Query, offset: int = 0, limit: int = 99) -> list[int]:
    keys = [record.key for record in records]
    total, found = index.page(query, offset, limit)
    assert total >= len(found)
    return [keys.index(sample.key) for _, sample in found]


def test_pages_cross_shards(index: ShardIndex, records: list[SampleJson]) -> None:
    assert (len(index), len(index.shards)) == (6, 2)
    assert numbers(index, records, Query(), 2, 2) == [2, 3]
    assert numbers(index, records, Query(), 5, 10) == [5]
    assert numbers(index, records, Query(), 6, 10) == []
    total, found = index.page(Query(), 2, 2)
    assert (total, [number for number, _ in found]) == (6, [0, 1])


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (Query(text="BAR N3"), [3]),
        (Query(text="moves hums"), [1, 2, 3, 4, 5]),
        (Query(text="<script>window"), [0]),
        (Query(text="it stops"), [1, 2, 3, 4, 5]),
        (Query(text="films/"), [0]),
        (Query(text="nothing.of this"), []),
        (Query(language="fr"), [1, 3, 5]),
        (Query(license="CC0-1.0", language="en"), [2, 4]),
        (Query(low=0.2, high=0.4), [2, 3, 4]),
        (Query(score="motion", low=8), [0, 1, 2]),
        (Query(score="av", low=-1), [0]),
        (Query(order="highest"), [5, 4, 3, 2, 1, 0]),
        (Query(score="motion", order="lowest"), [5, 4, 3, 2, 1, 0]),
        (Query(score="av", order="lowest"), [0, 1, 2, 3, 4, 5]),
        (Query(order="longest", language="fr"), [1, 3, 5]),
    ],
)
@pytest.mark.parametrize("metadata", ["there", "missing", "damaged"])
def test_queries(
    folder: Path, records: list[SampleJson], tmp_path: Path, query: Query, wanted: list[int], metadata: str
) -> None:
    place = folder
    if metadata != "there":
        place = tmp_path / "shards"
        place.mkdir()
        for tar in (folder / "shards").glob("*.tar"):
            (place / tar.name).symlink_to(tar)
            if metadata == "damaged":
                (place / tar.with_suffix(".parquet").name).write_bytes(b"PAR1 not really PAR1")
    assert numbers(ShardIndex([place]), records, query) == wanted


def test_a_spread_is_even_and_whole_where_all_fit(index: ShardIndex, records: list[SampleJson]) -> None:
    keys = [record.key for record in records]
    assert [sample.key for _, sample in index.spread(3)] == [keys[0], keys[2], keys[4]]
    assert [sample.key for _, sample in index.spread(100)] == keys


def test_keys_are_looked_up_not_believed(index: ShardIndex, records: list[SampleJson]) -> None:
    assert index.sample(1, records[3].key).read("txt").decode() == records[3].text
    for number, key in ((0, records[3].key), (2, records[3].key), (-1, records[3].key), (0, "../../etc/passwd")):
        with pytest.raises(KeyError):
            index.sample(number, key)
    located = index.locate([records[4].key, "gone"])
    assert [(key, number) for key, (number, _) in located.items()] == [(records[4].key, 1)]


def test_facets_count_all_shards(index: ShardIndex) -> None:
    facets = index.facets()
    assert facets["languages"][:2] == [("fr", 3), ("en", 2)]
    assert facets["licenses"][0] == ("CC0-1.0", 5)
    assert facets["highest"]["avs"] == 0.5 and facets["highest"]["motion"] == 10.0


def test_a_damaged_sample_is_left_out(folder: Path, records: list[SampleJson], tmp_path: Path) -> None:
    tar = tmp_path / "demo-000000-00.tar"
    source = next((folder / "shards").glob("*-00.tar"))
    tar.write_bytes(source.read_bytes().replace(f"{records[1].key}.json".encode(), b"../../evil.json" + b"\0" * 26, 1))
    (tmp_path / "demo-000000-00.parquet").write_bytes(source.with_suffix(".parquet").read_bytes())
    index = ShardIndex([tar])
    assert numbers(index, records, Query()) in ([0, 2], [0])
    assert sum(index.faults.values()) >= 1


def test_text_is_searched_as_it_stands(index: ShardIndex, records: list[SampleJson]) -> None:
    assert numbers(index, records, Query(text="b.r")) == []
    assert numbers(index, records, Query(text=factory.record().key[:8])) == [0, 1, 2, 3, 4, 5]
