"""InternVideo2's vision encoder: frames → tokens of the patches that are looked at, and one pooled feature.

Key names and shapes are those of the published stage-2 files (`vision_encoder.*`). Pre-norm blocks with RMSNorm, q and
k normed over their full width before the heads are split, LayerScale, no norm at the end; what is pooled is asked by
the mean of all tokens. With `keep` only the named patches are embedded: the others cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vidcap.models.positions import sine_positions

CHANNELS = 3
RMS_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class VisionShape:
    """Sizes of one encoder; `SHAPES` holds the published ones."""

    width: int = 1408
    depth: int = 40
    heads: int = 16
    mlp_hidden: int = 6144
    drop_path: float = 0.25
    """Share of samples whose branch is left out in the last block while training; it rises from 0 block by block."""
    patch: int = 14
    size: int = 224
    """Frames are `size`×`size` pixels."""
    frames: int = 4
    pooled: int = 768
    pooled_heads: int = 16
    image_positions: bool = False
    """Images have a table of positions of their own; else they take the mean of the video's over time."""
    layer_scale: float = 1e-5
    teacher_layers: int = 0
    """Heads that compare the last so many blocks with a teacher (and one that compares the pooled feature)."""
    teacher_width: int = 3200
    teacher_pooled: int = 768

    @property
    def grid(self) -> int:
        return self.size // self.patch

    @property
    def tokens_per_frame(self) -> int:
        return self.grid**2


SHAPES = {
    "tiny": VisionShape(96, 3, 4, 384, 0.0, size=56, pooled=96, pooled_heads=4, layer_scale=0.1),
    "S": VisionShape(384, 12, 6, 1536, 0.05),
    "B": VisionShape(768, 12, 12, 3072, 0.05),
    "L": VisionShape(1024, 24, 16, 4096, 0.05),
    "1B": VisionShape(1408, 40, 16, 6144, 0.25, image_positions=True, teacher_layers=6),
    "6B": VisionShape(3200, 48, 25, 12800, 0.30, teacher_layers=6),
}
"""Of S, B and L no stage-2 file with a teacher's heads is published, so they have none unless asked for. `tiny` is
ours, for a processor: its LayerScale begins where a hundred steps are enough to learn something."""


@dataclass(frozen=True, slots=True)
class Seen:
    """`tokens` B×(1+K)×width, the class token first; `pooled` B×pooled.

    Where asked for, features of length 1 to compare with a teacher's: `compared`, of each of the last blocks,
    B×(1+K)×teacher_width, and `compared_pooled` B×teacher_pooled.
    """

    tokens: Tensor
    pooled: Tensor
    compared: tuple[Tensor, ...] = ()
    compared_pooled: Tensor | None = None


class VisionEncoder(nn.Module):
    """B×T×3×H×W normalised frames (T = 1: images) → `Seen`."""

    def __init__(self, shape: VisionShape, *, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.shape, self.gradient_checkpointing = shape, gradient_checkpointing
        width, grid = shape.width, shape.grid
        self.patch_embed = _PatchEmbed(shape)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.pos_embed = nn.Parameter(sine_positions(width, shape.frames, grid))
        if shape.image_positions:
            self.img_pos_embed = nn.Parameter(sine_positions(width, 1, grid))
        if shape.teacher_layers:
            self.clip_pos_embed = nn.Parameter(sine_positions(width, shape.frames, grid))
            if shape.image_positions:
                self.clip_img_pos_embed = nn.Parameter(sine_positions(width, 1, grid))
        rates = [shape.drop_path * at / max(1, shape.depth - 1) for at in range(shape.depth)]
        self.blocks = nn.ModuleList(_Block(shape, rate, at) for at, rate in enumerate(rates))
        self.clip_projector = _AttentionPool(shape)
        if shape.teacher_layers:
            self.clip_decoder = nn.ModuleList(
                _TeacherHead(width, shape.teacher_width) for _ in range(shape.teacher_layers)
            )
            self.final_clip_decoder = _TeacherHead(shape.pooled, shape.teacher_pooled)

    def forward(self, frames: Tensor, keep: Tensor | None = None, *, for_teacher: bool = False) -> Seen:
        """`keep`: B×K places of the patches to look at, ascending, in the order time, row, column; all where None."""
        x = self.patch_embed(frames, keep)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], 1)
        x = x + self._positions("pos_embed", "img_pos_embed", frames.shape[1], keep).to(x.dtype)
        last = []
        again = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for at, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
            if for_teacher and at >= len(self.blocks) - self.shape.teacher_layers:
                last.append(x)
        pooled = self.clip_projector(x)
        if not for_teacher:
            return Seen(x, pooled)
        places = self._positions("clip_pos_embed", "clip_img_pos_embed", frames.shape[1], keep).to(x.dtype)
        compared = tuple(head(each + places) for head, each in zip(self.clip_decoder, last, strict=True))
        return Seen(x, pooled, compared, self.final_clip_decoder(pooled))

    def _positions(self, video: str, image: str, frames: int, keep: Tensor | None) -> Tensor:
        """(1 or B)×(1+K)×width."""
        table = getattr(self, video)
        if frames == 1 and hasattr(self, image):
            table = getattr(self, image)
        elif frames == 1 and self.shape.frames > 1:
            over_time = table[:, 1:].unflatten(1, (self.shape.frames, -1)).mean(1)
            table = torch.cat([table[:, :1], over_time], 1)
        elif frames != self.shape.frames:
            raise ValueError(f"{frames} frames were given to an encoder of {self.shape.frames}")
        if keep is None:
            return table
        return torch.cat([table[:, :1].expand(len(keep), -1, -1), table[0, 1:][keep]], 1)


class _PatchEmbed(nn.Module):
    """Patches of 1×14×14; the convolution of the published layout is a product of rows, so patches can be left out."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.patch, self.size = shape.patch, shape.size
        kernel = (1, shape.patch, shape.patch)
        self.proj = nn.Conv3d(CHANNELS, shape.width, kernel, stride=kernel)

    def forward(self, frames: Tensor, keep: Tensor | None) -> Tensor:
        batch, count, channels, height, width = frames.shape
        if height != self.size or width != self.size:
            raise ValueError(f"frames are {width}×{height} pixels; the encoder sees {self.size}×{self.size}")
        p = self.patch
        rows = frames.reshape(batch, count, channels, height // p, p, width // p, p)
        rows = rows.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, -1, channels * p * p)
        if keep is not None:
            rows = rows.gather(1, keep[..., None].expand(-1, -1, rows.shape[2]))
        return functional.linear(rows.to(self.proj.weight.dtype), self.proj.weight.flatten(1), self.proj.bias)


class _Block(nn.Module):
    def __init__(self, shape: VisionShape, drop: float, at: int) -> None:
        super().__init__()
        self.drop = drop
        self.norm1 = _RMSNorm(shape.width)
        self.attn = _Attention(shape)
        self.ls1 = _LayerScale(shape)
        self.norm2 = _RMSNorm(shape.width)
        self.mlp = _Mlp(shape)
        self.ls2 = _LayerScale(shape)
        with torch.no_grad():
            for linear in (self.attn.proj, self.mlp.fc2):
                linear.weight.div_((2 * (at + 1)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._some(self.ls1(self.attn(self.norm1(x))))
        return x + self._some(self.ls2(self.mlp(self.norm2(x))))

    def _some(self, branch: Tensor) -> Tensor:
        """The branch of some samples, made larger by as much as others go without."""
        if not self.training or self.drop == 0.0:
            return branch
        chosen = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * (chosen / (1.0 - self.drop)).to(branch.dtype)


class _Attention(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = _linear(shape.width, 3 * shape.width, bias=False)
        self.q_norm, self.k_norm = _RMSNorm(shape.width), _RMSNorm(shape.width)
        self.proj = _linear(shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        mixed = _attend(self.q_norm(query), self.k_norm(key), value, self.heads)
        return self.proj(mixed)


class _Mlp(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.fc1 = _linear(shape.width, shape.mlp_hidden)
        self.fc2 = _linear(shape.mlp_hidden, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class _RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        # One type for both: of a mixture torch warns, and computes it slowly.
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), RMS_EPS)


class _LayerScale(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((shape.width,), shape.layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.to(x.dtype)


class _AttentionPool(nn.Module):
    """The mean of all tokens asks all tokens; the answer is projected. B×N×width → B×pooled."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(shape.width, eps=1e-5) for _ in range(3))
        self.cross_attn = _PoolAttention(shape)

    def forward(self, x: Tensor) -> Tensor:
        asked = self.norm1_q(x.mean(1, keepdim=True))
        return self.cross_attn(asked, self.norm1_k(x), self.norm1_v(x))[:, 0]


class _PoolAttention(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.heads = shape.pooled_heads
        self.q, self.k, self.v = (_linear(shape.width, shape.width, bias=False) for _ in range(3))
        self.q_bias, self.k_bias, self.v_bias = (nn.Parameter(torch.zeros(shape.width)) for _ in range(3))
        self.proj = _linear(shape.width, shape.pooled)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q = functional.linear(query, self.q.weight, self.q_bias)
        k = functional.linear(key, self.k.weight, self.k_bias)
        v = functional.linear(value, self.v.weight, self.v_bias)
        return self.proj(_attend(q, k, v, self.heads))


class _TeacherHead(nn.Module):
    """Into the teacher's width, normed, of length 1."""

    def __init__(self, width: int, teacher: int) -> None:
        super().__init__()
        self.head = _linear(width, teacher)
        self.norm = nn.LayerNorm(teacher, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.norm(self.head(x)), dim=-1)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    split = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    return functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def _linear(inner: int, outer: int, *, bias: bool = True) -> nn.Linear:
    linear = nn.Linear(inner, outer, bias=bias)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
