"""What a set of samples holds, as counts that add up: made per part beside its shards, summed for cards and reports.

Only counts are kept, so that a corpus of any size needs little memory and the order of parts plays no part.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vidcap.records import CAPTION_KINDS
from vidcap.shards.bias_terms import found_terms
from vidcap.shards.schema import MISSING

STEPS = {"seconds": 0.01, "motion": 0.01, "similarity": 1e-4, "words": 1.0, "fps": 0.01}
"""The distance of neighbouring values of a tally; its name up to the first `|` is looked up here."""

_COLUMNS = (
    *("source_id", "license", "start", "end", "width", "height", "fps", "cut", "check", "has_audio", "silent"),
    *("primary", "language", "transcript_trusted", "speech_route", "motion", "backends", "prompts", "stages"),
    *("embedded",),
    *(f"{what}_{kind}" for what in ("caption", "similarity") for kind in CAPTION_KINDS),
)


@dataclass(slots=True)
class Tally:
    """A distribution: how often each value was seen, to a step. Values that are not finite are not seen."""

    step: float
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: float | None, times: int = 1) -> None:
        if value is not None and math.isfinite(value):
            self.counts[round(value / self.step)] += times

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def sum(self) -> float:
        return sum(place * times for place, times in self.counts.items()) * self.step

    @property
    def mean(self) -> float:
        """NaN where nothing was seen."""
        return self.sum / self.total if self.counts else math.nan

    def quantile(self, share: float) -> float:
        """The smallest value with at least that share at or below it; NaN where nothing was seen."""
        wanted, below = share * self.total, 0
        for place in sorted(self.counts):
            below += self.counts[place]
            if below >= wanted:
                return round(place * self.step, 6)
        return math.nan

    def binned(self, edges: Sequence[float]) -> list[int]:
        """How many lie in each [edge, next edge); what lies outside goes to the first and the last."""
        found = [0] * (len(edges) - 1)
        for place, times in self.counts.items():
            value = place * self.step + 1e-9
            at = sum(edge <= value for edge in edges) - 1
            found[min(max(at, 0), len(found) - 1)] += times
        return found


@dataclass(slots=True)
class Statistics:
    """Named counts and tallies."""

    counts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    tallies: dict[str, Tally] = field(default_factory=dict)

    def tally(self, name: str) -> Tally:
        """The tally of that name, made where there is none yet."""
        return self.tallies.setdefault(name, Tally(STEPS[name.partition("|")[0]]))

    def count_terms(self, kind: str, text: str) -> None:
        """Book the words of `bias_terms`: how often each, and how many captions have one of a group."""
        found = found_terms(text)
        for (axis, group, term), times in found.items():
            self.counts[f"terms|{kind}"][f"{axis}|{group}|{term}"] += times
        for axis, group in {(axis, group) for axis, group, _ in found}:
            self.counts[f"groups|{kind}"][f"{axis}|{group}"] += 1

    def merge(self, other: Statistics) -> None:
        for name, counts in other.counts.items():
            self.counts[name].update(counts)
        for name, tally in other.tallies.items():
            self.tally(name).counts.update(tally.counts)

    def to_bytes(self) -> bytes:
        """JSON; equal statistics have equal bytes."""
        value = {
            "counts": {name: dict(counts) for name, counts in self.counts.items() if counts},
            "tallies": {n: {str(k): v for k, v in t.counts.items()} for n, t in self.tallies.items() if t.counts},
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Statistics:
        value = json.loads(data)
        made = cls()
        for name, counts in value["counts"].items():
            made.counts[name].update(counts)
        for name, tally in value["tallies"].items():
            made.tally(name).counts.update({int(place): times for place, times in tally.items()})
        return made


def statistics_of(metadata: Iterable[Path]) -> Statistics:
    """What the samples of one part hold, from the metadata files of its shards."""
    made = Statistics()
    sources: dict[str, str] = {}
    for path in metadata:
        for row in pq.read_table(path, columns=list(_COLUMNS), memory_map=False).to_pylist():
            sources[row["source_id"]] = row["license"]
            _add_sample(made, row)
    made.counts["sources"].update({"all": len(sources)})
    made.counts["source licences"].update(sources.values())
    return made


def _add_sample(made: Statistics, row: dict[str, Any]) -> None:
    counts = made.counts
    counts["samples"]["all"] += 1
    counts["sample licences"][row["license"]] += 1
    counts["pictures"][f"{row['width']}x{row['height']}"] += 1
    counts["sound"]["none" if not row["has_audio"] else "silent" if row["silent"] else "sound"] += 1
    for name in ("cut", "check", "primary", "speech_route", "backends", "prompts", "stages"):
        counts[name][row[name]] += 1
    counts["embedded"]["yes" if row["embedded"] else "no"] += 1
    if row["transcript_trusted"]:
        counts["speech languages"][row["language"]] += 1
    made.tally("seconds").add(row["end"] - row["start"])
    made.tally("motion").add(row["motion"])
    numerator, _, denominator = row["fps"].partition("/")
    made.tally("fps").add(int(numerator) / int(denominator))
    for kind in CAPTION_KINDS:
        caption = row[f"caption_{kind}"]
        if not caption:
            continue
        counts["captions"][kind] += 1
        made.tally(f"words|{kind}").add(len(caption.split()))
        made.count_terms(kind, caption)
        if row[f"similarity_{kind}"] != MISSING:
            made.tally(f"similarity|{kind}").add(row[f"similarity_{kind}"])
