"""What the backends that compare pictures with texts share: options, batches on a device, pooled frames, scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import Field

from vidcap.backends import text_pieces
from vidcap.backends.clip_scoring import Scored, Scoring
from vidcap.backends.full_batches import Batches, Line
from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, ClipView, Float32, Outcome, UInt8
from vidcap.errors import ItemError
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of

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
        self._pictures = Batches(pictures, place, dtype, config.images_per_batch or usual, "picture", config.threads)
        self._texts = Batches(texts, place, dtype, config.texts_per_batch or usual, "text", config.threads)
        self._model = model

    @property
    def clips_per_batch(self) -> int:
        """So many that a GPU's batches are full: the stage decodes their frames at once."""
        return max(8, 2 * (self.config.images_per_batch or ON_GPU) // self.frames_per_clip)

    def embed(self, clips: Sequence[ClipView]) -> list[Outcome[Float32]]:
        """A vector of length 1 per clip. Loads on the CPU where not loaded."""
        return [embedding for embedding, _ in self._through((clip, {}) for clip in clips)]

    def score(self, embeddings: Sequence[Float32], texts: Sequence[str], *, kinds: Sequence[str]) -> list[float]:
        """The cosine, or the mean of the pieces' cosines; all `kinds` alike. NaN for an empty text."""
        asked = zip(embeddings, texts, kinds, strict=True)
        found: list[float] = []
        for _, scores in self._through((vector, {kind: text}) for vector, text, kind in asked):
            for score in scores.values():
                if isinstance(score, ItemError):
                    raise score
                found.append(score)
        return found

    def scoring(self) -> Scoring:
        """Clips are added one by one, with their texts, and batches go over all of them. Loads where not loaded."""
        model = self._loaded()
        return Scoring(
            Line(self._pictures, model.picture_inputs),
            Line(self._texts, model.text_inputs),
            lambda text: text_pieces.pieces(text, model.tokens_of, model.context),
            rows=max(self._pictures.size, self._texts.size),
        )

    def _through(self, clips: Iterable[tuple[ClipView | Float32, Mapping[str, str]]]) -> list[Scored]:
        scoring = self.scoring()
        found: list[Scored] = []
        for clip, texts in clips:
            found += scoring.add(clip, texts)
        return found + scoring.rest()

    def _loaded(self) -> ImageTextModel:
        if self._model is None:
            self.load("cpu")
        assert self._model is not None
        return self._model
