"""How long exact selection of the best of all clips takes, and how much memory, with scores that are never all held.

    python benchmarks/select_clips.py                                # the best 6 M of 10 M
    python benchmarks/select_clips.py --rows 100_000_000 --turns 1   # 60 M of 100 M, as in pipelines/internvid2.yaml
    python benchmarks/select_clips.py --stored                       # parts as the column files of a run

Measured: `vidcap.stages.select` over parts of 1 M clips, each case in a process of its own; beside it, reading all
parts once, and NumPy holding and sorting everything, whose choice must be the same to the last key. Without `--stored`
a part is computed from its number each time it is read, and computing it is most of the time: see the reading case.
Not measured: writing keep-lists and verdicts, and what a run does before it selects.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Cost, command, in_turns, median, versions, write_table

from vidcap.stages.select import ScoreColumns, Select, SelectOptions

CLIPS_PER_SOURCE = 40
CLIPS_PER_PART = 1_000_000
FITS = 20_000_000
"""Rows that NumPy is given at most: keys and scores of them take about 1 GB, and sorting as much again."""
READ, SELECT, NUMPY = "reading all parts once", "selection, part by part", "NumPy, all at once"


@dataclass(frozen=True)
class ComputedPart:
    """`clips` clips of sources of 40 clips each, scores rounded to 1e-4 as in a run (so that many tie)."""

    part: int
    clips: int

    def load(self) -> ScoreColumns:
        rng = np.random.default_rng(self.part)
        scores = np.round(rng.normal(0.27, 0.06, self.clips), 4)
        scores[rng.random(self.clips) < 0.01] = np.nan
        sources = np.arange(self.clips) // CLIPS_PER_SOURCE
        first = np.arange(self.clips) % CLIPS_PER_SOURCE * 100
        # Source ids are hashes: a multiplicative one spreads them over the key space.
        hashes = (sources + self.part * CLIPS_PER_PART + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        table = np.full((self.clips, 34), ord("_"), np.uint8)
        for place in range(16):
            digit = (hashes >> np.uint64(60 - 4 * place)) & np.uint64(15)
            table[:, place] = np.frombuffer(b"0123456789abcdef", np.uint8)[digit]
        for begin, number in ((17, first), (26, first + 99)):
            for place in range(8):
                table[:, begin + place] = number // 10 ** (7 - place) % 10 + ord("0")
        keys = table.view("S34").reshape(self.clips)
        return ScoreColumns(keys, sources, [f"{self.part}-{n}" for n in range(int(sources[-1]) + 1)], scores)


@dataclass(frozen=True)
class StoredPart:
    part: int
    path: Path

    def load(self) -> ScoreColumns:
        return ScoreColumns.from_table(pq.read_table(self.path), "v")

    @classmethod
    def of(cls, part: ComputedPart, folder: Path) -> StoredPart:
        path = folder / f"{part.part:06d}.parquet"
        if not path.exists():
            columns = part.load()
            keys = pa.array(columns.keys, pa.binary()).cast(pa.string())
            ids = pa.array(columns.keys.astype("S16"), pa.binary()).cast(pa.string())
            table = pa.table({"key": keys, "source_id": ids, "similarity_v": columns.scores})
            pq.write_table(table, path, compression="zstd")
        return cls(part.part, path)


def parts_of(rows: int, stored: Path | None) -> list[Any]:
    sizes = [min(CLIPS_PER_PART, rows - begin) for begin in range(0, rows, CLIPS_PER_PART)]
    computed = [ComputedPart(number, size) for number, size in enumerate(sizes)]
    return [StoredPart.of(part, stored) for part in computed] if stored else list(computed)


def one(case: str, rows: int, top: int, stored: Path | None) -> dict[str, Any]:
    """Runs a case here; how many clips it kept, and a digest of their keys in the order of the parts."""
    parts = parts_of(rows, stored)
    digest, kept = hashlib.sha256(), 0
    if case == READ:
        for part in parts:
            kept += len(part.load().keys)
    elif case == SELECT:
        for selection in Select(SelectOptions(top=top)).run(parts):
            keys = selection.columns.keys[selection.keep]
            digest.update(keys.tobytes())
            kept += len(keys)
    else:
        loaded = [part.load() for part in parts]
        keys, scores = np.concatenate([c.keys for c in loaded]), np.concatenate([c.scores for c in loaded])
        del loaded
        falling = np.where(np.isnan(scores), np.inf, -scores)
        last = np.partition(falling, top - 1)[top - 1]
        keep = falling < last
        tied = np.flatnonzero(falling == last)
        keep[tied[np.argsort(keys[tied])[: top - int(keep.sum())]]] = True
        digest.update(keys[keep].tobytes())
        kept = int(keep.sum())
    return {"kept": kept, "digest": digest.hexdigest()[:16]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--top", type=int, help="how many are kept; default: 6 of 10")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--stored", action="store_true", help="write the parts to disk first (35 bytes per clip)")
    parser.add_argument("--one", choices=(READ, SELECT, NUMPY), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    top = asked.top or asked.rows * 6 // 10
    if asked.one:
        print(json.dumps(one(asked.one, asked.rows, top, asked.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        given = [*(sys.executable, __file__), *("--rows", str(asked.rows), "--top", str(top))]
        if asked.stored:
            parts_of(asked.rows, Path(folder))
            given += ["--folder", folder]
        names = [READ, SELECT] + [NUMPY] * (asked.rows <= FITS)
        said: dict[str, set[str]] = {name: set() for name in names}

        def run(name: str) -> Cost:
            cost = command([*given, "--one", name])
            said[name].add(cost.said.splitlines()[-1])
            return cost

        costs = in_turns({name: lambda name=name: run(name) for name in names}, asked.turns)  # type: ignore[misc]
    answers = {name: [json.loads(text) for text in texts] for name, texts in said.items()}
    assert len(answers[SELECT]) == 1 and answers[SELECT][0]["kept"] == top, answers
    assert NUMPY not in answers or answers[NUMPY] == answers[SELECT], answers
    table: list[list[str | float]] = []
    for name, of in costs.items():
        middle = median(of)
        rate = round(asked.rows / middle.wall / 1e6, 2)
        table.append([name, round(middle.wall, 1), round(middle.cpu, 1), rate, round(middle.peak_mb)])
    columns = ["case", "seconds", "CPU-seconds", "M clips/s", "peak MB"]
    kind = "read from column files" if asked.stored else "computed each time they are read"
    checked = "the same keys as NumPy's" if NUMPY in answers else f"more than {FITS:,} are not compared with NumPy's"
    about = [
        f"the best {top:,} of {asked.rows:,} in parts of {CLIPS_PER_PART:,}, {kind}, in three readings; "
        f"digest of the kept keys {answers[SELECT][0]['digest']}, {checked}.",
    ]
    write_table("select", columns, table, about=about, libraries=versions("numpy", "pyarrow"))


if __name__ == "__main__":
    main()
