"""Pack: cuts the chosen clips from their sources, straight into the shards of a part."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import ByteSize, Field, model_validator

from vidcap.errors import ItemError, MediaError
from vidcap.media.clip_space import ClipSpace, clip_space
from vidcap.media.cut import CutOptions, CutResult, Cutter
from vidcap.media.evidence import SAMPLE_RATE, Evidence
from vidcap.media.ffmpeg_program import libraries
from vidcap.media.flac import flac_bytes
from vidcap.media.program_encoding import CODECS, EncoderName, Encoding, check_encoding, try_encoding
from vidcap.media.silence import is_silent
from vidcap.records import CAPTION_KINDS, Source, StageResult, Verdict, primary_kind
from vidcap.shards.schema import Sample, SampleJson, make_record, score_or_missing
from vidcap.shards.writer import ShardInfo, ShardWriter
from vidcap.stages.base import Context, Row, StageOptions

Fetch = Callable[[Source], AbstractContextManager[Source]]
"""Gives a source a path on this machine for as long as its clips are cut."""


class PackOptions(StageOptions):
    cut: Literal["exact", "edit_list", "reencode"] = "exact"
    """`exact` copies packets where that hides no frame and encodes the rest, if only the edges of a clip; `edit_list`
    copies nearly all and hides what is too much, which not every reader respects; `reencode` encodes all.
    """
    max_hidden_bytes: float = Field(default=0.5, ge=0, le=1)
    """Share of a clip's bytes that an edit list may hide; what would hide more is cut as with `exact`."""
    video: Literal["h264", "keep"] = "h264"
    """`keep` also copies VP9, AV1, HEVC and others that MP4 holds but not every player plays."""
    audio: Literal["none", "flac"] = "none"
    """`flac` adds a 16 kHz mono member to every sample."""
    max_bytes: ByteSize = Field(default=ByteSize(3_000_000_000), gt=0)
    through: Literal["pyav", "ffmpeg"] = "pyav"
    """`ffmpeg`: clips that are encoded are encoded by the ffmpeg program, which must be installed."""
    encoder: EncoderName = "libx264"
    """`h264_nvenc` and `hevc_nvenc` encode on an Nvidia card; all but `libx264` need `through: ffmpeg`."""
    crf: int = Field(default=20, ge=0, le=51)
    """Of libx264 and libx265; NVENC's `cq`. Lower is better."""
    preset: str = Field(default="", pattern="^([a-z]+|p[1-7])?$")
    """Of the encoder; by default `veryfast`, and `p4` with NVENC, whose presets are `p1` (fast) to `p7`."""

    @model_validator(mode="after")
    def _encoder_fits(self) -> PackOptions:
        if self.encoder != "libx264" and self.through != "ffmpeg":
            raise ValueError(f"`encoder: {self.encoder}` goes through the program: add `through: ffmpeg`")
        if CODECS[self.encoder] != "h264" and self.video != "keep":
            raise ValueError(f"not every player plays what `{self.encoder}` writes: add `video: keep`")
        numbered = self.preset[-1:].isdigit()
        if self.preset and numbered != ("nvenc" in self.encoder):
            raise ValueError(f"`{self.encoder}` has no preset `{self.preset}`")
        return self

    @property
    def encoding(self) -> Encoding:
        preset = self.preset or ("p4" if "nvenc" in self.encoder else "veryfast")
        return Encoding(self.through, self.encoder, self.crf, preset)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the samples of a run: stage → backend identity, slot → prompt digest, stage → version."""

    backends: Mapping[str, str]
    prompts: Mapping[str, str]
    stages: Mapping[str, int]
    embedded: bool


@dataclass(slots=True)
class Packed:
    result: StageResult
    shards: list[ShardInfo]


class Pack:
    """Not a `ClipStage`: it writes. It runs after selection, over the chosen clips of one part."""

    name: ClassVar[str] = "pack"
    version: ClassVar[int] = 3
    role: ClassVar[str | None] = None
    needs: ClassVar[frozenset[str]] = frozenset({"key", "first_frame", "last_frame"})
    gives: ClassVar[Mapping[str, pa.DataType]] = {"shard": pa.string(), "cut": pa.string(), "check": pa.string()}
    Options: ClassVar[type[PackOptions]] = PackOptions

    def __init__(self, options: PackOptions, context: Context) -> None:
        self.options = options
        self.context = context
        if options.through == "ffmpeg":
            try_encoding(options.encoding)

    @staticmethod
    def libraries(options: PackOptions) -> str:
        """What writes the clips, for the fingerprint. Raises `ConfigError` where the program cannot do it."""
        if options.through == "ffmpeg":
            check_encoding(options.encoding)
        return libraries(through=options.through)

    def run(
        self,
        rows: Sequence[Row],
        sources: Mapping[str, tuple[Source, Row]],
        evidence: Callable[[str], Evidence],
        *,
        folder: Path,
        scratch: Path,
        name: str,
        part: int,
        provenance: Provenance,
        local: Fetch = contextlib.nullcontext,
        check_stop: Callable[[], None] = lambda: None,
        on_clip: Callable[[], None] = lambda: None,
    ) -> Packed:
        """Write the shards of `rows` (chosen clips, ascending key) into `folder`; each is cut under `scratch` first.

        `sources`: id → (source, its row). A clip that cannot be cut is quarantined, the others go on.
        """
        columns: dict[str, list[Any]] = {column: [""] * len(rows) for column in self.gives}
        verdicts: dict[int, Verdict] = {}
        flac = self.options.audio == "flac"
        scratch.mkdir(parents=True, exist_ok=True)
        with (
            clip_space(scratch) as space,
            ShardWriter(folder, name, part, max_bytes=self.options.max_bytes, flac=flac) as writer,
        ):
            for position, row, cut, clip in self._clips(rows, sources, evidence, space, local, check_stop):
                on_clip()
                if isinstance(cut, ItemError):
                    verdicts[position] = Verdict("quarantined", cut.reason, cut.value, cut.detail)
                    continue
                source_row = sources[row["source_id"]][1]
                try:
                    record = sample_json({**row, "silent": _silent(row, cut, clip)}, source_row, cut, provenance)
                    sound = _flac(row, evidence(row["source_id"])) if flac else None
                    writer.add(Sample(record, clip, sound))
                except ItemError as error:
                    verdicts[position] = Verdict("quarantined", error.reason, error.value, error.detail)
                    continue
                columns["shard"][position] = writer.current
                columns["cut"][position], columns["check"][position] = cut.method, cut.check
            shards = writer.commit()
        return Packed(StageResult(columns, verdicts), shards)

    def _clips(
        self,
        rows: Sequence[Row],
        sources: Mapping[str, tuple[Source, Row]],
        evidence: Callable[[str], Evidence],
        space: ClipSpace,
        local: Fetch,
        check_stop: Callable[[], None],
    ) -> Iterator[tuple[int, Row, CutResult | ItemError, Path]]:
        options = CutOptions(
            method=self.options.cut,
            video=self.options.video,
            encoding=self.options.encoding,
            max_hidden_bytes=self.options.max_hidden_bytes,
        )
        nowhere = Path()
        for source_id, group in groupby(enumerate(rows), key=lambda pair: str(pair[1]["source_id"])):
            check_stop()
            members = list(group)
            with contextlib.ExitStack() as opened:
                try:
                    source = opened.enter_context(local(sources[source_id][0]))
                    _unchanged(source, sources[source_id][1])
                    known = evidence(source_id)
                    cutter = opened.enter_context(Cutter(source.path, known.tables, known.facts, options=options))
                except ItemError as error:
                    yield from ((position, row, error, nowhere) for position, row in members)
                    continue
                for position, row in members:
                    span = row["first_frame"], row["last_frame"]
                    try:
                        clip = space.path(cutter.size(*span))
                        cut = cutter.cut(*span, clip)
                    except ItemError as error:
                        yield position, row, error, nowhere
                    else:
                        yield position, row, cut, clip


def _flac(row: Row, evidence: Evidence) -> bytes:
    """The clip's sound; silence of its length where the source has none, because all samples have it or none has."""
    sound = evidence.audio(row["first_frame"], row["last_frame"])
    return flac_bytes(sound if len(sound) else np.zeros(round((row["end"] - row["start"]) * SAMPLE_RATE), np.float32))


def _silent(row: Row, cut: CutResult, clip: Path) -> bool:
    """As trim found; where no sound was decoded for it, the clip's own is asked."""
    known = row.get("silent")
    return bool(known) if known is not None else not cut.sound.codec or is_silent(clip)


def _unchanged(source: Source, source_row: Row) -> None:
    """The cheap half of the check; the other is that every frame and packet is compared with the tables."""
    try:
        size = Path(source.path).stat().st_size
    except OSError as error:
        raise MediaError("source.missing", f"{error.strerror} since it was decoded") from error
    if size != source_row["bytes"]:
        raise MediaError("source.changed", f"{size} bytes now, {source_row['bytes']} when it was decoded")


def sample_json(row: Row, source_row: Row, cut: CutResult, provenance: Provenance) -> SampleJson:
    """The sample's record from its row, its source's row and its cut. Only what made this sample: no run, no clock."""
    captions = {kind: row.get(f"caption_{kind}") or "" for kind in CAPTION_KINDS}
    start = row["start"]
    has_sound = bool(cut.sound.codec)
    words = [
        {"start": word["start"], "end": word["end"], "word": word["word"], "p": _ratio(word["p"])}
        for word in row.get("words") or []
    ]
    return make_record(
        {
            "schema": "vidcap/1",
            "key": row["key"],
            "source": {
                "id": row["source_id"],
                "uri": source_row["uri"],
                "sha256": source_row["sha256"],
                "license": source_row["license"] or "",
                "meta": source_row["meta"] or "{}",
            },
            "span": {
                "start": start,
                "end": row["end"],
                **{name: row[name] for name in ("first_frame", "last_frame", "shot_first", "shot_last")},
            },
            "video": {
                "codec": cut.codec,
                "width": cut.width,
                "height": cut.height,
                "frames": cut.frames,
                "fps": f"{cut.fps.numerator}/{cut.fps.denominator}",
                "vfr": row["vfr"],
                "cut": cut.method,
                "check": cut.check,
                "source_codec": source_row["video_codec"],
            },
            "audio": {
                "present": has_sound,
                "silent": bool(row["silent"]),
                "codec": cut.sound.codec,
                "sample_rate": cut.sound.sample_rate if has_sound else 0,
                "channels": cut.sound.channels if has_sound else 0,
            },
            "captions": captions,
            "primary": primary_kind(captions),
            "transcript": {
                "trusted": bool(row.get("transcript_trusted")),
                "language": row.get("language") or "",
                "confidence": _ratio(row.get("language_confidence")),
                "text": row.get("transcript_text") or "",
                "english": row.get("transcript_english") or "",
                "route": row.get("speech_route") or "none",
                "words": words,
            },
            "scores": {
                "motion": score_or_missing(row.get("motion_mean")),
                **{
                    f"similarity_{kind}": score_or_missing(row.get(f"similarity_{kind}") if captions[kind] else None)
                    for kind in CAPTION_KINDS
                },
            },
            "provenance": {
                "backends": json.dumps(dict(provenance.backends), sort_keys=True),
                "prompts": json.dumps(dict(provenance.prompts), sort_keys=True),
                "stages": json.dumps(dict(provenance.stages), sort_keys=True),
                "embedded": provenance.embedded,
            },
        }
    )


def _ratio(value: float | None) -> float:
    """A confidence in [0, 1]; 0 where there is none."""
    return 0.0 if value is None or math.isnan(value) else min(1.0, max(0.0, float(value)))
