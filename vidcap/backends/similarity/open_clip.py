"""Compares clips and captions with the CLIP models of open_clip: the paper's ViT-L/14, and whatever else it builds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from vidcap.backends.image_text import ImageTextConfig, ImageTextModel, ImageTextSimilarity
from vidcap.backends.roles import BackendConfig, UInt8
from vidcap.backends.weights.open_clip_files import (
    OWN,
    WEIGHTS,
    WHERE,
    check_architecture,
    fetched,
    first_line,
    root_logger_kept,
    settings_of,
    shapes_of,
    weights_in,
)
from vidcap.errors import BackendError
from vidcap.safe_checkpoints import differences
from vidcap.store import sha256_of

FOLDER = "local-dir:"


class OpenClipConfig(ImageTextConfig):
    model: str = "ViT-L-14"
    """A name that open_clip knows, or `local-dir:FOLDER` with open_clip_config.json, weights and tokenizer."""
    weights: Path | None = None
    """The checkpoint, `.safetensors` or what `torch.save` writes (tensors, or `{"state_dict": …}` of a training)."""
    tag: str | None = None
    """The published weights it is (`openai`, `laion2b_s32b_b82k` …), which decides the pictures' normalisation and the
    activation; `own` for weights you trained with open_clip's defaults. May be left out where all tags agree."""

    @model_validator(mode="after")
    def _one_source(self) -> OpenClipConfig:
        if self.model.startswith(FOLDER) and (self.weights or self.tag):
            raise ValueError("`local-dir:` brings its own weights and settings: leave out `weights` and `tag`")
        if self.model.startswith("hf-hub:"):
            raise ValueError("`hf-hub:` is not followed: fetch the folder and give it as `local-dir:FOLDER`")
        return self


class Backend(ImageTextSimilarity):
    """CLIP through open_clip: mean of 8 frames against the caption; long captions sentence by sentence."""

    Config: ClassVar[type[BackendConfig]] = OpenClipConfig
    library: ClassVar[str] = "open_clip_torch"

    def model_identity(self) -> str:
        config = self.config
        if self._folder is not None:
            return f"{self._folder.resolve().name}@{self._digest[:12]}"
        settings = f":{config.tag}" if config.tag else ""
        return f"{config.model}@{self._digest[:12] or 'published'}{settings}"

    def open_model(self, device: Any, dtype: Any) -> ImageTextModel:
        try:
            with root_logger_kept():
                import open_clip
        except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises the latter
            raise BackendError(
                f"the library `open_clip` cannot be used: {error}", hint="pip install 'vidcap[clip]'"
            ) from error
        with root_logger_kept():
            return _Model(self._built(open_clip, dtype), self._tokenizer(open_clip), device, dtype)

    @cached_property
    def _folder(self) -> Path | None:
        name: str = self.config.model
        if not name.startswith(FOLDER):
            return None
        folder = Path(name.removeprefix(FOLDER))
        if not (folder / "open_clip_config.json").is_file():
            raise BackendError(f"there is no `open_clip_config.json` in the folder `{folder}`", hint=WHERE)
        return folder

    @cached_property
    def _weights(self) -> Path | None:
        """The file; None where it is still to be fetched."""
        if self._folder is not None:
            return weights_in(self._folder)
        path: Path | None = self.config.weights
        if path is None:
            if self.config.download and self.config.tag not in (None, OWN):
                return None
            raise BackendError("the backend `open_clip` has no weights", hint=WHERE)
        if not path.is_file():
            raise BackendError(f"there are no weights `{path}`", hint=WHERE)
        if path.suffix not in WEIGHTS:
            raise BackendError(f"weights `{path}` are none of {', '.join(WEIGHTS)}", hint=WHERE)
        return path

    @cached_property
    def _digest(self) -> str:
        """Of the weights; of a folder also of what else in it changes the numbers."""
        weights = self._weights
        if weights is None:
            return ""
        files = [weights]
        if self._folder is not None:
            files += sorted(file for file in self._folder.iterdir() if file.suffix in (".json", ".model", ".txt"))
        digests = [sha256_of(file) for file in files]
        return digests[0] if len(files) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def _built(self, open_clip: Any, dtype: Any) -> Any:
        """The network with its weights, on the CPU. Nothing in the weights is run."""
        import torch

        name = self.config.model
        architecture = open_clip.get_model_config(name)
        if architecture is None:
            raise BackendError(
                f"open_clip knows no model `{name}`", hint=f"it knows {', '.join(open_clip.list_models())}"
            )
        check_architecture(architecture, self.config.download)
        settings = {} if self._folder is not None else settings_of(open_clip, name, self.config.tag)
        path = self._weights or fetched(open_clip, name, self.config.tag)
        try:
            network = open_clip.create_model(
                name,
                load_weights=False,
                pretrained_text=False,
                precision={torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype, "fp32"),
                force_quick_gelu=bool(settings.get("quick_gelu")),
                force_preprocess_cfg={key: value for key, value in settings.items() if key != "quick_gelu"},
            )
        except Exception as error:  # a folder of any content: the library raises whatever it stumbles over
            raise BackendError(f"open_clip cannot build `{name}`: {first_line(error)}", hint=WHERE) from error
        # open_clip would stretch positions of another picture size, and so take the weights of another model.
        known = shapes_of(path)
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if value.ndim > 0}
        wrong = differences(
            {key: shape for key, shape in shapes.items() if key in known},
            {key: shape for key, shape in known.items() if key in shapes},
        )
        if wrong:
            raise BackendError(f"`{path}` does not hold the weights of `{name}`: {'; '.join(wrong)}", hint=WHERE)
        try:
            open_clip.load_checkpoint(network, str(path), strict=True, weights_only=True)
        except Exception as error:  # as above
            raise BackendError(
                f"`{path}` does not hold the weights of `{name}`: {first_line(error)}", hint=WHERE
            ) from error
        unusable = [key for key, value in network.named_parameters() if not bool(value.isfinite().all())]
        if unusable:
            raise BackendError(f"`{path}` holds numbers that are not finite: {', '.join(unusable[:5])}", hint=WHERE)
        return network

    def _tokenizer(self, open_clip: Any) -> Any:
        """Its drop-out of tokens, which some models train with, is off: texts are cut to fit before."""
        text = open_clip.get_model_config(self.config.model).get("text_cfg", {})
        options: dict[str, Any] = {}
        if text.get("hf_tokenizer_name"):
            options = {"local_files_only": not self.config.download, "trust_remote_code": False}
        try:
            tokenizer = open_clip.get_tokenizer(self.config.model, **options)
        except Exception as error:  # as above
            raise BackendError(
                f"the tokenizer of `{self.config.model}` is not here: {first_line(error)}",
                hint="give `model: local-dir:FOLDER` with tokenizer.json in the folder, or `download: true`",
            ) from error
        if hasattr(tokenizer, "reduction_fn"):
            tokenizer.reduction_fn = None
        return tokenizer


class _Model:
    """An open_clip network as `ImageTextModel`."""

    def __init__(self, network: Any, tokenizer: Any, device: Any, dtype: Any) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.network = network.to(device).eval().requires_grad_(False)
        self.prepared = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
        self.tokenizer = tokenizer
        self.context: int = tokenizer.context_length
        # open_clip's half precision leaves layers of foreign text towers in fp32, which then do not fit together.
        self.mixed = hasattr(network, "text") and type(network.text).__name__ == "HFTextEncoder"
        self.device, self.dtype = device, dtype

    def picture_inputs(self, frames: Sequence[UInt8]) -> dict[str, Any]:
        import torch
        from PIL import Image

        return {"image": torch.stack([self.prepared(Image.fromarray(frame)) for frame in frames])}

    def text_inputs(self, texts: Sequence[str]) -> dict[str, Any]:
        return {"text": self.tokenizer(list(texts))}

    def tokens_of(self, text: str) -> int:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            return len(self.tokenizer.encode(text)) + 2
        mode = getattr(self.tokenizer, "tokenizer_mode", "")
        ids = inner(text, add_special_tokens=mode != "clips", truncation=False, verbose=False)["input_ids"]
        return len(ids) + (3 if mode == "clips" else 0)

    def picture_features(self, **inputs: Any) -> Any:
        return self.network.encode_image(inputs["image"], normalize=False)

    def text_features(self, **inputs: Any) -> Any:
        import torch

        half = self.mixed and self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype) if half else nullcontext():
            return self.network.encode_text(inputs["text"], normalize=False)
