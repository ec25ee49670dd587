"""InternVid's pipeline: which frames are captioned, how captions are merged, whose fault a failure is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caption_models import REST, folder_of, seen, words_of
from clip_views import SILENCE, clip
from model_server import FAST, ModelServer, Reply, chat, error
from tiny_models.speaking import COLOURS, plain

from vidcap import prompts
from vidcap.backends import registry
from vidcap.backends.reference import BackendRef
from vidcap.backends.roles import ClipView
from vidcap.backends.video_captioner.internvid import evenly, middle_of, numbered, one_sentence
from vidcap.errors import BackendError, ItemError, PromptError
from vidcap.shards.model_licences import used_models

LLM = {"name": "openai", "model": "m", "endpoints": ["http://127.0.0.1:9"]}


def view_at(times: list[float], seconds: float, *colours: str, key: str = "k") -> ClipView:
    shown = [plain(COLOURS[colour]) for colour in colours] or [np.zeros((8, 8, 3), np.uint8)] * len(times)
    return ClipView(key, shown, times, SILENCE, False, seconds)


def unloaded(**options: Any) -> Any:
    return registry.create("video_captioner", "internvid", {"llm": LLM, "middle": "a/b", "fine": "c/d", **options})


@pytest.mark.parametrize(
    ("times", "seconds", "middle", "fine"),
    [
        ([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], 3.0, 3, [0, 2, 4]),
        ([0.2, 0.9, 1.4, 2.3], 2.5, 2, [0, 1, 3]),
        ([0.0, 4.0], 8.0, 1, [0, 1]),
        ([1.0], 2.0, 0, [0]),
        ([0.0, 1.0], 1.0, 0, [0]),
        ([n * 1.0 for n in range(30)], 30.0, 15, list(range(30))),
    ],
)
def test_the_middle_frame_and_the_frames_at_one_a_second(
    times: list[float], seconds: float, middle: int, fine: list[int]
) -> None:
    view = view_at(times, seconds)
    assert middle_of(view) == middle
    assert evenly(view, 1.0) == fine
    assert evenly(view, 10.0) == list(range(len(times)))


def test_thirty_frames_are_one_a_second_of_the_longest_clip() -> None:
    assert unloaded().frames_per_clip == 30
    # Candidates stand half a second apart; the stage takes every second one.
    view = view_at([0.5 + n for n in range(30)], 30.0)
    assert evenly(view, 1.0) == list(range(30))


def test_captions_that_only_repeat_the_one_before_are_left_out() -> None:
    assert numbered(["a dog runs", "a dog runs.", "a  cat ", "a dog runs"]) == "1. a dog runs; 2. a cat; 3. a dog runs"


PROMPT = prompts.load("merge_frames")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (" A dog runs to a cat.\n", "A dog runs to a cat."),
        ('"A dog runs to a cat."', "A dog runs to a cat."),
        ("“A dog runs.”", "A dog runs."),
        ('A sign says "Stop."', 'A sign says "Stop."'),
        (f"{PROMPT.lead_in} A dog runs.", "A dog runs."),
        ("", "empty"),
        (PROMPT.lead_in, "empty"),
        ("A dog runs. A cat sleeps.", "not one sentence"),
        ("A dog runs to", "not a finished sentence"),
        ("Sure! A dog runs.", "talk about the task"),
        ("Here is the sentence: A dog runs.", "talk about the task"),
        ("A " + "very " * 70 + "long one.", "73 words long"),
    ],
)
def test_an_answer_is_one_sentence(answer: str, said: str) -> None:
    found = one_sentence(answer, PROMPT)
    if isinstance(found, ItemError):
        assert found.reason == "caption.failed" and said in found.detail
    else:
        assert found == said


def test_the_prompt_says_what_to_do() -> None:
    text = PROMPT.body.lower()
    assert PROMPT.slots == ("middle", "frames") and PROMPT.lead_in.endswith(":")
    for rule in ("expert in analysing text", "exactly one sentence", "order of time", "follow the majority"):
        assert rule in text


@pytest.mark.full
def test_options_are_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="option `llm`: field required"):
        registry.create("video_captioner", "internvid", {})
    with pytest.raises(BackendError, match="`template` has no model that could merge captions"):
        unloaded(llm="template")
    with pytest.raises(BackendError, match=r"option `llm`.*no llm backend is called `opnai`"):
        unloaded(llm="opnai")
    with pytest.raises(BackendError, match=r"option `llm`.*endpoints"):
        unloaded(llm={"name": "openai", "model": "m"})
    with pytest.raises(PromptError, match="has no slot"):
        unloaded(merge_prompt="video")
    own = tmp_path / "mine.md"
    own.write_text((PROMPT_FILE.read_text()).replace("name: merge_frames", "name: mine").replace("exactly", "just"))
    assert "/mine@" in unloaded(merge_prompt=str(own)).identity()


PROMPT_FILE = Path(__file__).resolve().parents[2] / "prompts" / "merge_frames.md"


@pytest.mark.full
def test_the_identity_names_both_captioners_the_prompt_and_who_merges() -> None:
    plainly = unloaded().identity()
    assert plainly.startswith("a/b@main/auto/30at1/n40r1/internvid@1/transformers-")
    assert f"/merge_frames@{PROMPT.digest[:12]} + c/d@main + openai: m/chat/" in plainly and "127.0.0.1" not in plainly
    elsewhere = LLM | {"endpoints": ["http://127.0.0.2:9"]}
    same: list[dict[str, Any]] = [{"llm": elsewhere}, {"frames_per_batch": 2}, {"threads": 2}, {"download": True}]
    assert {unloaded(**options).identity() for options in same} == {plainly}
    shaping: list[dict[str, Any]] = [
        {"middle": "x/y"}, {"middle_revision": "abc"}, {"fine": "x/y"}, {"fine_revision": "abc"}, {"precision": "bf16"},
        {"frames_per_clip": 8}, {"frames_per_second": 2}, {"max_new_tokens": 9}, {"retries": 3},
        {"llm": LLM | {"temperature": 0}}, {"llm": LLM | {"model": "other"}},
    ]  # fmt: skip
    assert len({unloaded(**options).identity() for options in shaping} | {plainly}) == len(shaping) + 1


@pytest.mark.full
def test_every_model_at_work_has_its_licence() -> None:
    names = {"middle": "Salesforce/blip2-opt-2.7b", "fine": "microsoft/git-large-coco"}
    identity = BackendRef(name="internvid", options={**names, "llm": LLM | {"model": "vicuna-13b"}}).identity(
        "video_captioner"
    )
    found = [used.licence.model for used in used_models({"caption_video": identity})]
    assert found == ["BLIP-2 with OPT", "GIT", "Vicuna 1.5"]


def made(server: ModelServer, **options: Any) -> Any:
    given = {"middle": str(folder_of("blip2")), "fine": str(folder_of("git_caption")), **options}
    backend = registry.create(
        "video_captioner", "internvid", {"llm": {**LLM, **FAST, "endpoints": [server.url]}, **given}
    )
    backend.load("cpu")
    return backend


def captions(backend: Any, *views: ClipView) -> list[Any]:
    found: list[Any] = backend.caption(views, prompt="not asked", seeds=range(10, 10 + len(views)))
    return found


FULL = view_at([0.0, 1.0, 2.0, 3.0], 4.0, "Red", "Red", "Green", "Blue")


@pytest.mark.full
@pytest.mark.parametrize(("middle", "fine"), [("blip2", "git_caption"), ("blip_caption", "blip2")])
def test_what_the_models_see_is_what_the_language_model_is_asked(serve: Any, middle: str, fine: str) -> None:
    server = serve(lambda payload, number: chat("Kites of three colours fly over a lake."))
    backend = made(server, middle=str(folder_of(middle)), fine=str(folder_of(fine)))
    assert captions(backend, FULL) == ["Kites of three colours fly over a lake."]
    (payload,) = server.payloads
    asked = words_of(payload).casefold()
    rest = REST.rstrip(".").casefold()
    assert f"middle frame: green{rest}.\n" in asked
    assert f"frames in order: 1. red{rest}; 2. green{rest}; 3. blue{rest}\n" in asked
    assert "not asked" not in asked and payload["seed"] == 10
    backend.close()


@pytest.mark.full
def test_a_clip_is_captioned_alone_as_in_company(serve: Any) -> None:
    backend = made(serve(seen), frames_per_batch=3)
    views = [view_at([0.0, 1.0, 2.5], 3.0, *colours) for colours in (("Red", "Green", "Blue"), ("Black",) * 3)]
    views += [clip([]), view_at([0.0], 1.0, "White")]
    seeds = [4, 5, 6, 7]
    together = backend.caption(views, prompt="", seeds=seeds)
    alone = [backend.caption([view], prompt="", seeds=[seed])[0] for view, seed in zip(views, seeds, strict=True)]
    assert [str(each) for each in together] == [str(each) for each in alone]
    assert isinstance(together[2], ItemError) and len({str(each) for each in together}) == 4


@pytest.mark.full
def test_an_answer_that_is_no_sentence_is_asked_again_with_another_seed(serve: Any) -> None:
    tries: list[int] = []

    def answer(payload: dict[str, Any], number: int) -> Reply:
        tries.append(payload["seed"])
        return chat("Kites. Lakes." if len(tries) == 1 else "Kites fly over a lake.")

    assert captions(made(serve(answer)), FULL) == ["Kites fly over a lake."]
    assert len(set(tries)) == 2
    never = serve(lambda payload, number: chat("Kites. Lakes."))
    (found,) = captions(made(never, retries=2), FULL)
    assert isinstance(found, ItemError) and found.reason == "caption.failed" and "not one sentence" in found.detail
    assert len({payload["seed"] for payload in never.payloads}) == 3


@pytest.mark.full
def test_only_the_clip_that_failed_is_asked_again(serve: Any) -> None:
    def answer(payload: dict[str, Any], number: int) -> Reply:
        return error(400, "too long") if "black" in words_of(payload).casefold() else chat("Kites fly over a lake.")

    server = serve(answer)
    bad = view_at([0.0, 1.0], 2.0, "Black", "Black")
    good, failed = captions(made(server), FULL, bad)
    assert good == "Kites fly over a lake."
    assert isinstance(failed, ItemError) and failed.reason == "llm.failed" and "too long" in failed.detail
    asked = [words_of(payload).casefold() for payload in server.payloads]
    assert sum("black" in words for words in asked) == 2 and sum("green kites" in words for words in asked) == 1


@pytest.mark.full
def test_frames_without_words_are_left_out_and_without_any_the_clip_fails(serve: Any) -> None:
    backend = made(serve(seen))
    said = ["a kite flies", ItemError("caption.failed", "no words"), "a lake", ItemError("caption.failed", "no words")]
    backend._fine.captions = lambda frames: said
    assert "1. a kite flies; 2. a lake\n" in _asked(backend)
    backend._fine.captions = lambda frames: [ItemError("caption.failed", "no words")] * len(frames)
    (found,) = captions(backend, FULL)
    assert isinstance(found, ItemError) and found.detail == "no frame has a caption"
    backend._middle.captions = lambda frames: [ItemError("caption.failed", "no words")]
    (found,) = captions(backend, FULL)
    assert isinstance(found, ItemError) and found.detail == "the middle frame: no words"


def _asked(backend: Any) -> str:
    asked: list[str] = []
    complete = backend._llm.complete
    backend._llm.complete = lambda requests, seeds: asked.append(requests[0].prompt) or complete(requests, seeds=seeds)
    captions(backend, FULL)
    return asked[0]


@pytest.mark.full
def test_models_that_will_not_do_are_refused_with_the_mend(serve: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no folder") as caught:
        made(serve(), middle=str(tmp_path / "absent"))
    assert "`middle` and `fine`" in caught.value.hint
    with pytest.raises(BackendError, match="does not bring pictures to one size"):
        made(serve(), fine=str(folder_of("qwen25_vl")))
    with pytest.raises(BackendError, match="captions no picture without being asked"):
        made(serve(), fine=str(folder_of("internvl")))
    folder = Path(shutil.copytree(folder_of("git_caption"), tmp_path / "git"))
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(BackendError):
        made(serve(), fine=str(folder))
    with pytest.raises(BackendError, match="serves no model"):
        made(serve(), llm=LLM | {"endpoints": [serve().url], "model": "absent"})
