"""What selection writes for a part: verdicts by row, as any stage's are written."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap.pipeline.columns import stage_columns, verdict_columns
from vidcap.pipeline.selection import _verdict_table
from vidcap.stages.select import REASONS, PartSelection, ScoreColumns

clips = st.tuples(
    st.booleans(), st.integers(0, len(REASONS) - 1), st.sampled_from([0.25, -0.5, 0.0, math.nan, math.inf])
)


@settings(deadline=None)
@given(st.lists(clips, max_size=12))
def test_the_verdicts_stand_beside_their_rows(given_clips: list[tuple[bool, int, float]]) -> None:
    judged = [(code, score) for alive, code, score in given_clips if alive]
    scores = np.array([score for _, score in judged], np.float64)
    columns = ScoreColumns.of([f"k{n}" for n in range(len(judged))], ["s"] * len(judged), scores)
    chosen = PartSelection(0, columns, np.array([code for code, _ in judged], np.uint8))
    alive = np.array([alive for alive, _, _ in given_clips], bool)
    rows = [verdict_columns(None) for _ in given_clips]
    for at, position in enumerate(np.flatnonzero(alive)):
        rows[position] = verdict_columns(chosen.verdict(at))
    expected = pa.table(
        {name: pa.array([row[name] for row in rows], kind) for name, kind in stage_columns("select").items()}
    )
    found = _verdict_table(alive, chosen)
    assert found.schema == expected.schema
    # NaN equals nothing, itself neither.
    assert str(found.to_pydict()) == str(expected.to_pydict())
