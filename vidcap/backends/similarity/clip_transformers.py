"""Compares clips and captions with a CLIP-like model of transformers: SigLIP, SigLIP2, CLIP, ALIGN."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from vidcap.backends.image_text import ImageTextConfig, ImageTextModel, ImageTextSimilarity
from vidcap.backends.roles import BackendConfig, UInt8
from vidcap.errors import BackendError
from vidcap.store import sha256_of

WHERE = (
    "give `model: path/to/folder` with config.json, model.safetensors, tokenizer and image processor as the hub has "
    "them (e.g. google/siglip2-base-patch16-256), or a hub name and `download: true`"
)
READ = (".safetensors", ".bin", ".json", ".model", ".txt")
"""Kinds of files in a model folder that change the numbers."""


class TransformersClipConfig(ImageTextConfig):
    model: str
    """A folder as `save_pretrained` writes it; with `download: true` also a name on the hub."""
    revision: str | None = None
    """Of a hub name: a commit or tag."""


class Backend(ImageTextSimilarity):
    """SigLIP2 and other CLIP-like models through transformers: mean of 8 frames against the caption, cosines."""

    Config: ClassVar[type[BackendConfig]] = TransformersClipConfig
    library: ClassVar[str] = "transformers"

    def model_identity(self) -> str:
        config = self.config
        if self._folder is None:
            return f"{config.model}@{config.revision or 'main'}"
        return f"{self._folder.resolve().name}@{self._digest[:12]}"

    def open_model(self, device: Any, dtype: Any) -> ImageTextModel:
        try:
            from transformers import AutoModel, AutoProcessor
        except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises the latter
            raise BackendError(
                f"the library `transformers` cannot be used: {error}", hint="pip install 'vidcap[clip]'"
            ) from error
        source = str(self._folder or self.config.model)
        options = {"local_files_only": not self.config.download, "trust_remote_code": False}
        if self._folder is None and self.config.revision:
            options["revision"] = self.config.revision
        with _own_bars():
            try:
                network, loading = AutoModel.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
                processor = AutoProcessor.from_pretrained(source, **options)
            except Exception as error:  # a folder of any content, and the network
                raise BackendError(f"`{source}` cannot be loaded: {_first_line(error)}", hint=WHERE) from error
        lacking = sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]]))
        if lacking:
            raise BackendError(
                f"`{source}` lacks weights of its own model: {', '.join(lacking[:5])} ({len(lacking)})", hint=WHERE
            )
        parts = (getattr(processor, "tokenizer", None), getattr(processor, "image_processor", None))
        if not hasattr(network, "get_image_features") or not hasattr(network, "get_text_features") or None in parts:
            raise BackendError(
                f"`{source}` is a {type(network).__name__}, which does not compare pictures with texts", hint=WHERE
            )
        unusable = [key for key, value in network.named_parameters() if not bool(value.isfinite().all())]
        if unusable:
            raise BackendError(f"`{source}` holds numbers that are not finite: {', '.join(unusable[:5])}", hint=WHERE)
        return _Model(network, *parts, device)

    @cached_property
    def _folder(self) -> Path | None:
        """None for a model on the hub."""
        folder = Path(self.config.model)
        if (folder / "config.json").is_file():
            return folder
        if self.config.download and not folder.is_dir():
            return None
        what = "there is no `config.json` in the folder" if folder.is_dir() else "there is no folder"
        raise BackendError(f"{what} `{folder}`", hint=WHERE)

    @cached_property
    def _digest(self) -> str:
        assert self._folder is not None
        files = sorted(file for file in self._folder.iterdir() if file.suffix in READ and file.is_file())
        named = " ".join(f"{file.name}={sha256_of(file)}" for file in files)
        return hashlib.sha256(named.encode()).hexdigest()


class _Model:
    """A network of transformers as `ImageTextModel`. Texts are filled up to the context, as SigLIP was trained."""

    def __init__(self, network: Any, tokenizer: Any, pictures: Any, device: Any) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
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


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def _own_bars() -> Iterator[None]:
    """Without the library's progress bars and its reports of what it loaded, which are checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
