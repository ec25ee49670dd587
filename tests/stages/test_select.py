"""Selection: against a plain reference over random parts, and the order and words of its rules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vidcap.errors import ConfigError, InvariantError, UsageError
from vidcap.reasons import REASONS
from vidcap.records import clip_key
from vidcap.stages import cutoff as cutoff_module
from vidcap.stages import select as select_module
from vidcap.stages.cutoff import Chunk, FirstDigits, find_cutoff, key_bytes, order_codes
from vidcap.stages.registry import stage_class
from vidcap.stages.select import ScoreColumns, Select, SelectOptions, duplicate_sources, score_columns

Clip = tuple[str, str, float]


@dataclass
class Part:
    part: int
    clips: list[Clip]
    loads: int = field(default=0)

    def load(self) -> ScoreColumns:
        self.loads += 1
        return ScoreColumns.of([c[0] for c in self.clips], [c[1] for c in self.clips], [c[2] for c in self.clips])


def reference(parts: list[list[Clip]], options: SelectOptions, duplicates: set[str]) -> dict[str, str]:
    """Key → reason, by holding everything and sorting."""
    found: dict[str, str] = {}
    left: list[Clip] = []
    for key, source, score in (clip for part in parts for clip in part):
        if source in duplicates:
            found[key] = "source.duplicate"
        elif math.isnan(score):
            found[key] = "select.no_score"
        elif options.min is not None and score < options.min:
            found[key] = "select.below_min"
        else:
            left.append((key, source, score))
    left.sort(key=lambda clip: (-clip[2], clip[0]))
    if options.max_per_source is not None:
        taken: dict[str, int] = defaultdict(int)
        capped = []
        for clip in left:
            taken[clip[1]] += 1
            if taken[clip[1]] <= options.max_per_source:
                capped.append(clip)
            else:
                found[clip[0]] = "select.source_cap"
        left = capped
    reason = "select.below_top" if options.top is not None else "select.below_fraction"
    for place, clip in enumerate(left):
        found[clip[0]] = "" if place < options.wanted(len(left)) else reason
    return found


scores = st.one_of(
    st.sampled_from([0.0, -0.0, 0.25, 0.2501, 0.3, -1.0, float("nan"), 1e-320, math.inf, -math.inf]),
    st.floats(-1, 1, width=64).map(lambda value: round(value, 2)),
    st.floats(-1, 1),
)


@st.composite
def runs(draw: st.DrawFn) -> list[list[Clip]]:
    found: list[list[Clip]] = []
    for number in range(draw(st.integers(0, 4))):
        clips = []
        for source in range(draw(st.integers(0, 3))):
            source_id = f"{'s' * draw(st.integers(1, 3))}{number}{source}"
            for shot, score in enumerate(draw(st.lists(scores, max_size=6))):
                clips.append((clip_key(source_id, shot * 10, shot * 10 + 9), source_id, score))
        found.append(draw(st.permutations(clips)))
    return found


@st.composite
def option_sets(draw: st.DrawFn) -> SelectOptions:
    bound = draw(st.sampled_from(["none", "top", "fraction"]))
    return SelectOptions(
        min=draw(st.none() | st.sampled_from([0.0, 0.25, -0.5])),
        max_per_source=draw(st.none() | st.integers(1, 3)),
        top=draw(st.integers(1, 12)) if bound == "top" else None,
        fraction=draw(st.sampled_from([0.01, 0.1, 0.29, 0.5, 0.999, 1.0])) if bound == "fraction" else None,
    )


@settings(max_examples=300, deadline=None)
@given(runs(), option_sets(), st.data(), st.integers(1, 6))
def test_equals_a_full_sort(parts: list[list[Clip]], options: SelectOptions, data: st.DataObject, hold: int) -> None:
    ids = sorted({clip[1] for part in parts for clip in part})
    duplicates = set(data.draw(st.lists(st.sampled_from(ids), unique=True))) if ids else set()
    with pytest.MonkeyPatch.context() as patch:
        # So few held records that score ties reach into the digits of the keys.
        patch.setattr(select_module, "find_cutoff", lambda *given, **more: find_cutoff(*given, **more, hold=hold))
        patch.setattr(cutoff_module, "SCORE_DIGITS", (12, 12, 20, 20))
        found: dict[str, str] = {}
        for part, selection in zip(parts, Select(options).run(_parts(parts), duplicates=duplicates), strict=True):
            found.update(zip((clip[0] for clip in part), selection.reasons, strict=True))
    assert found == reference(parts, options, duplicates)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=30))
def test_codes_order_as_falling_scores(values: list[float]) -> None:
    codes = order_codes(np.array(values))
    for a, b, code_a, code_b in zip(values, values[1:], codes, codes[1:], strict=False):
        assert (code_a < code_b) == (a > b)
        assert (code_a == code_b) == (a == b)


def test_ties_that_all_share_a_score_are_cut_by_key() -> None:
    keys = [clip_key(f"{n:016x}", n, n + 1) for n in range(3000)]
    codes = order_codes(np.full(3000, 0.25))
    all_keys = key_bytes(keys)
    turned = np.random.default_rng(3).permutation(3000)

    def chunks() -> Iterator[Chunk]:
        for rows in np.array_split(turned, 7):
            # The keys of other records lie between those of the chunk.
            yield Chunk(codes[rows], all_keys, rows)

    for k in (1, 2, 999, 2999, 3000):
        assert find_cutoff(chunks, k, hold=10).key.decode() == keys[k - 1]
        # Who has read all records anyway has counted their first digits.
        first = FirstDigits()
        for chunk in chunks():
            first.add(chunk.codes)
        assert find_cutoff(chunks, k, first=first, hold=10) == find_cutoff(chunks, k, hold=10)
    with pytest.raises(InvariantError, match="3001-th"):
        find_cutoff(chunks, 3001)


def test_part_result_does_not_depend_on_how_clips_are_parted() -> None:
    rng = np.random.default_rng(5)
    clips = [
        (clip_key(f"a{n % 50:02d}", n, n + 1), f"a{n % 50:02d}", float(rng.integers(0, 9)) / 10) for n in range(900)
    ]
    by_source = sorted(clips, key=lambda clip: clip[1])
    options = SelectOptions(top=100, max_per_source=5)
    kept = []
    for cut in (90, 180, 900):
        parts = [by_source[at : at + cut] for at in range(0, 900, cut)]
        kept.append({key for key, reason in _select(parts, options).items() if not reason})
    assert len(kept[0]) == 100
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize(
    ("fraction", "n", "wanted"),
    [(0.5, 3, 2), (0.5, 1, 1), (0.29, 50, 15), (0.3, 10, 3), (0.01, 49, 0), (0.01, 50, 1), (1.0, 7, 7), (0.6, 0, 0)],
)
def test_fraction_rounds_halves_up_in_decimal(fraction: float, n: int, wanted: int) -> None:
    # 0.29 × 50 is 14.499999999999998 in floats, 14.5 as written.
    assert SelectOptions(fraction=fraction).wanted(n) == wanted


def test_reasons_are_known_and_values_are_the_scores() -> None:
    assert {reason for reason in select_module.REASONS if reason} <= set(REASONS)
    part = Part(3, [("a_0_1", "a", 0.5), ("a_2_3", "a", float("nan")), ("a_4_5", "a", 0.1)])
    (selection,) = Select(SelectOptions(min=0.2)).run([part])
    assert selection.part == 3
    assert selection.keep.tolist() == [True, False, False]
    assert selection.verdict(0) is None
    missing, below = selection.verdict(1), selection.verdict(2)
    assert missing is not None and (missing.kind, missing.reason, missing.value) == (
        "rejected",
        "select.no_score",
        None,
    )
    assert below is not None and (below.reason, below.value) == ("select.below_min", 0.1)


def test_a_duplicate_is_named_so_whatever_its_score() -> None:
    clips = [("a_0_1", "a", 0.9), ("b_0_1", "b", 0.9), ("b_2_3", "b", 0.0), ("b_4_5", "b", float("nan"))]
    found = {}
    for selection in Select(SelectOptions(min=0.2)).run([Part(0, clips)], duplicates={"b"}):
        found.update(zip((c[0] for c in clips), selection.reasons, strict=True))
    assert found == {"a_0_1": "", **dict.fromkeys(("b_0_1", "b_2_3", "b_4_5"), "source.duplicate")}


def test_failed_parts_stop_selection_unless_allowed() -> None:
    part = Part(0, [("a_0_1", "a", 0.9)])
    with pytest.raises(UsageError, match="`1` of them failed"):
        Select(SelectOptions()).run([part], failed=[4])
    (selection,) = Select(SelectOptions(allow_failed=True)).run([part], failed=[4])
    assert selection.keep.all()


def test_scores_that_change_between_passes_are_noticed() -> None:
    class Restless(Part):
        def load(self) -> ScoreColumns:
            columns = super().load()
            return columns if self.loads < 3 else ScoreColumns.of([c[0] for c in self.clips], ["a"] * 4, [0.9] * 4)

    part = Restless(0, [(f"a_{n}", "a", n / 10) for n in range(4)])
    with pytest.raises(InvariantError, match="changed"):
        list(Select(SelectOptions(top=2)).run([part]))


def test_a_threshold_alone_reads_each_part_once() -> None:
    parts = _parts([[("a_0_1", "a", 0.9)], [("b_0_1", "b", 0.1)]])
    list(Select(SelectOptions(min=0.5)).run(parts))
    assert [part.loads for part in parts] == [1, 1]


def test_the_best_of_all_are_found_in_three_readings() -> None:
    parts = _parts([[(f"{name}_0_{n}", name, n / 10) for n in range(4)] for name in "abc"])
    kept = sum(int(selection.keep.sum()) for selection in Select(SelectOptions(top=5)).run(parts))
    assert kept == 5
    assert [part.loads for part in parts] == [3, 3, 3]


@pytest.mark.parametrize(
    "options", [{"top": 3, "fraction": 0.5}, {"top": 0}, {"fraction": 1.5}, {"by": "x"}, {"min": "nan"}, {"mni": 1}]
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SelectOptions(**options)  # type: ignore[arg-type]  # wrong on purpose


def _table(**columns: list[object]) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({"key": [f"a_{n}" for n in range(rows)], "source_id": ["a"] * rows, **columns})


def test_primary_ranks_by_the_score_of_the_primary_caption() -> None:
    table = _table(
        caption_v=["v", "v", "v", ""],
        caption_av=["", "av", "av", None],
        caption_avs=["", "", "avs", None],
        similarity_v=[0.1, 0.1, 0.1, 0.1],
        similarity_av=[0.2, 0.2, 0.2, 0.2],
        similarity_avs=[0.3, 0.3, None, 0.3],
    )
    found = ScoreColumns.from_table(table, "primary").scores
    np.testing.assert_array_equal(found, [0.1, 0.2, np.nan, np.nan])
    assert set(score_columns("primary")) <= set(table.column_names)
    np.testing.assert_array_equal(ScoreColumns.from_table(table, "v").scores, [0.1] * 4)


def test_a_primary_kind_that_is_not_scored_has_no_score() -> None:
    table = _table(caption_v=["v", "v"], caption_avs=["", "avs"], similarity_v=[0.1, 0.2])
    np.testing.assert_array_equal(ScoreColumns.from_table(table, "primary").scores, [0.1, np.nan])


def test_ranking_by_a_kind_without_scores_is_a_mistake_of_the_pipeline() -> None:
    with pytest.raises(ConfigError, match="ranks by `a`"):
        ScoreColumns.from_table(_table(caption_v=["v"], similarity_v=[0.1]), "a")
    with pytest.raises(ConfigError, match="ranks by `primary`"):
        ScoreColumns.from_table(_table(caption_v=["v"]), "primary")


def test_the_first_source_of_equal_contents_wins() -> None:
    rows = [("a", "x"), ("b", "y"), ("c", "x"), ("d", ""), ("e", ""), ("f", "x"), ("g", "y")]
    assert duplicate_sources(lambda: iter(rows)) == {"c": "a", "f": "a", "g": "b"}
    assert duplicate_sources(lambda: iter(rows[:2])) == {}
    assert duplicate_sources(lambda: iter([])) == {}


def test_contents_that_only_look_alike_are_not_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select_module, "_short", lambda content: 7)
    assert duplicate_sources(lambda: iter([("a", "x"), ("b", "y"), ("c", "x")])) == {"c": "a"}


def test_the_registry_finds_it() -> None:
    assert stage_class("select") is Select


def _parts(parts: list[list[Clip]]) -> list[Part]:
    return [Part(number, clips) for number, clips in enumerate(parts)]


def _select(parts: list[list[Clip]], options: SelectOptions) -> dict[str, str]:
    found: dict[str, str] = {}
    for part, selection in zip(parts, Select(options).run(_parts(parts)), strict=True):
        found.update(zip((clip[0] for clip in part), selection.reasons, strict=True))
    return found
