"""What is learned: pairs of media and captions × losses, as data; and the losses themselves, of features and logits.

Names are the field's: `vtc vtm mlm` of video and text, `atc atm amlm` of sound and text, `avtc avtm avmlm` of both and
text, `avc` of sound and video, `uta` of video and a teacher; with speech as a medium `vstc … avsmlm`.

Samples that lack what a loss is of are masked out: they are nobody's positive, nobody's negative, and count in no mean.
Shapes and calls are the same whatever is masked, so that all processes of a run do the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional

from vidcap.train.batch import MEDIA_TYPES, MediaType
from vidcap.train.distributed import rank, world_size

Media = Literal["v", "a", "av", "vs", "avs"]
"""What a caption is compared with: picture, sound, speech (as text), and what is fused of them."""
Gather = Literal["full", "published"]
Kind = Literal["contrastive", "matching", "mlm"]

NAMES: dict[str, dict[str, str]] = {
    "v": {"contrastive": "vtc", "matching": "vtm", "mlm": "mlm"},
    "a": {"contrastive": "atc", "matching": "atm", "mlm": "amlm"},
    "av": {"contrastive": "avtc", "matching": "avtm", "mlm": "avmlm"},
    "vs": {"contrastive": "vstc", "matching": "vstm", "mlm": "vsmlm"},
    "avs": {"contrastive": "avstc", "matching": "avstm", "mlm": "avsmlm"},
}
TYPES: dict[str, tuple[MediaType, ...]] = {
    "v": ("image", "video", "audio_video"),
    "a": ("audio", "audio_video"),
    "av": ("audio_video",),
    "vs": ("video", "audio_video"),
    "avs": ("audio_video",),
}
"""The batches that hold a medium."""


class LossWeights(BaseModel):
    """0 leaves a loss out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contrastive: float = Field(default=1.0, ge=0)
    matching: float = Field(default=1.0, ge=0)
    mlm: float = Field(default=1.0, ge=0)


class Pair(BaseModel):
    """A medium, and the captions it is learned with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    media: Media
    text: Literal["v", "a", "s", "av", "avs", "any"] = "any"
    """Kind of the captions; `any`: the one that was drawn of those a sample has."""
    types: tuple[MediaType, ...] = MEDIA_TYPES
    """Batches in which the pair is learned, as far as they hold the medium."""
    losses: LossWeights | None = None
    """Weights of this pair; else those of the whole."""


@dataclass(frozen=True, slots=True)
class Term:
    name: str
    loss: Kind
    media: Media
    text: str
    types: tuple[MediaType, ...]
    weight: float


class LossSpec(BaseModel):
    """Which losses, of what, with which weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: tuple[Pair, ...] = (Pair(media="v"),)
    losses: LossWeights = LossWeights()
    avc: float = Field(default=0.0, ge=0)
    """Weight of the contrast between sound and picture."""
    uta: float = Field(default=0.0, ge=0)
    """Weight of the alignment with a teacher's features."""
    uta_image_only: bool = False
    hard_negatives: bool = True
    """Matching tells a pair from the ones that look alike; else from random ones."""
    gather: Gather = "full"
    """`full`: a distributed run learns what one process with all its samples would. `published`: as the released code,
    gradients reach a process's own samples only through its own loss."""
    mlm_probability: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _no_loss_twice(self) -> LossSpec:
        for name in {term.name for term in self.terms()}:
            named = [term for term in self.terms() if term.name == name]
            if _overlap(*[term.types for term in named]):
                raise ValueError(f"two pairs give `{name}`: they are of one medium, one kind of caption and one type")
            if len({term.weight for term in named}) > 1:
                raise ValueError(f"two pairs give `{name}` different weights")
        return self

    def terms(self, media_type: MediaType | None = None) -> tuple[Term, ...]:
        """Losses of pairs, in the order of the pairs; of one type of batch, or all.

        Where a medium has captions of several kinds in one batch their losses are told apart: `vtc_v`, `vtc_avs`.
        """
        found = []
        for pair in self.pairs:
            types = tuple(each for each in pair.types if each in TYPES[pair.media])
            rivals = [
                other
                for other in self.pairs
                if other.media == pair.media and other.text != pair.text and _overlap(types, other.types)
            ]
            weights = pair.losses or self.losses
            for loss, name in NAMES[pair.media].items():
                weight = float(getattr(weights, loss))
                if weight and types and (media_type is None or media_type in types):
                    named = f"{name}_{pair.text}" if rivals else name
                    kind: Any = loss
                    found.append(Term(named, kind, pair.media, pair.text, types, weight))
        return tuple(found)

    @property
    def weights(self) -> dict[str, float]:
        """Of every loss by name."""
        more = {"avc": self.avc, "uta": self.uta}
        return {term.name: term.weight for term in self.terms()} | {name: w for name, w in more.items() if w}


def _overlap(*types: tuple[MediaType, ...]) -> bool:
    return any(count > 1 for count in Counter(each for some in types for each in some).values())


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, whole: bool) -> Tensor:
        ctx.whole, ctx.rows = whole, len(local)
        found = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(found, local.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if ctx.whole:
            gradient = gradient.contiguous()
            dist.all_reduce(gradient)
        return gradient[rank() * ctx.rows : (rank() + 1) * ctx.rows], None


def gathered(local: Tensor, mode: Gather = "full") -> Tensor:
    """B×… of every process → (processes·B)×…, by rank. All processes must ask, with one B.

    Gradients: `full`, of what all processes made of these rows, summed; `published`, of this process alone.
    """
    if world_size() == 1:
        return local
    found: Tensor = _Gathered.apply(local, mode == "full")
    return found


def summed(count: Tensor) -> Tensor:
    """Over the processes; no gradient."""
    count = count.detach().clone()
    if world_size() > 1:
        dist.all_reduce(count)
    return count


def shared_mean(total: Tensor, count: Tensor, gather: Gather) -> Tensor:
    """A mean over all processes' items, such that the mean of what the processes get is the mean over all items.

    In the mode `published` each process has the mean of its own.
    """
    if gather == "full":
        return total * world_size() / summed(count).clamp(min=1)
    return total / count.clamp(min=1)


def contrastive(
    one: Tensor, other: Tensor, index: Tensor, valid: Tensor, temperature: Tensor, gather: Gather = "full"
) -> Tensor:
    """Each row of `one` (B×D, of any length) must find those of `other` with its index among all, and back.

    Targets are shared evenly among equal indices. `valid` B bool. Its mean over the processes is the loss over all
    their rows; 0 where no row is valid.
    """
    one, other = _unit(one, valid), _unit(other, valid)
    all_one, all_other = gathered(one, gather), gathered(other, gather)
    all_index, all_valid = gathered(index), gathered(valid)
    if gather == "published":
        one, other, index, valid = all_one, all_other, all_index, all_valid
    share = 1 if gather == "published" else world_size()
    same = (index[:, None] == all_index[None]) & all_valid[None] & valid[:, None]
    targets = same.to(one.dtype) / same.sum(1, keepdim=True).clamp(min=1)
    total = one.new_zeros(())
    with torch.autocast(one.device.type, enabled=False):
        for rows, columns in ((one, all_other), (other, all_one)):
            logits = (rows @ columns.T / temperature).masked_fill(~all_valid[None], -torch.inf)
            total = total - (targets * logits.log_softmax(1).masked_fill(~same, 0.0)).sum()
    return total / 2 * share / all_valid.sum().clamp(min=1)


def _unit(features: Tensor, valid: Tensor) -> Tensor:
    """Of length 1; zeros where not valid."""
    return functional.normalize(_exact(features).masked_fill(~valid[:, None], 0.0), dim=-1)


def _exact(numbers: Tensor) -> Tensor:
    """At least in single precision."""
    return numbers if numbers.dtype == torch.float64 else numbers.float()


def can_match(index: Tensor, valid: Tensor) -> Tensor:
    """B bool: valid, and there is another valid sample of a different index to be confused with."""
    return valid & ((index[:, None] != index[None]) & valid[None]).any(1)


def negatives(
    media: Tensor,
    text: Tensor,
    index: Tensor,
    valid: Tensor,
    temperature: Tensor,
    generator: torch.Generator,
    *,
    hard: bool = True,
) -> tuple[Tensor, Tensor]:
    """For each text a wrong medium, for each medium a wrong text: B and B places in this process's batch.

    Drawn with weights softmax(similarity / temperature) + 0.0001 (`hard`), or all alike, among valid samples of another
    index. One number is drawn per row and direction, whoever is valid.
    """
    drawn = torch.rand(2, len(index), generator=generator, dtype=torch.float64).to(index.device)
    with torch.no_grad(), torch.autocast(index.device.type, enabled=False):
        similarity = _unit(media, valid) @ _unit(text, valid).T / temperature
        possible = (index[:, None] != index[None]) & valid[None] & valid[:, None]
        rows = []
        for scores, place in zip((similarity.T, similarity), drawn, strict=True):
            likely = scores.masked_fill(~valid[None], -torch.inf).softmax(1).nan_to_num(0.0) + 1e-4
            weights = (likely if hard else torch.ones_like(likely)).double() * possible
            edges = weights.cumsum(1)
            at = (edges <= (place * edges[:, -1])[:, None]).sum(1)
            rows.append(at.clamp(max=len(index) - 1))
    return rows[0], rows[1]


def matching(logits: Tensor, able: Tensor, gather: Gather = "full") -> Tensor:
    """Cross-entropy of 3B×2 logits: the first B belong together (class 1), the others do not.

    `able`: B bool, the rows that count, in each of the three.
    """
    wanted = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    wanted[: len(able)] = 1
    each = functional.cross_entropy(_exact(logits), wanted, reduction="none")
    counted = able.repeat(3)
    return shared_mean(each.masked_fill(~counted, 0.0).sum(), counted.sum(), gather)


def hidden_words(
    ids: Tensor,
    probability: float,
    generator: torch.Generator,
    *,
    mask_id: int,
    vocabulary: int,
    spared: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """Ids B×L with some hidden, and which (B×L bool): of the chosen 80 % become `mask_id`, 10 % any word, 10 % stay.

    `spared` ids, the padding and the beginning, are never chosen.
    """
    chance, fate = (torch.rand(ids.shape, generator=generator).to(ids.device) for _ in range(2))
    words = torch.randint(vocabulary, ids.shape, generator=generator).to(ids.device)
    chosen = chance < probability
    for each in spared:
        chosen = chosen & (ids != each)
    changed = torch.where(fate < 0.8, torch.full_like(ids, mask_id), torch.where(fate < 0.9, words, ids))
    return torch.where(chosen, changed, ids), chosen


def masked_words(logits: Tensor, wanted: Tensor, gather: Gather = "full") -> Tensor:
    """Mean cross-entropy of N×vocabulary logits over the hidden words of all processes; 0 where none was hidden."""
    total = functional.cross_entropy(_exact(logits), wanted, reduction="sum")
    return shared_mean(total, torch.tensor(len(wanted), device=logits.device), gather)


def alignment(student: Tensor, teacher: Tensor, valid: Tensor, gather: Gather = "full") -> Tensor:
    """2 − 2·cosine of features B×…×C, their mean over the valid samples."""
    each = 2 - 2 * functional.cosine_similarity(_exact(student), _exact(teacher), dim=-1)
    each = each.flatten(1).mean(1) if each.dim() > 1 else each
    return shared_mean(each.masked_fill(~valid, 0.0).sum(), valid.sum(), gather)
