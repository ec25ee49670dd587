"""The record: strict fields, canonical bytes, invariants, and the generated files that must not drift."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import shard_factory as factory
from pydantic import ValidationError

from vidcap.errors import ItemError
from vidcap.shards import metadata
from vidcap.shards.schema import SampleJson, broken_invariants, make_record, parse, schema_text, score_or_missing


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


ALL = list(leaves(factory.raw_record()))


def holder(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path[:-1]:
        tree = tree[name]
    return tree


def encoded(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree).encode()


def test_committed_json_schema_is_the_models(repository: Path) -> None:
    assert (repository / "shards" / "schema-v1.json").read_text(encoding="utf-8") == schema_text()


def test_json_schema_requires_every_field() -> None:
    schema = json.loads(schema_text())
    for part in [schema, *schema["$defs"].values()]:
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False


@pytest.mark.parametrize("path", ALL, ids=".".join)
@pytest.mark.parametrize("change", ["missing", "null", "other type"])
def test_a_field_that_is_missing_null_or_of_another_type_is_refused(path: tuple[str, ...], change: str) -> None:
    tree = factory.raw_record(s="so it moves")
    parent = holder(tree, path)
    if change == "missing":
        del parent[path[-1]]
    else:
        parent[path[-1]] = None if change == "null" else ["x"] if isinstance(parent[path[-1]], str) else "x"
    with pytest.raises(ValueError, match=path[-1]):
        parse(encoded(tree))


def test_an_unknown_field_is_refused() -> None:
    tree = factory.raw_record()
    tree["video"]["bitrate"] = 1
    with pytest.raises(ValueError, match=r"video\.bitrate"):
        parse(encoded(tree))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[]", b"{", b"[" * 100_000, b'{"schema": "vidcap/2"}', b'"\\ud800"', b"NaN"],
    ids=range(8),
)
def test_bytes_that_are_no_record_raise_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_hold_are_refused(value: float) -> None:
    tree = factory.raw_record()
    tree["scores"]["motion"] = value
    with pytest.raises(ValidationError):
        SampleJson.model_validate(tree)


@pytest.mark.parametrize("path", [("captions", "v"), ("source", "uri"), ("source", "meta"), ("transcript", "text")])
def test_half_a_surrogate_is_refused_before_it_can_break_a_write(path: tuple[str, str]) -> None:
    tree = factory.raw_record()
    tree[path[0]][path[1]] = "a\ud800"
    with pytest.raises(ValidationError, match="Unicode"):
        SampleJson.model_validate(tree)


def test_a_stage_gets_an_item_error_for_fields_that_do_not_fit() -> None:
    tree = factory.raw_record()
    assert make_record(tree) == SampleJson.model_validate(tree)
    tree["captions"]["v"] = "a\ud800"
    with pytest.raises(ItemError, match=r"captions\.v: .*Unicode") as caught:
        make_record(tree)
    assert caught.value.reason == "pack.bad_sample"


def test_bytes_are_canonical_whatever_order_and_digits_came_in() -> None:
    tree = factory.raw_record()
    shuffled = {name: tree[name] for name in reversed(tree)}
    shuffled["scores"] = {name: tree["scores"][name] for name in reversed(tree["scores"])}
    shuffled["scores"]["similarity_v"] = 0.250004
    shuffled["scores"]["motion"] = 3.1250004
    shuffled["span"] = tree["span"] | {"start": -0.0, "end": 1}
    data = SampleJson.model_validate(shuffled).to_bytes()
    assert data == SampleJson.model_validate(tree).to_bytes()
    assert data.startswith(b'{"schema":"vidcap/1","key":"9f2c')
    assert b'"start":0.0,"end":1.0,' in data
    assert parse(data).to_bytes() == data


def test_every_number_is_rounded_as_the_format_says() -> None:
    tree = factory.raw_record(s="so it moves")
    tree["span"] |= {"start": 0.12345678, "end": 1.98765432}
    tree["transcript"] |= {"confidence": 0.98765432}
    tree["transcript"]["words"] = [{"start": 0.12345678, "end": 0.98765432, "word": "x", "p": 0.12345678}]
    tree["scores"] |= {"motion": 3.12345678, "similarity_v": 0.12345678, "similarity_s": -0.98765432}
    record = SampleJson.model_validate(tree)
    assert (record.span.start, record.span.end) == (0.123457, 1.987654)
    assert record.transcript.confidence == 0.9877
    assert record.transcript.words[0].model_dump() == {"start": 0.123457, "end": 0.987654, "word": "x", "p": 0.1235}
    assert (record.scores.motion, record.scores.similarity_v, record.scores.similarity_s) == (3.123, 0.1235, -0.9877)


@pytest.mark.parametrize("meta", ["", "[]", "{", '{"a":' + '"' + "x" * 65_536 + '"}', "[" * 5000])
def test_meta_must_be_a_small_json_object(meta: str) -> None:
    tree = factory.raw_record()
    tree["source"]["meta"] = meta
    with pytest.raises(ValidationError):
        SampleJson.model_validate(tree)


@pytest.mark.parametrize(("value", "wanted"), [(None, -1.0), (float("nan"), -1.0), (0.5, 0.5), (0, 0.0)])
def test_score_or_missing(value: float | None, wanted: float) -> None:
    assert score_or_missing(value) == wanted


def change(**parts: dict[str, Any] | str) -> Callable[[dict[str, Any]], None]:
    def apply(tree: dict[str, Any]) -> None:
        for name, value in parts.items():
            if isinstance(value, dict):
                tree[name] |= value
            else:
                tree[name] = value

    return apply


WORD = {"start": 0.1, "end": 0.4, "word": "x", "p": 0.5}


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (change(key="other_00000000_00000009"), "key is not id and span"),
        (change(span={"shot_first": 1}), "leaves its shot"),
        (change(span={"shot_last": 8}), "leaves its shot"),
        (change(span={"end": 0.0}), "no length"),
        (change(video={"frames": 11}), "frames is not"),
        (change(audio={"codec": ""}), "present without"),
        (change(audio={"present": False}), "absent but"),
        (change(captions={"v": " \n"}), "caption v is blank"),
        (change(captions={"a": "a hum"}, audio={"silent": True}), "caption a without sound"),
        (change(transcript={"trusted": False}), "without a trusted"),
        (change(captions={"av": "x"}, primary="av"), "av without v and a"),
        (change(captions={"s": "", "avs": "x"}, primary="avs"), "avs without"),
        (change(captions={"avs": "x"}), "primary is not"),
        (change(primary="avs"), "primary is not"),
        (change(scores={"similarity_a": 0.0}), "similarity_a scores an empty caption"),
        (change(transcript={"words": [WORD | {"start": 0.5}]}), "word 0 ends before"),
        (change(transcript={"words": [WORD, WORD | {"start": 0.9, "end": 1.2}]}), "word 1 has its midpoint outside"),
        (change(transcript={"words": [WORD | {"start": -0.3, "end": 0.1}]}), "word 0 has its midpoint outside"),
    ],
)
def test_each_invariant_is_seen(mutate: Callable[[dict[str, Any]], None], message: str) -> None:
    tree = factory.raw_record(s="so it moves")
    assert broken_invariants(SampleJson.model_validate(copy.deepcopy(tree))) == []
    mutate(tree)
    assert any(message in broken for broken in broken_invariants(SampleJson.model_validate(tree)))


def test_a_word_may_reach_over_the_edge_by_half() -> None:
    tree = factory.raw_record(s="so it moves")
    tree["transcript"]["words"] = [WORD | {"start": -0.1, "end": 0.1}, WORD | {"start": 0.9, "end": 1.1}]
    assert broken_invariants(SampleJson.model_validate(tree)) == []


@pytest.mark.parametrize(
    ("captions", "primary"),
    [
        ({}, "v"),
        ({"a": "a hum"}, "v"),
        ({"a": "a hum", "av": "it hums"}, "av"),
        ({"s": "so", "avs": "it says so"}, "avs"),
        ({"a": "a hum", "s": "so", "av": "it hums", "avs": "it hums and says so"}, "avs"),
    ],
)
def test_the_text_is_the_primary_caption(captions: dict[str, str], primary: str) -> None:
    record = factory.record(**captions)
    assert broken_invariants(record) == []
    assert record.primary == primary
    assert record.text == getattr(record.captions, primary)


def test_metadata_has_a_column_of_the_same_type_for_every_field() -> None:
    tree = factory.raw_record(s="so it moves")
    assert {".".join(path) for path in ALL} - {"schema"} == set(metadata.COLUMNS)
    row = metadata.flat_row(SampleJson.model_validate(tree))
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    for path, (column, kind) in metadata.COLUMNS.items():
        value = holder(tree, tuple(path.split(".")))[path.split(".")[-1]]
        assert row[column] == value
        assert isinstance(value, list) or kind == types[type(value)]
