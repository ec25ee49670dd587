"""Long captions are cut into pieces that fit, and nothing of them is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.backends.text_pieces import cleaned, pieces


def words_and_marks(text: str) -> int:
    return len(text.split()) + 2


def test_what_fits_stays_whole() -> None:
    text = "A dog runs. It barks at a cat, and the cat flees."
    assert pieces(text, words_and_marks, 77) == [text]
    assert pieces(" \n\t ", words_and_marks, 77) == []


def test_what_does_not_fit_is_cut_at_its_sentences() -> None:
    text = 'A dog runs over the grass. A man says "Stop. Come back!" and waves. Music plays.'
    assert pieces(text, words_and_marks, 11) == [
        "A dog runs over the grass.",
        'A man says "Stop. Come back!" and waves.',
        "Music plays.",
    ]


def test_a_long_sentence_is_halved_after_a_clause() -> None:
    text = "a man in a red coat walks, while behind him two dogs are running"
    assert pieces(text, words_and_marks, 11) == ["a man in a red coat walks,", "while behind him two dogs are running"]
    even = pieces(" ".join(["word"] * 100), words_and_marks, 77)
    assert [len(piece.split()) for piece in even] == [50, 50]


def test_a_word_that_is_too_long_is_cut_at_its_characters() -> None:
    found = pieces("x" * 1000, len, 77)
    assert "".join(found) == "x" * 1000 and max(map(len, found)) <= 77
    assert pieces("x", lambda _: 99, 77) == ["x"]  # the tokeniser's own business


def test_very_long_texts_are_not_tokenised_whole() -> None:
    asked: list[int] = []

    def tokens(text: str) -> int:
        asked.append(len(text))
        return words_and_marks(text)

    assert pieces("a b " * 10_000, tokens, 77)
    assert max(asked) <= 40 * 77


@pytest.mark.parametrize(
    "hidden",
    ["<end_of_text>", "&lt;end_of_text&gt;", "&amp;amp;lt;end_of_text&amp;amp;gt;", "<|endoftext|>", "&" + "amp;" * 50],
)
def test_a_caption_writes_no_marks_of_the_tokeniser(hidden: str) -> None:
    found = cleaned(f"a dog {hidden} a cat")
    assert not set("<>") & set(found)
    assert found.startswith("a dog") and found.endswith("a cat")
    assert len(found.split("&")) == 1


@given(st.text(alphabet="ab ,.!?\"'<>&;", max_size=300), st.integers(5, 30))
def test_nothing_is_lost_and_every_piece_fits(text: str, context: int) -> None:
    def tokens(piece: str) -> int:
        return len(piece) // 3 + 2

    found = pieces(text, tokens, context)
    assert "".join("".join(found).split()) == "".join(cleaned(text).split())
    assert all(tokens(piece) <= context for piece in found)
