"""One Protocol per job a backend can do. Batch in, batch out; per item a value or an `ItemError`; no I/O policy.

A backend is one file `vidcap/backends/<role>/<name>.py` that defines a class called `Backend`. Heavy libraries are
imported inside `load()`. One bad item never fails its batch: put an `ItemError` in its place. A result must not depend
on the other items of the batch, nor on what the backend was asked before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from vidcap.errors import ItemError
from vidcap.records import Shot, Transcript

T = TypeVar("T")
Outcome: TypeAlias = T | ItemError
"""A value, or the error that stands in its place."""

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class BackendConfig(BaseModel):
    """Base of every backend's options: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Options that change no result, or whose effect `identity()` names otherwise (the digest of a file, not its path).

    Threads, batch sizes, endpoints, time-outs: changing one re-runs nothing.
    """


@dataclass(frozen=True, slots=True)
class ClipView:
    """What a captioner sees of a clip.

    `frames`: H×W×3 uint8 RGB, in time order, each decoded when it is looked at; a slice is a list. `times`: their
    seconds from the clip's start; `audio`: float32 16 kHz mono in [-1, 1], empty where the source has no audio track
    (`has_audio` false); `transcript`: trusted English, or "".
    """

    key: str
    frames: Sequence[UInt8]
    times: list[float]
    audio: Float32
    has_audio: bool
    seconds: float
    transcript: str = ""


class Sound(Protocol):
    """16 kHz mono of any length: a slice of it is float32 in [-1, 1]. An array is one; so is a file that is read."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Float32: ...


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a language model: the rendered prompt, and what it was rendered from."""

    key: str
    task: str
    """What is asked: `av`, `avs`, `translate` …: the slot of the stage's `prompts` it came from."""
    prompt: str
    slots: dict[str, str] = field(default_factory=dict)
    attempt: int = 0


@runtime_checkable
class Backend(Protocol):
    """What every backend has. `embedded` backends carry all they need and measure instead of understanding.

    A class may name `extra: ClassVar[str]`, the extra of VidCap that brings what it imports; `vidcap doctor` then says
    how to install it. Of a class that names none the imports are read from its file.
    """

    Config: ClassVar[type[BackendConfig]]
    embedded: ClassVar[bool]

    def __init__(self, config: Any) -> None: ...

    def identity(self) -> str:
        """Model, revision, precision and library version, e.g. `blip2-opt-2.7b@51572668/bf16/transformers-5.23.0`.

        It goes into provenance and fingerprints; callable before `load()`.
        """
        ...

    def load(self, device: str) -> None:
        """Make ready on `device` ("cpu", "cuda:0"). Raises `BackendError` with the mend where something is missing."""
        ...


class ShotDetector(Backend, Protocol):
    def detect(self, thumbnails: UInt8, times: Float64) -> list[Shot]:
        """Shots of one source, in order, disjoint; frames of a transition belong to none.

        `thumbnails`: N×27×48×3 RGB of every frame in presentation order; `times`: N seconds. N ≥ 1.
        """
        ...


class VideoCaptioner(Backend, Protocol):
    frames_per_clip: int
    """How many frames at most it wants to see."""

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]: ...


class AudioCaptioner(Backend, Protocol):
    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        """A sentence about the sound; "" where there is nothing to say."""
        ...


class Transcriber(Backend, Protocol):
    """One whose class says `in_windows = True` may be given any `Sound`, and takes it in slices of a minute or less: a
    source of many hours is never in memory as a whole. Any other is given arrays.
    """

    languages: frozenset[str]
    """ISO 639-1 codes it can recognise; empty means any."""

    def transcribe(self, audios: Sequence[Float32], *, seeds: Sequence[int]) -> list[Outcome[Transcript]]:
        """`audios`: 16 kHz mono float32 in [-1, 1] each; an empty array gives an empty transcript."""
        ...


class LanguageIdentifier(Backend, Protocol):
    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """(ISO 639-1, else 639-3 code; confidence in [0, 1]) per text; ("", 0.0) for an empty one."""
        ...


class Translator(Backend, Protocol):
    def supports(self, language: str, to: str) -> bool:
        """Whether it translates from `language` (ISO 639-1) into `to` (ISO 639-3, e.g. `eng`)."""
        ...

    def translate(self, texts: Sequence[str], *, languages: Sequence[str], to: str) -> list[Outcome[str]]: ...


class LanguageModel(Backend, Protocol):
    """A backend whose model answers several callers side by side may have `conversations()` too, a context that gives
    `add(job)` and `ask(request, seed)` (`vidcap.backends.llm.openai`); `fuse` then keeps all its places taken."""

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Outcome[str]]: ...


class Similarity(Backend, Protocol):
    """A backend that computes in batches may have `scoring()` too (`vidcap.backends.clip_scoring.Scoring`): clips are
    added with their texts, and come back with embedding and scores once they are there; `score` then fills up the last
    batch of a part instead of each source's. It may not give other numbers than `embed` and `score`."""

    frames_per_clip: int

    def embed(self, clips: Sequence[ClipView]) -> list[Outcome[Float32]]:
        """One vector per clip, all of one length; kept, so that a new caption is scored without decoding."""
        ...

    def score(self, embeddings: Sequence[Float32], texts: Sequence[str], *, kinds: Sequence[str]) -> list[float]:
        """How well each text describes the clip of the embedding beside it: in [-1, 1]; NaN for an empty text."""
        ...
