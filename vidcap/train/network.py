"""The network of stage 2: encoders of picture, sound and text, what projects and fuses them, matching, freezing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidcap.errors import UsageError
from vidcap.models.beats import Beats
from vidcap.models.masking import MaskSpec, kept
from vidcap.models.text import TextEncoder
from vidcap.models.vision import Seen, VisionEncoder
from vidcap.seeds import seed_of
from vidcap.train.batch import Batch
from vidcap.train.model_config import ModelConfig

HEADS = {"v": "itm_head", "a": "atm_head", "av": "avtm_head", "vs": "vstm_head", "avs": "avstm_head"}
PARTS = {"vision": "vision_encoder", "audio": "audio_encoder", "text": "text_encoder"}


@dataclass(frozen=True, slots=True)
class Teacher:
    """A teacher's features of a batch's frames: `layers` K×B×(1 + all patches)×C, `pooled` B×C; and, for masks by
    attention, how it attends to the patches, B×(all patches)."""

    layers: Tensor
    pooled: Tensor
    attention: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Medium:
    """`features` B×contra as projected, `tokens` B×N×width for matching; `mask` B×N, `valid` B bool."""

    features: Tensor
    tokens: Tensor
    mask: Tensor | None
    valid: Tensor


class Stage2Network(nn.Module):
    """Parameters are named as in the published files."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        again, wide, concat = config.gradient_checkpointing, config.contra, config.media_width
        vision, text = config.vision_shape, config.text_shape
        self.vision_encoder = VisionEncoder(vision, gradient_checkpointing=again)
        self.text_encoder = TextEncoder(text, gradient_checkpointing=again)
        self.vision_proj = nn.Linear(vision.pooled, wide)
        self.text_proj = nn.Linear(text.width, wide)
        # A scalar, as published. FSDP2 shares out no scalars: leave it to every process and average its gradient.
        self.temp = nn.Parameter(torch.tensor(config.temperature))
        self.itm_head = nn.Linear(text.width, 2)
        if config.fuse_audio:
            audio = config.audio_shape
            self.audio_encoder = Beats(audio)
            self.audio_proj = nn.Linear(audio.encoder_embed_dim, wide)
            self.av_concat_vision_proj = _projected_tokens(vision.width, concat)
            self.av_concat_audio_proj = _projected_tokens(audio.encoder_embed_dim, concat)
            self.av_fusion = nn.Linear(2 * wide, wide)
        if config.speech:
            self.av_concat_subtitle_proj = _projected_tokens(text.width, concat)
            self.vs_fusion = nn.Linear(2 * wide, wide)
            if config.fuse_audio:
                self.avs_fusion = nn.Linear(3 * wide, wide)
        for media in config.heads:
            if media != "v":
                setattr(self, HEADS[media], nn.Linear(text.width, 2))
        self._at_rest: tuple[str, ...] = ()

    def embed_media(self, batch: Batch, media: str | None = None) -> dict[str, Any]:
        """`features` B×contra of length 1, `tokens` B×N×width and `mask` (B×N bool, or None) for `match`, and the
        `media` that they are of: the one asked for, else what the batch holds and this model fuses.

        A clip without sound (or speech) has the features and tokens of its picture alone.
        """
        if media is None:
            media = {"audio": "a", "audio_video": "av" if self.config.fuse_audio else "v"}.get(batch.media_type, "v")
        parts, _, _ = self.parts(batch, set(media), None, None, 0, False)
        found = self.medium(media, parts)
        features, mask = found.features, found.mask
        if len(media) > 1:
            features = torch.where(found.valid[:, None], features, parts["v"].features)
            there = [parts[each].valid[:, None].expand(-1, parts[each].tokens.shape[1]) for each in _order(media)]
            mask = torch.cat(there, 1) if mask is None else torch.cat(there, 1) & mask
        return {
            "features": functional.normalize(features, dim=-1),
            "tokens": found.tokens,
            "mask": mask,
            "media": media,
        }

    def embed_text(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """B×L ids → `features` B×contra of length 1, `hidden` B×L×width and `mask` for `match`."""
        mask = _begun(mask)
        hidden = self.text_encoder(ids, mask)
        return {"features": functional.normalize(self.text_proj(hidden[:, 0]), dim=-1), "hidden": hidden, "mask": mask}

    def match(
        self, hidden: Tensor, mask: Tensor, tokens: Tensor, media: str, tokens_mask: Tensor | None = None
    ) -> Tensor:
        """B logits of "these belong together", of hidden texts and media tokens row by row."""
        return self.match_both(hidden, mask, tokens, media, tokens_mask)[:, 1]

    def match_both(
        self, hidden: Tensor, mask: Tensor, tokens: Tensor, media: str, tokens_mask: Tensor | None = None
    ) -> Tensor:
        """B×2 logits: do not, and do belong together."""
        fused = self.text_encoder(hidden, mask, tokens, tokens_mask, mode="fusion")
        head: nn.Linear = getattr(self, HEADS[media])
        return head(fused[:, 0])

    def freeze(self, parts: Sequence[str], unfreeze_keys: Sequence[str] = ()) -> None:
        """`parts` (vision, audio, text, or names of attributes) learn nothing, and drop nothing while training.

        `unfreeze_keys`: names of modules or parameters inside that do learn, such as `vision_encoder.clip_projector`.
        """
        names = [PARTS.get(part, part) for part in parts]
        missing = [part for part, name in zip(parts, names, strict=True) if name not in self._modules]
        if missing:
            raise UsageError(f"there is no part `{missing[0]}` to freeze", hint="one of: " + ", ".join(self._modules))
        for name in names:
            getattr(self, name).requires_grad_(False)
        for key in unfreeze_keys:
            inside = [value for name, value in self.named_parameters() if f"{name}.".startswith(f"{key}.")]
            if not inside:
                raise UsageError(f"`{key}` names no parameter", hint="such as `vision_encoder.clip_projector`")
            for value in inside:
                value.requires_grad_(True)
        self._at_rest = tuple(names)
        self.train(self.training)

    def train(self, mode: bool = True) -> Stage2Network:
        super().train(mode)
        for name in self._at_rest:
            getattr(self, name).eval()
        return self

    def parts(
        self, batch: Batch, letters: set[str], mask: MaskSpec | None, teacher: Teacher | None, begin: int, uta: bool
    ) -> tuple[dict[str, Medium], Seen | None, Tensor | None]:
        """Picture, sound and speech, as far as they are asked for, each by itself."""
        parts: dict[str, Medium] = {}
        seen = keep = None
        if "v" in letters:
            assert batch.frames is not None, f"a batch of {batch.media_type} without frames"
            shape = self.config.vision_shape
            if mask is not None:
                stream = torch.Generator().manual_seed(seed_of(begin, "vision", "mask"))
                samples, frames = batch.frames.shape[:2]
                attention = teacher.attention if teacher else None
                keep = kept(samples, frames, shape.tokens_per_frame, mask, stream, attention).to(batch.frames.device)
            seen = self.vision_encoder(batch.frames, keep, for_teacher=uta)
            tokens = self.av_concat_vision_proj(seen.tokens) if self.config.fuse_audio else seen.tokens
            parts["v"] = Medium(self.vision_proj(seen.pooled), tokens, None, torch.ones_like(batch.has_audio))
        if "a" in letters:
            assert batch.fbank is not None, f"a batch of {batch.media_type} without sound"
            heard = self.audio_encoder(batch.fbank)
            tokens = self.av_concat_audio_proj(heard)
            parts["a"] = Medium(self.audio_proj(heard.mean(1)), tokens, None, batch.has_audio)
        if "s" in letters:
            hidden, mask_of_text, features = self.text(batch, "s")
            tokens = self.av_concat_subtitle_proj(hidden)
            parts["s"] = Medium(features, tokens, mask_of_text, batch.text_valid["s"])
        return parts, seen, keep

    def medium(self, media: str, parts: dict[str, Medium]) -> Medium:
        """What is fused of its parts: features by a layer of their own, tokens side by side."""
        if len(media) == 1:
            return parts[media]
        chosen = [parts[letter] for letter in _order(media)]
        fusion: nn.Linear = getattr(self, f"{media}_fusion")
        features = fusion(torch.cat([part.features for part in chosen], -1))
        mask = None
        if any(part.mask is not None for part in chosen):
            masks = [part.tokens.new_ones(part.tokens.shape[:2], dtype=torch.bool) for part in chosen]
            mask = torch.cat([m if part.mask is None else part.mask for part, m in zip(chosen, masks, strict=True)], 1)
        valid = torch.stack([part.valid for part in chosen]).all(0)
        return Medium(features, torch.cat([part.tokens for part in chosen], 1), mask, valid)

    def text(self, batch: Batch, kind: str) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden B×L×width, mask, and features B×contra as projected."""
        mask = _begun(batch.text_masks[kind])
        hidden = self.text_encoder(batch.texts[kind], mask)
        return hidden, mask, self.text_proj(hidden[:, 0])


def _order(media: Iterable[str]) -> list[str]:
    """Sound, speech, picture: as the published layers take them."""
    return sorted(media, key="asv".index)


def _begun(mask: Tensor) -> Tensor:
    """A text that is missing has its first place: kernels differ in what they make of attention to nothing."""
    return torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], 1)


def _projected_tokens(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inner, outer), nn.LayerNorm(outer))
