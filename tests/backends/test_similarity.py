"""What every similarity backend must do, and how the embedded one judges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from clip_models import options_of
from clip_views import BLUE, GREEN, RATE, RED, WHITE, babble, bands, clip, flicker, music, noise, still

from vidcap.backends import registry, roles
from vidcap.errors import ItemError

CONFORMING = registry.names("similarity")
EMBEDDED = [n for n in CONFORMING if registry.get("similarity", n).embedded]


@pytest.fixture(params=[n if n in EMBEDDED else pytest.param(n, marks=pytest.mark.full) for n in CONFORMING])
def backend(request: pytest.FixtureRequest) -> Any:
    """A model that needs weights gets tiny random ones; skips where its libraries are not installed."""
    made = registry.create("similarity", request.param, {} if request.param in EMBEDDED else options_of(request.param))
    made.load("cpu")
    return made


def test_it_keeps_the_protocol(backend: Any) -> None:
    assert isinstance(backend, roles.Backend)
    assert 1 <= backend.frames_per_clip <= 64


def test_embeddings_are_vectors_of_one_length(backend: Any) -> None:
    views = [still(BLUE), flicker(), clip([bands(RED)]), still(GREEN, audio=noise())]
    vectors = backend.embed(views)
    assert {v.shape for v in vectors} == {vectors[0].shape} and vectors[0].ndim == 1
    assert all(v.dtype == np.float32 for v in vectors)
    for view, vector in zip(views, vectors, strict=True):
        assert np.array_equal(backend.embed([view])[0], vector, equal_nan=True)


def test_one_bad_clip_spares_the_others(backend: Any) -> None:
    good, bad = backend.embed([still(BLUE), clip([])])
    assert isinstance(good, np.ndarray) and isinstance(bad, ItemError)


def test_scores_lie_in_range_and_empty_texts_have_none(backend: Any) -> None:
    (vector,) = backend.embed([still(BLUE, GREEN, audio=music())])
    texts = ["", "A blue shot.", "x" * 5000, "\x00 ' \" ‘", "Rouge et noir.", "No music, no blue, no light."]
    for kind in ("v", "a", "s", "av", "avs"):
        scores = backend.score([vector] * len(texts), texts, kinds=[kind] * len(texts))
        assert math.isnan(scores[0])
        assert all(-1 <= score <= 1 for score in scores[1:])


def test_it_sees_what_a_captioner_says() -> None:
    """True captions above another clip's, for clips that differ."""
    views = [still(BLUE, GREEN, audio=music()), still(RED, audio=noise()), flicker(), still(WHITE, audio=babble())]
    video, similarity = (registry.create(role, "descriptor") for role in ("video_captioner", "similarity"))
    texts = video.caption(views, prompt="", seeds=[1, 2, 3, 4])
    vectors = similarity.embed(views)
    for i, text in enumerate(texts):
        scores = similarity.score(vectors, [text] * 4, kinds=["v"] * 4)
        assert max(range(4), key=lambda at: scores[at]) == i and scores[i] > 0.4, (text, scores)


def score(view: roles.ClipView, text: str, kind: str = "v") -> float:
    backend = registry.create("similarity", "descriptor")
    return backend.score(backend.embed([view]), [text], kinds=[kind])[0]


def test_a_flipped_claim_costs() -> None:
    view = still(BLUE, GREEN, audio=music())
    true = score(view, "A still shot in blue and green.")
    assert true > 0.6
    assert score(view, "A lively shot in blue and green.") < true - 0.3
    assert score(view, "A still shot in blue and orange.") < true - 0.3
    assert score(view, "Music plays.", "a") > 0.3 > 0 > score(view, "A person speaks.", "a")


def test_vague_foreign_and_wrong_texts_do_not_win() -> None:
    view = still(BLUE, GREEN, audio=music())
    assert score(view, "A dog runs.") == 0
    assert score(view, "Music plays.", "v") == 0
    assert score(view, "A blue and green shot.", "a") == 0
    assert 0 < score(view, "A still shot.") < score(view, "A still shot in blue and green.")


def test_what_somebody_says_is_no_claim() -> None:
    view = still(BLUE, audio=music())
    fused = 'A still shot in blue while music plays and {}"the red night is dark and loud".'
    plain = score(view, "A still shot in blue while music plays.", "avs")
    assert score(view, fused.format(""), "avs") == plain
    assert score(view, "the blue sea is still", "s") == 0


def test_the_sound_of_a_clip_without_a_track_is_known() -> None:
    assert score(still(BLUE), "A person speaks.", "a") == pytest.approx(-1)
    assert score(still(BLUE), "Nothing is heard.", "a") > 0.5


def test_only_odd_frames_are_looked_at() -> None:
    view = clip([bands(BLUE) if i % 2 == 0 else bands(RED) for i in range(8)])
    assert score(view, "A shot in red.") > 0.3 > score(view, "A shot in blue.")


def test_only_odd_half_seconds_are_listened_to() -> None:
    sound = noise()
    for odd in range(1, 12, 2):
        sound[odd * RATE // 2 : (odd + 1) * RATE // 2] = 0.0
    assert score(still(BLUE, audio=sound), "Nothing is heard.", "a") > 0.5
    assert score(still(BLUE, audio=noise()), "Nothing is heard.", "a") < 0


def test_leaving_out_speech_that_is_there_costs() -> None:
    view = still(BLUE, audio=babble())
    assert score(view, "Sounds are heard.", "a") < 0 < score(view, "A person speaks.", "a")
    assert score(view, "A still shot in blue.", "av") > 0.5  # what says nothing of sound leaves nothing out
