"""The sizes of a stage-2 model: a name for all parts, and what may differ from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidcap.models.beats import BeatsShape
from vidcap.models.text import SHAPES as TEXT_SHAPES
from vidcap.models.text import TextShape
from vidcap.models.vision import SHAPES as VISION_SHAPES
from vidcap.models.vision import VisionShape
from vidcap.train.losses import Media

TEXT_OF = {"tiny": "tiny", "S": "base", "B": "base", "L": "large", "1B": "large", "6B": "large"}
TINY_AUDIO = BeatsShape(2, 96, 192, 4, embed_dim=64, conv_pos=16, conv_pos_groups=4)


class ModelConfig(BaseModel):
    """`fuse_audio: false` is the layout of the published 1B model (picture and text), `true` that of the 6B one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Literal["tiny", "S", "B", "L", "1B", "6B"] = "tiny"
    """Of the vision encoder; the text encoder is BERT-base up to B and BERT-large above, the audio encoder BEATs."""
    fuse_audio: bool = True
    speech: bool = False
    """Subtitles are a medium of their own, beside being captions."""
    vocab_size: int = Field(default=30522, ge=8)
    pad_id: int = 0
    cls_id: int = 101
    mask_id: int = 103
    max_text: int = Field(default=32, ge=4)
    """Tokens of a caption; 32 in the published 1B model, 40 in the 6B one."""
    frames: int = Field(default=4, ge=1)
    image_size: int | None = Field(default=None, ge=1)
    """Pixels; of the size where None (224, tiny 56)."""
    contra_width: int | None = Field(default=None, ge=1)
    """Of the features that are compared; where None 512, with sound 768, tiny 64."""
    concat_width: int | None = Field(default=None, ge=1)
    """Of the tokens that captions are matched with, where sound is fused; 768 where None, tiny 96."""
    matching_heads: tuple[Media, ...] | None = None
    """Media that have a head to match captions with. Where None: v, av with sound, vs and avs with speech; not a, as
    published."""
    temperature: float = Field(default=0.07, ge=0.001, le=0.5)
    gradient_checkpointing: bool = False
    """Blocks of the vision and text encoders are computed again on the way back: less memory, a third more time."""
    vision: dict[str, Any] = {}
    """Fields of `models.vision.VisionShape` that differ from the size's."""
    audio: dict[str, Any] = {}
    """Fields of `models.beats.BeatsShape` that differ from the size's."""
    text: dict[str, Any] = {}
    """Fields of `models.text.TextShape` that differ from the size's."""

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        try:
            picture, sound, words = self.vision_shape, self.audio_shape, self.text_shape
        except TypeError as error:
            raise ValueError(f"no such size: {str(error).rpartition('argument ')[2]}") from error
        if picture.width % picture.heads or picture.width % picture.pooled_heads or picture.width % 16:
            raise ValueError(f"a vision encoder {picture.width} wide is shared by no {picture.heads} heads")
        if picture.size % picture.patch:
            raise ValueError(f"frames of {picture.size} pixels are no multiple of {picture.patch}")
        if sound.encoder_embed_dim % sound.encoder_attention_heads or words.width % words.heads:
            raise ValueError("the width of an encoder must be a multiple of its heads")
        if not 0 < words.fusion_layer < words.layers:
            raise ValueError(f"`fusion_layer: {words.fusion_layer}` of {words.layers} layers leaves none to one side")
        if self.max_text > words.positions:
            raise ValueError(f"`max_text: {self.max_text}` is more than the {words.positions} positions there are")
        missing = [media for media in self.heads if not self.has(media)]
        if missing:
            raise ValueError(f"a head to match {', '.join(missing)} needs `fuse_audio` or `speech`")
        if max(self.pad_id, self.cls_id, self.mask_id) >= self.vocab_size:
            raise ValueError(f"special ids must be below `vocab_size: {self.vocab_size}`")
        return self

    def has(self, media: str) -> bool:
        """Whether this model knows the medium."""
        return (self.fuse_audio or "a" not in media) and (self.speech or "s" not in media)

    @property
    def heads(self) -> tuple[Media, ...]:
        if self.matching_heads is not None:
            return self.matching_heads
        usual: tuple[Media, ...] = ("v", "av", "vs", "avs")
        return tuple(media for media in usual if self.has(media))

    @property
    def vision_shape(self) -> VisionShape:
        size = {} if self.image_size is None else {"size": self.image_size}
        return replace(VISION_SHAPES[self.size], **({"frames": self.frames} | size | self.vision))

    @property
    def audio_shape(self) -> BeatsShape:
        return replace(TINY_AUDIO if self.size == "tiny" else BeatsShape(), **self.audio)

    @property
    def text_shape(self) -> TextShape:
        given = {"vocabulary": self.vocab_size, "encoder_width": self.media_width}
        return replace(TEXT_SHAPES[TEXT_OF[self.size]], **(given | self.text))

    @property
    def media_width(self) -> int:
        """Of the tokens the text encoder looks at."""
        if not self.fuse_audio:
            return int(self.vision_shape.width)
        return self.concat_width or (96 if self.size == "tiny" else 768)

    @property
    def contra(self) -> int:
        return self.contra_width or (64 if self.size == "tiny" else 768 if self.fuse_audio else 512)
