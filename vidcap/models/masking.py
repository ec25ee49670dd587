"""Which patches of a sample the vision encoder looks at while training: drawn per sample, by a generator."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class MaskSpec(BaseModel):
    """Shares of the patches that are hidden. The defaults are those of the paper's first step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    video: float = Field(default=0.8, ge=0, lt=1)
    """Of 4 frames at 224 pixels 1024 patches, of which 205 stay."""
    image: float = Field(default=0.5, ge=0, lt=1)
    """Of 256 patches 128 stay."""
    kind: Literal["random", "tube", "attention"] = "random"
    """`random`: anywhere. `tube`: the same places in every frame. `attention`: places are the likelier seen the more a
    teacher attends to them; needs its weights."""

    def share(self, frames: int) -> float:
        return self.image if frames == 1 else self.video


def visible(frames: int, tokens_per_frame: int, spec: MaskSpec) -> int:
    """How many patches of a sample stay: all but the rounded-down share (of a tube: of every frame)."""
    share = spec.share(frames)
    if spec.kind == "tube":
        return frames * (tokens_per_frame - int(share * tokens_per_frame))
    return frames * tokens_per_frame - int(share * frames * tokens_per_frame)


def kept(
    batch: int,
    frames: int,
    tokens_per_frame: int,
    spec: MaskSpec,
    generator: torch.Generator,
    attention: Tensor | None = None,
) -> Tensor:
    """B×K int64 places that stay, ascending, on the CPU. `attention`: B×(frames·tokens), above 0, of a teacher."""
    count = visible(frames, tokens_per_frame, spec)
    if spec.kind == "tube":
        places = _highest(torch.rand(batch, tokens_per_frame, generator=generator), count // frames)
        starts = torch.arange(frames)[None, :, None] * tokens_per_frame
        return (starts + places[:, None, :]).flatten(1)
    if spec.kind == "attention":
        if attention is None:
            raise ValueError("a mask by attention needs a teacher's attention")
        return torch.multinomial(attention.float().cpu(), count, generator=generator).sort(1).values
    return _highest(torch.rand(batch, frames * tokens_per_frame, generator=generator), count)


def _highest(drawn: Tensor, count: int) -> Tensor:
    return drawn.argsort(dim=1, descending=True, stable=True)[:, :count].sort(1).values
