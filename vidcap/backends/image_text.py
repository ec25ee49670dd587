"""What the backends that compare pictures with texts share: options, batches on a device, pooled frames, scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from pydantic import Field

from vidcap.backends import text_pieces
from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, ClipView, Float32, Outcome, UInt8
from vidcap.errors import ItemError, TransientError
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of, out_of_memory

ON_CPU, ON_GPU = 4, 64
"""Pictures or texts per batch unless told."""


class ImageTextConfig(BackendConfig):
    frames_per_clip: int = Field(default=8, ge=1, le=64)
    """How many frames at most are looked at, evenly over the clip."""
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"model", "weights", "images_per_batch", "texts_per_batch", "compile", "threads", "download"}
    )

    images_per_batch: int | None = Field(default=None, ge=1)
    """Pictures encoded at once; by default 4 on a CPU, 64 on a GPU. Halved where memory runs out."""
    texts_per_batch: int | None = Field(default=None, ge=1)
    """Pieces of text encoded at once; defaults as for pictures."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPUs only), or `auto`: on GPUs bf16 where they have it, else fp16; on a CPU fp32."""
    compile: bool = False
    """Compile both encoders with torch.compile: slow at the first batch, faster after many."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""
    download: bool = False
    """Let the library fetch what is not here; otherwise nothing is asked of the network."""


class ImageTextModel(Protocol):
    """A picture encoder and a text encoder into one space, on their device."""

    context: int
    """Tokens of a text that are read, the marks at its ends included."""

    def picture_inputs(self, frames: Sequence[UInt8]) -> dict[str, Any]:
        """Tensors on the CPU, one row per frame (H×W×3 RGB)."""
        ...

    def text_inputs(self, texts: Sequence[str]) -> dict[str, Any]: ...

    def tokens_of(self, text: str) -> int:
        """How many tokens the text has, the marks at its ends included, uncut."""
        ...

    def picture_features(self, **inputs: Any) -> Any:
        """N×D, not normalised, of any precision."""
        ...

    def text_features(self, **inputs: Any) -> Any: ...


class ImageTextSimilarity(ABC):
    """Cosine of a clip and a text.

    A clip is the mean of its frames' embeddings, each of length 1, brought to length 1 again. A text that has more
    tokens than the encoder reads is cut into sentences, and sentences that are too long into parts
    (`vidcap.backends.text_pieces`); its score is the mean of the pieces' cosines. The model's logit scale and bias play
    no part.

    Each batch is filled up to its full size, so that a clip's numbers do not depend on what is asked beside it; another
    batch size may choose other kernels: equal up to float noise (1e-6 in fp32, 1e-3 in bf16).
    """

    Config: ClassVar[type[BackendConfig]] = ImageTextConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "clip"
    library: ClassVar[str]
    """The distribution whose version is in the identity."""

    def __init__(self, config: Any) -> None:
        self.config: Any = config
        self.frames_per_clip: int = config.frames_per_clip
        self._model: ImageTextModel | None = None

    @abstractmethod
    def model_identity(self) -> str:
        """Model and weights, e.g. `ViT-L-14@0123456789ab`; torch is not imported for it."""

    @abstractmethod
    def open_model(self, device: Any, dtype: Any) -> ImageTextModel:
        """The model with its weights, on `device`, computing in `dtype`. Raises `BackendError` where it lacks any."""

    def identity(self) -> str:
        """Precision is named as it was asked for: what `auto` means depends on the device, the identity must not."""
        return (
            f"{self.model_identity()}/{self.config.precision}/pieces-{text_pieces.VERSION}"
            f"/{self.library}-{version_of(self.library, self.extra)}"
        )

    def load(self, device: str) -> None:
        """Reads the weights and puts the encoders on `device`. A second call moves them."""
        for needed in ("torch", self.library):
            version_of(needed, self.extra)
        config = self.config
        import torch

        place = checked_device(device)
        dtype = dtype_of(config.precision, place)
        # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
        with torch.random.fork_rng(devices=[]), cpu_threads(config.threads):
            model = self.open_model(place, dtype)
        usual = ON_CPU if place.type == "cpu" else ON_GPU
        pictures, texts = model.picture_features, model.text_features
        if config.compile:
            pictures, texts = (torch.compile(function, dynamic=False) for function in (pictures, texts))
        self._pictures = Batches(pictures, place, dtype, config.images_per_batch or usual, "picture")
        self._texts = Batches(texts, place, dtype, config.texts_per_batch or usual, "text")
        self._model = model

    @property
    def clips_per_batch(self) -> int:
        """So many that a GPU's batches are full: the stage decodes their frames at once."""
        return max(8, 2 * (self.config.images_per_batch or ON_GPU) // self.frames_per_clip)

    def embed(self, clips: Sequence[ClipView]) -> list[Outcome[Float32]]:
        """A vector of length 1 per clip. Loads on the CPU where not loaded."""
        model = self._loaded()
        found: list[Outcome[Float32]] = [_unseen(clip) or np.empty(0, np.float32) for clip in clips]
        seen = [at for at, outcome in enumerate(found) if not isinstance(outcome, ItemError)]
        frames = [frame for at in seen for frame in clips[at].frames]
        with cpu_threads(self.config.threads):
            features = self._pictures(frames, model.picture_inputs)
        start = 0
        for at in seen:
            end = start + len(clips[at].frames)
            pooled = _of_length_one(_of_length_one(features[start:end]).mean(0))
            finite = bool(np.isfinite(pooled).all())
            found[at] = pooled.astype(np.float32) if finite else ItemError("score.failed", _NOT_FINITE)
            start = end
        return found

    def score(self, embeddings: Sequence[Float32], texts: Sequence[str], *, kinds: Sequence[str]) -> list[float]:
        """The cosine, or the mean of the pieces' cosines; all `kinds` alike. NaN for an empty text."""
        model = self._loaded()
        with cpu_threads(self.config.threads):
            cut = [text_pieces.pieces(text, model.tokens_of, model.context) for text in texts]
            places = {piece: at for at, piece in enumerate(dict.fromkeys(piece for parts in cut for piece in parts))}
            features = _of_length_one(self._texts(list(places), model.text_inputs))
        if not np.isfinite(features).all():
            raise ItemError("score.failed", _NOT_FINITE)
        return [
            _clamped(float(np.mean([features[places[piece]] @ vector.astype(np.float64) for piece in parts])))
            if parts
            else math.nan
            for vector, parts, _ in zip(embeddings, cut, kinds, strict=True)
        ]

    def _loaded(self) -> ImageTextModel:
        if self._model is None:
            self.load("cpu")
        assert self._model is not None
        return self._model


class Batches:
    """An encoder asked in batches of one size, which is halved where memory runs out.

    Batches are left on the device until all are asked: while it computes one, the CPU prepares the next.
    """

    def __init__(self, function: Callable[..., Any], device: Any, dtype: Any, size: int, what: str) -> None:
        self.function = function
        self.device = device
        self.dtype = dtype
        self.size = size
        self.what = what

    def __call__(self, items: Sequence[Any], prepare: Callable[[Sequence[Any]], dict[str, Any]]) -> Any:
        """N×D float64 of N items. Raises `TransientError` where a single one is too much for the memory there is."""
        import torch

        found: list[Any] = []
        done = 0
        while done < len(items):
            batch = items[done : done + self.size]
            features = self._features(batch, prepare)
            if features is None:
                self._halve()
            else:
                found.append(features)
                done += len(batch)
        return torch.cat(found).double().cpu().numpy() if found else np.empty((0, 0))

    def _features(self, batch: Sequence[Any], prepare: Callable[[Sequence[Any]], dict[str, Any]]) -> Any:
        """None where memory ran out: what the failed try held is let go with it, before the next."""
        import torch

        try:
            with torch.inference_mode():
                inputs = {name: self._placed(tensor) for name, tensor in prepare(batch).items()}
                return self.function(**inputs)[: len(batch)].float()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def _placed(self, tensor: Any) -> Any:
        """On the device, in the encoder's precision, filled up to the size with copies of the last row."""
        missing = self.size - len(tensor)
        if missing:
            tensor = tensor[[*range(len(tensor)), *[len(tensor) - 1] * missing]]
        if tensor.is_floating_point():
            tensor = tensor.to(self.dtype)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _halve(self) -> None:
        """The smaller batch stays: the next one would fail in the same way."""
        import torch

        if self.size == 1:
            raise TransientError(
                f"`{self.device}` has no memory left for a single {self.what}",
                hint="free the device, or give the stage `device: cpu`",
            )
        self.size //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


_NOT_FINITE = "the model gave numbers that are not finite; `precision: fp32` helps where fp16 overflows"


def _unseen(clip: ClipView) -> ItemError | None:
    """Why a clip cannot be looked at."""
    if not clip.frames:
        return ItemError("score.failed", "the clip has no frames to look at")
    try:
        for frame in clip.frames:  # decodes them: one that is no picture must not fail the clips beside it
            if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
                said = f"a frame of shape {frame.shape} and type {frame.dtype} is no RGB picture"
                return ItemError("score.failed", said)
    except ItemError as error:
        return error
    return None


def _of_length_one(vectors: Any) -> Any:
    """A vector without length stays one, and is found not finite by whoever asks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _clamped(cosine: float) -> float:
    return min(1.0, max(-1.0, cosine))
