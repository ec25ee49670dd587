"""How long exact global selection takes, and how much memory, over any number of scores that are never held at once.

    python benchmarks/global_selection.py --clips 100_000_000 --per-part 1_000_000 --top 60_000_000
    python benchmarks/global_selection.py --clips 5_000_000 --per-part 50_000 --top 3_000_000 --parquet FOLDER

Without --parquet the parts are computed from their number each time they are read: that measures the selection itself.
With it they are written once as the column files a run has, and read back on every pass.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidcap.stages.select import ScoreColumns, Select, SelectOptions

CLIPS_PER_SOURCE = 40


@dataclass(frozen=True)
class GeneratedPart:
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
        hashes = (sources + self.part * self.clips + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
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


def stored(part: GeneratedPart, folder: Path) -> StoredPart:
    path = folder / f"{part.part:06d}.parquet"
    if not path.exists():
        columns = part.load()
        keys = [key.decode() for key in columns.keys.tolist()]
        ids = [key[:16] for key in keys]
        pq.write_table(pa.table({"key": keys, "source_id": ids, "similarity_v": columns.scores}), path)
    return StoredPart(part.part, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5_000_000)
    parser.add_argument("--per-part", type=int, default=100_000)
    parser.add_argument("--top", type=int, default=3_000_000)
    parser.add_argument("--max-per-source", type=int)
    parser.add_argument("--parquet", type=Path, help="write the parts here first and read them back")
    arguments = parser.parse_args()
    generated = [GeneratedPart(number, arguments.per_part) for number in range(arguments.clips // arguments.per_part)]
    parts: list[GeneratedPart] | list[StoredPart] = generated
    if arguments.parquet:
        arguments.parquet.mkdir(parents=True, exist_ok=True)
        parts = [stored(part, arguments.parquet) for part in generated]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for part in parts:
        part.load()
    one_pass = time.perf_counter() - started
    started = time.perf_counter()
    options = SelectOptions(top=arguments.top, max_per_source=arguments.max_per_source)
    kept = sum(int(selection.keep.sum()) for selection in Select(options).run(parts))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("| clips | parts | kept | seconds | one reading alone | peak MB | at start MB |")
    print("|---|---|---|---|---|---|---|")
    row = (arguments.clips, len(parts), kept, f"{seconds:.1f}", f"{one_pass:.1f}", peak // 1024, before // 1024)
    print("| " + " | ".join(f"{value:,}" if isinstance(value, int) else value for value in row) + " |")


if __name__ == "__main__":
    main()
