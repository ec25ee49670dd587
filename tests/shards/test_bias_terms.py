"""Words for people are counted whole, and only where they speak of people."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from vidcap.shards.bias_terms import TERMS, found_terms


def groups(text: str) -> set[str]:
    return {group for _, group, _ in found_terms(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A woman and her son walk", {"female", "male"}),
        ("Two BOYS play", {"male", "children"}),
        ("A black car beside a white house", set()),
        ("A black man beside a white house", {"Black", "male"}),
        ("An old woman", {"older people", "female"}),
        ("an old house, a young tree", set()),
        ("A young  person", {"young people"}),
        ("African-American musicians", {"Black"}),
        ("a non binary person", {"non-binary"}),
        ("womanly, mankind, sheer, history, shepherd, theirs", set()),
        ("A boyish Caucasianlike", set()),
        ("Asian food", {"Asian"}),
        ("a middle-aged man", {"adults", "male"}),
        ("", set()),
    ],
)
def test_whole_words_of_people(text: str, expected: set[str]) -> None:
    assert groups(text) == expected


def test_every_mention_counts() -> None:
    assert found_terms("a man, a man and a woman")["gender", "male", "man"] == 2


def test_no_term_stands_in_two_groups_of_an_axis() -> None:
    for axis, named in TERMS.items():
        terms = [term for group in named.values() for term in group]
        assert len(terms) == len(set(terms)), axis


def _said(path: Path) -> Iterator[str]:
    """The string constants of a module, without docstrings."""
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


@pytest.mark.parametrize("role", ["video_captioner", "audio_captioner"])
def test_the_embedded_captioners_have_no_such_word(repository: Path, role: str) -> None:
    """The report and the data card say so. Looks at the captioner and the modules that word its claims."""
    start = repository / "vidcap" / "backends" / role / "descriptor.py"
    imported = [
        node.module or "" for node in ast.walk(ast.parse(start.read_text())) if isinstance(node, ast.ImportFrom)
    ]
    ours = [name for name in imported if name.startswith("vidcap.backends.")]
    modules = [start, *(repository / (name.replace(".", "/") + ".py") for name in ours)]
    said = [text for module in modules for text in _said(module)]
    assert any("speaks" in text or "shot" in text for text in said)
    assert not [text for text in said if found_terms(text)]
