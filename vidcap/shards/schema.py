"""The sample, version `vidcap/1`: the typed JSON record, its canonical bytes, the invariants and the JSON Schema.

Every field is in every sample with the same type and no nulls, because readers infer types from the first few samples.
`python -m vidcap.shards.schema` prints the JSON Schema kept as `shards/schema-v1.json`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from vidcap.errors import ItemError
from vidcap.records import CAPTION_KINDS, clip_key, primary_kind

SCHEMA = "vidcap/1"
CAPTIONER = "caption_video"
"""The stage without which a pipeline writes no captions: all others build on its own."""
MISSING = -1.0
"""A score that was not computed."""

MAX_META_BYTES = 65_536
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}_[0-9]{8}_[0-9]{8}")
"""What a key looks like: no dots, because tar readers end a key at the first one."""


def _rounded(digits: int) -> BeforeValidator:
    """Round to `digits`; whole numbers become floats and -0.0 becomes 0.0, so that equal values have equal bytes."""

    def to_digits(value: Any) -> Any:
        if isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value):
            return round(float(value), digits) + 0.0
        return value

    return BeforeValidator(to_digits)


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: half surrogates (from broken recognisers or file names) would fail at the write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode") from None
    return text


def _json_object(text: str) -> str:
    if len(text.encode()) > MAX_META_BYTES:
        raise ValueError(f"longer than {MAX_META_BYTES} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return text


Seconds = Annotated[float, _rounded(6)]
Ratio = Annotated[float, _rounded(4), Field(ge=0, le=1)]
Similarity = Annotated[float, _rounded(4), Field(ge=-1, le=1)]
Text = Annotated[str, AfterValidator(_encodable)]
JsonText = Annotated[Text, AfterValidator(_json_object)]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
    )


class SourceInfo(_Part):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    uri: Annotated[Text, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    license: Text
    meta: JsonText


class Span(_Part):
    """Seconds from the source's first presented frame, and frame indices in presentation order, both inclusive."""

    start: Annotated[Seconds, Field(ge=0)]
    end: Seconds
    first_frame: Count
    last_frame: Count
    shot_first: Count
    shot_last: Count


class VideoInfo(_Part):
    codec: Annotated[Text, Field(min_length=1)]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=1)]
    fps: Annotated[str, Field(pattern=r"^[1-9][0-9]*/[1-9][0-9]*$")]
    vfr: bool
    cut: Literal["copy", "hybrid", "reencode", "edit_list"]
    check: Literal["exact", "aligned", "indistinct"]
    source_codec: Annotated[Text, Field(min_length=1)]


class AudioInfo(_Part):
    """The clip's audio track; without one the codec is "", rate and channels are 0."""

    present: bool
    silent: bool
    codec: Text
    sample_rate: Count
    channels: Count


class Captions(_Part):
    v: Text
    a: Text
    s: Text
    av: Text
    avs: Text


class WordInfo(_Part):
    """Seconds from the clip's start; a word at an edge may reach over it by up to half its length."""

    start: Seconds
    end: Seconds
    word: Text
    p: Ratio


class TranscriptInfo(_Part):
    trusted: bool
    language: Text
    confidence: Ratio
    text: Text
    english: Text
    route: Literal["keep", "translate", "llm", "passthrough", "none"]
    words: list[WordInfo]


class Scores(_Part):
    """`motion` is the mean luma difference per second (0-255 a frame); similarities are cosines; -1 is missing."""

    motion: Annotated[float, _rounded(3), Field(ge=-1)]
    similarity_v: Similarity
    similarity_a: Similarity
    similarity_s: Similarity
    similarity_av: Similarity
    similarity_avs: Similarity


class Provenance(_Part):
    """What made this sample: JSON objects as text (role to identity, slot to prompt digest, stage to version)."""

    backends: JsonText
    prompts: JsonText
    stages: JsonText
    embedded: bool


class SampleJson(_Part):
    """The `.json` member. Field order is the order of the bytes."""

    # `schema` is taken by a deprecated method of pydantic's, so the attribute has another name.
    schema_name: Annotated[Literal["vidcap/1"], Field(alias="schema")] = "vidcap/1"
    key: Annotated[str, Field(pattern=rf"^{KEY.pattern}$")]
    source: SourceInfo
    span: Span
    video: VideoInfo
    audio: AudioInfo
    captions: Captions
    primary: Literal["avs", "av", "v"]
    transcript: TranscriptInfo
    scores: Scores
    provenance: Provenance

    @property
    def text(self) -> str:
        """The primary caption: the `.txt` member."""
        return str(getattr(self.captions, self.primary))

    @property
    def seconds(self) -> float:
        return round(self.span.end - self.span.start, 6)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the model's field order, no blanks, UTF-8, no NaN. Equal records have equal bytes."""
        value = self.model_dump(by_alias=True)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Sample:
    """One training unit. `mp4` and `flac` (16 kHz mono) are their bytes, or the file that holds them."""

    json: SampleJson
    mp4: bytes | Path
    flac: bytes | Path | None = None

    @property
    def key(self) -> str:
        return self.json.key

    @property
    def txt(self) -> str:
        return self.json.text


def score_or_missing(value: float | None) -> float:
    """The JSON form of a stage's score column: None and NaN become -1."""
    return MISSING if value is None or math.isnan(value) else float(value)


def make_record(fields: Mapping[str, Any]) -> SampleJson:
    """A record from plain data (field → value, parts as mappings), as a stage builds it.

    Raises `ItemError("pack.bad_sample")` naming the first fields at fault: one odd caption must not end a part.
    """
    try:
        return SampleJson.model_validate(fields)
    except ValidationError as error:
        raise ItemError("pack.bad_sample", _told(error)) from None


def parse(data: bytes) -> SampleJson:
    """A record from its bytes. Raises `ValueError` naming the first fields at fault."""
    try:
        record = SampleJson.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(_told(error)) from None
    if "schema_name" not in record.model_fields_set:
        raise ValueError("schema: Field required")
    return record


def _told(error: ValidationError) -> str:
    faults = [f"{'.'.join(map(str, e['loc'])) or 'json'}: {e['msg']}" for e in error.errors(include_input=False)]
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + more


def captionless(record: SampleJson) -> bool:
    """Whether nobody was asked for captions: no stage that writes them made the sample, and all five are empty."""
    try:
        stages = json.loads(record.provenance.stages)
    except ValueError:
        return False
    return isinstance(stages, dict) and CAPTIONER not in stages and not any(record.captions.model_dump().values())


def broken_invariants(record: SampleJson) -> list[str]:
    """What is wrong with a record whose fields all have the right types; empty for a sound one."""
    span, video, audio, captions, transcript = (
        record.span,
        record.video,
        record.audio,
        record.captions,
        record.transcript,
    )
    texts = captions.model_dump()
    checks = [
        (record.key == clip_key(record.source.id, span.first_frame, span.last_frame), "key is not id and span"),
        (span.first_frame <= span.last_frame, "span ends before it starts"),
        (span.shot_first <= span.first_frame and span.last_frame <= span.shot_last, "span leaves its shot"),
        (span.start < span.end, "span has no length"),
        (video.frames == span.last_frame - span.first_frame + 1, "frames is not last_frame - first_frame + 1"),
        (
            not audio.present or bool(audio.codec and audio.sample_rate and audio.channels),
            "audio is present without codec, sample rate or channels",
        ),
        (
            audio.present or not (audio.codec or audio.sample_rate or audio.channels),
            "audio is absent but has a codec, sample rate or channels",
        ),
        (bool(captions.v.strip()) or captionless(record), "caption v is blank"),
        (not captions.a or (audio.present and not audio.silent), "caption a without sound"),
        (not captions.s or transcript.trusted, "caption s without a trusted transcript"),
        (not captions.av or bool(captions.v and captions.a), "caption av without v and a"),
        (not captions.avs or bool(captions.v and (captions.a or captions.s)), "caption avs without v and (a or s)"),
        (record.primary == primary_kind(texts), "primary is not the first of avs, av, v"),
    ]
    broken = [message for sound, message in checks if not sound]
    broken += [
        f"similarity_{kind} scores an empty caption"
        for kind in CAPTION_KINDS
        if not texts[kind] and getattr(record.scores, f"similarity_{kind}") != MISSING
    ]
    for number, word in enumerate(transcript.words):
        middle = (word.start + word.end) / 2
        if word.start > word.end:
            broken.append(f"word {number} ends before it starts")
        elif not -1e-6 <= middle <= record.seconds + 2e-6:  # times are rounded to a microsecond
            broken.append(f"word {number} has its midpoint outside the clip")
    return broken


class _Untitled(GenerateJsonSchema):
    """Titles that repeat the field's name would double the length of the file."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the `.json` member; every field is required."""
    schema = SampleJson.model_json_schema(by_alias=True, mode="serialization", schema_generator=_Untitled)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"sample {SCHEMA}"}


def schema_text() -> str:
    """The bytes of `shards/schema-v1.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
