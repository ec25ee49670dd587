"""Every translator keeps the role's promises; the pass-through one translates nothing and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from model_server import FAST, ModelServer, chat
from tiny_models.seamless import make_seamless

from vidcap.backends import registry
from vidcap.errors import BackendError, ItemError
from vidcap.languages import SEAMLESS, english_name, is_language, is_named, seamless_code

WITH_TORCH = ("seamless",)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.full) if name in WITH_TORCH else name
        for name in registry.names("translator")
    ],
)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Skips a model whose library is not here. Published weights never are: the models get tiny ones."""
    options: dict[str, Any] = {}
    with ExitStack() as stack:
        try:
            if request.param == "seamless":
                options = make_seamless(tmp_path_factory.mktemp("weights") / "seamless")
            elif request.param == "llm":
                server = ModelServer(lambda payload, number: chat("We walk along the river."))
                stack.callback(server.kill)
                options = {"llm": {"name": "openai", "endpoints": [server.url], "model": "m", **FAST}}
            made = registry.create("translator", request.param, options)
            made.load("cpu")
        except (BackendError, ModuleNotFoundError) as error:
            if request.param not in WITH_TORCH:
                raise
            pytest.skip(f"{request.param} cannot be loaded here: {error}")
        if hasattr(made, "close"):
            stack.callback(made.close)
        yield made


# every backend


def test_identity_is_known_before_loading(backend: Any) -> None:
    assert type(backend)(backend.config).identity() == backend.identity() != ""


def test_supports_answers_for_any_code(backend: Any) -> None:
    for language in ("fr", "zh", "ceb", "la", "xx", ""):
        assert isinstance(backend.supports(language, "eng"), bool)
    assert not backend.supports("xx", "eng")
    assert not backend.supports("", "eng")


def test_one_outcome_per_text(backend: Any) -> None:
    assert backend.translate([], languages=[], to="eng") == []
    for language in ("en", "fr", "de"):
        if backend.supports(language, "eng"):
            texts = ["Hello.", "Good evening, everyone."]
            outcomes = backend.translate(texts, languages=[language] * 2, to="eng")
            assert len(outcomes) == 2
            assert all(isinstance(outcome, str | ItemError) for outcome in outcomes)


def test_an_unsupported_language_is_an_error_in_its_place(backend: Any) -> None:
    for language in ("en", "fr"):
        if backend.supports(language, "eng"):
            good, bad = backend.translate(["Hello there.", "qapla"], languages=[language, "xx"], to="eng")
            assert isinstance(good, str)
            assert isinstance(bad, ItemError)
            assert bad.reason == "translate.failed"
            assert "`xx`" in bad.detail


# passthrough


def test_passthrough_supports_the_target_alone() -> None:
    backend = registry.create("translator", "passthrough")
    supported = {language for language in SEAMLESS if backend.supports(language, "eng")}
    assert supported == {"en"}
    assert backend.supports("fr", "fra")
    assert not backend.supports("en", "fra")


def test_passthrough_changes_nothing() -> None:
    backend = registry.create("translator", "passthrough")
    text = "  we ARE here, 100 % — «voilà»\n"
    assert backend.translate([text], languages=["en"], to="eng") == [text]


# the code map


@pytest.mark.parametrize(
    ("code", "seamless"),
    [("fr", "fra"), ("zh", "cmn"), ("ar", "arb"), ("fa", "pes"), ("no", "nob"), ("sh", "hrv"), ("ceb", "ceb")],
)
def test_seamless_codes(code: str, seamless: str) -> None:
    assert seamless_code(code) == seamless


@pytest.mark.parametrize("code", ["la", "eo", "sq", "lb", "oc", "wuu", "yi", "br", "gd", "", "xx"])
def test_languages_seamless_does_not_know(code: str) -> None:
    assert seamless_code(code) is None


def test_the_map_is_sound() -> None:
    assert len(SEAMLESS) == 88
    assert all(len(code) in (2, 3) and len(seamless) == 3 for code, seamless in SEAMLESS.items())
    twice = {s for s in SEAMLESS.values() if list(SEAMLESS.values()).count(s) > 1}
    assert twice == {"ckb", "hrv"}  # ku and ckb, hr and sh
    assert english_name("yue") == "Cantonese"
    assert english_name("xx") == "xx"
    assert is_language("en", "eng")
    assert not is_language("", "eng")
    assert not is_language("xx", "")


def test_every_language_of_identification_has_a_name() -> None:
    identifier = registry.create("language_identifier", "fasttext")
    identifier.load("cpu")
    found = identifier._model.f.predict("one two three\n", 1000, -1.0, "strict")
    labels = {label.removeprefix("__label__") for _, label in found}
    assert len(labels) == 176
    assert {label for label in labels if not is_named(label)} == set()
    assert english_name("la") == "Latin"
    assert not is_named("xx")
    assert not is_named("")
