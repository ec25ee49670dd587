"""The page takes hostile data without a scratch: as text, under a policy that names our script by its digest."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hostile_run
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap.inspector.document import document, json_for_html, policy
from vidcap.inspector.export import within, write_html
from vidcap.inspector.index import ShardIndex
from vidcap.shards.reader import Member, RawSample


class Elements(HTMLParser):
    """The start tags of a document, and the text inside each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.style = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        # The parser may hand out one text in pieces.
        if tag == "script":
            if self.scripts and self.scripts[-1][0] is attributes:
                data = self.scripts.pop()[1] + data
            self.scripts.append((attributes, data))
        elif tag == "style":
            self.style += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    hostile_run.write_hostile(folder / "shards")
    write_html(folder / "x.html", ShardIndex([folder]), title=hostile_run.EVIL, number=4, clip_bytes=10**6)
    return folder / "x.html"


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False), lambda inner: st.lists(inner)))
def test_json_in_a_script_cannot_end_it_and_loses_nothing(value: Any) -> None:
    text = json_for_html({"x": value})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"x": value}


def test_hostile_data_adds_no_element(written: Path) -> None:
    page = Elements(written.read_text("utf-8"))
    kinds = [attributes.get("type") for tag, attributes in page.tags if tag == "script"]
    assert kinds == ["application/json", *["application/octet-stream"] * 4, None]
    assert not [tag for tag, _ in page.tags if tag in ("img", "svg", "iframe", "object", "embed", "base")]
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on") or a == "style"]
    data = json.loads(page.scripts[0][1])
    assert data["entries"][0]["captions"]["v"] == hostile_run.EVIL
    assert data["entries"][0]["source"]["uri"] == hostile_run.URI


def test_nothing_is_fetched_from_elsewhere(written: Path) -> None:
    page = Elements(written.read_text("utf-8"))
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,"
    assert "@import" not in page.style and "url(" not in page.style
    assert not re.search(r"\binnerHTML|\bouterHTML|insertAdjacentHTML|document\.write|\beval\(", page.scripts[-1][1])


def test_the_policy_allows_our_script_and_style_alone(written: Path) -> None:
    page = Elements(written.read_text("utf-8"))
    metas = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert metas == [policy(served=False)]
    rules = dict(rule.strip().split(" ", 1) for rule in str(metas[0]).split(";"))
    assert rules["script-src"] == f"'sha256-{digest(page.scripts[-1][1])}'"
    assert rules["style-src"] == f"'sha256-{digest(page.style)}'"
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'none'")
    assert "unsafe" not in str(metas[0])


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_title_is_escaped() -> None:
    data = {"title": "<b>&", "served": False}
    assert b"<title>&lt;b&gt;&amp; " in document(data)


def test_the_smallest_clips_go_in_first_and_count_as_base64() -> None:
    samples = [
        RawSample(Path("x.tar"), key, {"mp4": Member(0, size)}) for key, size in (("a", 300), ("b", 100), ("c", 200))
    ]
    assert within(samples, 134 + 2) == {"b"}
    assert within(samples, 136 + 268) == {"b", "c"}
    assert within(samples, 135) == set()
    assert within(samples, 10**6) == {"a", "b", "c"}


def test_without_a_budget_no_clip_goes_in(tmp_path: Path) -> None:
    hostile_run.write_hostile(tmp_path / "shards", 3)
    done = write_html(tmp_path / "x.html", ShardIndex([tmp_path]), title="x", number=9, clip_bytes=0)
    assert (done.samples, done.of, done.playable) == (3, 3, 0)
    page = Elements((tmp_path / "x.html").read_text("utf-8"))
    entries = json.loads(page.scripts[0][1])["entries"]
    assert [(len(e["pictures"]), e["clip"]) for e in entries] == [(6, "")] * 3
    assert done.bytes == (tmp_path / "x.html").stat().st_size


def test_the_same_samples_make_the_same_file(tmp_path: Path) -> None:
    hostile_run.write_hostile(tmp_path / "shards", 3)
    for name in ("one.html", "two.html"):
        write_html(tmp_path / name, ShardIndex([tmp_path]), title="x", number=9, clip_bytes=10**6)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
