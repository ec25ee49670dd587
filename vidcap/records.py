"""The rows that walk through the pipeline: sources, shots, words, transcripts, verdicts. Frozen, plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

CAPTION_KINDS = ("v", "a", "s", "av", "avs")
"""Caption kinds: video, audio, speech, and the fused audio-video and audio-video-speech captions."""

PRIMARY_ORDER = ("avs", "av", "v")
"""The primary caption (a sample's `.txt`) is the first of these that is not empty."""


@dataclass(frozen=True, slots=True)
class Source:
    """One row of the manifest. `uri` is relative to `root` (or an absolute fsspec URL)."""

    id: str
    row: int
    uri: str
    path: str
    """What to open: `root` joined with `uri`."""
    bytes: int
    start: float | None = None
    end: float | None = None
    license: str = ""
    transcript: str = ""
    caption: str = ""
    meta: str = "{}"


@dataclass(frozen=True, slots=True)
class Shot:
    """What the detector finds. Frame indices in presentation order, both inclusive."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word. Seconds from the start of what was transcribed; `p` in [0, 1]."""

    start: float
    end: float
    word: str
    p: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a recogniser heard. `confidence` is the mean word posterior in [0, 1]; 0 where nothing was heard.

    `language` is the recogniser's own belief (ISO 639-1), "" where it has none.
    """

    text: str = ""
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    language: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a row does not go on. A row without a verdict is pending, in the end kept."""

    kind: Literal["rejected", "quarantined"]
    reason: str
    value: float | None = None
    detail: str = ""


@dataclass(slots=True)
class StageResult:
    """What a clip stage returns: one value per input row and column, and the rows that stop here.

    `columns[name]` has as many entries as the stage was given rows; `verdicts` maps a row's position to its verdict.
    """

    columns: dict[str, list[Any]]
    verdicts: dict[int, Verdict] = field(default_factory=dict)


WORD_TYPE = pa.struct([("start", pa.float64()), ("end", pa.float64()), ("word", pa.string()), ("p", pa.float64())])

VERDICT_COLUMNS: dict[str, pa.DataType] = {
    "verdict": pa.string(),
    "reason": pa.string(),
    "value": pa.float64(),
    "detail": pa.string(),
}
"""Every stage file ends with these; `verdict` is "" for a row that goes on."""


def clip_key(source_id: str, first: int, last: int) -> str:
    """`{source_id}_{first:08d}_{last:08d}`: no dots, sorts by time."""
    return f"{source_id}_{first:08d}_{last:08d}"


def primary_kind(captions: dict[str, str]) -> str:
    """The kind of the primary caption: the first non-empty of avs, av, v."""
    return next((kind for kind in PRIMARY_ORDER if captions.get(kind)), "v")
