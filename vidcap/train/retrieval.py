"""Judges a model by retrieval: captions find their media among all, and back; or the right one of several choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidcap.errors import UsageError
from vidcap.train import ranking
from vidcap.train.batch import KINDS
from vidcap.train.gallery import PRIMARY_NAME, Gallery, Judge, media_of, texts_of
from vidcap.train.sources import Source
from vidcap.train.text import WordPieceTokens


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`caption`: kind of the queries, or `primary`. `k_test`: candidates the matching head orders anew, 0 for none.

    `media`: what of a sample is compared (v, a, av …), None for all of it that the model fuses. `max_text`: None for
    the model's.
    """

    caption: str = PRIMARY_NAME
    media: str | None = None
    batch: int = 32
    k_test: int = 128
    dual_softmax_temperature: float = 1.0
    max_text: int | None = None
    workers: int = 0
    precision: str = "fp32"


@dataclass
class Found:
    """Metrics, and what they were computed of: media M×D, texts T×D, the medium of each text."""

    metrics: dict[str, Any]
    keys: list[str]
    media: npt.NDArray[np.float32]
    texts: list[str] = field(default_factory=list)
    features: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    owners: list[int] = field(default_factory=list)


def evaluate(
    model: Any, sources: Sequence[Source], tokens: WordPieceTokens, options: Evaluation, device: torch.device
) -> Found:
    """Retrieval, or multiple choice where the samples have choices; the model is left in evaluation mode.

    Raises `UsageError` where there is nothing to compare.
    """
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
        gallery = media_of(
            model,
            sources,
            tokens,
            device,
            caption=options.caption,
            media=options.media,
            batch=options.batch,
            matching=options.k_test > 0,
            workers=options.workers,
        )
        if any(choices for choices, _ in gallery.choices):
            return _multiple_choice(model, gallery, tokens, options, device)
        return _retrieval(model, gallery, tokens, options, device)


def _retrieval(
    model: Any, gallery: Gallery, tokens: WordPieceTokens, options: Evaluation, device: torch.device
) -> Found:
    texts = [text for captions in gallery.captions for text in captions]
    owners = [place for place, captions in enumerate(gallery.captions) for _ in captions]
    asked = sorted(set(owners))
    if not texts:
        raise UsageError(f"no sample has a caption of the kind `{options.caption}`", hint=f"one of {', '.join(KINDS)}")
    features, hidden, masks = _texts(model, texts, tokens, options, device)
    right = np.asarray(owners)[:, None] == np.arange(len(gallery.keys))[None]
    similarity = (features.double() @ gallery.features.double().T).numpy()
    temperature = options.dual_softmax_temperature
    scores = {
        "sim": (similarity, similarity.T[asked]),
        "dsl": (
            ranking.dual_softmax(similarity, temperature),
            ranking.dual_softmax(similarity.T, temperature)[asked],
        ),
    }
    if options.k_test:
        judge = Judge(model, gallery, hidden, masks, device)
        scores["match"] = (
            judge.reordered(similarity, options.k_test, list(range(len(texts))), by_text=True),
            judge.reordered(similarity.T[asked], options.k_test, asked, by_text=False),
        )
    metrics = {name: ranking.both_ways(forth, back, right, asked) for name, (forth, back) in scores.items()}
    repeated = Counter(text for text, _ in set(zip(texts, owners, strict=True)))
    return Found(
        {
            "task": "retrieval",
            "media": gallery.kind,
            "caption": options.caption,
            "candidates": len(gallery.keys),
            "queries": len(texts),
            "ambiguous_queries": sum(repeated[text] > 1 for text in texts),
            "chance_r1": round(100.0 / len(gallery.keys), 4),
            "retrieval": metrics,
            "skipped": gallery.skipped,
        },
        gallery.keys,
        gallery.features.numpy(),
        texts,
        features.numpy(),
        owners,
    )


def _texts(
    model: Any, texts: Sequence[str], tokens: WordPieceTokens, options: Evaluation, device: torch.device
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    length = options.max_text or model.config.max_text
    return texts_of(model, texts, tokens, device, batch=options.batch, length=length)


def _multiple_choice(
    model: Any,
    gallery: Gallery,
    tokens: WordPieceTokens,
    options: Evaluation,
    device: torch.device,
) -> Found:
    temperature = float(model.temp.detach())
    right = right_by_similarity = asked = 0
    for medium, (choices, answer) in enumerate(gallery.choices):
        if not choices:
            continue
        asked += 1
        features, hidden, masks = _texts(model, choices, tokens, options, device)
        cosines = (features.double() @ gallery.features[medium].double()).tolist()
        pairs = [(choice, medium) for choice in range(len(choices))]
        match = Judge(model, gallery, hidden, masks, device).logits(pairs).softmax(1)[:, 1].tolist()
        right += ranking.chosen(match, cosines, temperature) == answer
        right_by_similarity += int(np.argmax(cosines)) == answer
    chance = sum(1 / len(choices) for choices, _ in gallery.choices if choices) / asked
    return Found(
        {
            "task": "multiple_choice",
            "media": gallery.kind,
            "questions": asked,
            "chance": round(100 * chance, 4),
            "accuracy": round(100 * right / asked, 4),
            "accuracy_by_similarity": round(100 * right_by_similarity / asked, 4),
            "retrieval": {},
            "skipped": gallery.skipped,
        },
        gallery.keys,
        gallery.features.numpy(),
    )
