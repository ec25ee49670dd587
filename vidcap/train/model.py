"""The stage-2 model: all losses of a batch, each of the samples that it can be of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vidcap.errors import UsageError
from vidcap.models.masking import MaskSpec
from vidcap.models.vision import Seen
from vidcap.seeds import seed_of
from vidcap.train import losses as learned
from vidcap.train.batch import Batch
from vidcap.train.losses import LossSpec, Term
from vidcap.train.model_config import ModelConfig
from vidcap.train.network import Medium, Stage2Network, Teacher

__all__ = ["ModelConfig", "Stage2Model", "Teacher"]

TEMPERATURES = (0.001, 0.5)


class Stage2Model(Stage2Network):
    """The network, and what it learns from a batch."""

    def forward(self, *args: Any, **named: Any) -> dict[str, Tensor]:
        """`losses`, for wrappers that look after calls of a module only."""
        return self.losses(*args, **named)

    def losses(
        self,
        batch: Batch,
        spec: LossSpec,
        *,
        generator: torch.Generator,
        vision_mask: MaskSpec | None = None,
        teacher: Teacher | None = None,
    ) -> dict[str, Tensor]:
        """Name → loss, not weighted. A loss is absent where no process has a sample that it is of.

        Each loss draws from a stream of its own that begins at `generator`, so what is drawn for one does not depend on
        which others there are, nor on who is valid. In a distributed run the losses are such that their mean over the
        processes is the loss of all samples (`gather: full`).
        """
        self.check(spec)
        with torch.no_grad():
            self.temp.clamp_(*TEMPERATURES)
        begin = int(torch.randint(2**62, (), generator=generator))
        uta = bool(spec.uta) and batch.frames is not None and not (spec.uta_image_only and batch.media_type != "image")
        avc = bool(spec.avc) and batch.media_type == "audio_video"
        terms = [
            term for term in spec.terms(batch.media_type) if {term.text, *_texts_in(term.media)} <= set(batch.texts)
        ]
        letters = {letter for term in terms for letter in term.media} | {*("av" if avc else ""), *("v" if uta else "")}
        parts, seen, keep = self.parts(batch, letters, vision_mask, teacher, begin, uta)
        media = {name: self.medium(name, parts) for name in {term.media for term in terms}}
        texts = {kind: self.text(batch, kind) for kind in sorted({term.text for term in terms})}

        counts = {}
        for term in terms:
            both = media[term.media].valid & batch.text_valid[term.text]
            counts[term.name] = learned.can_match(batch.index, both) if term.loss == "matching" else both
        if avc:
            counts["avc"] = parts["a"].valid & parts["v"].valid
        if uta:
            counts["uta"] = torch.stack([batch.has_audio, *batch.text_valid.values()]).any(0)
        present = _present(counts)

        found = {}
        for term in terms:
            if term.name in present:
                stream = torch.Generator().manual_seed(seed_of(begin, term.name, "loss"))
                found[term.name] = self._loss(term, batch, media[term.media], texts[term.text], spec, stream)
        if "avc" in present:
            one, other = parts["a"].features, parts["v"].features
            found["avc"] = learned.contrastive(one, other, batch.index, counts["avc"], self.temp, spec.gather)
        if "uta" in present:
            found["uta"] = _aligned(seen, teacher, keep, counts["uta"], spec)
        return found

    def check(self, spec: LossSpec) -> None:
        """Raises `UsageError` where the losses ask for what this model does not have."""
        for term in spec.terms():
            if not self.config.has(term.media):
                wanted = "fuse_audio" if "a" in term.media and not self.config.fuse_audio else "speech"
                raise UsageError(
                    f"the loss `{term.name}` is of the medium `{term.media}`, which this model does not know",
                    hint=f"give the model `{wanted}: true`, or leave the pair out",
                )
            if term.loss == "matching" and term.media not in ("v", *self.config.heads):
                raise UsageError(
                    f"the loss `{term.name}` needs a head that this model does not have",
                    hint=f"add `{term.media}` to the model's `matching_heads`, or give the pair `matching: 0`",
                )
        if spec.avc and not self.config.fuse_audio:
            raise UsageError("the loss `avc` is of sound", hint="give the model `fuse_audio: true`, or leave it out")
        if spec.uta and not self.config.vision_shape.teacher_layers:
            raise UsageError(
                "the loss `uta` needs heads for a teacher's features", hint="`vision: {teacher_layers: 6}` of the model"
            )

    def _loss(
        self,
        term: Term,
        batch: Batch,
        media: Medium,
        text: tuple[Tensor, Tensor, Tensor],
        spec: LossSpec,
        stream: torch.Generator,
    ) -> Tensor:
        hidden, mask, features = text
        valid = media.valid & batch.text_valid[term.text]
        if term.loss == "contrastive":
            return learned.contrastive(media.features, features, batch.index, valid, self.temp, spec.gather)
        if term.loss == "matching":
            compared = (media.features, features, batch.index, valid, self.temp)
            wrong_media, wrong_text = learned.negatives(*compared, stream, hard=spec.hard_negatives)
            ours = torch.arange(len(mask), device=mask.device)
            looked_at, read = torch.cat([ours, wrong_media, ours]), torch.cat([ours, ours, wrong_text])
            seen_by = None if media.mask is None else media.mask[looked_at]
            logits = self.match_both(hidden[read], mask[read], media.tokens[looked_at], term.media, seen_by)
            return learned.matching(logits, learned.can_match(batch.index, valid), spec.gather)
        config = self.config
        ids, chosen = learned.hidden_words(
            batch.texts[term.text],
            spec.mlm_probability,
            stream,
            mask_id=config.mask_id,
            vocabulary=config.vocab_size,
            spared=(config.pad_id, config.cls_id),
        )
        chosen = chosen & valid[:, None]
        fused = self.text_encoder(self.text_encoder(ids, mask), mask, media.tokens, media.mask, mode="fusion")
        words = self.text_encoder.words(fused[chosen])
        return learned.masked_words(words, batch.texts[term.text][chosen], spec.gather)


def _texts_in(media: str) -> set[str]:
    """Captions that are a medium here."""
    return {"s"} & set(media)


def _aligned(seen: Seen | None, teacher: Teacher | None, keep: Tensor | None, valid: Tensor, spec: LossSpec) -> Tensor:
    if teacher is None:
        raise UsageError("the loss `uta` needs a teacher's features", hint="give a teacher, or `uta: 0`")
    assert seen is not None and seen.compared_pooled is not None
    layers = teacher.layers
    if keep is not None:
        places = torch.cat([torch.zeros_like(keep[:, :1]), keep + 1], 1)
        layers = layers.gather(2, places[None, :, :, None].expand(len(layers), -1, -1, layers.shape[-1]))
    student = torch.stack(seen.compared).transpose(0, 1)
    middle = learned.alignment(student, layers.transpose(0, 1), valid, spec.gather)
    return middle + learned.alignment(seen.compared_pooled, teacher.pooled, valid, spec.gather)


def _present(counts: dict[str, Tensor]) -> set[str]:
    """Names of the losses that any process has a sample for; the processes are asked once."""
    if not counts:
        return set()
    everywhere = learned.summed(torch.stack([valid.sum() for valid in counts.values()]))
    return {name for name, count in zip(counts, everywhere.tolist(), strict=True) if count}
