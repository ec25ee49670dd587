"""Chooses the clips of the whole run from their score columns alone, in memory that does not grow with their number.

In this order: minimum score, duplicates, cap per source (best first, ties by key), fraction or top-k. Every clip of a
duplicate source is named so whatever its score is. Scores tie exactly or not at all; ties go to the smaller key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from vidcap.errors import ConfigError, InvariantError, UsageError
from vidcap.records import PRIMARY_ORDER, Verdict
from vidcap.seeds import digest_of
from vidcap.stages.base import Context, StageOptions
from vidcap.stages.cutoff import Bytes, Chunk, Cutoff, FirstDigits, find_cutoff, key_bytes, order_codes

Float64 = npt.NDArray[np.float64]
REASONS = (
    "",
    "select.no_score",
    "select.below_min",
    "source.duplicate",
    "select.source_cap",
    "select.below_fraction",
    "select.below_top",
)
_IN, _NO_SCORE, _BELOW_MIN, _DUPLICATE, _CAP, _FRACTION, _TOP = range(7)


class SelectOptions(StageOptions):
    by: Literal["primary", "v", "a", "s", "av", "avs"] = "primary"
    """Whose score ranks: of the primary caption (whichever kind that is), or of one kind."""
    min: float | None = Field(default=None, allow_inf_nan=False)
    """Clips with a lower score are rejected."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """Keep this share of the clips that are left after the steps before: ⌊fraction × n + ½⌋ of n, the best."""
    top: int | None = Field(default=None, ge=1)
    """Keep this many of the clips that are left after the steps before, the best."""
    max_per_source: int | None = Field(default=None, ge=1)
    allow_failed: bool = False
    """Select although parts have failed; their clips cannot be chosen."""

    @model_validator(mode="after")
    def _one_bound(self) -> SelectOptions:
        if self.fraction is not None and self.top is not None:
            raise ValueError("give `fraction` or `top`, not both")
        return self

    def wanted(self, n: int) -> int:
        """How many of `n` remaining clips are kept. The fraction counts as the decimal number that was written."""
        if self.top is not None:
            return min(self.top, n)
        if self.fraction is not None:
            return min(math.floor(Fraction(repr(self.fraction)) * n + Fraction(1, 2)), n)
        return n


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """The clips of one part that no earlier stage has stopped; NaN where a clip has no score."""

    keys: Bytes
    sources: npt.NDArray[np.int64]
    """Per clip the position of its source in `source_ids`."""
    source_ids: list[str]
    scores: Float64

    @classmethod
    def of(cls, keys: Sequence[str], source_ids: Sequence[str], scores: Sequence[float] | Float64) -> ScoreColumns:
        return cls._from(pa.array(keys, pa.string()), pa.array(source_ids, pa.string()), np.asarray(scores, np.float64))

    @classmethod
    def from_table(cls, table: pa.Table, by: str) -> ScoreColumns:
        """From the columns `key`, `source_id` and those of `score_columns(by)`; a null score is NaN.

        Raises `ConfigError` where no score column that `by` asks for is there.
        """
        return cls._from(table["key"], table["source_id"], _scores(table, by))

    @classmethod
    def _from(cls, keys: Any, source_ids: Any, scores: Float64) -> ScoreColumns:
        encoded = source_ids.combine_chunks() if isinstance(source_ids, pa.ChunkedArray) else source_ids
        encoded = encoded.dictionary_encode()
        sources = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        plain_keys = key_bytes(keys.to_numpy(zero_copy_only=False)) if len(keys) else np.empty(0, "S1")
        return cls(plain_keys, sources, [str(name) for name in encoded.dictionary.to_pylist()], scores)


class PartScores(Protocol):
    """The scores of one part; `load` may be called several times and gives the same each time."""

    @property
    def part(self) -> int: ...
    def load(self) -> ScoreColumns: ...


@dataclass(frozen=True, slots=True)
class PartSelection:
    """What becomes of the clips of a part, in the order `load` gave them."""

    part: int
    columns: ScoreColumns
    codes: npt.NDArray[np.uint8]
    """Per clip the position of its reason in `REASONS`; 0 is kept."""

    @property
    def keep(self) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = self.codes == _IN
        return kept

    @property
    def reasons(self) -> list[str]:
        """Per clip a reason code, "" where it is kept."""
        return [REASONS[code] for code in self.codes]

    @property
    def values(self) -> Float64:
        """Per clip the score it was judged by."""
        return self.columns.scores

    def verdict(self, at: int) -> Verdict | None:
        """The verdict on the clip at that position, None where it is kept."""
        score = float(self.columns.scores[at])
        reason = REASONS[self.codes[at]]
        return Verdict("rejected", reason, None if math.isnan(score) else score) if reason else None


class Select:
    """Not a clip stage: it looks at all parts at once. Reads each part two to a few times, never two at a time."""

    name: ClassVar[str] = "select"
    version: ClassVar[int] = 1
    role: ClassVar[str | None] = None
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[dict[str, pa.DataType]] = {}
    Options: ClassVar[type[SelectOptions]] = SelectOptions

    def __init__(self, options: SelectOptions, context: Context | None = None) -> None:
        self.options = options

    def run(
        self, parts: Sequence[PartScores], *, duplicates: Collection[str] = (), failed: Collection[int] = ()
    ) -> Iterator[PartSelection]:
        """One selection per part, in the order of `parts`; the work begins with the first that is asked for.

        `duplicates`: ids of the sources whose bytes an earlier one has (`duplicate_sources`); `failed`: parts without
        scores. Raises `UsageError` where parts have failed and the options do not allow it.
        """
        if failed and not self.options.allow_failed:
            hint = "run again with --retry-failed, or set `allow_failed: true` to select without them"
            raise UsageError(f"selection is over all parts, and `{len(failed)}` of them failed", hint=hint)
        return self._run(parts, frozenset(duplicates))

    def _run(self, parts: Sequence[PartScores], duplicates: frozenset[str]) -> Iterator[PartSelection]:
        if self.options.fraction is None and self.options.top is None:
            for part in parts:
                columns = part.load()
                yield PartSelection(part.part, columns, self._judge(columns, duplicates))
            return
        # One bit per clip: judging a part again on every pass would sort its sources again.
        inside: list[npt.NDArray[np.uint8]] = []
        first = FirstDigits()
        total = 0
        for part in parts:
            columns = part.load()
            mask = self._judge(columns, duplicates) == _IN
            inside.append(np.packbits(mask))
            first.add(order_codes(columns.scores[mask]))
            total += int(mask.sum())
        wanted = self.options.wanted(total)
        cutoff = find_cutoff(_chunks(parts, inside), wanted, first=first) if 0 < wanted < total else None
        beyond = _TOP if self.options.top is not None else _FRACTION
        kept = 0
        for part in parts:
            columns = part.load()
            codes = self._judge(columns, duplicates)
            left = np.flatnonzero(codes == _IN)
            codes[left[~_admitted(columns, left, cutoff, wanted)]] = beyond
            kept += int((codes == _IN).sum())
            yield PartSelection(part.part, columns, codes)
        if kept != wanted:
            raise InvariantError(f"selection kept {kept} clips, not {wanted}: scores changed or keys are not unique")

    def _judge(self, columns: ScoreColumns, duplicates: frozenset[str]) -> npt.NDArray[np.uint8]:
        """What can be said of a part's clips without the other parts."""
        codes = np.full(len(columns.scores), _IN, dtype=np.uint8)
        missing = np.isnan(columns.scores)
        codes[missing] = _NO_SCORE
        if self.options.min is not None:
            codes[~missing & (columns.scores < self.options.min)] = _BELOW_MIN
        twice = np.array([name in duplicates for name in columns.source_ids], dtype=bool)
        if twice.any():
            codes[twice[columns.sources]] = _DUPLICATE
        if self.options.max_per_source is not None:
            left = np.flatnonzero(codes == _IN)
            codes[left[_beyond_cap(columns, left, self.options.max_per_source)]] = _CAP
        return codes


def score_columns(by: str) -> list[str]:
    """The caption and score columns that `ScoreColumns.from_table` reads for `by`, those that exist of them."""
    if by != "primary":
        return [f"similarity_{by}"]
    return [f"{what}_{kind}" for what in ("caption", "similarity") for kind in PRIMARY_ORDER]


def duplicate_sources(sources: Callable[[], Iterable[tuple[str, str]]]) -> dict[str, str]:
    """Id of each source whose content an earlier one has → id of that earlier one.

    `sources` gives (id, content digest) in manifest order, twice the same; a source without a digest ("") is nobody's
    duplicate. A first reading keeps 8 bytes per source, the second resolves the few that look alike.
    """
    short = np.fromiter((_short(content) for _, content in sources() if content), dtype=np.uint64)
    values, times = np.unique(short, return_counts=True)
    suspects = set(values[times > 1].tolist())
    if not suspects:
        return {}
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for source_id, content in sources():
        if content and _short(content) in suspects and first.setdefault(content, source_id) != source_id:
            found[source_id] = first[content]
    return found


def _short(content: str) -> int:
    return int(digest_of(content, size=8), 16)


def _scores(table: pa.Table, by: str) -> Float64:
    def score(kind: str) -> Float64:
        name = f"similarity_{kind}"
        if name not in table.column_names:
            return np.full(len(table), np.nan)
        found: Float64 = table[name].cast(pa.float64()).to_numpy().astype(np.float64)
        return found

    kinds = PRIMARY_ORDER if by == "primary" else (by,)
    if not any(f"similarity_{kind}" in table.column_names for kind in kinds):
        hint = f"add `{kinds[-1]}` to the `kinds` of the stage `score`"
        raise ConfigError(f"select ranks by `{by}`, which is not scored", hint=hint)
    if by != "primary":
        return score(by)
    scores = np.full(len(table), np.nan)
    unset = np.ones(len(table), dtype=bool)
    for kind in PRIMARY_ORDER:
        name = f"caption_{kind}"
        if name in table.column_names:
            text: Any = table[name]
            lengths: Any = pc.fill_null(pc.binary_length(text), 0)
            written = lengths.to_numpy() > 0
            here = unset & written
            scores[here] = score(kind)[here]
            unset &= ~written
    return scores


def _beyond_cap(columns: ScoreColumns, rows: npt.NDArray[np.int64], cap: int) -> npt.NDArray[np.bool_]:
    """Which of `rows` come after the best `cap` of their source."""
    keys = columns.keys[rows]
    # Sorting text is slow, and parts are in key order as a rule: then a stable sort by score breaks ties by key.
    by_key = np.arange(len(rows)) if bool(np.all(keys[:-1] <= keys[1:])) else np.argsort(keys, kind="stable")
    source, score = columns.sources[rows][by_key], order_codes(columns.scores[rows])[by_key]
    order = by_key[np.lexsort((score, source))]
    ordered = columns.sources[rows][order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
    place = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    beyond = np.zeros(len(rows), dtype=bool)
    beyond[order] = place >= cap
    return beyond


def _chunks(parts: Sequence[PartScores], inside: list[npt.NDArray[np.uint8]]) -> Callable[[], Iterator[Chunk]]:
    def read() -> Iterator[Chunk]:
        for part, bits in zip(parts, inside, strict=True):
            if bits.any():
                columns = part.load()
                rows = np.flatnonzero(np.unpackbits(bits, count=len(columns.scores)))
                yield Chunk(order_codes(columns.scores[rows]), columns.keys, rows)

    return read


def _admitted(
    columns: ScoreColumns, rows: npt.NDArray[np.int64], cutoff: Cutoff | None, wanted: int
) -> npt.NDArray[np.bool_]:
    if cutoff is None:
        return np.full(len(rows), wanted > 0)
    return cutoff.admits(Chunk(order_codes(columns.scores[rows]), columns.keys, rows))
