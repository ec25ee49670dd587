"""How much a step computes: multiplications and additions of its matrix products, by the model's sizes.

Counted as papers do: a product of m×k and k×n is 2·m·k·n; norms, activations and tables are left out; the way back
costs twice the way forth for what learns (once for a first layer, behind which nothing learns), and nothing for a
frozen encoder. What is computed twice to save memory is
counted once, so that the share of the device's peak is of the model, not of the trick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vidcap.models.masking import MaskSpec, visible
from vidcap.train.batch import Batch
from vidcap.train.losses import LossSpec
from vidcap.train.model_config import ModelConfig

PEAKS: dict[str, float] = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
}
"""Floating-point operations a second, dense, bfloat16, by the makers' data sheets; first match in a device's name."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one batch on one process: `flops` there and back, `tokens` that the encoders read."""

    flops: float
    tokens: int


def peak_of(device_name: str) -> float | None:
    """Of bfloat16; None where the device is not known."""
    return next((peak for name, peak in PEAKS.items() if name in device_name), None)


def layer(tokens: float, width: int, hidden: int) -> float:
    """Self-attention and feed-forward over `tokens` tokens of one sample."""
    return 8 * tokens * width**2 + 4 * tokens**2 * width + 4 * tokens * width * hidden


def cross(tokens: float, looked_at: float, width: int, looked_width: int) -> float:
    """Attention of `tokens` tokens to `looked_at` others of another width."""
    return 4 * tokens * width**2 + 4 * looked_at * looked_width * width + 4 * tokens * looked_at * width


def vision(config: ModelConfig, frames: int, mask: MaskSpec | None) -> tuple[float, float, int]:
    """Forward operations of one sample, of the first layer and of the rest; its tokens, the class token included."""
    shape = config.vision_shape
    seen = visible(frames, shape.tokens_per_frame, mask) if mask else frames * shape.tokens_per_frame
    tokens = seen + 1
    embed = 2 * seen * 3 * shape.patch**2 * shape.width
    pool = 4 * tokens * shape.width**2 + 4 * tokens * shape.width + 2 * shape.width * (shape.width + shape.pooled)
    return embed, shape.depth * layer(tokens, shape.width, shape.mlp_hidden) + pool, tokens


def audio(config: ModelConfig, frames: int, mels: int) -> tuple[float, float, int]:
    """As `vision`, of a spectrum."""
    shape = config.audio_shape
    patch, width = shape.input_patch_size, shape.encoder_embed_dim
    tokens = (frames // patch) * (mels // patch)
    embed = 2 * tokens * patch**2 * shape.embed_dim
    project = 2 * tokens * shape.embed_dim * width
    places = 2 * (tokens + 1) * shape.conv_pos * width * width // shape.conv_pos_groups
    layers = shape.encoder_layers * layer(tokens, width, shape.encoder_ffn_embed_dim)
    return embed, project + places + layers, tokens


def text(config: ModelConfig, length: int) -> float:
    shape = config.text_shape
    return shape.fusion_layer * layer(length, shape.width, shape.feed_forward)


def fusion(config: ModelConfig, length: int, looked_at: int) -> float:
    shape = config.text_shape
    each = layer(length, shape.width, shape.feed_forward) + cross(length, looked_at, shape.width, config.media_width)
    return (shape.layers - shape.fusion_layer) * each


def cost(config: ModelConfig, batch: Batch, spec: LossSpec, mask: MaskSpec | None, frozen: Sequence[str] = ()) -> Cost:
    """Of the losses of a batch; `frozen`: parts (`vision`, `audio`, `text`) that get no gradients."""
    size = len(batch.keys)
    terms = [term for term in spec.terms(batch.media_type) if term.text in batch.texts]
    letters = {letter for term in terms for letter in term.media} | ({"a", "v"} if spec.avc else set())
    tokens: dict[str, int] = {}
    forth = back = 0.0

    def add(flops: float, part: str = "", times: int = 2) -> None:
        nonlocal forth, back
        forth += flops
        back += 0 if part in frozen else times * flops

    if "v" in letters and batch.frames is not None:
        first, rest, tokens["v"] = vision(config, batch.frames.shape[1], mask)
        add(size * first, "vision", 1)
        add(size * rest, "vision")
    if "a" in letters and batch.fbank is not None:
        first, rest, tokens["a"] = audio(config, *batch.fbank.shape[1:])
        add(size * first, "audio", 1)
        add(size * rest, "audio")
    if config.fuse_audio:
        for part, width in (("v", config.vision_shape.width), ("a", config.audio_shape.encoder_embed_dim)):
            add(size * 2 * tokens.get(part, 0) * width * config.media_width)
    if "s" in letters:
        tokens["s"] = batch.texts["s"].shape[1]
    read = 0
    shape = config.text_shape
    for kind in sorted({term.text for term in terms} | ({"s"} if "s" in letters else set())):
        length = batch.texts[kind].shape[1]
        read += length
        add(size * text(config, length), "text")
    for term in terms:
        length, looked_at = batch.texts[term.text].shape[1], sum(tokens.get(each, 0) for each in term.media)
        if term.loss == "matching":
            add(3 * size * fusion(config, length, looked_at))
        if term.loss == "mlm":
            words = size * length * spec.mlm_probability
            add(size * (text(config, length) + fusion(config, length, looked_at)))
            add(2 * words * shape.width * (shape.width + shape.vocabulary))
    return Cost(forth + back, size * (tokens.get("v", 0) + tokens.get("a", 0) + read))
