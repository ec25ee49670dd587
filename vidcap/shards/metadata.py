"""The metadata Parquet beside every shard: one row per sample, the JSON record in flat columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidcap.records import WORD_TYPE
from vidcap.shards.schema import SampleJson

# Field of the record → column. Names are those of the stage files where a stage gives the column.
COLUMNS: dict[str, tuple[str, pa.DataType]] = {
    "key": ("key", pa.string()),
    "source.id": ("source_id", pa.string()),
    "source.uri": ("uri", pa.string()),
    "source.sha256": ("sha256", pa.string()),
    "source.license": ("license", pa.string()),
    "source.meta": ("meta", pa.string()),
    "span.start": ("start", pa.float64()),
    "span.end": ("end", pa.float64()),
    "span.first_frame": ("first_frame", pa.int64()),
    "span.last_frame": ("last_frame", pa.int64()),
    "span.shot_first": ("shot_first", pa.int64()),
    "span.shot_last": ("shot_last", pa.int64()),
    "video.codec": ("video_codec", pa.string()),
    "video.width": ("width", pa.int64()),
    "video.height": ("height", pa.int64()),
    "video.frames": ("frames", pa.int64()),
    "video.fps": ("fps", pa.string()),
    "video.vfr": ("vfr", pa.bool_()),
    "video.cut": ("cut", pa.string()),
    "video.check": ("check", pa.string()),
    "video.source_codec": ("source_codec", pa.string()),
    "audio.present": ("has_audio", pa.bool_()),
    "audio.silent": ("silent", pa.bool_()),
    "audio.codec": ("audio_codec", pa.string()),
    "audio.sample_rate": ("sample_rate", pa.int64()),
    "audio.channels": ("channels", pa.int64()),
    "captions.v": ("caption_v", pa.string()),
    "captions.a": ("caption_a", pa.string()),
    "captions.s": ("caption_s", pa.string()),
    "captions.av": ("caption_av", pa.string()),
    "captions.avs": ("caption_avs", pa.string()),
    "primary": ("primary", pa.string()),
    "transcript.trusted": ("transcript_trusted", pa.bool_()),
    "transcript.language": ("language", pa.string()),
    "transcript.confidence": ("language_confidence", pa.float64()),
    "transcript.text": ("transcript_text", pa.string()),
    "transcript.english": ("transcript_english", pa.string()),
    "transcript.route": ("speech_route", pa.string()),
    "transcript.words": ("words", pa.list_(WORD_TYPE)),
    "scores.motion": ("motion", pa.float64()),
    "scores.similarity_v": ("similarity_v", pa.float64()),
    "scores.similarity_a": ("similarity_a", pa.float64()),
    "scores.similarity_s": ("similarity_s", pa.float64()),
    "scores.similarity_av": ("similarity_av", pa.float64()),
    "scores.similarity_avs": ("similarity_avs", pa.float64()),
    "provenance.backends": ("backends", pa.string()),
    "provenance.prompts": ("prompts", pa.string()),
    "provenance.stages": ("stages", pa.string()),
    "provenance.embedded": ("embedded", pa.bool_()),
}

SCHEMA = pa.schema(list(COLUMNS.values()))


def flat_row(record: SampleJson) -> dict[str, Any]:
    """Column → value; a missing score stays -1, as in the JSON."""
    tree = record.model_dump(by_alias=True)
    return {
        column: reduce(lambda node, name: node[name], path.split("."), tree) for path, (column, _) in COLUMNS.items()
    }


def write_metadata(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows of `flat_row`; the same rows give the same bytes."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), path, compression="zstd")


def read_keys(path: Path) -> list[str]:
    """The keys of a metadata file, in its order. Raises `ValueError` where it is not one."""
    try:
        return [str(key) for key in pq.read_table(path, columns=["key"])["key"].to_pylist()]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"not a metadata file: {type(error).__name__}") from None
