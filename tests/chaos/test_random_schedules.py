"""Whatever happens together: some seeds here, hundreds by `python tests/chaos/soak.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_schedules import schedule_of, survive_seed

QUICK = (3,)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[] if seed in QUICK else [pytest.mark.slow]) for seed in range(10)]
)
def test_a_random_schedule_leaves_no_trace(
    seed: int, repository: Path, tmp_path: Path, tiny_corpus: Path, undisturbed: dict[str, str]
) -> None:
    survive_seed(seed, repository, tmp_path, tiny_corpus, undisturbed)


def test_a_seed_gives_the_same_schedule_again() -> None:
    assert [schedule_of(seed) for seed in range(50)] == [schedule_of(seed) for seed in range(50)]
    assert {len(schedule_of(seed)[1]) for seed in range(50)} == {1, 2, 3, 4}
