"""What every audio captioner must do, and what the embedded one says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clip_views import BLUE, RATE, Audio, babble, bands, clip, music, noise, still, tone

from vidcap.backends import registry, roles
from vidcap.backends.claim_parser import parse
from vidcap.backends.claims import Claim

EMBEDDED = [n for n in registry.names("audio_captioner") if registry.get("audio_captioner", n).embedded]


@pytest.fixture(params=EMBEDDED)
def backend(request: pytest.FixtureRequest) -> Any:
    made = registry.create("audio_captioner", request.param)
    made.load("cpu")
    return made


def test_it_keeps_the_protocol(backend: Any) -> None:
    assert isinstance(backend, roles.Backend)
    assert backend.identity()


def test_nothing_is_said_of_silence(backend: Any) -> None:
    hush = np.full(3 * RATE, 0.0009, np.float32)
    views = [still(BLUE), still(BLUE, audio=hush), clip([bands(BLUE)] * 2, noise(), has_audio=False)]
    assert backend.caption(views, prompt="", seeds=[1, 2, 3]) == ["", "", ""]


def test_a_sentence_for_every_sound(backend: Any) -> None:
    sounds = [music(), noise(), tone(), babble(), noise(0.2)]
    texts = backend.caption([still(BLUE, audio=a) for a in sounds], prompt="Listen.", seeds=[0, 1, 2, 3, 4])
    assert all(t and "\n" not in t and len(t.split()) <= 25 for t in texts)


def test_it_depends_on_nothing_but_clip_and_seed(backend: Any) -> None:
    views = [still(BLUE, audio=a) for a in (music(), noise(), babble())]
    together = backend.caption(views, prompt="", seeds=[5, 6, 7])
    alone = [backend.caption([v], prompt="", seeds=[s])[0] for v, s in zip(views, (5, 6, 7), strict=True)]
    assert together == alone == backend.caption(views[::-1], prompt="", seeds=[7, 6, 5])[::-1]


def said(audio: Audio, seed: int = 3) -> set[Claim]:
    (text,) = registry.create("audio_captioner", "descriptor").caption(
        [still(BLUE, audio=audio)], prompt="", seeds=[seed]
    )
    return set(parse(text))


SPEECH, MUSIC, NOISE, TONE = (Claim(kind, "present") for kind in ("speech", "music", "noise", "tone"))


def test_kinds_of_sound_are_told_apart() -> None:
    assert said(babble()) & {SPEECH, MUSIC, NOISE, TONE} == {SPEECH}
    assert said(music()) & {SPEECH, MUSIC, NOISE, TONE} == {MUSIC}
    assert said(noise()) & {SPEECH, MUSIC, NOISE, TONE} == {NOISE}
    assert said(tone()) & {SPEECH, MUSIC, NOISE, TONE} == {TONE}


@pytest.mark.parametrize("seed", range(6))
def test_no_speech_is_heard_in_noise_tones_and_clicks(seed: int) -> None:
    random = np.random.default_rng(seed)
    clicks = np.where(random.random(6 * RATE) < 0.0005, random.normal(size=6 * RATE), 0).astype(np.float32)
    beaten = noise(seed=seed) * (1 + np.sin(np.arange(6 * RATE) / RATE * 2 * np.pi * 4)).astype(np.float32)
    for sound in (noise(seed=seed), tone(hertz=200.0 * (seed + 1)), clicks, beaten):
        assert SPEECH not in said(sound)


def test_loudness_and_its_change() -> None:
    assert Claim("loudness", "loud") in said(noise(level=0.4))
    assert Claim("loudness", "quiet") in said(noise(level=0.003))
    rising = noise() * np.geomspace(0.02, 3, 6 * RATE).astype(np.float32)
    assert Claim("loudness change", "louder") in said(rising)
    assert Claim("loudness change", "softer") in said(rising[::-1].copy())


def test_only_even_half_seconds_are_listened_to() -> None:
    sound = noise()
    half = RATE // 2
    for odd in range(1, 12, 2):
        sound[odd * half : (odd + 1) * half] = 0.0
    assert NOISE in said(sound)
    sound = noise()
    for even in range(0, 12, 2):
        sound[even * half : (even + 1) * half] = 0.0
    assert said(sound) == set()


def test_the_kind_of_a_very_short_sound_is_left_open() -> None:
    assert said(noise(0.4)) <= {Claim("sound", "audible"), Claim("loudness", "quiet"), Claim("loudness", "loud")}
