"""The learned detector in every install: what it finds, what it ignores, and the files it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidcap.autoshot.synthesis import light, scenes, transitions
from vidcap.backends import registry
from vidcap.backends.roles import UInt8
from vidcap.backends.shot_detector.fast import WEIGHTS
from vidcap.errors import BackendError
from vidcap.records import Shot


def fast(**options: Any) -> Any:
    backend = registry.create("shot_detector", "fast", options)
    backend.load("cpu")
    return backend


@pytest.fixture(scope="module")
def detector() -> Any:
    return fast()


def found(detector: Any, frames: UInt8) -> list[Shot]:
    shots: list[Shot] = detector.detect(frames, np.arange(len(frames)) / 25)
    return shots


def shot(seed: int, count: int) -> UInt8:
    """A slow pan over a textured land."""
    land = scenes.texture(np.random.default_rng(seed), 27, 160)
    return np.stack([land[:, 10 + t // 3 : 58 + t // 3] for t in range(count)])


def joined(kind: str, length: int, seed: int) -> UInt8:
    """60 frames of one shot, `length` blended ones, 60 of another."""
    one, other = shot(2 * seed, 60 + length), shot(2 * seed + 1, 60 + length)
    before, after = one[60:].astype(np.float32), other[:length].astype(np.float32)
    blended = transitions.joined(kind, before, after, np.random.default_rng(seed))
    return np.concatenate([one[:60], np.clip(blended, 0, 255).astype(np.uint8), other[length:]])


@pytest.mark.parametrize(("kind", "least"), [("dissolve", 7), ("fade", 8), ("wipe", 6), ("slide", 4)])
def test_gradual_transitions_of_any_length_are_one_gap(detector: Any, kind: str, least: int) -> None:
    """Slides of more than 20 frames over a moving camera are its weakness (docs/models/fast-shots.md)."""
    right = 0
    for seed in range(8):
        length = (6, 10, 14, 18, 22, 26, 32, 40)[seed]
        shots = found(detector, joined(kind, length, seed))
        right += len(shots) == 2 and shots[0].last >= 52 and shots[1].first <= 60 + length + 8
    assert right >= least


def test_cuts_are_exact(detector: Any) -> None:
    exact = 0
    for seed in range(12):
        frames = np.concatenate([shot(3 * seed, 50), shot(3 * seed + 1, 45), shot(3 * seed + 2, 40)])
        exact += found(detector, frames) == [Shot(0, 49), Shot(50, 94), Shot(95, 134)]
    assert exact >= 11


def test_flashes_flicker_and_passers_by_are_no_boundaries(detector: Any) -> None:
    whole = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        frames = shot(seed, 120).astype(np.float32)
        if seed % 2:
            frames[60:62] += 120
        else:
            frames = light.graded(frames, rng) + rng.normal(0, 8, 120).astype(np.float32)[:, None, None, None]
        whole += len(found(detector, np.clip(frames, 0, 255).astype(np.uint8))) == 1
    assert whole >= 10


def test_the_threshold_decides() -> None:
    frames = np.concatenate([joined("wipe", 20, seed) for seed in range(5)])
    counts = [len(found(fast(threshold=value), frames)) for value in (0.02, 0.65, 0.999)]
    assert counts[0] >= counts[1] >= counts[2]
    assert counts[0] > counts[2]


def test_threads_change_nothing(detector: Any) -> None:
    frames = np.concatenate([joined("dissolve", 16, seed) for seed in range(9)])
    assert len(frames) > 1024, "more than two chunks"
    assert found(detector, frames) == found(fast(threads=3), frames)


def test_the_weights_are_small_and_their_digest_names_them() -> None:
    assert WEIGHTS.stat().st_size <= 3_000_000
    assert fast(threads=2).identity() == fast().identity(), "threads change no result"
    assert fast(threshold=0.5).identity() != fast().identity()


def test_files_that_are_no_such_network_are_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a network")
    with pytest.raises(BackendError, match=r"junk\.onnx.*no network"):
        fast(weights=str(junk))
    with pytest.raises(BackendError, match="cannot be read"):
        fast(weights=str(tmp_path / "absent.onnx"))
