"""The identify_language stage: cleaned text, and short texts that take the language of their source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from vidcap.backends import registry
from vidcap.media.evidence import Evidence
from vidcap.records import StageResult
from vidcap.stages.base import Context
from vidcap.stages.identify_language import IdentifyLanguage, IdentifyLanguageOptions

LONG_EN = "this building has been here for more than two hundred years"
LONG_FR = "nous marchons ensemble le long de la rivière jusqu'au vieux pont"


class Identifier:
    """Answers from a table; it remembers the texts."""

    def __init__(self, answers: dict[str, tuple[str, float]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        self.asked += texts
        return [self.answers.get(text, ("", 0.0)) for text in texts]


def row(number: int, text: str | None, source: str = "src", trusted: bool = True) -> dict[str, Any]:
    key = f"{source}_{number:08d}_{number + 9:08d}"
    return {"key": key, "source_id": source, "transcript_text": text, "transcript_trusted": trusted}


def no_evidence(source_id: str) -> Evidence:
    raise AssertionError("language is told from text")


def run(backend: Any, rows: Sequence[dict[str, Any]], **options: Any) -> StageResult:
    stage = IdentifyLanguage(IdentifyLanguageOptions(**options), Context(backend=backend))
    result = stage.run(rows, no_evidence)
    assert set(result.columns) == set(IdentifyLanguage.gives)
    assert not result.verdicts
    return result


def found(result: StageResult) -> list[tuple[str, float, bool]]:
    return list(zip(*(result.columns[name] for name in IdentifyLanguage.gives), strict=True))


def test_texts_are_cleaned_first() -> None:
    backend = Identifier({LONG_EN: ("en", 0.99)})
    result = run(backend, [row(0, f"[Music] {LONG_EN.upper()}"), row(1, None), row(2, "")])
    assert backend.asked == [LONG_EN, "", ""]
    assert found(result) == [("en", 0.99, False), ("", 0.0, False), ("", 0.0, False)]


def test_a_short_text_takes_the_language_of_its_source() -> None:
    backend = Identifier({LONG_FR: ("fr", 0.97), "on y va": ("pl", 0.3), "come here": ("en", 0.99)})
    rows = [row(0, "on y va"), row(10, LONG_FR), row(20, "come here"), row(30, "on y va", "other")]
    assert found(run(backend, rows)) == [
        ("fr", 0.97, True),
        ("fr", 0.97, False),
        ("fr", 0.97, True),  # even one that is sure by itself: so short, its sureness means little
        ("pl", 0.3, False),  # its own source has no sure text
    ]


def test_only_sure_trusted_long_texts_speak_for_a_source() -> None:
    answers = {LONG_FR: ("fr", 0.97), LONG_EN: ("en", 0.90), "on y va": ("pl", 0.3), "come here": ("en", 0.99)}
    untrusted = [row(0, LONG_FR, trusted=False), row(10, "on y va")]
    assert found(run(Identifier(answers), untrusted))[1] == ("pl", 0.3, False)
    unsure = [row(0, LONG_EN), row(10, "on y va")]
    assert found(run(Identifier(answers), unsure))[1] == ("pl", 0.3, False)
    assert found(run(Identifier(answers), unsure, min_confidence=0.9))[1] == ("en", 0.90, True)
    assert found(run(Identifier(answers), unsure, english_min_confidence=0.9))[1] == ("en", 0.90, True)
    assert found(run(Identifier(answers), [row(0, "come here"), row(10, "on y va")]))[1] == ("pl", 0.3, False)


def test_an_untrusted_short_text_keeps_its_own_answer() -> None:
    backend = Identifier({LONG_FR: ("fr", 0.97), "on y va": ("pl", 0.3)})
    assert found(run(backend, [row(0, LONG_FR), row(10, "on y va", trusted=False)]))[1] == ("pl", 0.3, False)


def test_the_longest_text_speaks_and_ties_go_to_the_first_key() -> None:
    longer = LONG_FR + " et encore plus loin"
    backend = Identifier({LONG_EN: ("en", 0.99), longer: ("fr", 0.96), "on y va": ("pl", 0.3)})
    rows = [row(0, LONG_EN), row(10, longer), row(20, "on y va")]
    for order in (rows, rows[::-1]):
        result = run(backend, order)
        assert dict(zip([r["key"] for r in order], found(result), strict=True))[rows[2]["key"]] == ("fr", 0.96, True)
    a, b = "a" * 10 + " " + "b" * 15, "c" * 12 + " " + "d" * 13
    tied = Identifier({a: ("de", 0.99), b: ("nl", 0.99), "ja ja": ("", 0.0)})
    rows = [row(0, b), row(10, a), row(20, "ja ja")]
    for order in (rows, rows[::-1]):
        answers = dict(zip([r["key"] for r in order], found(run(tied, order)), strict=True))
        assert answers[rows[2]["key"]] == ("nl", 0.99, True)


def test_sources_given_together_or_apart_come_out_the_same() -> None:
    answers = {LONG_FR: ("fr", 0.97), LONG_EN: ("en", 0.99), "on y va": ("pl", 0.3)}
    one = [row(0, LONG_FR, "a"), row(10, "on y va", "a")]
    two = [row(0, LONG_EN, "b"), row(10, "on y va", "b")]
    apart = found(run(Identifier(answers), one)) + found(run(Identifier(answers), two))
    assert found(run(Identifier(answers), one + two)) == apart
    mixed = found(run(Identifier(answers), [one[0], two[0], one[1], two[1]]))
    assert mixed == [apart[0], apart[2], apart[1], apart[3]]


@pytest.mark.parametrize(("text", "language"), [(LONG_EN, "en"), ("ceci n'est pas une pipe mais un tableau", "fr")])
def test_with_the_embedded_identifier(text: str, language: str) -> None:
    result = run(registry.create("language_identifier", "fasttext"), [row(0, text), row(10, "oui oui")])
    (name, confidence, borrowed), short = found(result)
    assert (name, borrowed) == (language, False)
    assert confidence >= 0.95
    assert short == (language, confidence, True)
