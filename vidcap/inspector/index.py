"""Finds samples in shards of any size: pages, filters and orders from the metadata, contents by offset in the tar.

What stays in memory is two numbers per match and the headers of the shards looked at last; no record is held.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from vidcap.errors import ShardError
from vidcap.records import CAPTION_KINDS, PRIMARY_ORDER
from vidcap.shards.metadata import SCHEMA, flat_row
from vidcap.shards.reader import Fault, RawSample, find_shards, scan
from vidcap.shards.schema import MISSING

pc: Any = pyarrow.compute
"""Untyped: the stubs know neither plain values as operands nor chunked results."""

TEXT_COLUMNS = ("key", "uri", *(f"caption_{kind}" for kind in CAPTION_KINDS), "transcript_text", "transcript_english")
SCORES = ("primary", *CAPTION_KINDS, "motion")
ORDERS = ("key", "shortest", "longest", "lowest", "highest")
CACHED_SHARDS, CACHED_QUERIES = 8, 8
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Query:
    """All terms of `text` stand somewhere in key, source, captions or transcript, in any case; bounds are inclusive.

    `score`: the score that `low`, `high` and the orders by score look at; a clip without it is outside every bound and
    comes last.
    """

    text: str = ""
    language: str | None = None
    license: str | None = None
    score: str = "primary"
    low: float | None = None
    high: float | None = None
    order: Literal["key", "shortest", "longest", "lowest", "highest"] = "key"

    @property
    def everything(self) -> bool:
        bounds = (self.language, self.license, self.low, self.high)
        return not self.text.split() and bounds == (None,) * 4 and self.order == "key"


class ShardIndex:
    """The samples of all shards that `find_shards` finds. Safe to use from several threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.shards = find_shards(paths)
        self._headers: _Recent[int, dict[str, RawSample]] = _Recent(CACHED_SHARDS)
        self._keys: _Recent[int, list[str]] = _Recent(CACHED_SHARDS)
        self._found: _Recent[Query, _Places] = _Recent(CACHED_QUERIES)
        self.faults: Counter[str] = Counter()
        self._starts = np.cumsum([0, *(self._count(number) for number in range(len(self.shards)))])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def samples(self, number: int) -> dict[str, RawSample]:
        """The samples of a shard by key, in order; from headers alone. Faulty ones are counted and left out."""
        return self._headers.get(number, lambda: self._scanned(number))

    def sample(self, number: int, key: str) -> RawSample:
        """Raises `KeyError` for a shard or key that is not in the index."""
        if not 0 <= number < len(self.shards):
            raise KeyError(number)
        return self.samples(number)[key]

    def page(self, query: Query, offset: int, limit: int) -> tuple[int, list[tuple[int, RawSample]]]:
        """How many samples match, and `limit` of them from `offset` on, with the number of their shard."""
        if query.everything:
            total = len(self)
            places = [self._place(at) for at in range(max(0, offset), min(offset + limit, total))]
        else:
            found = self._found.get(query, lambda: self._searched(query))
            total = len(found.rows)
            span = slice(max(0, offset), offset + limit)
            places = list(zip(found.shards[span].tolist(), found.rows[span].tolist(), strict=True))
        return total, [pair for pair in map(self._at, places) if pair is not None]

    def spread(self, count: int) -> list[tuple[int, RawSample]]:
        """At most `count` samples, evenly spaced over all."""
        total = len(self)
        chosen = range(total) if count >= total else [at * total // count for at in range(count)]
        return [pair for pair in (self._at(self._place(at)) for at in chosen) if pair is not None]

    def locate(self, keys: Iterable[str]) -> dict[str, tuple[int, RawSample]]:
        """The samples of those keys that are there, with the numbers of their shards."""
        wanted = set(keys)
        found: dict[str, tuple[int, RawSample]] = {}
        for number in range(len(self.shards)):
            if len(found) == len(wanted):
                break
            here: Any = self.table(number, ["key"])["key"]
            for key in here.filter(pc.is_in(here, value_set=pa.array(sorted(wanted), pa.string()))).to_pylist():
                sample = self.samples(number).get(key)
                if sample is not None:
                    found[key] = (number, sample)
        return found

    def facets(self) -> dict[str, Any]:
        """Languages and licences with their numbers of samples, most frequent first, and the highest score per kind."""
        languages: Counter[str] = Counter()
        licenses: Counter[str] = Counter()
        highest = dict.fromkeys(SCORES[1:], 0.0)
        for number in range(len(self.shards)):
            names = [name if name == "motion" else f"similarity_{name}" for name in highest]
            table = self.table(number, ["language", "license", *names])
            for counter, column in ((languages, "language"), (licenses, "license")):
                counted: Any = table[column].value_counts()
                for entry in counted.to_pylist():
                    counter[entry["values"] or ""] += entry["counts"]
            for kind, name in zip(highest, names, strict=True):
                highest[kind] = max(highest[kind], pc.max(table[name]).as_py() or 0.0)
        ordered = [sorted(c.items(), key=lambda pair: (-pair[1], pair[0])) for c in (languages, licenses)]
        return {"languages": ordered[0], "licenses": ordered[1], "highest": highest}

    def table(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Columns of the shard's metadata; where that file is missing or damaged, made from the records in the tar."""
        path = self.shards[number].with_suffix(".parquet")
        try:
            return pq.read_table(path, columns=list(columns), memory_map=False).select(list(columns))
        except (OSError, KeyError, pa.ArrowException):
            rows = []
            for sample in self.samples(number).values():
                try:
                    rows.append(flat_row(sample.record()))
                except ShardError:
                    continue
            return pa.Table.from_pylist(rows, schema=SCHEMA).select(list(columns))

    def _count(self, number: int) -> int:
        try:
            return int(pq.ParquetFile(self.shards[number].with_suffix(".parquet")).metadata.num_rows)
        except (OSError, pa.ArrowException):
            return self.table(number, ["key"]).num_rows

    def _scanned(self, number: int) -> dict[str, RawSample]:
        found = {}
        for item in scan(self.shards[number]):
            if isinstance(item, Fault):
                self.faults[item.shard] += 1
            elif "json" in item.members:
                found[item.key] = item
        return found

    def _place(self, at: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._starts, at, side="right")) - 1
        return number, at - int(self._starts[number])

    def _at(self, place: tuple[int, int]) -> tuple[int, RawSample] | None:
        number, row = place
        keys = self._keys.get(number, lambda: [str(key) for key in self.table(number, ["key"])["key"].to_pylist()])
        sample = self.samples(number).get(keys[row])
        return None if sample is None else (number, sample)

    def _searched(self, query: Query) -> _Places:
        shards: list[npt.NDArray[np.int32]] = []
        rows: list[npt.NDArray[np.int32]] = []
        values: list[npt.NDArray[np.float64]] = []
        for number in range(len(self.shards)):
            mask, measured = self._matches(number, query)
            here = np.flatnonzero(mask)
            shards.append(np.full(len(here), number, np.int32))
            rows.append(here.astype(np.int32))
            values.append(measured[here])
        shard, row, value = np.concatenate(shards), np.concatenate(rows), np.concatenate(values)
        if query.order != "key":
            ranked = np.where(np.isnan(value), np.inf, -value if query.order in ("longest", "highest") else value)
            order = np.argsort(ranked, kind="stable")  # ties stay in order of key
            shard, row = shard[order], row[order]
        return _Places(shard, row)

    def _matches(self, number: int, query: Query) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Which rows of a shard match, and what the query orders them by."""
        terms = query.text.split()
        scores = ["primary", *(f"similarity_{kind}" for kind in CAPTION_KINDS), "motion"]
        columns = ["key", "start", "end", "language", "license", *scores, *(TEXT_COLUMNS[1:] if terms else ())]
        table = self.table(number, columns)
        mask = np.ones(table.num_rows, bool)
        for term in terms:
            inside = np.zeros(table.num_rows, bool)
            for name in TEXT_COLUMNS:
                inside |= _bools(pc.match_substring(table[name], term, ignore_case=True))
            mask &= inside
        for name, wanted in (("language", query.language), ("license", query.license)):
            if wanted is not None:
                mask &= _bools(pc.equal(table[name], wanted))
        score = score_values(table, query.score)
        if query.low is not None:
            mask &= score >= query.low
        if query.high is not None:
            mask &= score <= query.high
        if query.order in ("shortest", "longest"):
            return mask, np.round(_floats(table["end"]) - _floats(table["start"]), 6)
        return mask, score


@dataclass(frozen=True, slots=True)
class _Places:
    """Shard and row of every match, in order."""

    shards: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]


def score_values(table: pa.Table, score: str) -> npt.NDArray[np.float64]:
    """The asked score of each row of metadata; NaN where it is missing."""
    if score == "primary":
        primary = np.asarray(table["primary"].to_pylist(), object)
        values = np.full(table.num_rows, np.nan)
        for kind in PRIMARY_ORDER:
            values = np.where(primary == kind, _floats(table[f"similarity_{kind}"]), values)
    else:
        values = _floats(table["motion" if score == "motion" else f"similarity_{score}"])
    return np.where(values == MISSING, np.nan, values)


def _floats(column: Any) -> npt.NDArray[np.float64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _bools(column: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.bool_)


Key = TypeVar("Key")


class _Recent(OrderedDict[Key, Value]):
    """The values asked for last. Two threads that ask for one at once may both make it; one of them stays."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:  # type: ignore[override]  # asks with a maker instead
        with self._lock:
            if key in self:
                self.move_to_end(key)
                return self[key]
        value = make()
        with self._lock:
            self[key] = value
            while len(self) > self._size:
                self.popitem(last=False)
        return value
