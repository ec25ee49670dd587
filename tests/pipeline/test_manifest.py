"""Manifests: every form gives the same sources, bad rows are told, ids are stable and distinct."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.errors import ManifestError
from vidcap.pipeline.manifest import read_manifest, source_id
from vidcap.pipeline.plan import Part, save_parts


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in ("b/x.mp4", "a/x.mp4", "a/notes.txt", "c.MKV"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path / "corpus"


def test_a_folder_is_walked_in_sorted_order(corpus: Path) -> None:
    found = read_manifest(str(corpus))
    assert [source.uri for source in found.sources] == ["a/x.mp4", "b/x.mp4", "c.MKV"]
    assert found.skipped == ["a/notes.txt: not media"]
    assert len({source.id for source in found.sources}) == 3
    assert all(source.bytes == 5 for source in found.sources)


def test_every_table_form_gives_the_same_sources(corpus: Path) -> None:
    rows = [{"file": "a/x.mp4", "license": "CC0"}, {"file": "b/x.mp4", "license": "MIT"}]
    (corpus / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (corpus / "m.csv").write_text("uri,license\na/x.mp4,CC0\nb/x.mp4,MIT\n")
    pq.write_table(pa.Table.from_pylist(rows), corpus / "m.parquet")
    forms = [read_manifest(str(corpus / name)).sources for name in ("m.jsonl", "m.csv", "m.parquet")]
    assert forms[0] == forms[1] == forms[2]
    walked = {source.uri: source.id for source in read_manifest(str(corpus)).sources}
    assert all(walked[source.uri] == source.id for source in forms[0])


def test_a_glob_and_a_single_file(corpus: Path) -> None:
    assert [s.uri for s in read_manifest(f"{corpus}/*/x.mp4").sources] == ["a/x.mp4", "b/x.mp4"]
    assert [s.uri for s in read_manifest(f"{corpus}/a/x.mp4").sources] == ["x.mp4"]


def test_a_folder_named_like_a_video_is_a_row(corpus: Path) -> None:
    (corpus / "folder.mp4").mkdir()
    assert "folder.mp4" in [source.uri for source in read_manifest(str(corpus)).sources]


def test_link_loops_end(corpus: Path) -> None:
    (corpus / "loop").symlink_to(corpus, target_is_directory=True)
    found = read_manifest(str(corpus))
    assert len(found.sources) == 3
    assert "loop: a link to a folder" in found.skipped


def test_undecodable_names_are_written_as_escapes(corpus: Path) -> None:
    raw = os.fsencode(corpus) + b"/latin1_\xe9.mp4"
    with open(raw, "wb") as handle:
        handle.write(b"x")
    source = next(s for s in read_manifest(str(corpus)).sources if s.uri.startswith("latin1"))
    assert source.uri == "latin1_\\xe9.mp4"
    assert os.path.exists(source.path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "no `uri`"),
        ('{"file": "a/x.mp4", "id": "a b"}', "id"),
        ('{"file": "a/x.mp4", "start": "soon"}', "start"),
        ('{"file": "a/x.mp4", "start": 5, "end": 2}', "after"),
        ('{"file": "https://me:secret@host/a.mp4"}', "credentials"),
        ("[1]", "object"),
        ("{", "manifest"),
        ('{"file": "a/x.mp4"}\n{"file": "a/./x.mp4"}', "same id"),
    ],
)
def test_bad_rows_are_told(corpus: Path, line: str, message: str) -> None:
    path = corpus / "bad.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(str(path))
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    for where in (tmp_path / "empty.jsonl", tmp_path / "missing", tmp_path):
        if where == tmp_path:
            (tmp_path / "empty.jsonl").unlink()
        with pytest.raises(ManifestError):
            read_manifest(str(where))


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_ids_are_what_keys_allow(name: str) -> None:
    assert len(source_id(name)) == 16
    assert source_id(name) == source_id(f"./{name}") or name.startswith("/") or "://" in name


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("https://h/a.mp4?v=1", "https://h/a.mp4?v=1"),
        ("https://h/watch?v=1&access_token=xyz", "https://h/watch?v=1"),
        (
            "https://b.s3.amazonaws.com/a.mp4?X-Amz-Algorithm=A&X-Amz-Credential=c&X-Amz-Signature=s&versionId=7",
            "https://b.s3.amazonaws.com/a.mp4?versionId=7",
        ),
        (
            "https://a.blob.core.windows.net/c/a.mp4?sv=2024&se=2026&sr=b&sp=r&sig=abc",
            "https://a.blob.core.windows.net/c/a.mp4",
        ),
        ("https://h/a.mp4?se=7", "https://h/a.mp4?se=7"),
        ("s3://bucket/a.mp4", "s3://bucket/a.mp4"),
    ],
)
def test_addresses_are_named_without_what_lets_their_holder_in(tmp_path: Path, address: str, named: str) -> None:
    table = tmp_path / "m.jsonl"
    table.write_text(json.dumps({"uri": address}))
    (source,) = read_manifest(str(table)).sources
    assert (source.uri, source.path) == (named, address)
    assert source.id == source_id(named), "signing it anew gives no new source"
    save_parts(tmp_path, [Part(0, (source,))])
    assert (address in (tmp_path / "_vidcap" / "plan.jsonl").read_text()) == (address == named)
