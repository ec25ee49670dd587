"""Histograms count everything once and put values where their axis says."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.report.plots import BOTTOM, LEFT, MOST_BINS, RIGHT, TOP, bars, histogram, linear_axis, log_axis, nice_step
from vidcap.shards.statistics import Tally


def tally(values: list[float], step: float = 0.01) -> Tally:
    made = Tally(step)
    for value in values:
        made.add(value)
    return made


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=60), st.lists(st.floats(0, 1e4), max_size=20))
def test_every_value_is_in_one_bar(kept: list[float], rejected: list[float]) -> None:
    axis = linear_axis(0.0, max(kept + rejected), least_step=0.5)
    assert len(axis.edges) - 1 <= MOST_BINS
    panel = histogram("x", [("kept", tally(kept)), ("rejected", tally(rejected))], axis, unit="s")
    counts: Counter[str] = Counter()
    for rect in panel.rects:
        number, _, kind = rect.told.rpartition(": ")[2].partition(" ")
        counts[kind] += int(number.replace(",", ""))
        assert rect.x >= LEFT and rect.x + rect.width <= RIGHT
        assert rect.y >= TOP - 0.01 and rect.y + rect.height <= BOTTOM + 0.01
    assert counts["kept"] == len(kept)
    assert counts["rejected"] == len(rejected)


@given(st.floats(-1, 0), st.floats(0.01, 1))
def test_an_axis_spans_its_values_with_few_ticks(low: float, high: float) -> None:
    axis = linear_axis(low, high, least_step=0.05)
    assert axis.edges[0] <= low + 1e-6 and high < axis.edges[-1] + 1e-6
    assert 1 <= len(axis.ticks) <= 8
    assert axis.x(axis.edges[0]) == LEFT and axis.x(axis.edges[-1]) == RIGHT


def test_bars_stack_to_the_height_of_their_count() -> None:
    axis = linear_axis(0.0, 4.0, least_step=1.0)
    panel = histogram("x", [("kept", tally([0.5] * 3)), ("rejected", tally([0.5]))], axis, unit="s")
    low, high = panel.rects
    assert (low.kind, high.kind) == ("kept", "rejected")
    assert low.height == pytest.approx(3 * high.height, abs=0.05)
    assert high.y + high.height == pytest.approx(low.y, abs=0.02)
    assert panel.note == "4 clips, median 0.5"


def test_a_threshold_parts_the_bins() -> None:
    axis = linear_axis(-0.3, 0.9, least_step=0.05)
    assert any(edge == pytest.approx(0.2) for edge in axis.edges)
    panel = histogram("x", [("kept", tally([0.2], 1e-4)), ("rejected", tally([0.1999], 1e-4))], axis, unit="")
    kept, rejected = sorted(panel.rects, key=lambda rect: rect.kind)
    assert rejected.x + rejected.width <= axis.x(0.2) <= kept.x


def test_a_logarithmic_axis_grows_by_factors() -> None:
    axis = log_axis(0.05, 256.0, (0.01, 0.1, 1, 10, 100))
    assert axis.ticks == (0.1, 1, 10, 100)
    assert axis.x(1) - axis.x(0.1) == pytest.approx(axis.x(100) - axis.x(10), abs=0.02)
    assert axis.x(0.0) == LEFT  # still pictures stand at the left end


def test_nothing_seen_is_said() -> None:
    assert histogram("x", [("kept", Tally(1.0))], linear_axis(0, 1, least_step=1), unit="s").note == "no clips"


@pytest.mark.parametrize(("span", "most", "step"), [(9, 10, 1), (11, 10, 2), (100, 30, 5), (0.9, 4, 0.5), (0, 4, 1)])
def test_steps_are_round(span: float, most: int, step: float) -> None:
    assert nice_step(span, most) == pytest.approx(step)


def test_bars_keep_the_most_frequent_and_add_up() -> None:
    rows = bars(Counter({"a": 5, "b": 5, "c": 1, "d": 1}), most=2)
    assert [(row.label, row.value, row.share) for row in rows] == [("a", 5, 100), ("b", 5, 100), ("2 more", 2, 40)]


def test_quantiles_and_what_is_not_a_number() -> None:
    seen = tally([1.0, 2.0, 3.0, 4.0, float("nan"), float("inf")])
    assert (seen.total, seen.mean) == (4, pytest.approx(2.5))
    assert [seen.quantile(q) for q in (0, 0.25, 0.5, 1)] == [1.0, 1.0, 2.0, 4.0]
