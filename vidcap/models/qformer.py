"""The Q-Former: a BERT-base of queries that look at an encoder's tokens and become a language model's input.

Key names are those of the published BLIP-2 and VideoChat files: `query_tokens`, `extra_query_tokens` and
`qformer.bert.*`, where the branch for text is gone and the one for queries (`intermediate_query`, `output_query`)
is kept. `ln_audio` before it and `llama_proj` behind it stand where those have `ln_vision` and `llama_proj`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class QFormerShape:
    """Sizes; the defaults are BERT-base and VideoChat's queries. `encoder_width`: of the tokens that are looked at."""

    encoder_width: int = 768
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    cross_attention_every: int = 2
    """Layers 0, 2, 4 … look at the encoder's tokens."""
    queries: int = 32
    extra_queries: int = 64
    dropout: float = 0.1


class SoundPrefix(nn.Module):
    """B×N×`encoder_width` tokens of sound → B×(queries + extra)×`llm_width` in the language model's input space.

    All that is trained of an audio captioner: layer norm, queries, Q-Former, projection.
    """

    def __init__(self, shape: QFormerShape, llm_width: int) -> None:
        super().__init__()
        self.shape = shape
        self.ln_audio = nn.LayerNorm(shape.encoder_width)
        self.query_tokens = nn.Parameter(torch.empty(1, shape.queries, shape.hidden).normal_(0.0, 0.02))
        self.extra_query_tokens = nn.Parameter(torch.zeros(1, shape.extra_queries, shape.hidden))
        self.qformer = nn.ModuleDict({"bert": _QueryBert(shape)})
        self.llama_proj = nn.Linear(shape.hidden, llm_width)

    def forward(self, tokens: Tensor, heard: Tensor | None = None) -> Tensor:
        """`heard`: B×N, False where a token is filling that no query may look at."""
        queries = torch.cat([self.query_tokens, self.extra_query_tokens], 1).expand(len(tokens), -1, -1)
        mask = None if heard is None else heard[:, None, None, :]
        return self.llama_proj(self.qformer["bert"](queries, self.ln_audio(tokens), mask))


class _QueryBert(nn.Module):
    def __init__(self, shape: QFormerShape) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"LayerNorm": _norm(shape)})
        layers = [_Layer(shape, at % shape.cross_attention_every == 0) for at in range(shape.layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.dropout = nn.Dropout(shape.dropout)
        self.apply(_as_bert_begins)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        x = self.dropout(self.embeddings["LayerNorm"](queries))
        for layer in self.encoder["layer"]:
            x = layer(x, tokens, mask)
        return x


class _Layer(nn.Module):
    """Self-attention, where it is a layer that looks cross-attention, feed-forward: each with a norm behind its sum."""

    def __init__(self, shape: QFormerShape, looks: bool) -> None:
        super().__init__()
        self.attention = _Attention(shape, shape.hidden)
        self.crossattention = _Attention(shape, shape.encoder_width) if looks else None
        self.intermediate_query = nn.ModuleDict({"dense": nn.Linear(shape.hidden, shape.feed_forward)})
        self.output_query = _Output(shape, shape.feed_forward)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention(x, x)
        if self.crossattention is not None:
            x = self.crossattention(x, tokens, mask)
        return self.output_query(functional.gelu(self.intermediate_query["dense"](x)), x)


class _Attention(nn.Module):
    def __init__(self, shape: QFormerShape, source: int) -> None:
        super().__init__()
        self.heads, self.drop = shape.heads, shape.dropout
        widths = {"query": shape.hidden, "key": source, "value": source}
        self.self = nn.ModuleDict({name: nn.Linear(width, shape.hidden) for name, width in widths.items()})
        self.output = _Output(shape, shape.hidden)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = (
            self.self[name](of).view(*of.shape[:2], self.heads, -1).transpose(1, 2)
            for name, of in (("query", x), ("key", source), ("value", source))
        )
        drop = self.drop if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)
        return self.output(mixed.transpose(1, 2).flatten(2), x)


class _Output(nn.Module):
    def __init__(self, shape: QFormerShape, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, shape.hidden)
        self.LayerNorm = _norm(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


def _norm(shape: QFormerShape) -> nn.LayerNorm:
    return nn.LayerNorm(shape.hidden, eps=1e-12)


def _as_bert_begins(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
