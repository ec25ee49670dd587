"""Training clips: the labels must be true, and what is no transition must not be labelled as one."""

from __future__ import annotations

import numpy as np
import pytest

from vidcap.autoshot.footage import Footage, Piece, gathered, held_back, undisturbed
from vidcap.autoshot.synthesis import camera, clutter, damage, light, scenes, transitions
from vidcap.autoshot.synthesis.clips import EDGE, ClipMaker, Mixture

ONLY_CUTS = Mixture(kinds=(1, 0, 0, 0, 0, 0), continuous=0, quiet=0, procedural=0, shot_frames=(30,))


def flat(colour: int, source: str, count: int = 60) -> Piece:
    frames = np.full((count, 27, 48, 3), colour, np.uint8)
    return Piece(frames, source, np.zeros((count, 2), np.float32))


def footage(sources: int = 12) -> Footage:
    rng = np.random.default_rng(0)
    shots = []
    for number in range(sources):
        picture = scenes.texture(rng)
        frames = np.stack([np.roll(picture, t // 4, 1) for t in range(80)])
        shots.append(Piece(frames, f"source {number}", np.zeros((80, 2), np.float32)))
    teacher = np.zeros((80, 2), np.float32)
    teacher[40] = (0.75, 0.5)
    return Footage(shots, [Piece(shots[0].frames, "source 0", teacher)])


class TestClips:
    def test_the_same_seed_the_same_clip_and_another_seed_another(self) -> None:
        maker = ClipMaker(footage(), 96)
        one, same, other = (maker.example(np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(one.frames, same.frames)
        assert np.array_equal(one.many_hot, same.many_hot)
        assert not np.array_equal(one.frames, other.frames)

    @pytest.mark.parametrize("seed", range(30))
    def test_labels_fit_together(self, seed: int) -> None:
        example = ClipMaker(footage(), 96, Mixture(continuous=0)).example(np.random.default_rng(seed))
        assert example.frames.shape == (96, 27, 48, 3)
        assert example.frames.dtype == np.uint8
        assert set(np.unique(example.one_hot)) <= {0, 1}
        assert (example.many_hot >= example.one_hot).all(), "the middle of a transition is part of it"
        assert not example.counts[:EDGE].any()
        assert example.counts[EDGE:-EDGE].all()

    def test_cuts_are_where_the_labels_say(self) -> None:
        """Without disturbances the picture changes after each marked frame, and nowhere else as much."""
        plain = ClipMaker(Footage([flat(c, str(c)) for c in range(10, 250, 24)], []), 96, ONLY_CUTS)
        found = 0
        for seed in range(60):
            example = plain.example(np.random.default_rng(seed))
            frames = np.median(example.frames.reshape(96, -1), axis=1).astype(int)
            steps = np.abs(np.diff(frames))
            marked = np.flatnonzero(example.one_hot[:-1])
            found += int((steps[marked] > 4).sum())
            # A few are hidden by grading, flashes or a bar over most of the picture.
            assert (steps[marked] > 0).mean() >= 0.5 if len(marked) else True
        assert found > 60

    def test_quiet_clips_have_no_transition(self) -> None:
        maker = ClipMaker(footage(), 96, Mixture(continuous=0, quiet=1.0))
        assert not any(maker.example(np.random.default_rng(seed)).many_hot.any() for seed in range(20))

    def test_continuous_clips_carry_the_teachers_labels(self) -> None:
        example = ClipMaker(footage(), 60, Mixture(continuous=1.0)).example(np.random.default_rng(3))
        assert example.one_hot.max() == 0.75
        assert example.many_hot.max() == 0.5
        assert example.counts.all()


class TestTransitions:
    @pytest.mark.parametrize("kind", transitions.KINDS[1:])
    @pytest.mark.parametrize("length", [2, 9, 45])
    def test_they_lead_from_one_picture_to_the_other(self, kind: str, length: int) -> None:
        before, after = (np.full((length, 27, 48, 3), level, np.float32) for level in (40, 200))
        for seed in range(25):
            blended = transitions.joined(kind, before, after, np.random.default_rng(seed))
            assert blended.shape == before.shape
            assert np.isfinite(blended).all()
            if length == 45 and kind in ("dissolve", "wipe", "slide"):
                assert abs(blended[0].mean() - 40) < 60 < abs(blended[-1].mean() - 40)

    def test_a_cut_has_no_blended_frames(self) -> None:
        with pytest.raises(ValueError, match="cut"):
            transitions.joined("cut", np.zeros((2, 27, 48, 3)), np.zeros((2, 27, 48, 3)), np.random.default_rng(0))


class TestDisturbances:
    @pytest.mark.parametrize("seed", range(12))
    def test_shapes_stay_and_the_footage_is_left_alone(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shot = footage().shots[seed % 12].frames
        before = shot.copy()
        texture = scenes.texture(rng)
        for changed in (
            camera.moved(shot, rng),
            clutter.passed_by(shot, texture, rng),
            clutter.captioned(shot, rng),
            clutter.keyed(shot, shot[::-1], rng),
            clutter.aflame(shot, rng),
            damage.recorded(light.disturbed(light.graded(shot.astype(np.float32), rng), rng), rng),
            scenes.rendered(len(shot), rng),
        ):
            assert changed.shape == shot.shape
            assert changed.dtype == np.uint8
        assert np.array_equal(shot, before)

    def test_a_still_camera_shows_the_same_picture(self) -> None:
        shot = footage().shots[0].frames
        count = len(shot)
        assert np.array_equal(camera.seen(shot, np.zeros(count), np.zeros(count), np.ones(count)), shot)


class TestFootage:
    def test_pieces_are_cut_where_the_teacher_sees_a_transition(self) -> None:
        teacher = np.zeros((100, 2), np.float32)
        teacher[50] = (0.9, 0.9)
        frames = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 27, 48, 3), np.uint8)
        parts = undisturbed(Piece(frames, "a", teacher))
        assert [(int(part.frames[0, 0, 0, 0]), int(part.frames[-1, 0, 0, 0])) for part in parts] == [(0, 47), (53, 99)]

    def test_short_rests_are_left_out(self) -> None:
        teacher = np.zeros((60, 2), np.float32)
        teacher[20] = (0.9, 0.9)
        assert [len(part.frames) for part in undisturbed(Piece(flat(9, "a").frames, "a", teacher))] == [37]

    def test_held_back_videos_are_whole_and_stay_apart(self) -> None:
        whole = gathered([flat(9, f"v{n % 40}") for n in range(80)], [flat(9, f"c{n}") for n in range(20)])
        training, held = held_back(whole, 0.2)
        assert not set(training.sources()) & set(held.sources())
        assert set(training.sources()) | set(held.sources()) == set(whole.sources())
        assert held.sources() == held_back(whole, 0.2)[1].sources()
        assert 2 <= len(held.sources()) <= 24
