"""What every video captioner must do, and what the embedded one says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from caption_models import options_of, seen
from clip_views import BLACK, BLUE, GREEN, GREY, RED, WHITE, bands, clip, flicker, still

from vidcap.backends import registry, roles
from vidcap.backends.embedded.claim_parser import parse
from vidcap.backends.embedded.claims import Claim
from vidcap.errors import ItemError

CONFORMING = registry.names("video_captioner")
TORCHLESS = ("descriptor", "openai")


@pytest.fixture(params=[n if n in TORCHLESS else pytest.param(n, marks=pytest.mark.full) for n in CONFORMING])
def backend(request: pytest.FixtureRequest, serve: Any) -> Any:
    """A model that needs weights gets tiny ones, one behind servers a fake server; skips where libraries are absent."""
    made = registry.create("video_captioner", request.param, options_of(request.param, serve(seen).url))
    made.load("cpu")
    yield made
    if hasattr(made, "close"):
        made.close()


def test_it_keeps_the_protocol(backend: Any) -> None:
    assert isinstance(backend, roles.Backend)
    assert 1 <= backend.frames_per_clip <= 64
    assert backend.identity() and backend.identity().isprintable()


def test_a_sentence_for_every_clip(backend: Any) -> None:
    views = [still(BLUE, GREEN), flicker(), clip([bands(RED)]), still(GREY)]
    texts = backend.caption(views, prompt="Describe.", seeds=[1, 2, 3, 4])
    assert all(isinstance(t, str) and t.strip() and "\n" not in t for t in texts)
    assert all(len(t.split()) <= 25 for t in texts)


def test_it_depends_on_nothing_but_clip_and_seed(backend: Any) -> None:
    views = [still(BLUE), still(RED, WHITE), flicker()]
    together = backend.caption(views, prompt="", seeds=[5, 6, 7])
    alone = [backend.caption([v], prompt="", seeds=[s])[0] for v, s in zip(views, (5, 6, 7), strict=True)]
    back = backend.caption(views[::-1], prompt="", seeds=[7, 6, 5])[::-1]
    assert together == alone == back


def test_one_bad_clip_spares_the_others(backend: Any) -> None:
    good, bad = backend.caption([still(BLUE), clip([])], prompt="", seeds=[1, 1])
    assert isinstance(good, str)
    assert isinstance(bad, ItemError)


@pytest.mark.parametrize("shape", [(16, 16), (17, 300), (336, 597), (300, 20)])
def test_frames_of_any_shape(backend: Any, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    (text,) = backend.caption([clip([frame, frame])], prompt="", seeds=[0])
    assert isinstance(text, str) and text


def said(view: roles.ClipView) -> set[Claim]:
    (text,) = registry.create("video_captioner", "descriptor").caption([view], prompt="", seeds=[3])
    return set(parse(text))


def test_colours_light_and_motion_are_said() -> None:
    assert {Claim("colour", "blue"), Claim("motion", "still")} <= said(still(BLUE))
    assert Claim("motion", "lively") in said(flicker())
    assert Claim("light", "dark") in said(still(BLACK, (20, 20, 30)))
    assert {Claim("light", "bright"), Claim("saturation", "none")} <= said(still(WHITE, WHITE, GREY))
    assert {Claim("top", "blue"), Claim("bottom", "green")} <= said(still(BLUE, GREEN))


def test_light_that_grows_is_said() -> None:
    frames = [np.full((90, 160, 3), 20 + 25 * i, np.uint8) for i in range(8)]
    assert Claim("light change", "brighter") in said(clip(frames))
    assert Claim("light change", "darker") in said(clip(frames[::-1]))


def test_motion_is_not_claimed_from_a_single_glance() -> None:
    assert not any(c.type == "motion" for c in said(clip([bands(BLUE)])))


def test_only_even_frames_are_looked_at() -> None:
    frames = [bands(BLUE) if i % 2 == 0 else bands(RED) for i in range(8)]
    found = said(clip(frames))
    assert Claim("colour", "blue") in found and Claim("colour", "red") not in found
    assert Claim("motion", "still") in found


def test_seeds_choose_the_words_and_not_the_claims() -> None:
    backend = registry.create("video_captioner", "descriptor")
    texts = backend.caption([still(BLUE)] * 24, prompt="", seeds=list(range(24)))
    assert len(set(texts)) > 4
    assert len({frozenset(parse(t)) for t in texts}) == 1


def test_options_are_checked() -> None:
    from vidcap.errors import BackendError

    with pytest.raises(BackendError, match="frames"):
        registry.create("video_captioner", "descriptor", {"frames": 3})
    assert registry.create("video_captioner", "descriptor", {"frames_per_clip": 6}).frames_per_clip == 6
