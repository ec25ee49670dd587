"""Arms of the study, the training of one with one seed, and how it is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from clips import FRAMES, PIXELS, TOKENS, Features, Remembered, batch_of
from world import Latents

from vidcap.train import optimiser
from vidcap.train.config import OptimiserConfig
from vidcap.train.losses import LossSpec
from vidcap.train.model import ModelConfig, Stage2Model
from vidcap.train.text import WordPieceTokens

STEPS, BATCH = 300, 64
OPTIMISER = OptimiserConfig(learning_rate=2e-3, warm_up_steps=20)
SMALLER: dict[str, Any] = {
    "vision": {"width": 64, "depth": 2, "heads": 4, "mlp_hidden": 192, "pooled": 64, "layer_scale": 1.0},
    "audio": {"encoder_layers": 1, "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128},
    "text": {"width": 64, "layers": 2, "fusion_layer": 1, "heads": 4, "feed_forward": 192},
    "contra_width": 64,
    "concat_width": 64,
}
"""Less than `tiny`, so that thirty trainings fit into minutes of two cores."""
CONTRASTIVE = {"contrastive": 1, "matching": 0, "mlm": 0}
CANDIDATES = 50
"""One right clip and 49 wrong ones."""
QUERIES = {
    "visual": ("v", ("shape", "colour", "motion")),
    "audio": ("a", ("sound",)),
    "speech": ("s", ("word",)),
    "all": ("avs", ("shape", "colour", "motion", "sound", "word")),
}
"""Type of query → kind of caption that is asked with, and the latents in which every wrong clip differs somewhere."""


@dataclass(frozen=True, slots=True)
class Arm:
    """`shots`: the detector whose shards are learned from; `pairs` of media and captions; `media` is searched."""

    name: str
    shots: str
    pairs: tuple[tuple[str, str], ...]
    media: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """Captions that a batch must hold; speech as a medium is the caption `s`."""
        speech = {"s"} if any("s" in media for media, _ in self.pairs) else set()
        return tuple(sorted({text for _, text in self.pairs} | speech))


CLASSICAL, LEARNED = "scenedetect", "fast"
ARMS = (
    Arm("learned AVS", LEARNED, (("av", "avs"),), "av"),
    Arm("learned V", LEARNED, (("av", "v"),), "av"),
    Arm("classical AVS", CLASSICAL, (("av", "avs"),), "av"),
    Arm("classical V", CLASSICAL, (("av", "v"),), "av"),
    Arm("V-T", LEARNED, (("v", "avs"),), "v"),
    Arm("VAS-T", LEARNED, (("avs", "avs"),), "avs"),
    Arm("VS-T", LEARNED, (("vs", "avs"),), "vs"),
    Arm("V-T, A-T", LEARNED, (("v", "avs"), ("a", "a")), "v"),
    Arm("classical AV", CLASSICAL, (("av", "av"),), "av"),
    Arm("learned AV", LEARNED, (("av", "av"),), "av"),
)
"""`VA-T` is `learned AVS`."""


def model_of(arm: Arm, tokens: WordPieceTokens) -> Stage2Model:
    """A small model whose layers begin with weights of deviation 1/√(inputs).

    Published sizes begin with 0.02, which suits widths of a thousand; 64 wide it leaves the pooled picture so faint
    beside the sound that hundreds of steps pass before it is noticed.
    """
    model = Stage2Model(
        ModelConfig(
            size="tiny",
            fuse_audio=True,
            speech=any("s" in media for media, _ in arm.pairs),
            vocab_size=tokens.vocab_size,
            pad_id=tokens.pad_id,
            cls_id=tokens.cls_id,
            mask_id=tokens.mask_id,
            max_text=TOKENS,
            frames=FRAMES,
            image_size=PIXELS,
            **SMALLER,
        )
    )
    for part in (model.vision_encoder, model.text_encoder):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Linear) and layer.weight.shape[0] != tokens.vocab_size:
                torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    return model


def trained(arm: Arm, clips: Features, tokens: WordPieceTokens, seed: int, steps: int) -> tuple[Any, list[float]]:
    """The model after `steps` steps, and the loss of each step. Its encoders of picture and sound are frozen."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = model_of(arm, tokens)
    model.vision_encoder, model.audio_encoder = Remembered(picture=True), Remembered(picture=False)
    model.train()
    pairs = [{"media": media, "text": text, "losses": CONTRASTIVE} for media, text in arm.pairs]
    spec = LossSpec.model_validate({"pairs": pairs})
    learner = optimiser.made(model, OPTIMISER, fused=False)
    learning = list(model.parameters())
    draw, stream = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    order: list[int] = []
    history = []
    for step in range(steps):
        if len(order) < BATCH:
            order = draw.permutation(len(clips)).tolist()
        rows, order = order[:BATCH], order[BATCH:]
        batch = batch_of(clips, rows, arm.kinds, draw)
        share = optimiser.rate(step, steps, OPTIMISER.warm_up_steps or 0, OPTIMISER.floor)
        optimiser.set_rate(learner, OPTIMISER.learning_rate * share)
        loss = torch.stack(list(model.losses(batch, spec, generator=stream).values())).sum()
        loss.backward()
        optimiser.clip(learning, OPTIMISER.clip_norm)
        learner.step()
        learner.zero_grad(set_to_none=True)
        history.append(float(loss.detach()))
    return model.eval(), history


def rivals(latents: Sequence[Latents], differs: Sequence[str], seed: int = 0) -> list[list[int]]:
    """For each clip itself, then 49 that differ from it in one of these latents at least; the same for all arms."""
    draw = np.random.default_rng(seed)
    values = [tuple(getattr(each, name) for name in differs) for each in latents]
    found = []
    for own, value in enumerate(values):
        others = [other for other, theirs in enumerate(values) if theirs != value]
        found.append([own, *draw.choice(others, CANDIDATES - 1, replace=False).tolist()])
    return found


@torch.no_grad()
def asked(model: Any, arm: Arm, clips: Features, latents: Sequence[Latents]) -> dict[str, list[int]]:
    """Type of query → the rank (from 0) of the right clip among 50, for every held-out clip; a tie counts against."""
    gallery = model.embed_media(batch_of(clips, range(len(clips)), ("s",), None), arm.media)["features"]
    ranks = {}
    for name, (kind, differs) in QUERIES.items():
        scores = model.embed_text(clips.ids[kind], clips.masks[kind])["features"] @ gallery.T
        own = scores.gather(1, torch.tensor(rivals(latents, differs)))
        ranks[name] = (own[:, 1:] >= own[:, :1]).sum(1).tolist()
    return ranks


def one(arm: Arm, seed: int, made: Mapping[str, Any], tokens: WordPieceTokens, steps: int) -> dict[str, Any]:
    """One arm, one seed; `made` holds the features of each detector's clips and of the held-out ones with latents."""
    clips, (test, latents) = made[arm.shots], made["heldout"]
    began = time.perf_counter()
    model, history = trained(arm, clips, tokens, seed, steps)
    return {
        "arm": arm.name,
        "seed": seed,
        "clips": len(clips),
        "seconds": round(time.perf_counter() - began, 1),
        "loss": {"first": round(history[0], 4), "last": round(float(np.mean(history[-20:])), 4)},
        "ranks": asked(model, arm, test, latents),
    }
