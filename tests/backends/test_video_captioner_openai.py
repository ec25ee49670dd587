"""Vision-language models over HTTP: what is sent of a clip, which answers are used, whose fault a refusal is."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from caption_models import pictures_of, seen, words_of
from clip_views import BLUE, GREEN, RED, bands, clip, still
from command import wait_for
from model_server import FAST, ModelServer, Reply, Strike, chat, error

from vidcap.backends import registry
from vidcap.errors import BackendError, ItemError

Make = Callable[..., Any]


@pytest.fixture
def captioner() -> Iterator[Make]:
    made: list[Any] = []

    def make(*servers: ModelServer, **options: Any) -> Any:
        given = {"endpoints": [server.url for server in servers], "model": "m", **FAST, **options}
        made.append(registry.create("video_captioner", "openai", given))
        made[-1].load("cpu")
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def test_what_is_sent(serve: Any, captioner: Make) -> None:
    server = serve(lambda payload, number: chat(" A dog runs.\n"))
    backend = captioner(server, temperature=0.5, top_p=0.9, max_tokens=64, stop=["END"], frames_per_clip=3)
    view = clip([bands(RED), bands(GREEN), bands(BLUE), bands(RED)])
    assert backend.caption([view], prompt="Describe.", seeds=[2**64 - 1]) == ["A dog runs."]
    assert server.paths == ["/v1/chat/completions"]
    (payload,) = server.payloads
    content = payload["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url"] * 3 + ["text"]
    assert content[-1]["text"] == "Describe."
    means = [picture.mean(axis=(0, 1)) for picture in pictures_of(payload)]
    assert np.allclose(means, [RED, GREEN, BLUE], atol=4)  # in the order of time, and red is not blue
    assert {name: value for name, value in payload.items() if name != "messages"} == {
        "model": "m", "temperature": 0.5, "top_p": 0.9, "max_tokens": 64, "n": 1, "stream": False,
        "seed": (2**64 - 1) % 2**31, "stop": ["END"],
    }  # fmt: skip


def test_frames_are_as_high_and_as_good_as_asked_for(serve: Any, captioner: Make) -> None:
    def sent(frame: Any, **options: Any) -> tuple[tuple[int, ...], int, str]:
        server = serve(seen)
        captioner(server, **options).caption([clip([frame])], prompt="", seeds=[0])
        return (
            pictures_of(server.payloads[0])[0].shape,
            len(str(server.payloads[0])),
            str(server.payloads[0]["messages"]),
        )

    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3)).astype(np.uint8)
    shape, size, text = sent(noise)
    assert shape == (336, 504, 3) and sent(noise)[2] == text
    assert sent(noise, image_height=100)[0] == (100, 150, 3)
    assert sent(bands(RED, height=90))[0] == (90, 160, 3)
    assert sent(noise, jpeg_quality=30)[1] < 0.6 * size


def test_clips_are_asked_side_by_side_and_keep_their_order(serve: Any, captioner: Make) -> None:
    def slow_first(payload: dict[str, Any], number: int) -> Reply:
        if payload["seed"] == 0:
            wait_for(lambda: len(server.payloads) >= 4)
        return seen(payload, number)

    server = serve(slow_first)
    backend = captioner(server, requests_per_endpoint=4)
    views = [still(RED), still(BLUE), still(GREEN), still(RED)]
    together = backend.caption(views, prompt="", seeds=range(4))
    assert server.most > 1 and len(set(together)) == 4  # seeds tell the first and the last apart
    assert [backend.caption([v], prompt="", seeds=[s])[0] for s, v in enumerate(views)] == together
    assert backend.caption([], prompt="", seeds=[]) == []
    assert backend.clips_per_batch == 8 and captioner(server).clips_per_batch == 16


def test_bad_clips_are_errors_in_their_place_and_are_not_sent(serve: Any, captioner: Make) -> None:
    server = serve(seen)
    found = captioner(server).caption(
        [still(RED), clip([]), clip([np.zeros((4, 4), np.uint8)]), still(BLUE)], prompt="", seeds=range(4)
    )
    assert [isinstance(each, ItemError) for each in found] == [False, True, True, False]
    assert {each.reason for each in found[1:3]} == {"caption.failed"} and len(server.payloads) == 2


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (chat(" \n"), "empty"),
        (chat(None), "empty"),
        (chat("\ud800"), "empty"),
        (chat("A dog runs to", finish_reason="length"), "cut off after 256 tokens"),
        (chat("A dog runs. It ba", finish_reason="length"), None),
        (chat("No.", finish_reason="content_filter"), "refuses"),
        (chat(None, message={"content": None, "refusal": "I can't."}), "refuses"),
        (Reply(body=b'{"choices": []}'), "no choice"),
        (error(400, "the picture is too large"), "HTTP 400: the picture is too large"),
    ],
)
def test_an_answer_is_whole_or_an_error_of_its_clip(
    serve: Any, captioner: Make, reply: Reply, said: str | None
) -> None:
    server = serve(lambda payload, number: reply if payload["seed"] == 1 else chat("Fine."))
    found = captioner(server).caption([still(RED), still(BLUE), still(GREEN)], prompt="", seeds=range(3))
    assert [found[0], found[2]] == ["Fine.", "Fine."]
    if said is None:
        assert found[1] == "A dog runs."
    else:
        assert isinstance(found[1], ItemError) and found[1].reason == "caption.failed" and said in found[1].detail
        assert pickle.loads(pickle.dumps(found[1])).detail == found[1].detail


def test_structured_answers(serve: Any, captioner: Make) -> None:
    texts = {0: '{"caption": "A dog runs."}', 1: '{"caption": "A dog', 2: '{"caption": 3}'}
    server = serve(lambda payload, number: chat(texts[payload["seed"]]))
    found = captioner(server, structured=True).caption([still(RED)] * 3, prompt="Describe.", seeds=range(3))
    assert found[0] == "A dog runs." and all(isinstance(each, ItemError) for each in found[1:])
    assert server.payloads[0]["response_format"]["type"] == "json_schema"
    assert "JSON object" in words_of(server.payloads[0])
    cut = serve(lambda payload, number: chat('{"caption": "A dog."}', finish_reason="length"))
    (found,) = captioner(cut, structured=True).caption([still(RED)], prompt="", seeds=[0])
    assert isinstance(found, ItemError) and "cut off" in found.detail


def test_a_model_that_takes_no_pictures_is_a_mistake_of_the_pipeline(serve: Any, captioner: Make) -> None:
    def text_only(payload: dict[str, Any], number: int) -> Reply:
        return error(400, "m is not a multimodal model") if pictures_of(payload) else chat("Fine.")

    with pytest.raises(BackendError, match="refuse every request: HTTP 400: m is not a multimodal model") as caught:
        captioner(serve(text_only)).caption([still(RED)], prompt="", seeds=[0])
    assert "--limit-mm-per-prompt" in caught.value.hint

    def few(payload: dict[str, Any], number: int) -> Reply:
        return error(400, "at most 2 images") if len(pictures_of(payload)) > 2 else chat("Fine.")

    with pytest.raises(BackendError, match="at most 2 images"):
        captioner(serve(few)).caption([still(RED)], prompt="", seeds=[0])
    assert captioner(serve(few), frames_per_clip=2).caption([still(RED)], prompt="", seeds=[0]) == ["Fine."]


def test_a_server_that_dies_in_the_middle_loses_nothing(serve: Any, captioner: Make) -> None:
    strike = Strike(at=5)
    server = serve(strike.around(lambda payload: seen(payload, 0)))
    backend = captioner(server, requests_per_endpoint=2)
    with strike.on(server):
        found = backend.caption([still(RED)] * 12, prompt="", seeds=range(12))
    assert strike.killed.is_set() and len(set(found)) == 12 and all(isinstance(text, str) for text in found)


def test_the_key_is_sent_and_never_shown(serve: Any, captioner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_TEST_KEY", "tell-nobody-123")
    server = serve(lambda payload, number: chat("Fine.") if not number else error(400, "bad tell-nobody-123"))
    backend = captioner(server, api_key_env="VLM_TEST_KEY")
    assert backend.caption([still(RED)], prompt="", seeds=[0]) == ["Fine."]
    assert server.headers[0]["Authorization"] == "Bearer tell-nobody-123"
    (found,) = backend.caption([still(RED)], prompt="", seeds=[0])
    assert "tell-nobody" not in f"{found!r} {found} {backend.identity()} {backend.config!r}"


def test_the_identity_names_what_shapes_answers_and_not_where_they_come_from() -> None:
    def identity(**options: Any) -> str:
        given = {"endpoints": ["http://127.0.0.1:9"], "model": "qwen", **options}
        found: str = registry.create("video_captioner", "openai", given).identity()
        return found

    plain = identity()
    assert plain == "qwen/images-8/h336/q85/t0/p1/n256/openai-vision@1"
    assert identity(endpoints=["https://else.example/v1"], retries=1, api_key_env="KEY", timeout_seconds=9) == plain
    shaping: list[dict[str, Any]] = [
        {"revision": "abc"}, {"frames_per_clip": 4}, {"image_height": 224}, {"jpeg_quality": 50}, {"temperature": 1},
        {"top_p": 0.5}, {"max_tokens": 9}, {"stop": ["\n"]}, {"structured": True},
    ]  # fmt: skip
    found = {identity(**options) for options in shaping}
    assert len(found | {plain}) == len(shaping) + 1 and all(text.isprintable() for text in found)


def test_it_must_be_loaded_and_its_options_are_checked(serve: Any, captioner: Make) -> None:
    served = {"endpoints": ["http://127.0.0.1:9"], "model": "m"}
    with pytest.raises(BackendError, match="not loaded"):
        registry.create("video_captioner", "openai", served).caption([still(RED)], prompt="", seeds=[0])
    for wrong in ({"frames_per_clip": 65}, {"jpeg_quality": 0}, {"endpoints": []}, {"detail": "high"}):
        with pytest.raises(BackendError, match=next(iter(wrong))):
            registry.create("video_captioner", "openai", {**served, **wrong})
    with pytest.raises(BackendError, match="serves no model `other`"):
        captioner(serve(), model="other")
