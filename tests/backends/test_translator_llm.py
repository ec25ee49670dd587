"""Translation by a language model: what it is asked, which answers count, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from model_server import FAST, ModelServer, chat, error, question

from vidcap import prompts
from vidcap.backends import registry
from vidcap.backends.roles import Request
from vidcap.errors import BackendError, ItemError, PromptError

FRENCH = "nous marchons le long de la rivière jusqu'au vieux pont"
ENGLISH = "We walk along the river to the old bridge."


class Model:
    """A language model whose answers the test writes; it remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.seeds: list[int] = []
        self.closed = False

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Any]:
        self.requests += requests
        self.seeds += seeds
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0] for _ in requests]

    def close(self) -> None:
        self.closed = True


def made(model: Any = None, **options: Any) -> Any:
    backend = registry.create("translator", "llm", {"llm": "template", **options})
    if model is not None:
        backend._llm = model
    return backend


def translate(backend: Any, *texts: str, language: str = "fr") -> list[Any]:
    found: list[Any] = backend.translate(texts, languages=[language] * len(texts), to="eng")
    return found


@pytest.fixture
def through() -> Iterator[Callable[..., Any]]:
    """A backend that asks a server which answers by a function."""
    servers: list[ModelServer] = []
    backends: list[Any] = []

    def make(answer: Any, **options: Any) -> Any:
        servers.append(ModelServer(answer))
        llm = {"name": "openai", "endpoints": [servers[-1].url], "model": "vicuna-7b-v1.5", **FAST}
        servers[-1].models = ("vicuna-7b-v1.5",)
        backends.append(registry.create("translator", "llm", {"llm": llm, **options}))
        backends[-1].load("cpu")
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()
    for server in servers:
        server.kill()


class TestAsking:
    def test_through_a_server(self, through: Callable[..., Any]) -> None:
        asked: list[str] = []

        def answer(payload: dict[str, Any], number: int) -> Any:
            asked.append(question(payload))
            return chat(f'The transcript in English: "{ENGLISH}"')

        assert translate(through(answer), FRENCH) == [ENGLISH]
        assert FRENCH in asked[-1]
        assert "believes the language to be: French." in asked[-1]
        assert asked[-1].strip().endswith("The transcript in English:")

    def test_what_is_asked(self) -> None:
        model = Model(ENGLISH)
        translate(made(model), FRENCH, "gallia est omnis divisa in partes tres")
        assert {request.task for request in model.requests} == {"translate"}
        assert model.requests[0].prompt == prompts.load("translate").render({"text": FRENCH, "language": "French"})
        assert model.requests[0].slots == {"text": FRENCH, "language": "French"}
        translate(made(model), "gallia est omnis divisa in partes tres", language="la")
        assert model.requests[-1].slots["language"] == "Latin"

    def test_the_same_text_is_the_same_question_in_any_batch(self) -> None:
        alone, together = Model(ENGLISH), Model(ENGLISH)
        translate(made(alone), FRENCH)
        translate(made(together), "bonjour à tous", FRENCH)
        assert (together.requests[1], together.seeds[1]) == (alone.requests[0], alone.seeds[0])
        assert together.seeds[0] != together.seeds[1]
        other = Model(ENGLISH)
        translate(made(other, seed=1), FRENCH)
        assert other.seeds != alone.seeds

    def test_a_text_of_nothing_is_not_asked(self) -> None:
        model = Model(ENGLISH)
        assert translate(made(model), "  ") == [""]
        assert not model.requests

    def test_every_named_language_into_the_one_of_the_prompt(self) -> None:
        backend = made()
        assert all(backend.supports(code, "eng") for code in ("fr", "la", "sq", "wuu", "yi", "en"))
        assert not any(backend.supports(code, "eng") for code in ("", "xx", "tlh"))
        assert not backend.supports("fr", "deu")
        assert made(to="deu").supports("fr", "deu")

    def test_a_prompt_of_ones_own(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.md"
        path.write_text(
            "---\nname: mine\ntask: translate\nslots: {text: what, language: which}\n---\n"
            "Into German ({language}): {text}\n"
        )
        model = Model("Wir gehen am Fluss entlang.")
        backend = made(model, prompt=str(path), to="deu")
        assert backend.translate([FRENCH], languages=["fr"], to="deu") == ["Wir gehen am Fluss entlang."]
        assert model.requests[0].prompt.strip() == f"Into German (French): {FRENCH}"
        path.write_text(path.read_text().replace("({language})", "").replace(", language: which", ""))
        with pytest.raises(PromptError, match="has no slot `language`"):
            made(prompt=str(path)).load("cpu")

    def test_it_closes_what_it_opened(self) -> None:
        model = Model(ENGLISH)
        made(model).close()
        assert model.closed
        made().close()


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "translation"),
        [
            (ENGLISH, ENGLISH),
            (f'  "{ENGLISH}"\n', ENGLISH),
            (f"**{ENGLISH}**</s>USER: more", ENGLISH),
            (f"The transcript in English:\n{ENGLISH}", ENGLISH),
            ("Sorry, we are late. Here is the bridge.", "Sorry, we are late. Here is the bridge."),
            ("Okay: this is what we do. We walk.", "Okay: this is what we do. We walk."),
            (
                "We meet Müller & Søren near the Καφέ of the old town.",
                "We meet Müller & Søren near the Καφέ of the old town.",
            ),
        ],
    )
    def test_what_counts(self, answer: str, translation: str) -> None:
        model = Model(answer)
        assert translate(made(model), FRENCH) == [translation]
        assert len(model.requests) == 1

    @pytest.mark.parametrize(
        ("answer", "fault"),
        [
            ("", "is empty"),
            ("“…”", "is empty"),
            (f"{ENGLISH}\n\nNote: a river is not a street.", "has several lines"),
            (f"Here is the translation: {ENGLISH}", "talks about the task"),
            (f"Translation: {ENGLISH}", "talks about the task"),
            ("As an AI language model, I walk nowhere.", "talks about the task"),
            ("The transcript appears to be about a walk.", "talks about the task"),
            ("I cannot provide a translation of this.", "talks about the task"),
            ("Keep its meaning, names and numbers, and walk along the river.", "repeats the prompt"),
            ("Мы идём вдоль реки к старому мосту.", "is not in English letters"),
            (FRENCH, "is the text as it was"),
            (FRENCH.capitalize() + ".", "is the text as it was"),
            (" ".join([ENGLISH] * 9), "has 81 words for 10"),
        ],
    )
    def test_what_does_not(self, answer: str, fault: str) -> None:
        model = Model(answer, ENGLISH)
        assert translate(made(model), FRENCH) == [ENGLISH]
        assert [request.attempt for request in model.requests] == [0, 1]
        assert model.seeds[0] != model.seeds[1]
        (failed,) = translate(made(Model(answer), retries=1), FRENCH)
        assert isinstance(failed, ItemError)
        assert (failed.reason, failed.detail) == ("translate.failed", f"the answer {fault}")

    def test_most_of_a_long_text_must_be_there(self) -> None:
        (failed,) = translate(made(Model("We walk far.")), f"{FRENCH} et puis {FRENCH}")
        assert isinstance(failed, ItemError)
        assert failed.detail == "the answer has 3 words for 22"

    def test_names_stay_what_they_are(self) -> None:
        assert translate(made(Model("Claude Monet, Giverny")), "Claude Monet, Giverny") == ["Claude Monet, Giverny"]

    def test_english_that_was_taken_for_another_language_may_repeat_its_own_words(self) -> None:
        said = "keep its meaning names and numbers they told us"
        assert translate(made(Model("They told us: keep its meaning, names and numbers.")), said) == [
            "They told us: keep its meaning, names and numbers."
        ]

    def test_only_what_failed_is_asked_again(self) -> None:
        model = Model(ENGLISH, "", "Hello everyone.")
        assert translate(made(model), FRENCH, "bonjour à tous") == [ENGLISH, "Hello everyone."]
        assert [(request.slots["text"], request.attempt) for request in model.requests] == [
            (FRENCH, 0),
            ("bonjour à tous", 0),
            ("bonjour à tous", 1),
        ]

    def test_an_error_of_the_language_model_stands_in_its_place(self, through: Callable[..., Any]) -> None:
        def answer(payload: dict[str, Any], number: int) -> Any:
            return error(400, "too long") if "bonjour" in question(payload) else chat(ENGLISH)

        good, bad = translate(through(answer), FRENCH, "bonjour à tous")
        assert good == ENGLISH
        assert isinstance(bad, ItemError)
        assert bad.reason == "llm.failed"


class TestIdentity:
    def test_it_names_prompt_and_language_model(self) -> None:
        digest = prompts.load("translate").digest[:12]
        assert made().identity() == f"translate@{digest}/translator@1/template: template@2"

    def test_of_the_language_model_only_what_shapes_answers(self) -> None:
        def identity(**options: Any) -> str:
            llm = {"name": "openai", "model": "vicuna-7b-v1.5", "endpoints": ["http://127.0.0.1:9"], **options}
            found: str = registry.create("translator", "llm", {"llm": llm}).identity()
            return found

        assert "vicuna-7b-v1.5" in identity()
        assert identity(endpoints=["http://127.0.0.1:10"]) == identity()
        assert identity(temperature=0.0) != identity()

    def test_wrong_options(self) -> None:
        with pytest.raises(BackendError, match="option `llm`: field required"):
            registry.create("translator", "llm")
        with pytest.raises(BackendError, match="no llm backend is called `opnai`"):
            registry.create("translator", "llm", {"llm": "opnai"}).load("cpu")
        with pytest.raises(PromptError, match="there is no prompt `translat`"):
            made(prompt="translat").identity()
