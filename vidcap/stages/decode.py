"""Decode: one source becomes its evidence folder and one row of facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.ffmpeg_program import libraries
from vidcap.media.program_decoding import check_decoding, try_decoding
from vidcap.records import Source
from vidcap.stages.base import Context


class Decode:
    """Makes the row of a source. No clip stage: it runs once per source and opens the file, no later stage does."""

    name: ClassVar[str] = "decode"
    version: ClassVar[int] = 4
    role: ClassVar[str | None] = None
    prompt_slots: ClassVar[Mapping[str, str]] = {}
    wants_llm: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()
    Options: ClassVar[type[DecodeOptions]] = DecodeOptions
    gives: ClassVar[Mapping[str, pa.DataType]] = {
        "id": pa.string(),
        "row": pa.int64(),
        "uri": pa.string(),
        "sha256": pa.string(),
        "bytes": pa.int64(),
        "container": pa.string(),
        "video_codec": pa.string(),
        "pix_fmt": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "fps": pa.string(),
        "vfr": pa.bool_(),
        "frames": pa.int64(),
        "corrupt_frames": pa.int64(),
        "seconds": pa.float64(),
        "truncated": pa.bool_(),
        "has_audio": pa.bool_(),
        "audio_codec": pa.string(),
        "sample_rate": pa.int32(),
        "channels": pa.int32(),
        "license": pa.string(),
        "meta": pa.string(),
        "note": pa.string(),
    }

    def __init__(self, options: DecodeOptions, context: Context | None = None) -> None:
        self.options = options
        self.context = context or Context()
        if options.through == "ffmpeg":
            try_decoding(options.hwaccel)

    @staticmethod
    def libraries(options: DecodeOptions) -> str:
        """What reads the sources, for the fingerprint. Raises `ConfigError` where the program cannot do it."""
        if options.through == "ffmpeg":
            check_decoding(options.hwaccel)
        return libraries(through=options.through)

    def run(self, source: Source, folder: Path, on_progress: Callable[[int], None] | None = None) -> dict[str, Any]:
        """Leave the evidence of `source` in `folder`; returns one value per column of `gives`.

        Raises `MediaError` where the source is to be quarantined, `TransientError` where it is worth another try.
        """
        window = None if source.start is None and source.end is None else (source.start, source.end)
        decoded = decode_source(source.path, folder, self.options, window, on_progress)
        facts, frames = decoded.facts, decoded.tables.frames
        return {
            "id": source.id,
            "row": source.row,
            "uri": source.uri,
            "fps": f"{frames.fps.numerator}/{frames.fps.denominator}",
            "vfr": frames.vfr,
            "license": source.license,
            "meta": source.meta,
            "note": facts.note,
        } | {
            name: getattr(facts, name)
            for name in (
                "sha256",
                "bytes",
                "container",
                "video_codec",
                "pix_fmt",
                "width",
                "height",
                "frames",
                "corrupt_frames",
                "seconds",
                "truncated",
                "has_audio",
                "audio_codec",
                "sample_rate",
                "channels",
            )
        }
