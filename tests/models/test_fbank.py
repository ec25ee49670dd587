"""The spectrum equals a slow, plain one in double precision, written from Kaldi's definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.full

RATE = 16_000


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def plain(sound: Any, mels: int) -> Any:
    """Frame by frame, bin by bin, filter by filter."""
    frames = 1 + (len(sound) - 400) // 160
    low, high = mel(20.0), mel(8000.0)
    width = (high - low) / (mels + 1)
    angle = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    window = [(0.5 - 0.5 * math.cos(2 * math.pi * n / 399)) ** 0.85 for n in range(400)]
    out = np.zeros((frames, mels))
    for t in range(frames):
        frame = np.asarray(sound[160 * t : 160 * t + 400], np.float64)
        frame = frame - frame.mean()
        emphasised = [frame[n] - 0.97 * frame[max(0, n - 1)] for n in range(400)]
        power = np.abs(angle @ np.multiply(emphasised, window)) ** 2
        for m in range(mels):
            left, centre, right = (low + (m + k) * width for k in range(3))
            energy = 0.0
            for k in range(256):  # the bin at 8 kHz counts for nothing
                at = mel(k * RATE / 512)
                if left < at < right:
                    weight = (at - left) / (centre - left) if at <= centre else (right - at) / (right - centre)
                    energy += weight * power[k]
            out[t, m] = math.log(max(energy, np.finfo(np.float32).eps))
    return out


def mel(hertz: float) -> float:
    return 1127.0 * math.log(1 + hertz / 700)


@pytest.mark.parametrize("mels", [64, 128])
def test_it_equals_the_plain_one(torch: Any, mels: int) -> None:
    from vidcap.models.fbank import SCALE, fbank

    random = np.random.default_rng(1)
    t = np.arange(2000) / RATE
    sound = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.01 * random.normal(size=2000) + 0.1).astype(np.float32)
    ours = fbank(torch.from_numpy(sound) * SCALE, mels).numpy()
    assert ours.shape == (11, mels)
    # Double precision against single: the widest gap stands where a filter holds next to nothing.
    expected = plain(sound * SCALE, mels)
    assert np.abs(ours - expected).max() < 2e-3
    assert np.abs(ours - expected).mean() < 2e-5


def test_narrow_filters_without_a_bin_stand_at_the_floor(torch: Any) -> None:
    """At 128 bands and 31 Hz a bin some of the lowest filters hold none: Kaldi warns, BEATs learned with it."""
    from vidcap.models.fbank import FLOOR, fbank

    found = fbank(torch.randn(800, generator=torch.Generator().manual_seed(0)) * 1000, 128)
    empty = (found == math.log(FLOOR)).all(0)
    assert 0 < int(empty.sum()) < 12 and not bool(empty[20:].any())


def test_ten_seconds_are_998_frames_scaled_as_beats_heard_them(torch: Any) -> None:
    from vidcap.models.fbank import WINDOW, encoder_input, fbank

    sound = 0.1 * torch.randn(2, WINDOW, generator=torch.Generator().manual_seed(0))
    found = encoder_input(sound, 128)
    assert found.shape == (2, 998, 128)
    expected = (fbank(sound[0] * 32768, 128) - 15.41663) / 13.11164
    assert torch.allclose(found[0], expected)
    assert encoder_input(sound, 64).shape == (2, 998, 64)


def test_silence_is_finite_and_too_little_is_refused(torch: Any) -> None:
    from vidcap.models.fbank import encoder_input, fbank

    silence = encoder_input(torch.zeros(1600), 64)
    assert bool(silence.isfinite().all()) and float(silence.std()) == 0
    with pytest.raises(ValueError, match="399 samples"):
        fbank(torch.zeros(399), 64)


@pytest.mark.parametrize(
    ("samples", "windows"),
    [(0, 1), (1, 1), (160_000, 1), (160_399, 1), (160_400, 1), (160_401, 2), (320_000, 2), (900_000, 3)],
)
def test_windows_are_filled_with_silence(torch: Any, samples: int, windows: int) -> None:
    from vidcap.models.fbank import windows_of

    sound = np.ones(samples, np.float32)
    found = windows_of(sound, 3)
    assert found.shape == (windows, 160_000)
    assert found.sum() == min(samples, windows * 160_000)
    assert not found.reshape(-1)[samples:].any()


def test_against_torchaudio_where_it_is_installed(torch: Any) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    from vidcap.models.fbank import fbank

    sound = 3000 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    theirs = kaldi.fbank(sound[None], num_mel_bins=128, sample_frequency=16000, frame_length=25, frame_shift=10)
    assert torch.allclose(fbank(sound, 128), theirs, atol=1e-3)
