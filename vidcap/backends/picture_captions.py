"""Captions of single pictures by a model of transformers that needs no question: BLIP, BLIP-2, GIT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidcap.backends.generated_text import Writer
from vidcap.backends.roles import Outcome, UInt8
from vidcap.backends.weights.transformers_folder import TransformersModel, quiet
from vidcap.errors import BackendError
from vidcap.torch_device import in_batches

ON_CPU, ON_GPU = 4, 32
"""Pictures per batch unless told."""


class PictureCaptioner:
    """`model` on `device` (of torch) in `dtype`. The model is given no words to start with.

    Each batch is filled up to its full size, so that a caption does not depend on the pictures beside it; another batch
    size may choose other kernels: where two words are equally likely up to float noise, another word.

    Raises `BackendError` where the folder holds no such model.
    """

    def __init__(
        self, model: TransformersModel, device: Any, dtype: Any, *, pictures: int | None, max_new_tokens: int
    ) -> None:
        library = model.library()
        import torch

        network = model.weights(library.AutoModelForImageTextToText, dtype=dtype)
        processor = model.part(library.AutoProcessor)
        self._tokenizer = getattr(processor, "tokenizer", None)
        self._pictures = getattr(processor, "image_processor", None)
        if self._tokenizer is None or self._pictures is None or not hasattr(network, "generate"):
            raise BackendError(f"`{model.model}` is a {type(network).__name__} without its processor", hint=model.where)
        self._device, self._dtype = device, dtype
        self._size = pictures or (ON_CPU if device.type == "cpu" else ON_GPU)
        wide, tall = (self._tensor(np.zeros(shape, np.uint8)) for shape in ((48, 96, 3), (96, 48, 3)))
        if wide.dim() != 4 or wide.shape != tall.shape:
            raise BackendError(
                f"the processor of `{model.model}` does not bring pictures to one size", hint=model.where
            )
        self._writer = Writer(network.to(device), self._tokenizer, max_new_tokens=max_new_tokens)
        try:
            with torch.inference_mode(), quiet():
                network.generate(pixel_values=wide.to(device, dtype), max_new_tokens=1)
        except (TypeError, ValueError, AttributeError, IndexError) as error:  # as many ways as there are networks
            raise BackendError(
                f"`{model.model}` is a {type(network).__name__}, which captions no picture without being asked",
                hint=model.where,
            ) from error

    def captions(self, frames: Sequence[UInt8]) -> list[Outcome[str]]:
        """A line per frame (H×W×3 RGB). Raises `TransientError` where memory does not do for a single picture."""
        if not frames:
            return []
        filled = [*frames, *[frames[-1]] * (-len(frames) % self._size)]
        with quiet():
            found, self._size = in_batches(filled, self._size, self._answers, "picture")
        return found[: len(frames)]

    def _answers(self, frames: Sequence[UInt8]) -> list[Outcome[str]]:
        import torch

        pixels = torch.cat([self._tensor(frame) for frame in frames])
        return self._writer.write({"pixel_values": pixels.to(self._device, self._dtype)}, [0] * len(frames))

    def _tensor(self, frame: UInt8) -> Any:
        from PIL import Image

        assert self._pictures is not None
        return self._pictures(images=Image.fromarray(frame), return_tensors="pt")["pixel_values"]
