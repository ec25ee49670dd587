"""BERT whose last layers also look at media: the first ones read a text, the last ones read it beside what it is of.

Key names are those of `BertForMaskedLM`, with `crossattention.*` in the fusion layers, as in the published stage-2
files (`text_encoder.*`). Post-norm throughout; a fusion layer is self-attention, cross-attention, feed-forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

NORM_EPS = 1e-12


@dataclass(frozen=True, slots=True)
class TextShape:
    """Sizes; the defaults are BERT-large, 19 layers of text and 5 of fusion, looking at tokens of the 1B encoder."""

    width: int = 1024
    layers: int = 24
    fusion_layer: int = 19
    """The first layer that looks at media."""
    heads: int = 16
    feed_forward: int = 4096
    encoder_width: int = 1408
    """Of the media's tokens."""
    vocabulary: int = 30522
    positions: int = 512
    dropout: float = 0.1


SHAPES = {
    "tiny": TextShape(96, 3, 2, 4, 384, positions=128),
    "base": TextShape(768, 12, 9, 12, 3072),
    "large": TextShape(),
}


class TextEncoder(nn.Module):
    """`mode="text"`: ids B×L → hidden B×L×width; `mode="fusion"`: those, and media tokens, → hidden."""

    def __init__(self, shape: TextShape, *, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.shape, self.gradient_checkpointing = shape, gradient_checkpointing
        self.bert = nn.ModuleDict({"embeddings": _Embeddings(shape), "encoder": _Layers(shape)})
        self.cls = nn.ModuleDict({"predictions": _Predictions(shape)})
        self.apply(_as_bert_begins)
        # One table of words, and one of their biases, each listed twice.
        self.cls["predictions"].decoder.weight = self.bert["embeddings"].word_embeddings.weight
        self.cls["predictions"].decoder.bias = self.cls["predictions"].bias

    def forward(
        self,
        given: Tensor,
        mask: Tensor,
        media: Tensor | None = None,
        media_mask: Tensor | None = None,
        *,
        mode: Literal["text", "fusion"] = "text",
    ) -> Tensor:
        """`mask`: B×L bool, True = token; `media`: B×N×encoder_width; `media_mask`: B×N bool, all where None."""
        layers = self.bert["encoder"].layer
        if mode == "text":
            x, layers, media = self.bert["embeddings"](given), layers[: self.shape.fusion_layer], None
        else:
            if media is None:
                raise ValueError("fusion needs media to look at")
            x, layers = given, layers[self.shape.fusion_layer :]
        over_text = mask[:, None, None, :]
        over_media = None if media_mask is None else media_mask[:, None, None, :]
        again = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for layer in layers:
            if again:
                x = checkpoint(layer, x, over_text, media, over_media, use_reentrant=False)
            else:
                x = layer(x, over_text, media, over_media)
        return x

    def words(self, hidden: Tensor) -> Tensor:
        """The masked-language head: …×width → …×vocabulary logits."""
        return self.cls["predictions"](hidden)


class _Embeddings(nn.Module):
    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(2, shape.width)
        self.LayerNorm = _norm(shape)
        self.dropout = nn.Dropout(shape.dropout)
        self.register_buffer("position_ids", torch.arange(shape.positions)[None])

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_ids[:, : ids.shape[1]]
        x = self.word_embeddings(ids) + self.token_type_embeddings(torch.zeros_like(ids))
        return self.dropout(self.LayerNorm(x + self.position_embeddings(places)))


class _Layers(nn.Module):
    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(shape, at >= shape.fusion_layer) for at in range(shape.layers))


class _Layer(nn.Module):
    def __init__(self, shape: TextShape, looks: bool) -> None:
        super().__init__()
        self.attention = _Attention(shape, shape.width)
        if looks:
            self.crossattention = _Attention(shape, shape.encoder_width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(shape.width, shape.feed_forward)})
        self.output = _Output(shape, shape.feed_forward)

    def forward(self, x: Tensor, over_text: Tensor, media: Tensor | None, over_media: Tensor | None) -> Tensor:
        x = self.attention(x, x, over_text)
        if media is not None:
            x = self.crossattention(x, media, over_media)
        return self.output(functional.gelu(self.intermediate["dense"](x)), x)


class _Attention(nn.Module):
    def __init__(self, shape: TextShape, source: int) -> None:
        super().__init__()
        self.heads, self.drop = shape.heads, shape.dropout
        widths = {"query": shape.width, "key": source, "value": source}
        self.self = nn.ModuleDict({name: nn.Linear(width, shape.width) for name, width in widths.items()})
        self.output = _Output(shape, shape.width)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (
            self.self[name](of).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name, of in (("query", x), ("key", source), ("value", source))
        )
        drop = self.drop if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)
        return self.output(mixed.transpose(1, 2).flatten(2), x)


class _Output(nn.Module):
    def __init__(self, shape: TextShape, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, shape.width)
        self.LayerNorm = _norm(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class _Predictions(nn.Module):
    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        transform = {"dense": nn.Linear(shape.width, shape.width), "LayerNorm": _norm(shape)}
        self.transform = nn.ModuleDict(transform)
        self.decoder = nn.Linear(shape.width, shape.vocabulary)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.transform["LayerNorm"](functional.gelu(self.transform["dense"](hidden))))


def _norm(shape: TextShape) -> nn.LayerNorm:
    return nn.LayerNorm(shape.width, eps=NORM_EPS)


def _as_bert_begins(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
