"""The routing of speech row by row: the tables of docs/speech.md are read, and each row is held against `route`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from vidcap.backends import registry
from vidcap.reasons import REASONS
from vidcap.speech import Route, Routing, is_short, route, word_count

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "speech.md"
ANY = "any"
BOUND = 0.95

# What the words of the tables mean, as arguments of `route`.
WORDS = {
    "none": ["", "… !"],
    "fewer than `min_words`": ["thank you", "merci"],
    "enough": ["we walk along the river to the old bridge", "我们沿着河边走到老桥那里去"],
}
TRUSTED = {"yes": [True], "no": [False]}
LANGUAGE = {"the target": ["en"], "another": ["fr", "la"]}
SURE = {"yes": [BOUND, 1.0], "no": [0.0, BOUND - 1e-9]}
RECOGNISER = {"knows it": ["any", "its own"], "does not know it": ["others"]}
TRANSLATOR = {"takes it": [True], "does not take it": [False]}
MODEL = {"there is one": [True], "none": [False]}
COLUMNS = (WORDS, TRUSTED, LANGUAGE, SURE, RECOGNISER, TRANSLATOR, MODEL)
CASES = list(product(*(list(meanings) for meanings in COLUMNS)))

Case = tuple[str, ...]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    section = DOCUMENT.read_text("utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ROUTES = table("What becomes of it")
SURENESS = table("Which language counts, and whether it is sure")


def matches(row: list[str], case: Case) -> bool:
    return all(cell in (ANY, value) for cell, value in zip(row[1:8], case, strict=True))


def first_match(case: Case) -> int:
    return next(number for number, row in enumerate(ROUTES) if matches(row, case))


def routings(case: Case, **changed: Any) -> Iterator[tuple[str, Routing]]:
    """(language, routing) for every set of arguments that the case stands for."""
    meanings = [column[value] for column, value in zip(COLUMNS, case, strict=True)]
    for text, trusted, language, confidence, recogniser, takes, model in product(*meanings):
        known = {"any": frozenset[str](), "its own": frozenset({language}), "others": frozenset({"xx"})}[recogniser]
        yield (
            language,
            route(
                text,
                language,
                confidence,
                trusted=trusted,
                source_majority="",
                supported=lambda code, takes=takes: takes,
                llm=model,
                recognised=known,
                **changed,
            ),
        )


def test_the_table_has_the_words_of_this_test() -> None:
    assert [row[0] for row in ROUTES] == [str(number) for number in range(1, 11)]
    for row in ROUTES:
        for cell, meanings in zip(row[1:8], COLUMNS, strict=True):
            assert cell == ANY or cell in meanings, f"row {row[0]}: `{cell}`"
    for text in WORDS["enough"]:
        assert word_count(text) >= 3
        assert not is_short(text)


def test_every_case_has_a_row_and_every_row_a_case() -> None:
    reached = {first_match(case) for case in CASES}
    assert reached == set(range(len(ROUTES)))


@pytest.mark.parametrize("number", range(len(ROUTES)), ids=[f"row-{row[0]}" for row in ROUTES])
def test_row(number: int) -> None:
    wanted, reason = (cell.strip("`") for cell in ROUTES[number][8:10])
    assert not reason or REASONS[reason].kind == "note"
    seen = 0
    for case in CASES:
        if first_match(case) == number:
            for language, found in routings(case):
                told = "" if wanted == "none" and reason == "speech.none" else language
                assert found == Routing(Route(wanted), told, reason), case
                seen += 1
    assert seen


@pytest.mark.parametrize("row", SURENESS, ids=["-".join(row[:3]).replace(" ", "_") for row in SURENESS])
def test_which_language_is_sure(row: list[str]) -> None:
    """The same text with a sure language of the row's must go the same way."""
    length, majority, confidence, language, sure = row
    texts = {"short": ["come over here", "今天我们来学习"], "longer": WORDS["enough"]}[length]
    majorities = {"there is one": ["en", "fr"], "none": [""], ANY: ["", "en", "fr"]}[majority]
    confidences = {"at the bound or above": SURE["yes"], "below the bound": SURE["no"], ANY: [0.0, BOUND, 1.0]}
    for text, most, value, own in product(texts, majorities, confidences[confidence], ["en", "fr", "la"]):
        assert is_short(text) is (length == "short")
        assert word_count(text) >= 3
        given: dict[str, Any] = {"trusted": True, "supported": lambda code: code == "fr", "llm": True}
        found = route(text, own, value, source_majority=most, **given)
        counts = most if language == "the majority" else own
        surely = route(WORDS["enough"][0], counts, 1.0, source_majority="", **given)
        assert found == (surely if sure == "yes" else Routing(Route.LLM, counts)), (text, most, value, own)


def test_a_text_without_a_language_is_not_sure() -> None:
    given: dict[str, Any] = {"trusted": True, "supported": lambda code: True, "source_majority": ""}
    assert route(WORDS["enough"][0], "", 1.0, llm=True, **given).route is Route.LLM
    assert route(WORDS["enough"][0], "", 1.0, llm=False, **given).route is Route.PASSTHROUGH


@pytest.mark.parametrize("column", range(8))
def test_a_changed_table_fails(column: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document cannot say something else unnoticed: any other word in a cell of row 6 breaks the row or a case."""
    changed = [list(row) for row in ROUTES]
    other = {
        0: "fewer than `min_words`",
        1: "no",
        2: "the target",
        3: "no",
        4: "does not know it",
        5: "does not take it",
        6: "none",
        7: "`keep`",
    }[column]
    changed[5][column + 1] = other
    monkeypatch.setitem(globals(), "ROUTES", changed)
    with pytest.raises((AssertionError, StopIteration)):
        test_every_case_has_a_row_and_every_row_a_case()
        for number in range(len(changed)):
            test_row(number)


def test_options_of_the_language_models_translator_are_documented() -> None:
    text = DOCUMENT.read_text("utf-8")
    for option in registry.get("translator", "llm").Config.model_fields:
        assert re.search(rf"^\| `{option}` \|", text, re.MULTILINE), option
