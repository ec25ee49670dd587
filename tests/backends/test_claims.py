"""The vocabulary: what text claims, what measurements decide, what is said is what is parsed."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from clip_views import BLUE, GREEN, RED, bands
from hypothesis import given
from hypothesis import strategies as st

from vidcap.backends.embedded.claim_parser import parse
from vidcap.backends.embedded.claim_words import COLOUR_WORDS
from vidcap.backends.embedded.claims import FACTS, FIELDS, Claim, Ramp, agreement, measures_of, truth_of
from vidcap.backends.embedded.measure_audio import AUDIO_FIELDS, RATE, measure_audio, windows_of
from vidcap.backends.embedded.measure_picture import VIDEO_FIELDS
from vidcap.backends.embedded.measure_video import COLOURS, LIGHT_FIELDS, measure_video, share_of
from vidcap.backends.embedded.picture_phrases import say_picture
from vidcap.backends.embedded.sound_phrases import say_sound


def claims(*pairs: str) -> list[Claim]:
    """`type=value`, with `!` before what is denied."""
    found = []
    for pair in pairs:
        type_, _, value = pair.lstrip("!").partition("=")
        found.append(Claim(type_, value, denied=pair.startswith("!")))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A calm, brightly lit shot dominated by blue and green.",
            ["motion=calm", "light=bright", "colour=blue", "colour=green"],
        ),
        ("A person speaks over quiet music.", ["speech=present", "loudness=quiet", "music=present"]),
        ("No speech is heard, but a piano plays.", ["!speech=present", "music=present"]),
        ("Nobody speaks; there is only white noise.", ["!speech=present", "noise=present"]),
        (
            'A dark blue car on a grey road, while a man says "the green light is bright".',
            ["colour=blue", "colour=grey", "speech=present"],
        ),
        (
            "The black-and-white picture darkens as the music gets louder.",
            ["saturation=none", "light change=darker", "music=present", "loudness change=louder"],
        ),
        (
            "Someone says that the red house burned, while loud music plays.",
            ["speech=present", "loudness=loud", "music=present"],
        ),
        (
            "Without speech or music, a steady tone sounds.",
            ["!speech=present", "!music=present", "tone=present"],
        ),
        (
            "The scene is not dark but bright, with blue at the top and green at the bottom.",
            ["!light=dark", "light=bright", "top=blue", "bottom=green"],
        ),
        (
            "A still picture in orange and brown; nothing is heard.",
            ["motion=still", "colour=orange", "colour=brown", "sound=none"],
        ),
        ("Somebody is still talking in a low voice.", ["speech=present", "voice=low"]),
        ("Music is not heard.", ["!music=present"]),
        ("There isn't any music, only footsteps.", ["!music=present"]),
        ("Brightly coloured kites over a hazy beach.", ["saturation=vivid", "contrast=low"]),
        (
            "While a voice says ‘it’s dark and red in here’, the light gets brighter.",
            ["speech=present", "light change=brighter"],
        ),
        (
            "A calm, bright shot dominated by blue, while a person speaks over quiet music, "
            'saying: "a red, dark, loud night".',
            ["motion=calm", "light=bright", "colour=blue", "speech=present", "loudness=quiet", "music=present"],
        ),
        ("A man talks about the dark ages.", ["speech=present"]),
        (
            "The camera pans slowly to the left over a dark beach, then tilts up.",
            ["camera=pan left", "light=dark", "camera=tilt up"],
        ),
        (
            "A static shot: his face on the left, no text.",
            ["camera=static", "face place=left", "faces=one", "!text=present"],
        ),
        ("A dog moves to the right while the camera stays still.", ["camera=static"]),
        (
            "A medium close-up of two faces with subtitles at the bottom.",
            ["shot scale=medium", "faces=two", "text=present", "text place=bottom"],
        ),
        ("Speech gives way to music.", ["first=speech", "then=music", "speech=present", "music=present"]),
        ("It is silent at first, then someone drums.", ["first=silence", "then=speech", "texture=percussive"]),
        ("The north face of the mountain faces the sea.", []),
        ("A dog chases a ball across the lawn.", []),
        ("", []),
    ],
)  # fmt: skip
def test_claims_are_found_in_free_text(text: str, expected: list[str]) -> None:
    assert set(parse(text)) == set(claims(*expected))


@given(st.text(max_size=200))
def test_any_text_is_parsed(text: str) -> None:
    assert all((claim.type, claim.value) in FACTS for claim in parse(text))


def test_long_texts_take_no_longer_than_their_length() -> None:
    started = time.process_time()
    for word in ("blue ", "says ", "'a", "blue at the ", "still, ", "turns "):
        parse(word * (50_000 // len(word)))
    assert time.process_time() - started < 5


def test_every_phrase_of_the_vocabulary_names_a_fact() -> None:
    """A pattern that names no fact would raise only on the day somebody writes it."""
    from vidcap.backends.embedded.claim_words import PHRASES

    assert {(t, v) for t, v, _ in PHRASES} - set(FACTS) == {("speech", "absent")}
    assert set(COLOUR_WORDS) == set(COLOURS)


PICTURE = sorted({(t, v) for t, v in FACTS if FACTS[t, v].modality == "video"})
SOUND = sorted({(t, v) for t, v in FACTS if FACTS[t, v].modality == "audio"})
IMPLIED = {"face place": [Claim("faces", "one")], "text place": [Claim("text", "present")]}
"""What is said with a claim: a place is that of something."""


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("pair", PICTURE, ids="=".join)
def test_what_is_said_of_the_picture_is_understood_as_meant(pair: tuple[str, str], seed: int) -> None:
    base = IMPLIED.get(pair[0], [])
    text = say_picture([*base, Claim(*pair)], seed)
    assert set(parse(text)) == {*base, Claim(*pair)}, text


@pytest.mark.parametrize("seed", range(12))
def test_what_is_said_of_the_sound_is_understood_as_meant(seed: int) -> None:
    for pair in SOUND:
        if pair == ("sound", "none"):
            continue
        base = [Claim("speech", "present")] if pair[0] == "voice" else []
        text = say_sound([*base, Claim(*pair)], seed)
        assert Claim(*pair) in parse(text), text
        kind = {Claim(pair[1], "present")} if pair[0] in {"first", "then"} and pair[1] != "silence" else set()
        allowed = {Claim(*pair), *base, *kind, Claim("sound", "audible"), Claim("flow", "unbroken")}
        assert set(parse(text)) <= allowed, text


@pytest.mark.parametrize("seed", range(12))
def test_an_order_of_sounds_is_understood_as_meant(seed: int) -> None:
    for first, then in itertools.permutations(("speech", "music", "silence"), 2):
        said = [Claim("first", first), Claim("then", then)]
        present = [Claim(kind, "present") for kind in (first, then) if kind != "silence"]
        text = say_sound([*present, *said], seed)
        assert set(parse(text)) - {Claim("sound", "audible")} == {*said, *present}, text


@given(st.sets(st.sampled_from(PICTURE), min_size=1, max_size=12), st.integers(0, 2**64 - 1))
def test_a_picture_caption_is_short_and_claims_nothing_else(pairs: set[tuple[str, str]], seed: int) -> None:
    said = [Claim(*pair) for pair in sorted(pairs)]
    text = say_picture(said, seed)
    assert 0 < len(text.split()) <= 28
    assert text.endswith(".") and text[0].isupper()
    assert set(parse(text)) <= {*said, *(implied for claim in said for implied in IMPLIED.get(claim.type, []))}


@given(st.sets(st.sampled_from(SOUND), min_size=1, max_size=8), st.integers(0, 2**64 - 1))
def test_a_sound_caption_is_short(pairs: set[tuple[str, str]], seed: int) -> None:
    text = say_sound([Claim(*pair) for pair in sorted(pairs)], seed)
    assert len(text.split()) <= 16
    assert (text == "") == (("sound", "none") in pairs)


def test_a_ramp_works_both_ways_and_knows_what_is_missing() -> None:
    rising, falling = Ramp("light", 100, 200, 220), Ramp("light", 200, 100, 90)
    assert [rising.truth({"light": x}) for x in (50, 150, 200, 300)] == [-1, 0, 1, 1]
    assert [falling.truth({"light": x}) for x in (50, 150, 200, 300)] == [1, 0, -1, -1]
    assert [rising.stated({"light": x}) for x in (219, 220)] == [False, True]
    assert [falling.stated({"light": x}) for x in (91, 90)] == [False, True]
    assert math.isnan(rising.truth({"light": math.nan})) and not rising.stated({"light": math.nan})


def test_what_is_stated_is_never_doubted_on_the_same_frames() -> None:
    """The threshold of saying lies beyond the threshold of truth."""
    for fact in FACTS.values():
        for ramp in fact.ramps:
            assert ramp.truth({ramp.field: ramp.stated_at}) > 0.7, (fact.type, fact.value, ramp)
            assert ramp.field in FIELDS


def test_there_is_always_something_to_say_about_light() -> None:
    for light in np.arange(0, 256, 0.25):
        measures = dict.fromkeys(FIELDS, math.nan) | {"light": float(light)}
        assert any(FACTS["light", value].stated(measures) for value in ("dark", "medium", "bright")), light


def test_a_denial_turns_the_truth_round() -> None:
    measures = dict.fromkeys(FIELDS, 0.0) | {"light": 250.0}
    assert truth_of(Claim("light", "bright"), measures) == 1
    assert truth_of(Claim("light", "bright", denied=True), measures) == -1


def test_agreement_rises_with_true_claims_and_falls_more_with_false_ones() -> None:
    measures = dict.fromkeys(FIELDS, 0.0) | {"light": 250.0, "blue": 0.9, "green": 0.5}
    one, two = claims("light=bright"), claims("light=bright", "colour=blue")
    wrong = claims("light=bright", "colour=red")
    assert 0 < agreement(one, measures, "v") < agreement(two, measures, "v") < 1
    assert agreement(wrong, measures, "v") < 0
    assert agreement(two * 3, measures, "v") == agreement(two, measures, "v")
    assert agreement(two, measures, "a") == agreement([], measures, "v") == 0
    assert agreement(claims("light=bright"), dict.fromkeys(FIELDS, math.nan), "v") == 0


def test_the_layout_of_the_embedding() -> None:
    assert (*VIDEO_FIELDS, *AUDIO_FIELDS) == FIELDS and len(set(FIELDS)) == len(FIELDS)
    assert measures_of(np.arange(len(FIELDS), dtype=np.float32))["light"] == 0
    assert math.isnan(measures_of(np.zeros(3, np.float32))["music"])


@pytest.mark.parametrize(
    ("name", "rgb"),
    [
        ("black", (0, 0, 0)), ("white", (255, 255, 255)), ("grey", (128, 128, 128)), ("red", (220, 20, 40)),
        ("orange", (255, 140, 0)), ("yellow", (255, 225, 0)), ("green", (34, 139, 34)), ("turquoise", (0, 139, 139)),
        ("blue", (0, 0, 128)), ("blue", (70, 130, 180)), ("purple", (128, 0, 128)), ("pink", (255, 105, 180)),
        ("brown", (139, 69, 19)), ("beige", (222, 184, 135)),
    ],
)  # fmt: skip
def test_common_colours_have_their_common_name(name: str, rgb: tuple[int, int, int]) -> None:
    measures = dict(zip(LIGHT_FIELDS, measure_video([bands(rgb)], [0.0]), strict=True))
    assert max(COLOURS, key=lambda colour: measures[colour]) == name
    assert measures[name] > 0.75 and measures[f"sure_{name}"] == 1


def test_shares_and_places() -> None:
    measures = dict(zip(LIGHT_FIELDS, measure_video([bands(BLUE, GREEN, RED)] * 2, [0.0, 1.0]), strict=True))
    assert [measures[name] for name in ("blue", "green", "red")] == pytest.approx([1 / 3] * 3, abs=0.03)
    assert measures["top_blue"] > 0.97 and measures["bottom_red"] > 0.97
    assert measures["change"] == measures["pace"] == 0


def test_motion_is_measured_per_glance_and_per_second() -> None:
    dark = np.zeros((36, 64, 3), np.uint8)
    lit = dark.copy()
    lit[:, :32] = 200
    measures = dict(zip(LIGHT_FIELDS, measure_video([dark, lit, dark], [0.0, 2.0, 4.0]), strict=True))
    assert measures["change"] == pytest.approx(100, abs=1) and measures["pace"] == pytest.approx(50, abs=1)
    single = dict(zip(LIGHT_FIELDS, measure_video([lit], [0.0]), strict=True))
    assert math.isnan(single["change"]) and math.isnan(single["pace"])


def test_what_comes_into_view_is_no_change_of_light() -> None:
    frames = [np.full((36, 64, 3), 40, np.uint8) for _ in range(6)]
    for frame in frames[4:]:
        frame[:, :36] = 250
    measures = dict(zip(LIGHT_FIELDS, measure_video(frames, [float(i) for i in range(6)]), strict=True))
    assert measures["light_change"] == 0 and measures["change"] > 5


def test_a_change_of_light_is_no_motion() -> None:
    frames = [np.full((36, 64, 3), level, np.uint8) for level in (40, 80, 120, 160)]
    measures = dict(zip(LIGHT_FIELDS, measure_video(frames, [0.0, 1.0, 2.0, 3.0]), strict=True))
    assert measures["change"] < 0.1 and measures["light_change"] == pytest.approx(120, abs=1)


@given(st.integers(0, 9), st.integers(0, 1))
def test_the_two_halves_share_nothing_but_a_single_item(count: int, parity: int) -> None:
    items = list(range(count))
    halves = [share_of(items, 0), share_of(items, 1)]
    if count > 1:
        assert sorted(itertools.chain(*halves)) == items
    else:
        assert list(halves[parity]) == items


def test_sound_windows_alternate() -> None:
    audio = np.repeat(np.arange(1, 6, dtype=np.float32), RATE // 2)
    assert windows_of(audio, 0)[:, 0].tolist() == [1, 3, 5]
    assert windows_of(audio, 1)[:, 0].tolist() == [2, 4]
    assert windows_of(audio[:100], 1).shape == (1, RATE // 2)
    assert windows_of(audio[:0], 0).shape == (0, RATE // 2)


@pytest.mark.parametrize("samples", [0, 1, 100, 7999, 8000, 16000, 40001])
def test_sounds_of_any_length_are_measured(samples: int) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    for parity in (0, 1):
        vector = measure_audio(audio, has_audio=samples > 0, parity=parity)
        assert vector.shape == (len(AUDIO_FIELDS),)
        assert vector[0] == (samples > 0)


def test_silence_is_a_peak_of_minus_60_dbfs() -> None:
    audio = np.zeros(RATE, np.float32)
    audio[::100] = 0.00099
    assert measure_audio(audio, has_audio=True, parity=0)[0] == 0
    audio[::100] = 0.0011
    assert measure_audio(audio, has_audio=True, parity=0)[0] == 1
    assert measure_audio(audio, has_audio=False, parity=0)[0] == 0
