"""The translate stage: each route's columns, what is asked of whom, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from vidcap import prompts
from vidcap.backends import registry
from vidcap.backends.roles import Request
from vidcap.errors import ItemError, PromptError, TransientError
from vidcap.media.evidence import Evidence
from vidcap.records import StageResult
from vidcap.seeds import seed_of
from vidcap.stages.base import Context
from vidcap.stages.translate import Translate, TranslateOptions

PROMPT = prompts.load("translate")
ENGLISH = "we are flying over the mountains now"
FRENCH = "nous volons maintenant au-dessus des montagnes"
LATIN = "nunc super montes altos in caelo volamus"


class Translator:
    """Translates French by marking it; the test may write another answer."""

    def __init__(self, answer: Callable[[str], Any] | None = None) -> None:
        self.answer = answer or (lambda text: f"in English: {text}")
        self.asked: list[tuple[str, str, str]] = []

    def identity(self) -> str:
        return "translator@1"

    def supports(self, language: str, to: str) -> bool:
        return language == "fr" and to == "eng"

    def translate(self, texts: Sequence[str], *, languages: Sequence[str], to: str) -> list[Any]:
        self.asked += [(text, language, to) for text, language in zip(texts, languages, strict=True)]
        return [self.answer(text) for text in texts]


class Model:
    """A language model whose answers the test writes; it remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], Any] | str = "Now we fly over high mountains.") -> None:
        self.answer = answer
        self.asked: list[tuple[Request, int]] = []

    def identity(self) -> str:
        return "model@1"

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Any]:
        self.asked += list(zip(requests, seeds, strict=True))
        return [self.answer if isinstance(self.answer, str) else self.answer(request) for request in requests]


def row(
    text: str | None, language: str = "en", confidence: float = 0.99, number: int = 0, **more: Any
) -> dict[str, Any]:
    base = {
        "key": f"src_{number:08d}_{number + 9:08d}",
        "source_id": "src",
        "transcript_text": text,
        "transcript_trusted": True,
        "transcript_languages": [],
        "language": language,
        "language_confidence": confidence,
        "language_majority": False,
    }
    return base | more


def no_evidence(source_id: str) -> Evidence:
    raise AssertionError("translating looks at text only")


def run(rows: Sequence[dict[str, Any]], translator: Any = None, llm: Any = None, **options: Any) -> StageResult:
    context = Context(seed=17, backend=translator or Translator(), llm=llm, prompts={"translate": PROMPT})
    result = Translate(TranslateOptions(**options), context).run(rows, no_evidence)
    assert set(result.columns) == set(Translate.gives)
    pa.table({name: pa.array(result.columns[name], kind) for name, kind in Translate.gives.items()})
    assert all(len(values) == len(rows) for values in result.columns.values())
    return result


def only(result: StageResult) -> dict[str, Any]:
    return {name: value for name, (value,) in result.columns.items()}


def test_keep() -> None:
    translator, model = Translator(), Model()
    assert only(run([row(ENGLISH)], translator, model)) == {
        "speech_route": "keep",
        "speech_reason": "",
        "transcript_english": "We are flying over the mountains now.",
        "translated": False,
        "caption_s": "We are flying over the mountains now.",
        "caption_s_by": "transcript",
    }
    assert translator.asked == model.asked == []


def test_translate() -> None:
    translator, model = Translator(lambda text: " now we fly\nover mountains "), Model()
    assert only(run([row(FRENCH, "fr")], translator, model)) == {
        "speech_route": "translate",
        "speech_reason": "",
        "transcript_english": "Now we fly over mountains.",
        "translated": True,
        "caption_s": "Now we fly over mountains.",
        "caption_s_by": "translator@1",
    }
    assert translator.asked == [(FRENCH, "fr", "eng")]
    assert model.asked == []


@pytest.mark.parametrize(
    ("text", "language", "confidence", "named"),
    [(LATIN, "la", 0.99, "Latin"), (FRENCH, "fr", 0.5, "French"), (LATIN, "", 0.0, "(unknown)")],
)
def test_llm(text: str, language: str, confidence: float, named: str) -> None:
    model = Model()
    assert only(run([row(text, language, confidence)], llm=model)) == {
        "speech_route": "llm",
        "speech_reason": "",
        "transcript_english": "Now we fly over high mountains.",
        "translated": True,
        "caption_s": "Now we fly over high mountains.",
        "caption_s_by": f"model@1+translate@{PROMPT.digest[:12]}",
    }
    ((request, seed),) = model.asked
    slots = {"text": text, "language": named}
    assert request == Request(row(text)["key"], "translate", PROMPT.render(slots), slots, 0)
    assert seed == seed_of(17, request.key, "translate.0")


def test_the_model_may_return_english_unchanged() -> None:
    found = only(run([row(ENGLISH, "en", 0.4)], llm=Model(ENGLISH)))
    assert (found["speech_route"], found["translated"]) == ("llm", False)
    assert found["caption_s"] == "We are flying over the mountains now."


@pytest.mark.parametrize(("language", "confidence"), [("la", 0.99), ("fr", 0.5), ("en", 0.4), ("", 0.0)])
def test_passthrough(language: str, confidence: float) -> None:
    assert only(run([row(ENGLISH, language, confidence)])) == {
        "speech_route": "passthrough",
        "speech_reason": "speech.untranslated",
        "transcript_english": "",
        "translated": False,
        "caption_s": "",
        "caption_s_by": "",
    }


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (row(""), "speech.none"),
        (row(None), "speech.none"),
        (row("[Music]"), "speech.none"),
        (row("thank you"), "speech.few_words"),
        (row("(laughs) thank you https://example.org/x"), "speech.few_words"),
        (row(ENGLISH, transcript_trusted=False), "speech.uncertain"),
        (row(FRENCH, "fr", transcript_languages=["en"]), "speech.uncertain"),
    ],
)
def test_none(changed: dict[str, Any], reason: str) -> None:
    translator, model = Translator(), Model()
    assert only(run([changed], translator, model)) == {
        "speech_route": "none",
        "speech_reason": reason,
        "transcript_english": "",
        "translated": False,
        "caption_s": "",
        "caption_s_by": "",
    }
    assert translator.asked == model.asked == []


def test_the_sources_majority_decides_for_short_texts() -> None:
    short = row("come over here", "en", 0.96, language_majority=True)
    assert only(run([short | {"language_confidence": 0.2}]))["speech_route"] == "keep"
    assert only(run([short | {"language": "fr"}]))["speech_route"] == "translate"
    assert (
        only(run([short | {"language_majority": False, "language_confidence": 0.2}]))["speech_route"] == "passthrough"
    )


def test_options_reach_the_table() -> None:
    assert only(run([row(ENGLISH, confidence=0.6)], english_min_confidence=0.5))["speech_route"] == "keep"
    assert only(run([row(FRENCH, "fr", 0.6)], min_confidence=0.5))["speech_route"] == "translate"
    assert only(run([row("thank you")], min_words=2))["speech_route"] == "keep"
    assert only(run([row(FRENCH, "fr")], to="fra"))["speech_route"] == "keep"
    for wrong in ({"to": "English"}, {"to": "en"}, {"min_words": 0}, {"min_confidence": 2}, {"too": "eng"}):
        with pytest.raises(ValidationError):
            TranslateOptions(**wrong)


def test_errors_quarantine_their_rows_alone() -> None:
    def answer(text: str) -> Any:
        return ItemError("translate.failed", "no such word") if "bad" in text else "Fine so far."

    rows = [row(f"{FRENCH} bad", "fr", number=0), row(FRENCH, "fr", number=10), row(ENGLISH, number=20)]
    result = run(rows, Translator(answer))
    assert list(result.verdicts) == [0]
    verdict = result.verdicts[0]
    assert (verdict.kind, verdict.reason, verdict.detail) == ("quarantined", "translate.failed", "no such word")
    assert result.columns["caption_s"] == ["", "Fine so far.", "We are flying over the mountains now."]
    assert result.columns["caption_s_by"] == ["", "translator@1", "transcript"]
    assert result.columns["translated"] == [False, True, False]


def test_an_unknown_code_of_a_backend_becomes_ours() -> None:
    result = run([row(FRENCH, "fr")], Translator(lambda text: ItemError("own.code", "why")))
    assert result.verdicts[0].reason == "translate.failed"


def test_an_empty_answer_is_asked_again_then_an_error() -> None:
    model = Model(lambda request: "Here at last." if request.attempt == 2 else " \n")
    assert only(run([row(LATIN, "la")], llm=model))["caption_s"] == "Here at last."
    assert [seed for _, seed in model.asked] == [seed_of(17, row(LATIN)["key"], f"translate.{i}") for i in range(3)]
    stubborn = Model("")
    result = run([row(LATIN, "la")], llm=stubborn, retries=1)
    assert len(stubborn.asked) == 2
    assert result.verdicts[0].reason == "translate.failed"
    assert run([row(FRENCH, "fr")], Translator(lambda text: " ")).verdicts[0].reason == "translate.failed"


def test_what_models_put_around_an_answer_is_taken_off() -> None:
    for answer in (f'{PROMPT.lead_in} "we fly now"', '"we fly now"</s>', "\n\nwe fly\nnow\n"):
        assert only(run([row(LATIN, "la")], llm=Model(answer)))["caption_s"] == "We fly now."


def test_a_server_that_is_away_stops_the_stage() -> None:
    def away(request: Request) -> Any:
        raise TransientError("the server is busy")

    with pytest.raises(TransientError):
        run([row(LATIN, "la")], llm=Model(away))


def test_a_prompt_that_asks_for_other_slots_is_refused_at_the_start() -> None:
    wrong = prompts.load("fuse_av")
    with pytest.raises(PromptError):
        Translate(TranslateOptions(), Context(backend=Translator(), llm=Model(), prompts={"translate": wrong}))
    with pytest.raises(PromptError, match=r"prompts\.translate"):
        Translate(TranslateOptions(), Context(backend=Translator(), llm=Model()))
    Translate(TranslateOptions(), Context(backend=Translator()))  # no model, no prompt needed


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    rows = [
        row(ENGLISH, number=0),
        row(FRENCH, "fr", number=10),
        row(LATIN, "la", number=20),
        row("", number=30),
        row(FRENCH, "fr", 0.4, number=40),
    ]

    def model() -> Model:
        return Model(lambda request: f"answer to {request.key}")

    whole = run(rows, llm=model())
    for at, one in enumerate(rows):
        assert only(run([one], llm=model())) == {name: values[at] for name, values in whole.columns.items()}


def test_with_the_embedded_translator() -> None:
    embedded = registry.create("translator", "passthrough")
    routes = run([row(ENGLISH), row(FRENCH, "fr"), row("")], embedded).columns
    assert routes["speech_route"] == ["keep", "passthrough", "none"]
    assert routes["translated"] == [False] * 3
    assert routes["caption_s"] == ["We are flying over the mountains now.", "", ""]
