"""What every shot detector must keep, whichever it is; and what the adaptive one measures."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shot_checkpoints import cut_state, save_published

from vidcap.backends import registry
from vidcap.backends.embedded import shot_gaps, shot_signals
from vidcap.backends.roles import Float64, UInt8
from vidcap.errors import BackendError
from vidcap.records import Shot

CONFORMING = registry.names("shot_detector")
EMBEDDED = [name for name in CONFORMING if registry.get("shot_detector", name).embedded]


@pytest.fixture(
    scope="module",
    params=[name if name in EMBEDDED else pytest.param(name, marks=pytest.mark.full) for name in CONFORMING],
)
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Skips a model whose library is not here. AutoShot's published weights never are: it gets some set by hand."""
    try:
        options = autoshot_weights(tmp_path_factory.mktemp("weights")) if request.param == "autoshot" else {}
        backend = registry.create("shot_detector", request.param, options)
        backend.load("cpu")
    except (BackendError, ModuleNotFoundError) as error:
        if request.param in EMBEDDED:
            raise
        pytest.skip(f"{request.param} cannot be loaded here: {error}")
    return backend


def autoshot_weights(folder: Path) -> dict[str, Any]:
    return {"weights": str(save_published(cut_state(), folder / "cuts.pth"))}


def at(frames: UInt8, fps: float = 25.0) -> Float64:
    return np.arange(len(frames)) / fps


def scenery(seed: int, n: int, drift: float = 0.0) -> UInt8:
    """A shot: soft coloured patches of their own palette, drifting by `drift` pixels a frame, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:27, 0:48].astype(float)
    tint = rng.uniform(40, 215, 3)
    patches = [
        (rng.uniform(-10, 60), rng.uniform(-5, 32), rng.uniform(3, 9), rng.uniform(-110, 110, 3)) for _ in range(14)
    ]
    frames = []
    for t in range(n):
        picture = np.tile(tint, (27, 48, 1))
        for px, py, size, colour in patches:
            picture += np.exp(-((x - px - drift * t) ** 2 + (y - py) ** 2) / (2 * size**2))[..., None] * colour
        frames.append(picture + rng.normal(0, 1, picture.shape))
    return np.clip(np.rint(np.stack(frames)), 0, 255).astype(np.uint8)


def blended(a: UInt8, b: UInt8, share: Float64) -> UInt8:
    w = share[:, None, None, None]
    return np.rint(a * (1 - w) + b * w).astype(np.uint8)


def gaps(shots: list[Shot]) -> list[tuple[int, int]]:
    return [(a.last, b.first) for a, b in pairwise(shots)]


def assert_sound(shots: list[Shot], n: int) -> None:
    assert shots
    assert all(0 <= s.first <= s.last < n for s in shots)
    assert all(a.last < b.first for a, b in pairwise(shots))


class TestConformance:
    def test_there_is_a_detector_that_needs_nothing(self) -> None:
        assert "adaptive" in CONFORMING

    @pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 60])
    def test_a_constant_picture_is_one_whole_shot(self, detector: Any, n: int) -> None:
        frames = np.repeat(scenery(1, 1), n, 0)
        assert detector.detect(frames, at(frames)) == [Shot(0, n - 1)]

    @pytest.mark.parametrize("n", [1, 2, 60])
    def test_all_black_is_one_whole_shot(self, detector: Any, n: int) -> None:
        frames = np.zeros((n, 27, 48, 3), np.uint8)
        assert detector.detect(frames, at(frames)) == [Shot(0, n - 1)]

    @pytest.mark.parametrize("cut", [15, 40, 85])
    def test_two_different_halves_are_two_shots_at_the_exact_frame(self, detector: Any, cut: int) -> None:
        frames = np.concatenate([scenery(1, cut, 0.3), scenery(2, 100 - cut, -0.3)])
        assert detector.detect(frames, at(frames)) == [Shot(0, cut - 1), Shot(cut, 99)]

    def test_noise_gives_sound_shots_and_leaves_the_frames_alone(self, detector: Any) -> None:
        frames = np.random.default_rng(3).integers(0, 256, (90, 27, 48, 3)).astype(np.uint8)
        before = frames.copy()
        assert_sound(detector.detect(frames, at(frames)), 90)
        assert np.array_equal(frames, before)

    def test_the_same_frames_give_the_same_shots_whatever_came_between(self, detector: Any) -> None:
        frames = np.concatenate([scenery(s, 40, 0.5) for s in range(4)])
        first = detector.detect(frames, at(frames))
        detector.detect(scenery(9, 70), np.arange(70) / 10)
        fresh = type(detector)(detector.config)
        fresh.load("cpu")
        assert detector.detect(frames, at(frames)) == first == fresh.detect(frames, at(frames))

    def test_read_only_memory_is_enough(self, detector: Any) -> None:
        frames = np.concatenate([scenery(1, 30), scenery(2, 30)])
        expected = detector.detect(frames, at(frames))
        frames.flags.writeable = False
        assert detector.detect(frames, at(frames)) == expected

    def test_identity_is_stable_and_known_before_loading(self, detector: Any) -> None:
        assert type(detector)(detector.config).identity() == detector.identity()
        assert detector.identity() and "\n" not in detector.identity()


def adaptive(**options: float) -> Any:
    return registry.create("shot_detector", "adaptive", options)


def found(frames: UInt8) -> list[Shot]:
    shots: list[Shot] = adaptive().detect(frames, at(frames))
    assert_sound(shots, len(frames))
    return shots


class TestTransitions:
    @pytest.mark.parametrize("length", [6, 12, 24, 40])
    @pytest.mark.parametrize("drift", [0.0, 0.4])
    def test_a_dissolve_is_one_gap_of_about_its_length(self, length: int, drift: float) -> None:
        a, b = scenery(1, 60 + length, drift), scenery(2, 60 + length, -drift)
        share = (np.arange(length) + 1) / (length + 1)
        frames = np.concatenate([a[:60], blended(a[60:], b[:length], share), b[length:]])
        [(last, first)] = gaps(found(frames))
        assert abs(last - 59) <= 2 + length // 6
        assert abs(first - (60 + length)) <= 2 + length // 6

    @pytest.mark.parametrize("level", [0, 255])
    def test_a_fade_through_one_colour_is_one_gap(self, level: int) -> None:
        a, b = scenery(1, 60), scenery(2, 60)
        flat = np.full_like(a[:14], level)
        out, back = blended(a[-14:], flat, np.linspace(0.07, 1, 14)), blended(flat, b[:14], np.linspace(0, 0.93, 14))
        frames = np.concatenate([a[:46], out, flat[:5], back, b[14:]])
        [(last, first)] = gaps(found(frames))
        assert abs(last - 45) <= 3
        assert abs(first - 79) <= 3

    def test_a_wipe_is_one_gap(self) -> None:
        a, b = scenery(1, 84), scenery(2, 84)
        frames = np.concatenate([a[:60], a[60:], b[24:]])
        for t in range(24):
            edge = round(48 * (t + 1) / 25)
            frames[60 + t, :, :edge] = b[t, :, :edge]
        [(last, first)] = gaps(found(frames))
        assert 55 <= last <= 72 < first <= 89

    def test_black_before_and_after_the_pictures_belongs_to_no_shot(self) -> None:
        black = np.zeros((20, 27, 48, 3), np.uint8)
        assert found(np.concatenate([black, scenery(1, 50), black])) == [Shot(20, 69)]


class TestWhatIsNoBoundary:
    @pytest.mark.parametrize("frames_lit", [1, 2, 3])
    def test_a_flash(self, frames_lit: int) -> None:
        frames = scenery(1, 80, 0.2)
        frames[40 : 40 + frames_lit] = np.minimum(frames[40 : 40 + frames_lit].astype(int) + 120, 255).astype(np.uint8)
        assert len(found(frames)) == 1

    def test_a_black_frame_by_mistake(self) -> None:
        frames = scenery(1, 80)
        frames[40:42] = 0
        assert len(found(frames)) == 1

    @pytest.mark.parametrize("drift", [0.5, 1.0, 2.0])
    def test_a_pan(self, drift: float) -> None:
        rng = np.random.default_rng(4)
        wide = np.repeat(np.repeat(rng.uniform(30, 225, (7, 80, 3)), 4, 0), 4, 1)[:27].astype(np.uint8)
        frames = np.stack([wide[:, round(t * drift) :][:, :48] for t in range(100)])
        assert len(found(frames)) == 1

    def test_light_that_rises(self) -> None:
        gain = np.clip(np.linspace(0.5, 1.5, 80) * 0.7, 0.4, 1)
        assert len(found((scenery(1, 80) * gain[:, None, None, None]).astype(np.uint8))) == 1

    def test_frames_shown_twice_or_more(self) -> None:
        shots = np.concatenate([scenery(1, 20, 0.8), scenery(2, 20, -0.8)])
        for times in (2, 4):
            frames = shots.repeat(times, 0)
            assert gaps(found(frames)) == [(20 * times - 1, 20 * times)]


class TestMeasurements:
    def test_motion_that_the_search_reaches_costs_nothing(self) -> None:
        rng = np.random.default_rng(5)
        wide = rng.integers(0, 256, (40, 60)).astype(np.uint8)
        a, b = wide[6:33, 6:54][None], wide[4:31, 9:57][None]
        assert shot_signals.motion_residual(a, b)[0] == 0
        assert shot_signals.motion_residual(a, wide[6:33, 0:48][None])[0] > 30

    def test_a_dissolve_runs_straight_and_a_pan_does_not(self) -> None:
        a, b = scenery(1, 9), scenery(2, 9)
        dissolve = shot_signals.Gram(shot_signals.cells(blended(a, b, np.linspace(0, 1, 9)))).change(8)
        pan = shot_signals.Gram(shot_signals.cells(scenery(1, 9, 6.0))).change(8)
        assert dissolve.bend[0] < 0.1 < 0.3 < pan.bend[0]
        assert abs(dissolve.middle[0] - 0.5) < 0.05

    @settings(max_examples=12, deadline=None)
    @given(chunk=st.integers(1, 260), n=st.integers(1, 200))
    def test_the_result_does_not_depend_on_the_chunks(self, chunk: int, n: int) -> None:
        frames = LONG[:n]
        whole, parts = shot_signals.measured(frames, chunk=10_000), shot_signals.measured(frames, chunk=chunk)
        for name in ("motion", "step", "level", "spread"):
            assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
        for window, change in whole.changes.items():
            for name in shot_signals.Change.__slots__:
                assert np.array_equal(getattr(change, name), getattr(parts.changes[window], name)), (window, name)

    def test_times_play_no_part_and_thresholds_do(self) -> None:
        frames = np.concatenate([scenery(1, 40), scenery(2, 40)])
        assert adaptive().detect(frames, np.sort(np.random.default_rng(0).random(80))) == found(frames)
        assert len(adaptive(cut_threshold=100, gradual_threshold=100).detect(frames, at(frames))) == 1
        assert adaptive(cut_threshold=3).identity() != adaptive().identity()

    def test_gaps_too_close_to_hold_a_shot_are_one(self) -> None:
        assert shot_gaps.merged([(50, 51), (10, 20), (21, 22), (24, 30)]) == [(10, 22), (24, 30), (50, 51)]


LONG = np.concatenate([scenery(1, 60, 0.5), scenery(2, 50), scenery(3, 90, -1.0)])


def test_ten_dissolved_shots_of_real_length_are_found_without_false_ones() -> None:
    out = scenery(100, 50, 0.3)
    truth = []
    for seed in range(101, 110):
        shot = scenery(seed, 66, 0.3 if seed % 2 else -0.3)
        out = np.concatenate([out[:-16], blended(out[-16:], shot[:16], (np.arange(16) + 1) / 17), shot[16:]])
        truth.append((len(out) - 67, len(out) - 50))
    reported = gaps(found(out))
    hits = sum(any(a < d and c < b for c, d in reported) for a, b in truth)
    assert hits >= 8
    assert len(reported) - hits <= 1
