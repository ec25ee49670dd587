"""One step's input: samples of one media type with their captions by kind, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

MediaType = Literal["image", "video", "audio", "audio_video"]
MEDIA_TYPES: tuple[MediaType, ...] = ("image", "video", "audio", "audio_video")
PICTURED: tuple[MediaType, ...] = ("image", "video", "audio_video")
SOUNDING: tuple[MediaType, ...] = ("audio", "audio_video")
KINDS = ("v", "a", "s", "av", "avs")
"""Of captions in a sample."""
ANY = "any"
"""The kind that is drawn among those a sample has."""


@dataclass
class Batch:
    """B samples. A row whose sample could not be read keeps its place: no caption of it is valid, it has no audio.

    With `index` unlike every other and no valid caption such a row counts in no loss, and every process of a
    distributed run has batches of one size.
    """

    media_type: MediaType
    index: Tensor
    """B int64: identity of each sample's media; equal values are positives of each other."""
    frames: Tensor | None
    """B×T×3×H×W float32, normalised; None for media type `audio`."""
    fbank: Tensor | None
    """B×998×64 float32, normalised; None for `image` and `video`."""
    has_audio: Tensor
    """B bool; False: the row of `fbank` is zeros and counts for nothing."""
    texts: dict[str, Tensor]
    """Caption kind → B×L int64 token ids ([CLS] … [SEP] [PAD])."""
    text_masks: dict[str, Tensor]
    """Caption kind → B×L bool (True = token)."""
    text_valid: dict[str, Tensor]
    """Caption kind → B bool: there is such a caption."""
    keys: list[str]

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Asked for by torch's loader where batches go to a GPU."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Any) -> Batch:
        def changed(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, dict):
                return {name: change(tensor) for name, tensor in value.items()}
            return value

        return Batch(**{field.name: changed(getattr(self, field.name)) for field in fields(self)})
