"""What every language model backend promises, and the sentences of the embedded one."""

from __future__ import annotations

import pickle
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap import prompts
from vidcap.backends import registry
from vidcap.backends.embedded.claim_parser import parse
from vidcap.backends.embedded.claims import FACTS, Claim
from vidcap.backends.embedded.picture_phrases import say_picture
from vidcap.backends.embedded.sound_phrases import say_sound
from vidcap.backends.roles import Backend, Request
from vidcap.backends.sentences import lower_first, sentences, shorten, without_quoted, words
from vidcap.errors import BackendError, ItemError
from vidcap.reasons import REASONS
from vidcap.stages.answers import AnswerCheck

NAMES = registry.names("llm")
EMBEDDED = [name for name in NAMES if registry.get("llm", name).embedded]
OPTIONS: dict[str, dict[str, Any]] = {
    "openai": {"endpoints": ["http://127.0.0.1:9"], "model": "m"},
    "transformers": {"model": "lmsys/vicuna-7b-v1.5"},
    "vllm": {"model": "lmsys/vicuna-7b-v1.5"},
}
"""Options a backend cannot be made without, by its name; nothing is contacted before `load`."""

VIDEO = "A calm, brightly lit shot dominated by blue and green."
AUDIO = "A person speaks over quiet music."
SPEECH = "We walk along the shore."


def ask(task: str = "avs", key: str = "a_00000000_00000009", **slots: str) -> Request:
    given = {"video": VIDEO, "audio": AUDIO, "speech": SPEECH, **slots}
    if task == "av":
        del given["speech"]
    prompt = prompts.load(f"fuse_{task}").render(given) if task in ("av", "avs") else "prompt"
    return Request(key, task, prompt, given)


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.full) if n == "transformers" else n for n in NAMES])
def any_backend(request: pytest.FixtureRequest) -> Any:
    return registry.create("llm", request.param, OPTIONS.get(request.param))


@pytest.fixture(params=EMBEDDED)
def backend(request: pytest.FixtureRequest) -> Any:
    made = registry.create("llm", request.param, OPTIONS.get(request.param))
    made.load("cpu")
    return made


def test_is_a_backend_with_an_identity_before_loading(any_backend: Any) -> None:
    assert isinstance(any_backend, Backend)
    assert isinstance(any_backend.embedded, bool)
    identity = any_backend.identity()
    assert identity and identity.isprintable() and identity == any_backend.identity()


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_named(name: str) -> None:
    with pytest.raises(BackendError, match="no_such_option"):
        registry.create("llm", name, {**OPTIONS.get(name, {}), "no_such_option": 1})


def test_answers_stand_in_the_order_of_the_requests(backend: Any) -> None:
    requests = [ask(key=f"k{n}", video=f"A dog number{n} runs.", task=("av", "avs")[n % 2]) for n in range(6)]
    together = backend.complete(requests, seeds=range(6))
    assert len(together) == 6
    alone = [backend.complete([request], seeds=[n])[0] for n, request in enumerate(requests)]
    assert together == alone
    assert backend.complete(requests[::-1], seeds=[5, 4, 3, 2, 1, 0]) == together[::-1]
    assert backend.complete([], seeds=[]) == []


def test_one_bad_request_does_not_fail_the_others(backend: Any) -> None:
    good, bad, after = backend.complete([ask(), ask("no_such_task"), ask("av")], seeds=[1, 2, 3])
    assert isinstance(good, str) and isinstance(after, str)
    assert isinstance(bad, ItemError) and bad.reason == "llm.unknown_task" and bad.reason in REASONS
    assert pickle.loads(pickle.dumps(bad)).reason == bad.reason


def test_the_seed_alone_decides(backend: Any) -> None:
    found = {seed: backend.complete([ask()], seeds=[seed])[0] for seed in range(12)}
    assert found == {seed: backend.complete([ask()], seeds=[seed])[0] for seed in range(12)}
    assert len(set(found.values())) > 2


@pytest.mark.parametrize("task", ["av", "avs"])
def test_answers_pass_the_check_of_the_fusion_stage(backend: Any, task: str) -> None:
    check = AnswerCheck(prompts.load(f"fuse_{task}"), 4, 60)
    for seed in range(40):
        (text,) = backend.complete([ask(task)], seeds=[seed])
        assert check.clean(text) == text
        assert check.fault(text, ask(task).slots) == ""


# The embedded template.


@pytest.fixture
def template() -> Any:
    return registry.create("llm", "template")


def fuse(template: Any, seed: int = 0, task: str = "avs", **slots: str) -> str:
    (found,) = template.complete([ask(task, **slots)], seeds=[seed])
    assert isinstance(found, str)
    return found


def test_template_keeps_what_is_seen_and_heard_and_quotes_what_is_said(template: Any) -> None:
    for seed in range(30):
        text = fuse(template, seed)
        assert "calm, brightly lit shot dominated by blue and green" in text.lower()
        assert "a person speaks over quiet music" in text.lower()
        assert re.findall(r'"([^"]*)"', text) in (["We walk along the shore"], ["We walk along the shore."])
        assert 15 <= len(text.split()) <= 45
        assert text[0].isupper() and text[-1] in '."'


def test_template_golden(template: Any) -> None:
    # Changes only together with VERSION in the backend.
    assert template.identity() == "template@2"
    assert [fuse(template, seed) for seed in (0, 3, 7)] == GOLDEN


GOLDEN = [
    "The video shows a calm, brightly lit shot dominated by blue "
    'and green while a person speaks over quiet music, saying "We walk along the shore."',
    "The video shows a calm, brightly lit shot dominated by blue "
    'and green as a person speaks over quiet music, with the words "We walk along the shore."',
    "A calm, brightly lit shot dominated by blue and green is "
    'on screen as a person speaks over quiet music, with the words "We walk along the shore."',
]


@pytest.mark.parametrize("audio", ["", "(none)", "zx qrt bcd", "1234 %% --", "la la la la la la"])
def test_template_drops_sound_that_makes_no_sense(template: Any, audio: str) -> None:
    text = fuse(template, task="av", audio=audio)
    assert "blue and green" in text
    assert not re.search("heard|while|zx|1234|la la|none", text)


@pytest.mark.parametrize("speech", ["", "(none)", " ?! "])
def test_template_quotes_nothing_where_nothing_is_said(template: Any, speech: str) -> None:
    assert '"' not in fuse(template, speech=speech)


def test_template_shortens_speech_at_a_word(template: Any) -> None:
    speech = " ".join(f"word{n}" for n in range(200))
    for seed in range(10):
        text = fuse(template, seed, speech=speech)
        (quoted,) = re.findall(r'"([^"]*)"', text)
        assert quoted.endswith(" …")
        assert speech.startswith(quoted.removesuffix(" …") + " word")
        assert len(text.split()) <= 45


def test_template_quotes_nothing_but_speech(template: Any) -> None:
    text = fuse(template, video='A sign reads "STOP".', audio="“Music” plays.", speech='He said "go". Then “ran”.')
    (quoted,) = re.findall(r'"([^"]*)"', text)
    assert quoted.rstrip(".") == "He said 'go', Then 'ran'"
    assert "“" not in text and "A sign reads 'STOP'".lower() in text.lower()


@settings(deadline=None)
@given(st.text(max_size=120), st.text(max_size=80), st.text(max_size=120), st.integers(0, 2**64 - 1))
def test_template_gives_one_line_with_balanced_quotes_for_any_text(v: str, a: str, s: str, seed: int) -> None:
    template = registry.create("llm", "template")
    request = Request("k", "avs", "", {"video": v, "audio": a, "speech": s})
    (found,) = template.complete([request], seeds=[seed])
    if isinstance(found, ItemError):
        assert found.reason == "fuse.failed"
    else:
        assert "\n" not in found and found.count('"') in (0, 2)
        assert found.endswith((".", '."', '…"'))


def test_template_keeps_every_claim_of_the_embedded_captions_and_adds_none(template: Any) -> None:
    rng = random.Random(3)
    pools = [
        [Claim(*key) for key, fact in FACTS.items() if fact.modality == modality] for modality in ("video", "audio")
    ]
    spoken = {Claim("speech", "present"), Claim("sound", "audible")}
    for seed in range(400):
        video, audio = (
            say(rng.sample(pool, 4), seed) for say, pool in zip((say_picture, say_sound), pools, strict=True)
        )
        if video:
            text = fuse(template, seed, video=video, audio=audio, speech="we walk by a dark loud red sea with music")
            assert set(parse(text)) - spoken == (set(parse(video)) | set(parse(audio))) - spoken, text


def test_template_needs_a_video_caption(template: Any) -> None:
    (found,) = template.complete([ask(video="")], seeds=[0])
    assert isinstance(found, ItemError) and found.reason == "fuse.failed"


# Sentences.


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("A dog runs.", 1),
        ("A dog runs. A cat sits.", 2),
        ("A dog barks. it runs", 2),
        ('A man says "We walk. It is cold." The wind blows.', 2),
        ('He shouts "Stop! Now." and goes on.', 1),
        ("Mr. Smith of the U.S. Navy runs 3.5 km at 7 a.m. daily.", 1),
        ("J. Smith speaks!", 1),
        ("Really? Yes.", 2),
        ("狗叫。猫跑。", 2),
        ("", 0),
    ],
)
def test_sentence_ends(text: str, count: int) -> None:
    assert len(sentences(text)) == count
    assert "".join(" ".join(sentences(text)).split()) == "".join(text.split())


def test_pieces_of_sentences() -> None:
    assert without_quoted('He says "It is cold." twice') == 'He says "." twice'
    assert words("It's a well-known DOG, 3.5 km.") == ["it's", "a", "well-known", "dog", "3", "5", "km"]
    assert lower_first("A dog") == "a dog"
    assert lower_first("John Smith runs") == "John Smith runs"
    assert lower_first("NASA launches") == "NASA launches"
    assert lower_first("I run") == "I run"
    assert shorten("one two, of the rest", 4) == "one two"
    assert shorten("one two", 2) == "one two"
