"""Compares clips and captions with a CLIP-like model of transformers: SigLIP, SigLIP2, CLIP, ALIGN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from vidcap.backends.image_text import ImageTextConfig, ImageTextModel, ImageTextSimilarity
from vidcap.backends.roles import BackendConfig, UInt8
from vidcap.backends.weights.transformers_folder import TransformersModel
from vidcap.errors import BackendError

WHERE = (
    "give `model: path/to/folder` with config.json, model.safetensors, tokenizer and image processor as the hub has "
    "them (e.g. google/siglip2-base-patch16-256), or a hub name and `download: true`"
)


class TransformersClipConfig(ImageTextConfig):
    model: str
    """A folder as `save_pretrained` writes it, or a name on the hub."""
    revision: str | None = None
    """Of a hub name: a commit or tag."""


class Backend(ImageTextSimilarity):
    """SigLIP2 and other CLIP-like models through transformers: mean of 8 frames against the caption, cosines."""

    Config: ClassVar[type[BackendConfig]] = TransformersClipConfig
    library: ClassVar[str] = "transformers"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._weights = TransformersModel(config.model, config.revision, config.download, WHERE, self.extra)

    def model_identity(self) -> str:
        return self._weights.identity()

    def open_model(self, device: Any, dtype: Any) -> ImageTextModel:
        library = self._weights.library()
        network = self._weights.weights(library.AutoModel, dtype=dtype)
        processor = self._weights.part(library.AutoProcessor)
        parts = (getattr(processor, "tokenizer", None), getattr(processor, "image_processor", None))
        if not hasattr(network, "get_image_features") or not hasattr(network, "get_text_features") or None in parts:
            raise BackendError(
                f"`{self.config.model}` is a {type(network).__name__}, which does not compare pictures with texts",
                hint=WHERE,
            )
        return _Model(network, *parts, device)


class _Model:
    """A network of transformers as `ImageTextModel`. Texts are filled up to the context, as SigLIP was trained."""

    def __init__(self, network: Any, tokenizer: Any, pictures: Any, device: Any) -> None:
        self.network = network.to(device)
        self.tokenizer = tokenizer
        self.pictures = pictures
        text = network.config.get_text_config()
        self.context = min(int(text.max_position_embeddings), int(tokenizer.model_max_length))
        # SigLIP learned with its fill tokens in sight: a mask would give other numbers.
        self.masked = not str(network.config.model_type).startswith("siglip")

    def picture_inputs(self, frames: Sequence[UInt8]) -> dict[str, Any]:
        from PIL import Image

        return dict(self.pictures(images=[Image.fromarray(frame) for frame in frames], return_tensors="pt"))

    def text_inputs(self, texts: Sequence[str]) -> dict[str, Any]:
        given = self.tokenizer(
            list(texts), padding="max_length", max_length=self.context, truncation=True, return_tensors="pt"
        )
        return {name: given[name] for name in ("input_ids", "attention_mask") if name in given and self._takes(name)}

    def tokens_of(self, text: str) -> int:
        return len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def picture_features(self, **inputs: Any) -> Any:
        return _pooled(self.network.get_image_features(**inputs))

    def text_features(self, **inputs: Any) -> Any:
        return _pooled(self.network.get_text_features(**inputs))

    def _takes(self, name: str) -> bool:
        return self.masked or name == "input_ids"


def _pooled(output: Any) -> Any:
    """The projected vector: the library gives it bare or inside its output."""
    return getattr(output, "pooler_output", output)
