"""The clips of a run nearest to each threshold, stopped and kept, read from its column files in one pass.

Per part only the measured columns are read; the full rows of the few that are shown come afterwards.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidcap.inspector.entries import Border, Borders
from vidcap.pipeline.columns import PartFolder
from vidcap.pipeline.ledger import Ledger
from vidcap.pipeline.plan import load_parts
from vidcap.pipeline.run_folder import RunFolder
from vidcap.report.part_table import PartTable, Rows
from vidcap.report.stopped_pictures import StoppedPictures
from vidcap.stages.registry import stage_class

NEAREST = 12
OF_SOURCES = "source.duplicate"
"""A verdict on sources that selection writes to their clips; reports count such clips nowhere."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a reason holds against what: `measure` of a clip, its unit, and the side that is kept."""

    measure: str
    unit: str
    keeps: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class _Part:
    """`whole`: all its stages have run, so that what no stage stopped is kept."""

    folder: PartFolder
    stages: list[str]
    whole: bool


@dataclass(slots=True)
class _Heaps:
    """The nearest rows of one reason on either side: (−distance, key, part, row, value), and how many there are."""

    count: int = 0
    stopped: list[tuple[float, str, int, int, float]] = field(default_factory=list)
    kept: list[tuple[float, str, int, int, float]] = field(default_factory=list)


def load_borders(output: Path, *, nearest: int = NEAREST) -> Borders:
    """The borders of the run in `output`, those of the selection first; of each at most `nearest` clips a side.

    The threshold of a fraction or top-k is the lowest score that was kept. Raises `UsageError` where this is no run.
    """
    run = RunFolder(output).read()
    rules = _rules(run["config"]["stages"])
    parts = _parts(output, run["stages"])
    by = next((rule.measure for reason, rule in rules.items() if reason.startswith("select.")), "")
    counts, heaps, lowest = _survey(parts, by)
    for reason in ("select.below_fraction", "select.below_top"):
        if reason in rules:
            rules[reason] = Rule(by, "", "above", lowest)
    for part in parts:
        _gather(PartTable(part.folder, part.stages, by), part.whole, rules, heaps, nearest)
    rows = Rows({part.folder.number: (part.folder, part.stages) for part in parts})
    pictures = StoppedPictures(output)
    borders = []
    for reason, heap in heaps.items():
        rule = rules.get(reason, Rule("", "", "", None))
        stopped = []
        for _, _, number, row, _ in _ordered(heap.stopped):
            stopped.append(rows.stopped(number, row))
            pictures.know(stopped[-1], number)
        # Beside five rejected clips a dozen kept ones would be a wall.
        beside = _ordered(heap.kept)[: max(nearest // 2, len(stopped))]
        kept = tuple((key, value) for _, key, _, _, value in beside)
        borders.append(
            Border(reason, rule.measure, rule.unit, rule.threshold, rule.keeps, heap.count, tuple(stopped), kept)
        )
    borders.sort(key=_importance)
    return Borders(tuple(borders), counts, pictures.of)


def _importance(border: Border) -> tuple[bool, bool, int, str]:
    return (border.threshold is None, not border.reason.startswith("select."), -border.count, border.reason)


def _parts(output: Path, planned: Sequence[str]) -> list[_Part]:
    """The parts whose shots are known, with the row stages that have run."""
    ledger = Ledger(output)
    row_stages = [stage for stage in planned if stage != "decode"]
    found = []
    for part in load_parts(output):
        stages = [stage for stage in row_stages if ledger.get(part.number, stage) is not None]
        if "detect_shots" in stages:
            found.append(_Part(PartFolder(output, part.number), stages, stages == row_stages))
    return found


def _survey(parts: Sequence[_Part], by: str) -> tuple[dict[str, int], dict[str, _Heaps], float | None]:
    """Clips by verdict, an empty heap per reason, and the lowest score among the kept (None without one)."""
    heaps: defaultdict[str, _Heaps] = defaultdict(_Heaps)
    counts: Counter[str] = Counter()
    lowest = math.inf
    for part in parts:
        table = PartTable(part.folder, part.stages, by)
        for kind, reason in zip(table.kinds, table.reasons, strict=True):
            if reason == OF_SOURCES:
                continue
            counts[kind or ("kept" if part.whole else "pending")] += 1
            if kind:
                heaps[reason].count += 1
        if by and part.whole:
            scores = table.measure(by)[np.array([not kind for kind in table.kinds], bool)]
            lowest = min(lowest, float(np.nanmin(scores, initial=math.inf)))
    return dict(counts), dict(heaps), lowest if math.isfinite(lowest) else None


def _rules(stages: Sequence[dict[str, Any]]) -> dict[str, Rule]:
    """The thresholds of the run's own options."""
    options = {s["stage"]: stage_class(s["stage"]).Options.model_validate(s["options"]) for s in stages}
    rules: dict[str, Rule] = {}
    if "trim" in options:
        trim = options["trim"]
        rules |= {
            "trim.too_short": Rule("length", "s", "above", trim.min_seconds),
            "trim.too_long": Rule("length", "s", "below", trim.max_seconds),
            "trim.still": Rule("motion", "", "above", trim.motion.low),
            "trim.extreme_motion": Rule("motion", "", "below", trim.motion.high),
            "trim.corrupt_frames": Rule("corrupt frames", "", "below", trim.max_corrupt_ratio),
        }
    if "select" in options:
        by = f"similarity {options['select'].by}"
        rules |= {"select.below_min": Rule(by, "", "above", options["select"].min)}
        rules |= {reason: Rule(by, "", "above", None) for reason in ("select.below_fraction", "select.below_top")}
    return rules


def _gather(table: PartTable, whole: bool, rules: dict[str, Rule], heaps: dict[str, _Heaps], nearest: int) -> None:
    """Put a part's rows into the heaps of their reasons, its kept rows beside every threshold."""
    number = table.folder.number
    for row, reason in enumerate(table.reasons):
        if reason in heaps:
            value, threshold = float(table.values[row]), _threshold(rules, reason)
            distance = abs(value - threshold) if threshold is not None and math.isfinite(value) else 0.0
            _push(heaps[reason].stopped, (distance, table.keys[row], number, row, value), nearest)
    for reason in [reason for reason in heaps if whole and _threshold(rules, reason) is not None]:
        measured = table.measure(rules[reason].measure)
        for row in np.flatnonzero([not stopped for stopped in table.reasons]).tolist():
            value = float(measured[row])
            if math.isfinite(value):
                distance = abs(value - (_threshold(rules, reason) or 0.0))
                _push(heaps[reason].kept, (distance, table.keys[row], number, row, round(value, 6)), nearest)


def _threshold(rules: dict[str, Rule], reason: str) -> float | None:
    return rules[reason].threshold if reason in rules else None


class _Reversed(tuple[Any, ...]):
    """Orders the heap so that the row furthest away (then of the greatest key) is at its top."""

    __slots__ = ()

    def __lt__(self, other: Any) -> bool:
        return tuple(self) > tuple(other)


def _push(heap: list[Any], item: tuple[float, str, int, int, float], nearest: int) -> None:
    if len(heap) < nearest:
        heapq.heappush(heap, _Reversed(item))
    else:
        heapq.heappushpop(heap, _Reversed(item))


def _ordered(heap: list[Any]) -> list[tuple[float, str, int, int, float]]:
    return sorted(tuple(item) for item in heap)
