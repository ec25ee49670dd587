"""Spoken text: what is cleaned away, how words are counted, what is short, and the routing table row by row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.reasons import REASONS
from vidcap.speech import Route, Routing, clean, is_short, join_words, letter_count, route, sentence, word_count

ENGLISH = "we walk along the river to the old bridge"
FRENCH = "nous marchons le long de la rivière jusqu'au vieux pont"
CHINESE = "我们沿着河边走到老桥那里去"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  one \n two\tthree ", "one two three"),
        ("cafe\u0301", "café"),
        ("SO THIS IS WHAT IT WAS", "so this is what it was"),
        ("SO THIS IS What it was", "SO THIS IS What it was"),
        ("NASA and the ESA", "NASA and the ESA"),
        ("ABCDe", "ABCDe"),  # exactly 80 %
        ("ABCDEf", "abcdef"),
        ("see https://example.org/a?b=(c) now", "see now"),
        ("www.example.org is where HTTP://X.Y/z was", "is where was"),
        ("[Music] we go [door slams loudly] on", "we go on"),
        ("(applause) thank you (laughs) all ♪", "thank you all"),
        ("【音楽】さあ（笑）行こう", "さあ 行こう"),
        ("<unk> yes *coughs* no", "yes no"),
        ("a price (about ten or twelve euros) is fair", "a price (about ten or twelve euros) is fair"),
        ("a\x00b\x07c\r\x1bd", "abc d"),
        ("5 * 3 * 2", "5 * 3 * 2"),
        ("[unclosed and on it goes", "[unclosed and on it goes"),
        ("", ""),
        ("[silence]", ""),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(st.text(max_size=80))
def test_clean_is_one_line_and_settles(text: str) -> None:
    once = clean(text)
    assert once == " ".join(once.split())
    assert not any(ord(c) < 32 for c in once)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("… — !", 0),
        ("hello", 1),
        ("it's a well-known 3", 4),
        ("안녕하세요 여러분", 2),
        ("你好", 1),
        ("今天我们来学习", 4),
        ("今天 we are here", 4),
        ("สวัสดีครับ", 3),
        ("привет, мир", 2),
        ("नमस्ते दुनिया", 2),
    ],
)
def test_word_count(text: str, count: int) -> None:
    assert word_count(text) == count


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("abcdefghij klmnopqrs", True),  # 19 letters
        ("abcdefghij klmnopqrst", False),
        ("1234567890 1234567890 ok", True),
        ("今天我们来学习", True),  # 7
        ("今天我们来学习吧", False),
        ("오늘은 날씨가 좋", True),
        ("오늘은 날씨가 좋네요", False),
        ("今天 we are all walking", True),  # mostly Latin: 20 letters count
        ("", True),
    ],
)
def test_is_short(text: str, short: bool) -> None:
    assert is_short(text) is short


def test_marks_of_other_scripts_are_letters() -> None:
    assert letter_count("नमस्ते") == 6
    assert letter_count("สวัสดี 12!") == 6


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["we", "are", "here"], "we are here"),
        ([" We", " are", " here."], "We are here."),
        (["今天", "我们", "来"], "今天我们来"),
        (["今天", "we", "来"], "今天 we 来"),
        (["오늘은", "좋다"], "오늘은 좋다"),
        (["a", "", " ", "b"], "a b"),
        ([], ""),
    ],
)
def test_join_words(words: list[str], text: str) -> None:
    assert join_words(words) == text


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("we are here", "We are here."),
        ("We are here!", "We are here!"),
        ("they said “go.”", "They said “go.”"),
        ("1 is one", "1 is one."),
        ("élan vital", "Élan vital."),
        ("wait…", "Wait…"),
        ("  ", ""),
    ],
)
def test_sentence(text: str, form: str) -> None:
    assert sentence(text) == form


def routed(text: str = ENGLISH, language: str = "en", confidence: float = 0.99, **changed: Any) -> Routing:
    given: dict[str, Any] = {
        "trusted": True,
        "source_majority": "",
        "supported": lambda code: code in ("fr", "en"),
        "llm": False,
    }
    return route(text, language, confidence, **(given | changed))


# The table of the format's definition, row by row.


@pytest.mark.parametrize("llm", [False, True])
def test_row_empty_or_under_three_words(llm: bool) -> None:
    for trusted in (False, True):
        assert routed("", "", 0.0, llm=llm, trusted=trusted) == Routing(Route.NONE, "", "speech.none")
        assert routed("… !", "", 0.0, llm=llm, trusted=trusted) == Routing(Route.NONE, "", "speech.none")
        assert routed("thank you", llm=llm, trusted=trusted) == Routing(Route.NONE, "en", "speech.few_words")
    assert routed("你好吗", "zh", llm=llm).route is Route.NONE
    assert routed("thank you all", llm=llm).route is not Route.NONE
    assert routed("thank you", min_words=2).route is Route.KEEP


@pytest.mark.parametrize("llm", [False, True])
def test_row_untrusted(llm: bool) -> None:
    for language, confidence in (("en", 0.99), ("fr", 0.99), ("la", 0.3)):
        found = routed(language=language, confidence=confidence, trusted=False, llm=llm)
        assert found == Routing(Route.NONE, language, "speech.uncertain")


@pytest.mark.parametrize("llm", [False, True])
def test_row_language_outside_the_recognisers(llm: bool) -> None:
    english = frozenset({"en"})
    assert routed(FRENCH, "fr", 0.99, recognised=english, llm=llm) == Routing(Route.NONE, "fr", "speech.uncertain")
    assert routed(recognised=english, llm=llm).route is Route.KEEP
    # An unsure guess does not show that another language was spoken.
    unsure = routed(ENGLISH, "fr", 0.5, recognised=english, llm=llm).route
    assert unsure is (Route.LLM if llm else Route.PASSTHROUGH)


@pytest.mark.parametrize(
    ("majority", "expected"), [("en", Route.KEEP), ("fr", Route.TRANSLATE), ("la", Route.PASSTHROUGH)]
)
def test_row_short_is_taken_for_the_sources_majority(majority: str, expected: Route) -> None:
    for language, confidence in (("en", 0.2), ("fr", 0.99), ("", 0.0)):
        found = routed("come over here now", language, confidence, source_majority=majority)
        assert (found.route, found.language) == (expected, majority)


def test_row_short_without_a_majority_counts_as_longer_text() -> None:
    assert routed("come over here now", "en", 0.99).route is Route.KEEP
    assert routed("come over here now", "en", 0.5).route is Route.PASSTHROUGH
    assert routed("come over here now", "en", 0.5, llm=True).route is Route.LLM


def test_a_longer_text_ignores_the_majority() -> None:
    assert routed(ENGLISH, "en", 0.99, source_majority="fr").route is Route.KEEP
    assert routed(CHINESE, "zh", 0.99, source_majority="en", llm=True).route is Route.LLM


@pytest.mark.parametrize("llm", [False, True])
def test_row_sure_english(llm: bool) -> None:
    for confidence in (0.95, 1.0):
        assert routed(confidence=confidence, llm=llm) == Routing(Route.KEEP, "en")


@pytest.mark.parametrize("llm", [False, True])
def test_row_sure_and_supported(llm: bool) -> None:
    assert routed(FRENCH, "fr", 0.95, llm=llm) == Routing(Route.TRANSLATE, "fr")


def test_row_sure_and_unsupported() -> None:
    assert routed(CHINESE, "zh", 0.95, llm=True) == Routing(Route.LLM, "zh")
    assert routed(CHINESE, "zh", 0.95) == Routing(Route.PASSTHROUGH, "zh", "speech.untranslated")


@pytest.mark.parametrize(("text", "language"), [(ENGLISH, "en"), (FRENCH, "fr"), (CHINESE, "zh"), (ENGLISH, "")])
def test_row_unsure(text: str, language: str) -> None:
    for confidence in (0.0, 0.9499):
        assert routed(text, language, confidence, llm=True) == Routing(Route.LLM, language)
        left = routed(text, language, confidence)
        assert left == Routing(Route.PASSTHROUGH, language, "speech.untranslated")


def test_bounds_are_options() -> None:
    assert routed(confidence=0.6, english_min_confidence=0.5).route is Route.KEEP
    assert routed(confidence=0.97, english_min_confidence=0.98).route is Route.PASSTHROUGH
    assert routed(FRENCH, "fr", 0.6, english_min_confidence=0.5).route is Route.PASSTHROUGH
    assert routed(FRENCH, "fr", 0.6, min_confidence=0.5).route is Route.TRANSLATE


def test_another_target_language() -> None:
    assert routed(FRENCH, "fr", 0.99, target="fra").route is Route.KEEP
    assert routed(ENGLISH, "en", 0.99, target="fra").route is Route.TRANSLATE


@given(
    text=st.sampled_from(["", "ok", "come over here", ENGLISH, FRENCH, CHINESE]),
    language=st.sampled_from(["", "en", "fr", "zh", "la"]),
    confidence=st.floats(0, 1),
    trusted=st.booleans(),
    majority=st.sampled_from(["", "en", "fr", "zh"]),
    llm=st.booleans(),
)
def test_every_case_has_one_route_and_a_reason_if_and_only_if_nothing_comes_of_it(
    text: str, language: str, confidence: float, trusted: bool, majority: str, llm: bool
) -> None:
    found = routed(text, language, confidence, trusted=trusted, source_majority=majority, llm=llm)
    assert bool(found.reason) == (found.route in (Route.NONE, Route.PASSTHROUGH))
    assert not found.reason or REASONS[found.reason].kind == "note"
    assert trusted or found.route is Route.NONE
    assert not (llm and found.route is Route.PASSTHROUGH)
    assert llm or found.route is not Route.LLM
