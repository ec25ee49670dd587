"""Arms of the study, the training of one with one seed, and how it is asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import clips as kept
import numpy as np
import torch
from clips import FRAMES, PIXELS, TOKENS, Clips, batch_of
from world import Latents

from vidcap.train import optimiser
from vidcap.train.config import OptimiserConfig
from vidcap.train.losses import LossSpec
from vidcap.train.model import ModelConfig, Stage2Model
from vidcap.train.text import WordPieceTokens

STEPS, BATCH = 300, 64
OPTIMISER = OptimiserConfig(learning_rate=1e-3, warm_up_steps=20)
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
    Arm("classical V", CLASSICAL, (("av", "v"),), "av"),
    Arm("classical AV", CLASSICAL, (("av", "av"),), "av"),
    Arm("classical AVS", CLASSICAL, (("av", "avs"),), "av"),
    Arm("learned V", LEARNED, (("av", "v"),), "av"),
    Arm("learned AV", LEARNED, (("av", "av"),), "av"),
    Arm("learned AVS", LEARNED, (("av", "avs"),), "av"),
    Arm("V-T", LEARNED, (("v", "avs"),), "v"),
    Arm("V-T, A-T", LEARNED, (("v", "avs"), ("a", "a")), "v"),
    Arm("VS-T", LEARNED, (("vs", "avs"),), "vs"),
    Arm("VAS-T", LEARNED, (("avs", "avs"),), "avs"),
)
"""`VA-T` is `learned AVS`."""


def model_of(arm: Arm, tokens: WordPieceTokens) -> Stage2Model:
    return Stage2Model(
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
        )
    )


def trained(arm: Arm, clips: Clips, tokens: WordPieceTokens, seed: int, steps: int = STEPS) -> tuple[Any, list[float]]:
    """The model after `steps` steps, the same for all arms, and the loss of each."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = model_of(arm, tokens)
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
        batch = batch_of(clips, rows, tokens, arm.kinds, draw)
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
def asked(model: Any, arm: Arm, clips: Clips, latents: Sequence[Latents], tokens: WordPieceTokens) -> dict[str, Any]:
    """Type of query → the rank (from 0) of the right clip among 50, for every held-out clip; a tie counts against."""
    media = []
    for at in range(0, len(clips), 60):
        rows = list(range(at, min(at + 60, len(clips))))
        media.append(model.embed_media(batch_of(clips, rows, tokens, ("s",), None), arm.media)["features"])
    gallery = torch.cat(media)
    ranks = {}
    for name, (kind, differs) in QUERIES.items():
        ids, mask = tokens.encode(clips.texts[kind], TOKENS)
        scores = model.embed_text(ids, mask)["features"] @ gallery.T
        chosen = torch.tensor(rivals(latents, differs))
        own = scores.gather(1, chosen)
        ranks[name] = (own[:, 1:] >= own[:, :1]).sum(1).tolist()
    return ranks


def one(arm: Arm, seed: int, paths: dict[str, str], steps: int = STEPS) -> dict[str, Any]:
    """One arm, one seed; `paths` of prepared clips (`clips`, `heldout`) and tokens. Runs in a process of its own."""
    from pathlib import Path

    clips = torch.load(paths[arm.shots], weights_only=False)
    test, latents = torch.load(paths["heldout"], weights_only=False)
    tokens = WordPieceTokens(Path(paths["tokens"]).read_text(encoding="utf-8"))
    began = time.perf_counter()
    model, history = trained(arm, clips, tokens, seed, steps)
    seconds = time.perf_counter() - began
    ranks = asked(model, arm, test, latents, tokens)
    last = float(np.mean(history[-20:]))
    return {
        "arm": arm.name,
        "seed": seed,
        "clips": len(clips),
        "seconds": round(seconds, 1),
        "loss": {"first": round(history[0], 4), "last": round(last, 4)},
        "ranks": ranks,
    }


__all__ = ["ARMS", "Arm", "kept", "one"]
