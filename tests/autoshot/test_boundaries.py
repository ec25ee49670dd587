"""From probabilities to shots."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from vidcap.autoshot.boundaries import Float32, black, gaps_of, shots_of
from vidcap.autoshot.evaluation import Counts, compared, transitions
from vidcap.records import Shot


def scores(count: int, **places: float) -> Float32:
    """`f7=0.9`: frame 7 has 0.9."""
    values = np.zeros(count, np.float32)
    for name, value in places.items():
        values[int(name[1:])] = value
    return values


def filled(count: int, first: int, last: int) -> Float32:
    values = np.zeros(count, np.float32)
    values[first : last + 1] = 0.9
    return values


LIGHT = np.full((60, 27, 48, 3), 90, np.uint8)


class TestGaps:
    def test_a_cut_is_after_the_marked_frame(self) -> None:
        assert gaps_of(scores(60, f20=0.9), scores(60, f20=0.9), 0.5) == [(20, 21)]

    def test_of_two_marked_frames_the_likelier_is_the_cut(self) -> None:
        assert gaps_of(scores(60, f20=0.7, f21=0.9), scores(60), 0.5) == [(21, 22)]

    def test_a_dissolve_is_all_its_frames(self) -> None:
        assert gaps_of(filled(60, 24, 27), filled(60, 18, 33), 0.5) == [(17, 34)]

    def test_the_threshold_itself_is_not_above(self) -> None:
        assert gaps_of(scores(60, f20=0.5), scores(60), 0.5) == []

    def test_near_runs_are_one_and_distant_ones_are_two(self) -> None:
        assert len(gaps_of(scores(60, f20=0.9, f22=0.9), scores(60), 0.5)) == 1
        assert len(gaps_of(scores(60, f20=0.9, f23=0.9), scores(60), 0.5)) == 2

    def test_runs_with_nothing_but_a_transition_between_are_one(self) -> None:
        assert gaps_of(scores(60, f20=0.9, f30=0.9), filled(60, 15, 35), 0.5) == [(14, 36)]

    @settings(deadline=None)
    @given(st.data(), st.integers(1, 80), st.floats(0.05, 0.95))
    def test_gaps_are_in_order_and_leave_shots(self, data: st.DataObject, count: int, threshold: float) -> None:
        values = stn.arrays(np.float32, count, elements=st.floats(0, 1, width=32))
        middle, part = data.draw(values), data.draw(values)
        gaps = gaps_of(middle, part, threshold)
        assert all(start < stop for start, stop in gaps)
        assert all(before[1] <= after[0] for before, after in pairwise(gaps))
        assert (len(gaps) > 0) == bool((middle > threshold).any())
        frames = np.full((count, 27, 48, 3), 90, np.uint8)
        shots = shots_of(middle, part, threshold, frames)
        assert shots
        assert all(0 <= shot.first <= shot.last < count for shot in shots)
        assert all(before.last < after.first for before, after in pairwise(shots))


class TestShots:
    def test_nothing_found_is_one_shot(self) -> None:
        assert shots_of(scores(60), scores(60), 0.5, LIGHT) == [Shot(0, 59)]

    def test_black_before_the_first_picture_is_no_shot_and_its_end_no_boundary(self) -> None:
        frames = LIGHT.copy()
        frames[:10] = 3
        frames[55:] = 3
        found = shots_of(scores(60, f9=0.9, f30=0.9, f54=0.9), scores(60), 0.5, frames)
        assert found == [Shot(10, 30), Shot(31, 54)]

    def test_all_black_is_one_shot(self) -> None:
        assert shots_of(scores(60, f9=0.9), scores(60), 0.5, LIGHT * 0) == [Shot(0, 59)]

    def test_a_few_frames_at_either_end_are_no_shot(self) -> None:
        marks = scores(60, f2=0.9, f30=0.9, f56=0.9)
        assert shots_of(marks, scores(60), 0.5, LIGHT) == [Shot(3, 30), Shot(31, 56)]
        marks = scores(60, f3=0.9, f30=0.9, f55=0.9)
        assert len(shots_of(marks, scores(60), 0.5, LIGHT)) == 4
        assert shots_of(scores(60, f30=0.9, f32=0.0, f40=0.9), scores(60), 0.5, LIGHT[:60])[1] == Shot(31, 40)

    def test_black_in_between_stays(self) -> None:
        frames = LIGHT.copy()
        frames[20:30] = 0
        found = shots_of(scores(60, f19=0.9, f29=0.9), scores(60), 0.5, frames)
        assert found == [Shot(0, 19), Shot(20, 29), Shot(30, 59)]

    @pytest.mark.parametrize(
        ("low", "high", "is_black"), [(0, 28, True), (16, 28, True), (0, 60, False), (40, 50, True)]
    )
    def test_what_counts_as_black(self, low: int, high: int, is_black: bool) -> None:
        frame = np.full((1, 27, 48, 3), low, np.uint8)
        frame[0, 13:] = high
        assert bool(black(frame)[0]) is is_black


class TestScoring:
    def test_one_finding_matches_one_truth(self) -> None:
        assert compared([(9, 10), (40, 50)], [(9, 10), (44, 46), (47, 48)]) == Counts(2, 1, 0)

    def test_the_tolerance_is_half_a_frame_on_each_side(self) -> None:
        assert compared([(9, 10)], [(10, 11)]).hits == 1
        assert compared([(9, 10)], [(11, 12)]).hits == 0
        assert compared([(9, 10)], [(11, 12)], tolerance=4).hits == 1

    def test_rates(self) -> None:
        counts = Counts(8, 2, 8)
        assert (counts.precision, counts.recall) == (0.8, 0.5)
        assert counts.f1 == pytest.approx(2 * 0.8 * 0.5 / 1.3)
        assert Counts().f1 == 1.0

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), max_size=12))
    def test_truth_matches_itself(self, steps: list[tuple[int, int]]) -> None:
        at, shots = 0, []
        for length, gap in steps:
            shots.append(Shot(at, at + length))
            at += length + gap
        gaps = transitions(shots)
        assert compared(gaps, gaps) == Counts(len(gaps), 0, 0)
