"""The gate in front of the recogniser: each of its rules alone, and the cutting into pieces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from vidcap.backends.voice_activity import may_be_speech, pieces, spectral_shape

Float32 = npt.NDArray[np.float32]
RATE = 16_000
AT = np.arange(3 * RATE) / RATE


def f32(wave: npt.NDArray[np.float64]) -> Float32:
    return wave.astype(np.float32)


def syllables(seconds: float = 3.0, seed: int = 0) -> Float32:
    """Something with the shape of speech: a buzz of 120 Hz through moving formants, four syllables a second."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE)) / RATE
    count = int(seconds * 4) + 2
    centres = [
        np.interp(at * 4, np.arange(count), rng.uniform(low, high, count)) for low, high in ((300, 800), (900, 2300))
    ]
    wave = np.zeros(len(at))
    for harmonic in range(1, 40):
        pitch = 120 * harmonic
        gain = sum(np.exp(-(((pitch - centre) / 150) ** 2)) for centre in centres) + 0.003
        wave += gain * np.sin(2 * np.pi * pitch * at + harmonic)
    envelope = np.clip(np.sin(np.pi * ((at * 4) % 1)), 0.01, None)
    return f32(0.1 * wave * envelope / np.abs(wave).max() + rng.normal(size=len(at)) * 1e-4)


NOISE = np.random.default_rng(1).normal(size=len(AT)) * 0.1
BEAT = (AT % 1 < 0.4).astype(np.float64)


def test_the_shape_of_speech_passes() -> None:
    for seed in range(4):
        assert may_be_speech(syllables(seed=seed))
        assert may_be_speech(syllables(seed=seed) * np.float32(0.01))


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        (NOISE * (1 + np.sin(8 * np.pi * AT)), {"flatness"}),  # it changes, and is wide
        (0.3 * np.sin(2 * np.pi * (100 * AT + 300 * AT**2)), {"bandwidth"}),  # it changes, and is not flat
        (0.2 * np.sign(np.sin(2 * np.pi * 50 * AT)), {"flux"}),  # a hum is wide and not flat
        (0.3 * np.sin(2 * np.pi * 440 * AT), {"bandwidth", "flux"}),
        (NOISE, {"flatness", "flux"}),
    ],
    ids=["pulsing noise", "sweep", "hum", "tone", "noise"],
)
def test_each_rule_stops_its_sound(sound: npt.NDArray[np.float64], broken: set[str]) -> None:
    flatness, flux, bandwidth = spectral_shape(f32(sound))
    found = {"flatness": flatness > 0.3, "flux": flux < 3.0, "bandwidth": bandwidth < 10}
    assert {name for name, broke in found.items() if broke} == broken
    assert not may_be_speech(f32(sound))


def test_too_little_to_judge_is_no_speech() -> None:
    for samples in (0, 1, 511, 831):
        assert not may_be_speech(syllables()[:samples])


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 3000])
def test_short_and_silent_sound_has_no_pieces(samples: int) -> None:
    assert pieces(np.zeros(samples, np.float32), max_seconds=20) == []
    assert pieces(syllables()[:samples], max_seconds=20) == []


def test_a_pause_ends_a_piece() -> None:
    rest = np.zeros(RATE, np.float32)
    sound = np.concatenate([rest, syllables(), rest, syllables(seed=1), rest])
    found = pieces(sound, max_seconds=20)
    assert len(found) == 2
    for (first, end), start in zip(found, (1, 5), strict=True):
        assert first == pytest.approx(start * RATE, abs=0.3 * RATE)
        assert end == pytest.approx((start + 3) * RATE, abs=0.3 * RATE)


def test_pieces_are_disjoint_and_bounded() -> None:
    found = pieces(syllables(61.0), max_seconds=7)
    assert len(found) >= 9
    assert all(0 < end - first <= 7 * RATE for first, end in found)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    assert sum(end - first for first, end in found) > 58 * RATE


def test_a_long_piece_is_cut_where_it_is_quietest() -> None:
    sound = syllables(9.0)
    dip = slice(int(4.3 * RATE), int(4.5 * RATE))  # too short to be a pause
    sound[dip] *= np.float32(0.02)
    (first, cut), (start, end) = pieces(sound, max_seconds=6)
    assert cut == start
    assert dip.start <= cut <= dip.stop
    assert (first, end) == (pytest.approx(0, abs=0.3 * RATE), pytest.approx(9 * RATE, abs=0.3 * RATE))


def test_quiet_talk_is_found_far_from_a_loud_song() -> None:
    talk = np.tile(syllables(), 14) * np.float32(0.1)
    song = f32(np.tile(NOISE * 5, 14))
    quiet = pieces(np.concatenate([talk, song]), max_seconds=20)
    # Within the last ten seconds before the song it sets the bound; further away it has no say.
    assert sum(min(end, 32 * RATE) - first for first, end in quiet if first < 32 * RATE) > 25 * RATE
