"""Every language identifier keeps the role's promises; fastText also tells common languages, offline and quietly."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap.backends import registry
from vidcap.errors import BackendError

SENTENCES = {
    "en": "This building has been here for more than two hundred years.",
    "fr": "Bonjour tout le monde, aujourd'hui nous allons réparer un vélo.",
    "de": "Heute lernen wir gemeinsam, wie man einen platten Fahrradreifen wechselt.",
    "es": "La ciudad tiene muchas iglesias antiguas y un mercado muy grande junto al río.",
    "ru": "Сегодня мы научимся менять колесо велосипеда.",
    "zh": "我们的城市有很多公园,每天早上老人们都在那里锻炼身体。",
}


@pytest.fixture(scope="module", params=registry.names("language_identifier"))
def backend(request: pytest.FixtureRequest) -> Any:
    made = registry.create("language_identifier", request.param)
    try:
        made.load("cpu")
    except BackendError as error:
        if made.embedded:
            raise
        pytest.skip(f"{request.param} cannot be loaded here: {error.message}")
    return made


# every backend


def test_identity_is_known_before_loading(backend: Any) -> None:
    assert type(backend)(backend.config).identity() == backend.identity() != ""


def test_nothing_said_has_no_language(backend: Any) -> None:
    assert backend.identify(["", "  ", "\n\t\n"]) == [("", 0.0)] * 3
    assert backend.identify([]) == []


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=200), max_size=4))
def test_any_text_gets_a_code_and_a_confidence(backend: Any, texts: list[str]) -> None:
    found = backend.identify(texts)
    assert len(found) == len(texts)
    for text, (language, confidence) in zip(texts, found, strict=True):
        assert 0.0 <= confidence <= 1.0
        assert re.fullmatch("[a-z]{2,3}", language) or (language, confidence) == ("", 0.0)
        assert bool(language) or not text.isascii() or not re.search("[a-z]", text)


def test_a_result_does_not_depend_on_the_batch(backend: Any) -> None:
    texts = list(SENTENCES.values())
    assert backend.identify(texts) == [backend.identify([text])[0] for text in texts]
    assert backend.identify(texts[::-1]) == backend.identify(texts)[::-1]


@pytest.mark.parametrize("language", SENTENCES)
def test_tells_common_languages(backend: Any, language: str) -> None:
    ((found, confidence),) = backend.identify([SENTENCES[language]])
    assert found == language
    assert confidence > 0.8


# fastText


@pytest.fixture(scope="module")
def fasttext() -> Any:
    return registry.create("language_identifier", "fasttext")


def test_line_breaks_and_odd_characters_do_no_harm(fasttext: Any) -> None:
    one_line, broken = fasttext.identify([SENTENCES["fr"], SENTENCES["fr"].replace(" ", "\r\n\t", 3)])
    assert broken == one_line
    fasttext.identify(["\0", "\ud800", "a\u2028b\x85c", "é" * 100_000])


def test_confidences_are_clamped(fasttext: Any) -> None:
    class Model:
        f: Any

    def predict(*_: Any) -> list[tuple[float, str]]:
        return [(1.0000319, "__label__en")]  # float32 sums to a little more than one now and then

    own = type(fasttext)(fasttext.config)
    own._model = Model()
    own._model.f = type("F", (), {"predict": staticmethod(predict)})
    assert own.identify(["hello there"]) == [("en", 1.0)]


def test_loads_without_network_and_without_talk(
    fasttext: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    type(fasttext)(fasttext.config).identify([SENTENCES["en"]])
    assert capfd.readouterr() == ("", "")


def test_a_model_of_your_own(fasttext: Any, tmp_path: Path) -> None:
    copied = tmp_path / "own.ftz"
    copied.write_bytes(fasttext._path.read_bytes())
    own = registry.create("language_identifier", "fasttext", {"model": str(copied)})
    assert own.identify([SENTENCES["en"]]) == fasttext.identify([SENTENCES["en"]])
    assert own.identity().startswith("own.ftz@")
    assert own.identity().partition("@")[2] == fasttext.identity().partition("@")[2]  # the same bytes


def test_a_missing_or_wrong_model_names_the_mend(tmp_path: Path) -> None:
    missing = registry.create("language_identifier", "fasttext", {"model": str(tmp_path / "none.ftz")})
    for call in (missing.identity, lambda: missing.load("cpu")):
        with pytest.raises(BackendError, match=r"none\.ftz`\nhint: use `model: lite`"):
            call()
    wrong = tmp_path / "wrong.ftz"
    wrong.write_bytes(b"not a model at all, only a line of text")
    with pytest.raises(BackendError, match="is not a fastText model"):
        registry.create("language_identifier", "fasttext", {"model": str(wrong)}).load("cpu")
