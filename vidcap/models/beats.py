"""BEATs, the sound encoder: 10 s of sound as a 998×128 (or ×64) spectrum → 496 (or 248) tokens of 768 numbers.

Key names and shapes are those of the published files, `{"cfg": …, "model": …}`: 250 tensors, 90,311,792 numbers (the
table of position biases is one, listed in every layer). Twelve post-norm layers with deep-norm residuals; attention has
a bias by bucketed distance, gated by each query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidcap.errors import BackendError
from vidcap.safe_checkpoints import content_of, fill, named_tensors

TABLE = "self_attn.relative_attention_bias.weight"
LOGIT_SHRINK = 32.0
"""Logits are computed this much smaller and restored after their maximum is taken off: fp16 does not overflow."""


@dataclass(frozen=True, slots=True)
class BeatsShape:
    """Sizes under the names of the published `cfg`; the defaults are those of every published model."""

    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    input_patch_size: int = 16
    embed_dim: int = 512
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    encoder_layerdrop: float = 0.05
    """Share of layers left out while training."""
    layer_wise_gradient_decay_ratio: float = 0.6
    """Gradients shrink so much with every layer on the way down."""


FIXED = {
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "conv_bias": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "deep_norm": True,
}
"""What a `cfg` may say and this network does in no other way."""
MOST = 8192
"""No size in a `cfg` is believed beyond it."""


class Beats(nn.Module):
    """B×T×M normalised log mel spectrum (`fbank.encoder_input`) → B×(T//16 · M//16)×768 tokens, time-major."""

    def __init__(self, shape: BeatsShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or BeatsShape()
        patch, width = shape.input_patch_size, shape.encoder_embed_dim
        self.patch_embedding = nn.Conv2d(1, shape.embed_dim, patch, stride=patch, bias=False)
        self.layer_norm = nn.LayerNorm(shape.embed_dim)
        self.post_extract_proj = nn.Linear(shape.embed_dim, width) if shape.embed_dim != width else None
        self.encoder = _Encoder(shape)

    def forward(self, spectrum: Tensor) -> Tensor:
        tokens = self.patch_embedding(spectrum[:, None]).flatten(2).transpose(1, 2)
        tokens = self.layer_norm(tokens)
        if self.post_extract_proj is not None:
            tokens = self.post_extract_proj(tokens)
        return self.encoder(tokens)


class _Encoder(nn.Module):
    def __init__(self, shape: BeatsShape) -> None:
        super().__init__()
        self.shape = shape
        convolution = _NormedConvolution(shape.encoder_embed_dim, shape.conv_pos, shape.conv_pos_groups)
        self.pos_conv = nn.Sequential(convolution, nn.GELU())
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.encoder_layers))
        for layer in self.layers[1:]:
            layer.self_attn.relative_attention_bias = self.layers[0].self_attn.relative_attention_bias
        self.layer_norm = nn.LayerNorm(shape.encoder_embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2))
        bias = self.layers[0].self_attn.position_bias(x.shape[1])
        decay, drop = self.shape.layer_wise_gradient_decay_ratio, self.shape.encoder_layerdrop
        for layer in self.layers:
            if self.training and torch.is_grad_enabled():
                x = _DecayedGradient.apply(x, decay)
            if not (self.training and float(torch.rand(())) <= drop):
                x = layer(x, bias)
        return x


class _Layer(nn.Module):
    def __init__(self, shape: BeatsShape) -> None:
        super().__init__()
        width, hidden = shape.encoder_embed_dim, shape.encoder_ffn_embed_dim
        self.self_attn = _GatedAttention(shape)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.residual = (2 * shape.encoder_layers) ** 0.25
        gain = (8 * shape.encoder_layers) ** -0.25
        for linear in (self.self_attn.v_proj, self.self_attn.out_proj, self.fc1, self.fc2):
            nn.init.xavier_normal_(linear.weight, gain=gain)
        for linear in (self.self_attn.q_proj, self.self_attn.k_proj):
            nn.init.xavier_normal_(linear.weight)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x * self.residual + self.self_attn(x, bias))
        return self.final_layer_norm(x * self.residual + self.fc2(functional.gelu(self.fc1(x))))


class _GatedAttention(nn.Module):
    """Self-attention whose logits get a bias by distance, as strong as each query's gate lets it."""

    def __init__(self, shape: BeatsShape) -> None:
        super().__init__()
        width, heads = shape.encoder_embed_dim, shape.encoder_attention_heads
        self.heads, self.buckets, self.max_distance = heads, shape.num_buckets, shape.max_distance
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.relative_attention_bias = nn.Embedding(shape.num_buckets, heads)
        self.grep_linear = nn.Linear(width // heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))

    def position_bias(self, length: int) -> Tensor:
        """1×heads×L×L, for all layers: of key j as query i sees it."""
        places = torch.arange(length, device=self.relative_attention_bias.weight.device)
        bucket = _bucket(places[None, :] - places[:, None], self.buckets, self.max_distance)
        return self.relative_attention_bias(bucket).permute(2, 0, 1)[None]

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            linear(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        halves = self.grep_linear(query).view(batch, self.heads, length, 2, 4).sum(-1).sigmoid()
        gate = halves[..., :1] * (halves[..., 1:] * self.grep_a - 1.0) + 2.0
        small = (query * (query.shape[-1] ** -0.5 / LOGIT_SHRINK)) @ key.transpose(2, 3)
        logits = (small - small.amax(-1, keepdim=True)) * LOGIT_SHRINK + gate * bias
        mixed = logits.softmax(-1, dtype=torch.float32).to(value) @ value
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))


def _bucket(distance: Tensor, buckets: int, most: int) -> Tensor:
    """Signed distances → rows of the table: one half for either direction; near ones exact, far ones logarithmic."""
    half = buckets // 2
    exact = half // 2
    size = distance.abs()
    scaled = (size.float().clamp(min=1) / exact).log() / math.log(most / exact) * (half - exact)
    far = (exact + scaled.long()).clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(size < exact, size, far)


class _NormedConvolution(nn.Module):
    """Grouped convolution over time, as long as its input, with weight norm per tap (`weight_g`, `weight_v`)."""

    def __init__(self, width: int, taps: int, groups: int) -> None:
        super().__init__()
        self.groups, self.taps = groups, taps
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, taps) * math.sqrt(4 / (taps * width)))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        # In float32: squares of a hundred thousand numbers are summed.
        direction = self.weight_v.float()
        weight = direction * (self.weight_g.float() / direction.norm(dim=(0, 1), keepdim=True))
        out = functional.conv1d(x, weight.to(x), self.bias.to(x), padding=self.taps // 2, groups=self.groups)
        return out[..., : x.shape[-1]]


class _DecayedGradient(torch.autograd.Function):
    """Leaves numbers as they are and shrinks their gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ratio: float) -> Tensor:
        ctx.ratio = ratio
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.ratio, None


@dataclass(frozen=True, slots=True)
class LoadedBeats:
    """A network ready to infer, and of a fine-tuned file its classifier: `weight` (classes×768) and `bias`."""

    network: Beats
    predictor: dict[str, Tensor]


def load_beats(path: Path, *, hint: str) -> LoadedBeats:
    """Read a published file `{"cfg": …, "model": …}`, strictly: all tensors of the sizes that `cfg` names, no others.

    The classifier of a fine-tuned file (`predictor.*`, 527 classes) is handed over, not made part of the network.
    Raises `BackendError` where the file is none, or names what this network cannot do.
    """
    found = content_of(path, hint=hint)
    if not isinstance(found, Mapping) or not {"cfg", "model"} <= set(found):
        raise BackendError(f"`{path}` is no BEATs file: it has no `cfg` and `model`", hint=hint)
    state = named_tensors(found["model"], path, hint=hint)
    shape = _shape_of(found["cfg"], path, hint)
    predictor = {key.removeprefix("predictor."): state.pop(key) for key in list(state) if key.startswith("predictor.")}
    tables = [value for key, value in state.items() if key.endswith(TABLE)]
    if any(not torch.equal(table, tables[0]) for table in tables):
        raise BackendError(f"`{path}` has different position biases in its layers, which share one table", hint=hint)
    # Without numbers of its own: sizes that a file only claims to have cost nothing.
    with torch.device("meta"):
        network = Beats(shape)
    fill(network, state, path, hint=hint, assign=True)
    return LoadedBeats(network.float().eval().requires_grad_(False), predictor)


def _shape_of(cfg: Any, path: Path, hint: str) -> BeatsShape:
    """The sizes in a file's `cfg`, as far as it names them."""
    if not isinstance(cfg, Mapping):
        raise BackendError(f"`{path}` has a `cfg` that is a {type(cfg).__name__}, not a map", hint=hint)
    for key, value in FIXED.items():
        if cfg.get(key, value) != value:
            raise BackendError(f"`{path}` has `{key}: {cfg[key]}` in its `cfg`; only {value} is known here", hint=hint)
    sizes: dict[str, Any] = {}
    for field in fields(BeatsShape):
        kind: Any = type(field.default)
        value = cfg.get(field.name, field.default)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MOST
        if not number or kind(value) != value or (kind is int and value == 0):
            raise BackendError(f"`{path}` has `{field.name}: {value}` in its `cfg`", hint=hint)
        sizes[field.name] = kind(value)
    shape = BeatsShape(**sizes)
    if shape.encoder_embed_dim % shape.encoder_attention_heads or shape.encoder_embed_dim % shape.conv_pos_groups:
        raise BackendError(f"`{path}` names sizes in its `cfg` that fit no network: {sizes}", hint=hint)
    return shape
