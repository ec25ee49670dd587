"""Windows show every frame once where it counts; a run of transition frames ends one shot and opens the next."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.autoshot import windows
from vidcap.records import Shot


def padded_and_cut(frames: int) -> list[list[int]]:
    """The published procedure, step by step: copies in front, copies behind, then windows of 100 every 50 frames."""
    behind = 25 + (50 - frames % 50 if frames % 50 else 0)
    padded = [0] * 25 + list(range(frames)) + [frames - 1] * behind
    return [padded[start : start + 100] for start in range(0, len(padded) - 99, 50)]


def closed_at_the_first_of_a_run(marks: list[bool]) -> list[Shot]:
    """The published rule as a walk over the frames."""
    shots: list[Shot] = []
    opened: int | None = None if marks[0] else 0
    for at, (before, now) in enumerate(pairwise(marks), 1):
        if before and not now:
            opened = at
        if now and not before:
            assert opened is not None
            shots.append(Shot(opened, at))
            opened = None
    if not marks[-1]:
        assert opened is not None
        shots.append(Shot(opened, len(marks) - 1))
    return shots or [Shot(0, len(marks) - 1)]


class TestWindows:
    @pytest.mark.parametrize("frames", [1, 2, 24, 25, 49, 50, 51, 75, 99, 100, 101, 150, 1000, 1049])
    def test_places_are_the_published_ones(self, frames: int) -> None:
        assert windows.window_frames(frames).tolist() == padded_and_cut(frames)

    @given(frames=st.integers(1, 400))
    def test_the_kept_outputs_are_every_frame_once_in_order(self, frames: int) -> None:
        places = windows.window_frames(frames)
        assert windows.kept(places.astype(np.float32), frames).tolist() == list(range(frames))

    def test_context_is_cut_off_at_both_ends(self) -> None:
        outputs = np.tile(np.arange(100, dtype=np.float32), (2, 1))
        assert windows.kept(outputs, 60).tolist() == [*range(25, 75), *range(25, 35)]


class TestShots:
    @pytest.mark.parametrize(
        ("marks", "shots"),
        [
            ("0", [(0, 0)]),
            ("1", [(0, 0)]),
            ("00000", [(0, 4)]),
            ("11111", [(0, 4)]),  # nothing left: the whole video
            ("00100", [(0, 2), (3, 4)]),  # the boundary's frame belongs to the shot it ends
            ("0011100", [(0, 2), (5, 6)]),  # the run's other frames belong to none
            ("10000", [(1, 4)]),  # the first frame ends no shot
            ("11000", [(2, 4)]),
            ("00001", [(0, 4)]),  # the last frame opens no shot
            ("00111", [(0, 2)]),
            ("1010101", [(1, 2), (3, 4), (5, 6)]),
            ("101", [(1, 2)]),
        ],
    )
    def test_the_rule(self, marks: str, shots: list[tuple[int, int]]) -> None:
        assert windows.shots_of(np.array([mark == "1" for mark in marks])) == [Shot(*shot) for shot in shots]

    @given(marks=st.lists(st.booleans(), min_size=1, max_size=80))
    def test_a_walk_over_the_frames_gives_the_same(self, marks: list[bool]) -> None:
        found = windows.shots_of(np.array(marks))
        assert found == closed_at_the_first_of_a_run(marks)
        assert all(type(shot.first) is int and type(shot.last) is int for shot in found)
