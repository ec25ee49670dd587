"""detect_shots asks the detector once and takes nothing but an ordered list of shots of this source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vidcap.errors import ItemError
from vidcap.records import Shot
from vidcap.stages.base import Context
from vidcap.stages.detect_shots import DetectShots


class Evidence:
    """As much of an evidence folder as the stage looks at."""

    def __init__(self, frames: int) -> None:
        self.thumbnails = np.zeros((frames, 27, 48, 3), np.uint8)
        self.times = np.arange(frames) / 25
        self.facts = type("Facts", (), {"window": (0, frames - 1)})()


class Detector:
    def __init__(self, *shots: tuple[int, int]) -> None:
        self.shots = [Shot(*shot) for shot in shots]
        self.seen: list[tuple[int, int]] = []

    def detect(self, thumbnails: Any, times: Any) -> list[Shot]:
        self.seen.append((len(thumbnails), len(times)))
        return self.shots


def run(detector: Detector, frames: int = 100, window: tuple[int, int] | None = None) -> list[Shot]:
    stage = DetectShots(DetectShots.Options(), Context(backend=detector))
    return stage.run(Evidence(frames), window)  # type: ignore[arg-type]  # a stand-in


def test_shots_come_back_as_found() -> None:
    detector = Detector((0, 39), (42, 99))
    assert run(detector) == [Shot(0, 39), Shot(42, 99)]
    assert detector.seen == [(100, 100)]


def test_all_may_be_transition() -> None:
    assert run(Detector()) == []


@pytest.mark.parametrize(
    "shots", [[(0, 40), (40, 99)], [(50, 99), (0, 49)], [(0, 100)], [(-1, 50)], [(10, 9)], [(0, 49), (50, 120)]]
)
def test_what_is_no_list_of_shots_is_refused(shots: list[tuple[int, int]]) -> None:
    with pytest.raises(ItemError) as caught:
        run(Detector(*shots))
    assert caught.value.reason == "shots.bad_answer"


def test_shots_are_cut_down_to_the_window() -> None:
    shots = [(0, 19), (20, 59), (60, 99)]
    assert run(Detector(*shots), window=(30, 70)) == [Shot(30, 59), Shot(60, 70)]
    assert run(Detector(*shots), window=(20, 20)) == [Shot(20, 20)]


def test_the_window_of_the_evidence_counts_unless_another_is_given() -> None:
    stage = DetectShots(DetectShots.Options(), Context(backend=Detector((0, 99))))
    known = Evidence(100)
    known.facts.window = (10, 80)  # type: ignore[attr-defined]  # a stand-in
    assert stage.run(known) == [Shot(10, 80)]  # type: ignore[arg-type]  # a stand-in
