"""Inside a part every finished source is journalled, so that a preempted step loses at most one source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidcap.store import append_line, read_lines

Added = dict[str, list[dict[str, Any]]]
"""Stage → what it gave for each row of the source."""
Work = dict[str, tuple[float, float]]
"""Stage → seconds it took, and CPU-seconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a step gave for one source: its source row (only where `decode` ran) and the values of each stage."""

    source_id: str
    source_row: dict[str, Any] | None
    added: Added
    work: Work = field(default_factory=dict)


class Journal:
    """One line per finished source, valid only for the same stages with the same fingerprints.

    Values are JSON (with NaN), which keeps the float64 of Python exactly.
    """

    def __init__(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        self.path = path
        self.fingerprints = dict(fingerprints)

    def entries(self) -> dict[str, Entry]:
        """Finished sources of an earlier attempt at the same step, by id."""
        found: dict[str, Entry] = {}
        for line in read_lines(self.path):
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a line torn in the middle of the file by a crash between two runs
            if row["fingerprints"] == self.fingerprints:
                found[row["source"]] = Entry(row["source"], row["row"], row["added"], row.get("work", {}))
        return found

    def append(self, entry: Entry) -> None:
        line = {
            "source": entry.source_id,
            "fingerprints": self.fingerprints,
            "row": entry.source_row,
            "added": entry.added,
            "work": entry.work,
        }
        append_line(self.path, json.dumps(line, default=_plain, allow_nan=True))

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as plain values."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    if isinstance(value, Sequence) or hasattr(value, "tolist"):
        return value.tolist() if hasattr(value, "tolist") else list(value)
    raise TypeError(f"a stage gave a {type(value).__name__}, which no column holds")
