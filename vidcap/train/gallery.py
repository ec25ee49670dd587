"""What is compared in an evaluation: media and texts as features, and as tokens for the matching head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidcap.errors import UsageError
from vidcap.train import ranking
from vidcap.train.sources import Source
from vidcap.train.stream import Fetched, Fetcher, Loader, View, in_order
from vidcap.train.text import WordPieceTokens

PRIMARY = ("avs", "av", "v", "a", "s")
PRIMARY_NAME = "primary"
PAIRS_AT_ONCE = 64


@dataclass
class Gallery:
    """M different media. `tokens` and `masks` are kept for the matching head alone."""

    kind: str
    """What of the media is compared: v, a, av …"""
    keys: list[str]
    captions: list[list[str]]
    """Of each medium, those of all samples that have it."""
    choices: list[tuple[tuple[str, ...], int]]
    features: Tensor
    tokens: list[Tensor]
    masks: list[Tensor | None]
    skipped: dict[str, int]


def media_of(
    model: Any,
    sources: Sequence[Source],
    tokens: WordPieceTokens,
    device: torch.device,
    *,
    caption: str,
    media: str | None,
    batch: int,
    matching: bool,
    workers: int,
) -> Gallery:
    """All different media of the sources, with their captions of a kind; samples of one medium are put together.

    Raises `UsageError` for sources of several media types.
    """
    if len({source.media_type for source in sources}) != 1:
        raise UsageError("the sources are of several media types", hint="evaluate one media type at a time")
    shape = model.config
    view = View(shape.frames, shape.vision_shape.size, 8, (), training=False, hear=shape.fuse_audio)
    loader = Loader(Fetcher(sources, tokens, view, 0), in_order(sources, batch), workers=workers)
    gallery = Gallery("", [], [], [], torch.zeros(0), [], [], {})
    places: dict[int, int] = {}
    features: list[Tensor] = []
    skipped: Counter[str] = Counter()
    try:
        for fetched in loader:
            skipped.update(fault.reason for fault in fetched.faults)
            found = _embedded(model, fetched, places, media, device)
            if found:
                gallery.kind = found["media"]
            for row, index in enumerate(fetched.batch.index.tolist()):
                if index < 0:
                    continue
                captions = _captions(fetched.captions[row], caption)
                if index in places and not fetched.choices[row][0]:
                    gallery.captions[places[index]] += captions
                    continue
                places[index] = len(gallery.keys)
                gallery.keys.append(fetched.batch.keys[row])
                gallery.captions.append(captions)
                gallery.choices.append(fetched.choices[row])
                features.append(found["features"][row].float().cpu())
                if matching or fetched.choices[row][0]:
                    gallery.tokens.append(found["tokens"][row].cpu())
                    gallery.masks.append(None if found["mask"] is None else found["mask"][row].cpu())
    finally:
        loader.close()
    if not features:
        raise UsageError("not one sample could be read", hint="run `vidcap validate` on the shards")
    gallery.features = torch.stack(features)
    gallery.skipped = dict(sorted(skipped.items()))
    return gallery


def _embedded(
    model: Any, fetched: Fetched, known: Mapping[int, int], media: str | None, device: torch.device
) -> dict[str, Any]:
    """Empty where every medium of the batch is known already."""
    rows = zip(fetched.batch.index.tolist(), fetched.choices, strict=True)
    if not any(index >= 0 and (index not in known or choices) for index, (choices, _) in rows):
        return {}
    found: dict[str, Any] = model.embed_media(fetched.batch.to(device), media)
    return found


def _captions(captions: Mapping[str, Sequence[str]], kind: str) -> list[str]:
    kinds = PRIMARY if kind == PRIMARY_NAME else (kind,)
    return next((list(captions[each]) for each in kinds if each in captions), [])


def texts_of(
    model: Any, texts: Sequence[str], tokens: WordPieceTokens, device: torch.device, *, batch: int, length: int
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Features T×D; of each text hidden L×W and mask L, on the CPU, for the matching head."""
    features, hidden, masks = [], [], []
    for first in range(0, len(texts), batch):
        ids, mask = tokens.encode(texts[first : first + batch], length)
        found = model.embed_text(ids.to(device), mask.to(device))
        features.append(found["features"].float().cpu())
        hidden += list(found["hidden"].cpu())
        masks += list(found["mask"].cpu())
    return torch.cat(features), hidden, masks


class Judge:
    """The matching head, asked about pairs of a text and a medium."""

    def __init__(
        self, model: Any, gallery: Gallery, hidden: Sequence[Tensor], masks: Sequence[Tensor], device: torch.device
    ) -> None:
        self.model, self.gallery, self.hidden, self.masks, self.device = model, gallery, hidden, masks, device

    def logits(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """N×2, in double precision, of (text, medium)."""
        found = []
        for first in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[first : first + PAIRS_AT_ONCE]
            hidden = torch.stack([self.hidden[text] for text, _ in some]).to(self.device)
            mask = torch.stack([self.masks[text] for text, _ in some]).to(self.device)
            tokens = torch.stack([self.gallery.tokens[medium] for _, medium in some]).to(self.device)
            seen = [self.gallery.masks[medium] for _, medium in some]
            whole = torch.ones(tokens.shape[1], dtype=torch.bool)
            there = [whole if own is None else own for own in seen]
            looked = None if all(m is None for m in seen) else torch.stack(there).to(self.device)
            found.append(self.model.match_both(hidden, mask, tokens, self.gallery.kind, looked).double().cpu())
        return torch.cat(found)

    def reordered(self, scores: ranking.Scores, most: int, rows: Sequence[int], *, by_text: bool) -> ranking.Scores:
        """Scores whose best `most` candidates of each row are ordered by the head's logit of a match."""
        places = ranking.best(scores, most)
        pairs = [
            (row, int(candidate)) if by_text else (int(candidate), row)
            for row, candidates in zip(rows, places, strict=True)
            for candidate in candidates
        ]
        judged = self.logits(pairs)[:, 1].numpy().reshape(places.shape)
        return ranking.reordered(scores, places, judged)
