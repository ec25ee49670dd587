"""The fuse stage: which captions are asked for, which answers are used, what becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from vidcap import prompts
from vidcap.backends import registry
from vidcap.backends.roles import Request
from vidcap.backends.served.batch import Batch
from vidcap.errors import ItemError, PromptError, TransientError
from vidcap.media.evidence import Evidence
from vidcap.reasons import REASONS
from vidcap.seeds import seed_of
from vidcap.stages.answers import ECHO_WORDS, AnswerCheck
from vidcap.stages.base import Context
from vidcap.stages.fuse import Fuse, FuseOptions

V, A, S = "A dog runs along the beach.", "Waves crash and a man talks.", "Come back here right now."
GOOD = "A dog runs along a beach while waves crash and a man calls it back."
AV = prompts.load("fuse_av")
AVS = prompts.load("fuse_avs")


class Model:
    """A language model whose answers the test writes; it remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], Any] | str = GOOD) -> None:
        self.answer = answer
        self.calls: list[list[Request]] = []
        self.seeds: list[list[int]] = []

    def identity(self) -> str:
        return "model@1"

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Any]:
        self.calls.append(list(requests))
        self.seeds.append(list(seeds))
        return [self.answer if isinstance(self.answer, str) else self.answer(request) for request in requests]


def row(key: str = "a_00000000_00000009", v: str = V, a: str | None = A, s: str | None = S) -> dict[str, Any]:
    return {"key": key, "source_id": "a", "caption_v": v, "caption_a": a, "caption_s": s}


def stage(model: Any, **options: Any) -> Fuse:
    return Fuse(FuseOptions(**options), Context(seed=17, backend=model, prompts={"av": AV, "avs": AVS}))


def no_evidence(source_id: str) -> Evidence:
    raise AssertionError("fusing looks at text only")


@pytest.mark.parametrize(
    ("v", "a", "s", "tasks"),
    [
        (V, A, S, ["av", "avs"]),
        (V, A, "", ["av", "avs"]),
        (V, "", S, ["avs"]),
        (V, "", "", []),
        (V, None, None, []),
        ("", A, S, []),
    ],
)
def test_asks_only_for_captions_that_apply(v: str, a: str | None, s: str | None, tasks: list[str]) -> None:
    model = Model()
    result = stage(model).run([row(v=v, a=a, s=s)], no_evidence)
    assert [request.task for call in model.calls for request in call] == tasks
    for task in ("av", "avs"):
        written = task in tasks
        assert result.columns[f"caption_{task}"] == [GOOD if written else ""]
        assert bool(result.columns[f"caption_{task}_by"][0]) == written
    assert not result.verdicts


def test_a_missing_caption_is_none_in_the_prompt() -> None:
    model = Model()
    stage(model).run([row(a="")], no_evidence)
    ((request,),) = model.calls
    assert "Sound description: (none)" in request.prompt
    assert f"Picture description: {V}" in request.prompt
    assert request.slots == {"video": V, "audio": "(none)", "speech": S}


def test_all_questions_of_an_attempt_go_out_together_and_only_bad_ones_again() -> None:
    def answer(request: Request) -> str:
        return "" if request.key == "k1" and request.attempt == 0 else GOOD

    model = Model(answer)
    rows = [row("k0"), row("k1"), row("k2", a="")]
    result = stage(model).run(rows, no_evidence)
    assert [[(r.key, r.task, r.attempt) for r in call] for call in model.calls] == [
        [("k0", "av", 0), ("k0", "avs", 0), ("k1", "av", 0), ("k1", "avs", 0), ("k2", "avs", 0)],
        [("k1", "av", 1), ("k1", "avs", 1)],
    ]
    assert model.seeds[1] == [seed_of(17, "k1", "fuse.av.1"), seed_of(17, "k1", "fuse.avs.1")]
    assert result.columns["caption_av"] == [GOOD, GOOD, ""]
    assert result.columns["caption_avs"] == [GOOD] * 3
    assert result.columns["caption_av_by"][0] == f"model@1+fuse_av@{AV.digest[:12]}"
    assert result.columns["caption_avs_by"][2] == f"model@1+fuse_avs@{AVS.digest[:12]}"


def test_an_answer_that_stays_bad_rejects_the_clip_after_the_retries() -> None:
    model = Model(lambda request: GOOD if request.task == "av" or request.key == "k0" else "Sure, here is a sentence.")
    result = stage(model, retries=3).run([row("k0"), row("k1")], no_evidence)
    assert len(model.calls) == 4
    assert set(result.verdicts) == {1}
    verdict = result.verdicts[1]
    assert (verdict.kind, verdict.reason) == ("rejected", "fuse.bad_answer")
    assert verdict.detail == "avs: talks about the task after 4 attempts"
    assert REASONS[verdict.reason].kind == "rejected"


def test_fallback_leaves_the_caption_empty_and_the_clip_in() -> None:
    model = Model(lambda request: GOOD if request.task == "av" else "")
    result = stage(model, on_failure="fallback").run([row()], no_evidence)
    assert (result.columns["caption_av"], result.columns["caption_avs"]) == ([GOOD], [""])
    assert result.columns["caption_avs_by"] == [""]
    assert not result.verdicts


def test_a_model_that_fails_on_a_clip_is_asked_again_then_quarantines_it() -> None:
    model = Model(lambda r: ItemError("llm.unknown_task", "no") if r.key == "k1" or r.attempt == 0 else GOOD)
    result = stage(model).run([row("k0"), row("k1")], no_evidence)
    assert result.columns["caption_av"] == [GOOD, ""]
    verdict = result.verdicts[1]
    assert (verdict.kind, verdict.reason) == ("quarantined", "fuse.failed")
    assert "llm.unknown_task: no" in verdict.detail
    assert REASONS[verdict.reason].kind == "quarantined"


def test_a_server_that_is_down_is_no_fault_of_the_clip() -> None:
    def down(request: Request) -> str:
        raise TransientError("server down")

    with pytest.raises(TransientError):
        stage(Model(down)).run([row()], no_evidence)


class Served(Model):
    """A model behind servers, with real threads: any answer may come before any other."""

    def __init__(self, answer: Callable[[Request], Any] | str = GOOD, width: int = 3) -> None:
        super().__init__(answer)
        self.width = width
        self.asked: list[tuple[str, str, int, int]] = []
        self.opened = 0

    @contextmanager
    def conversations(self) -> Iterator[Any]:
        self.opened += 1
        with Batch(self.width, lambda: None) as batch:
            yield SimpleNamespace(add=batch.add, ask=self.ask)

    def ask(self, request: Request, seed: int) -> Any:
        self.asked.append((request.key, request.task, request.attempt, seed))
        return self.answer if isinstance(self.answer, str) else self.answer(request)

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Any]:
        raise AssertionError("a server need not be asked in batches")


def moody(request: Request) -> Any:
    """Good, bad for ever, bad at first, or an error, by the key; the answers differ from clip to clip."""
    number = int(request.key[1:])
    if number % 5 == 1:
        return "Sure, here is a sentence."
    if number % 5 == 2 and request.attempt < 2:
        return ""
    if number % 5 == 3:
        return ItemError("llm.failed", "no")
    return GOOD.replace("beach", f"beach{number}") if request.task == "av" else GOOD


ROWS = [row(f"k{n}", a=A if n % 3 else "", s=S if n % 2 else "") for n in range(23)]


@pytest.mark.parametrize("on_failure", ["reject", "fallback"])
def test_servers_are_asked_the_same_and_nothing_comes_out_different(on_failure: str) -> None:
    batches, served = Model(moody), Served(moody)
    expected = stage(batches, on_failure=on_failure).run(ROWS, no_evidence)
    found = stage(served, on_failure=on_failure).run(ROWS, no_evidence)
    assert found == expected
    asked = [
        (request.key, request.task, request.attempt, seed)
        for requests, seeds in zip(batches.calls, batches.seeds, strict=True)
        for request, seed in zip(requests, seeds, strict=True)
    ]
    assert sorted(served.asked) == sorted(asked)


def test_rows_known_ahead_are_asked_about_once_and_alike() -> None:
    served = Served(moody)
    fuse = stage(served)
    alone = [fuse.run(ROWS[at : at + 4], no_evidence) for at in range(0, len(ROWS), 4)]
    asked, served.asked, served.opened = sorted(served.asked), [], 0
    with fuse.ahead(ROWS):
        found = [fuse.run(ROWS[at : at + 4], no_evidence) for at in range(0, len(ROWS), 4)]
        assert found == alone
        assert (sorted(served.asked), served.opened) == (asked, 1)
        # A row that was not known is asked about all the same.
        assert fuse.run([row("k100")], no_evidence).columns["caption_av"] == [GOOD.replace("beach", "beach100")]
        assert served.opened == 2
    served.asked = []
    fuse.run(ROWS[:2], no_evidence)
    assert served.asked, "what was asked ahead is forgotten afterwards"


def test_servers_are_asked_about_the_next_rows_while_one_is_waited_for() -> None:
    others = threading.Semaphore(0)

    def answer(request: Request) -> str:
        if (request.key, request.task) == ("k0", "av"):
            for _ in range(20):
                assert others.acquire(timeout=120), "nobody else is asked while k0 waits"
        others.release()
        return GOOD

    fuse = stage(Served(answer, width=2))
    rows = [row(f"k{n}", s="") for n in range(11)]
    with fuse.ahead([{**one, "caption_s": ""} for one in rows]):
        first = fuse.run(rows[:1], no_evidence)
    assert first.columns["caption_av"] == [GOOD]


def test_rows_ahead_mean_nothing_to_a_model_that_is_asked_in_batches() -> None:
    model = Model()
    fuse = stage(model)
    with fuse.ahead([row("k0"), row("k1")]):
        fuse.run([row("k0")], no_evidence)
        fuse.run([row("k1")], no_evidence)
    assert [[request.key for request in call] for call in model.calls] == [["k0", "k0"], ["k1", "k1"]]


def test_a_server_that_is_down_ends_the_rows_ahead_too() -> None:
    def down(request: Request) -> str:
        raise TransientError("server down")

    fuse = stage(Served(down))
    with pytest.raises(TransientError), fuse.ahead(ROWS):
        fuse.run(ROWS[:2], no_evidence)


def test_result_of_a_row_does_not_depend_on_the_others() -> None:
    template = registry.create("llm", "template")
    rows = [row(f"k{n}", v=f"A dog number{n} runs.", a=A if n % 3 else "", s=S if n % 2 else "") for n in range(7)]
    together = stage(template).run(rows, no_evidence)
    for at, single in enumerate(rows):
        alone = stage(template).run([single], no_evidence)
        assert {name: values[at : at + 1] for name, values in together.columns.items()} == alone.columns
    assert not together.verdicts
    assert together.columns["caption_avs"][1] and set(together.columns) == set(Fuse.gives)


def test_a_prompt_with_other_slots_is_refused_before_anything_runs() -> None:
    with pytest.raises(PromptError, match="`fuse_avs` has a slot `speech`"):
        Fuse(FuseOptions(), Context(backend=Model(), prompts={"av": AVS, "avs": AVS}))


def test_no_rows_and_wrong_options() -> None:
    assert stage(Model()).run([], no_evidence).columns == {name: [] for name in Fuse.gives}
    for wrong in ({"retries": -1}, {"on_failure": "drop"}, {"max_words": 0}, {"retry": 1}):
        with pytest.raises(ValidationError):
            FuseOptions(**wrong)


# Answers.

CHECK = AnswerCheck(AV, 4, 60)
INPUTS = {"video": V, "audio": A}


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        f"  {GOOD}\n",
        f'"{GOOD}"',
        f"“{GOOD}”",
        f"**{GOOD}**",
        f"{AV.lead_in} {GOOD}",
        f'{AV.lead_in.upper()}\n\n"{GOOD}"',
        f"{GOOD}</s>",
        f"{GOOD}\n### Human: and now?",
        GOOD.replace(" a beach", "\ta  beach"),
    ],
)
def test_wrapping_is_taken_off(answer: str) -> None:
    cleaned = CHECK.clean(answer)
    assert CHECK.fault(cleaned, INPUTS) == ""
    assert cleaned == GOOD


@pytest.mark.parametrize(
    "answer",
    [
        'A man shouts "Stop! Come back." as a dog runs along the beach.',
        'While waves crash, a man calls, "Come back. Right now."',
        "Mr. Smith calls his dog at 7 a.m. while waves crash on a U.S. beach.",
        '"Come back," a man calls, "right now."',
        "A man reads the instructions on a sign while waves crash.",
        "Here a dog runs while waves crash behind a man.",
        "A sure-footed dog runs while waves crash behind a man.",
    ],
)
def test_good_sentences_are_not_refused(answer: str) -> None:
    assert CHECK.clean(answer) == answer
    assert CHECK.fault(answer, INPUTS) == ""


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("...", "empty"),
        ("</s>", "empty"),
        (AV.lead_in, "empty"),
        (f"Sure! {GOOD}", "talks about the task"),
        (f"Here is the fused sentence: {GOOD}", "talks about the task"),
        (f"Caption: {GOOD}", "talks about the task"),
        ("As an AI language model, I cannot see the video.", "talks about the task"),
        ("Based on the descriptions, a dog runs along a beach.", "talks about the task"),
        ("A dog runs along a beach, which both descriptions support.", "talks about the task"),
        (f"{GOOD} A cat sits.", "not one sentence"),
        (f"{GOOD}\nA cat", "not one sentence"),
        ("A dog runs along the beach. while waves crash and a man calls.", "not one sentence"),
        ("A dog runs along a beach while waves crash and a", "breaks off"),
        ("A dog: picture description: a beach with waves.", "repeats the prompt"),
        ("A dog runs on the beach and the sound is (none).", "repeats the prompt"),
        (
            "The sentence is complete, natural English in the present tense, about 15 to 45 words long.",
            "repeats the prompt",
        ),
        (V, "copies one caption"),
        ("a DOG runs, along the beach!", "copies one caption"),
        (f"{V[:-1]}, and {A}", "joins the captions"),
        (f"{A[:-1]}; {V}", "joins the captions"),
        ("Dog runs fast.", "only 3 words"),
        ("A dog " + "very " * 60 + "quickly runs.", "64 words"),
    ],
)
def test_bad_answers_are_told_apart(answer: str, fault: str) -> None:
    assert CHECK.fault(CHECK.clean(answer), INPUTS) == fault


def test_what_the_captions_say_may_be_said_again() -> None:
    # A caption may hold the very words of the prompt; only the prompt's own text counts as an echo.
    video = "A man reads a list of seven long words from a sheet of paper."
    text = "A man reads a list of seven long words from a sheet of paper while waves crash."
    assert CHECK.fault(text, {"video": video, "audio": A}) == ""
    front = b"---\nname: own\ntask: av\nslots: {video: x}\n---\n"
    own = prompts.parse(front + b"Say that in a video {video} there can be much more.", name="own", where="own.md")
    text = "People say that in a video video there can be much more."
    assert AnswerCheck(own, 4, 60).fault(text, {"video": V}) == ""
    assert AnswerCheck(own, 4, 60)._runs == frozenset()
    assert {len(run) for run in CHECK._runs} == {ECHO_WORDS}


def test_limits_come_from_the_options_then_from_the_prompt() -> None:
    long = "A dog " + "very " * 50 + "quickly runs."
    assert stage(Model(long)).run([row(s="")], no_evidence).columns["caption_av"] == [long]
    refused = stage(Model(long), max_words=20).run([row(s="")], no_evidence)
    assert "54 words" in refused.verdicts[0].detail
    short = stage(Model("A dog runs there."), min_words=5).run([row(s="")], no_evidence)
    assert "only 4 words" in short.verdicts[0].detail
