"""From shards (or rendered held-out shots) to tensors in memory: decoded once, drawn from in every step."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import captions
import numpy as np
import torch
from torch import Tensor
from world import FPS, Latents

from vidcap.backends import registry
from vidcap.backends.roles import Request
from vidcap.models.fbank import encoder_input
from vidcap.models.vision import Seen
from vidcap.seeds import seed_of
from vidcap.train import decode
from vidcap.train.batch import Batch
from vidcap.train.text import WordPieceTokens

PIXELS, KEPT, FRAMES = 56, 8, 4
"""Of a frame; frames kept of a clip; frames that the model sees."""
HEARD = 256
"""Steps of 10 ms of sound that the model hears at once, 2.56 s."""
MELS = 64
DRAWS = 8
TOKENS = 36
KINDS = ("v", "a", "s", "av", "avs")


@dataclass
class Clips:
    """`pictures` N×8×3×56×56 normalised, `spectra` steps×64 each, `texts` kind → N captions ("": none)."""

    keys: list[str]
    pictures: Tensor
    spectra: list[Tensor]
    texts: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.keys)


def samples_of(shards: Path) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Key, mp4 and captions of every sample, in the order of the shards."""
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            parts: dict[str, dict[str, bytes]] = {}
            for member in tar:
                key, _, kind = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                parts.setdefault(key, {})[kind] = file.read()
            for key, part in parts.items():
                yield key, part["mp4"], json.loads(part["json"])["captions"]


def read(shards: Path) -> Clips:
    """All clips of a run, decoded by the trainer's own decoder."""
    return _decoded(samples_of(shards))


def heldout(corpus: Path) -> tuple[Clips, list[Latents]]:
    """Clean single shots with captions of all kinds from the truth, fused as the pipeline fuses; and their latents."""
    videos = json.loads((corpus / "truth.json").read_text(encoding="utf-8"))["videos"]
    fuse = registry.create("llm", "template")
    fuse.load("cpu")
    latents, samples = [], []
    for name, video in videos.items():
        known = Latents(**video["shots"][0]["latents"])
        seed = seed_of(0, name, "heldout")
        texts = {"v": captions.seen(known, seed), "a": captions.heard(known, seed // 7), "s": captions.said(known)}
        slots = {"video": texts["v"], "audio": texts["a"], "speech": texts["s"]}
        for task in ("av", "avs"):
            texts[task] = fuse.complete([Request(name, task, "", slots)], seeds=[seed])[0]
        latents.append(known)
        samples.append((name, (corpus / "media" / f"{name}.mp4").read_bytes(), texts))
    return _decoded(iter(samples)), latents


def _decoded(samples: Iterator[tuple[str, bytes, dict[str, str]]]) -> Clips:
    keys, pictures, spectra = [], [], []
    texts: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for key, film, said in samples:
        found = decode.pictures(io.BytesIO(film), KEPT, None)
        pictures.append(decode.pictures_tensor(found.frames, PIXELS, None))
        spectra.append(_spectrum(film))
        keys.append(key)
        for kind, each in texts.items():
            each.append(said.get(kind, ""))
    return Clips(keys, torch.stack(pictures), spectra, texts)


def _spectrum(film: bytes) -> Tensor:
    """The whole sound of a clip, with silence behind where it is shorter than `HEARD`."""
    import av

    with av.open(io.BytesIO(film)) as box:
        seconds = box.streams.video[0].frames / FPS
    starts = np.arange(0, seconds, 10.0)
    wave = np.concatenate([decode.sound(io.BytesIO(film), None, start=s, end=min(s + 10, seconds)) for s in starts])
    least = (HEARD - 1) * 160 + 400
    steps = max(least, round(seconds * 16_000))
    wave = np.pad(wave, (0, max(0, steps - len(wave))))[:steps]
    return encoder_input(torch.from_numpy(wave.astype(np.float32)), MELS)


@dataclass
class Features:
    """What frozen encoders make of clips, `DRAWS` times with other frames, flips and windows; and the captions' ids.

    `seen` and `heard` N×draws×width, the pooled picture and sound; `ids`, `masks` N×36 and `valid` N per kind.
    """

    keys: list[str]
    seen: Tensor
    heard: Tensor
    ids: dict[str, Tensor]
    masks: dict[str, Tensor]
    valid: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.keys)


@torch.no_grad()
def features(clips: Clips, model: Any, tokens: WordPieceTokens, draws: int = DRAWS, seed: int = 0) -> Features:
    """`draws` 1: the middle frames and the middle window, unflipped, as in evaluation."""
    model.eval()
    seen, heard = [], []
    for at in range(0, len(clips), 32):
        rows = range(at, min(at + 32, len(clips)))
        both = []
        for number in range(draws):
            draw = np.random.default_rng([seed, at, number]) if draws > 1 else None
            frames, spectra = zip(*(_drawn(clips, row, draw) for row in rows), strict=True)
            pooled = model.vision_encoder(torch.stack(frames)).pooled
            both.append((pooled, model.audio_encoder(torch.stack(spectra)).mean(1)))
        seen.append(torch.stack([picture for picture, _ in both], 1))
        heard.append(torch.stack([sound for _, sound in both], 1))
    encoded = {kind: tokens.encode(said, TOKENS) for kind, said in clips.texts.items()}
    return Features(
        clips.keys,
        torch.cat(seen),
        torch.cat(heard),
        {kind: ids for kind, (ids, _) in encoded.items()},
        {kind: mask for kind, (_, mask) in encoded.items()},
        {kind: torch.tensor([bool(text) for text in said]) for kind, said in clips.texts.items()},
    )


def _drawn(clips: Clips, row: int, draw: np.random.Generator | None) -> tuple[Tensor, Tensor]:
    """4 frames, one of each quarter, flipped or not, and a window of sound; the middle ones without `draw`."""
    step, spare = KEPT // FRAMES, len(clips.spectra[row]) - HEARD
    offsets = np.full(FRAMES, step // 2) if draw is None else draw.integers(0, step, FRAMES)
    picture = clips.pictures[row][np.arange(FRAMES) * step + offsets]
    if draw is not None and draw.random() < 0.5:
        picture = picture.flip(-1)
    at = spare // 2 if draw is None else int(draw.integers(0, spare + 1))
    return picture, clips.spectra[row][at : at + HEARD]


class Remembered(torch.nn.Module):
    """Stands where a frozen encoder stands in the model, and passes on what that encoder gave before.

    Given pooled features B×width where frames or spectra are expected; there are no other tokens than this one.
    """

    def __init__(self, picture: bool) -> None:
        super().__init__()
        self.picture = picture

    def forward(self, pooled: Tensor, *_: Any, **__: Any) -> Any:
        return Seen(pooled[:, None], pooled) if self.picture else pooled[:, None]


def batch_of(made: Features, rows: Sequence[int], kinds: Sequence[str], draw: np.random.Generator | None) -> Batch:
    """A batch of audio and video for a model whose encoders are `Remembered`."""
    at = torch.tensor(list(rows))
    draws = made.seen.shape[1]
    chosen = [torch.zeros(len(at), dtype=torch.long)] * 2
    if draw is not None:
        chosen = [torch.from_numpy(draw.integers(0, draws, len(at))) for _ in range(2)]
    return Batch(
        media_type="audio_video",
        index=at,
        frames=made.seen[at, chosen[0]],
        fbank=made.heard[at, chosen[1]],
        has_audio=torch.ones(len(at), dtype=torch.bool),
        texts={kind: made.ids[kind][at] for kind in kinds},
        text_masks={kind: made.masks[kind][at] for kind in kinds},
        text_valid={kind: made.valid[kind][at] for kind in kinds},
        keys=[made.keys[row] for row in rows],
    )


def cached(path: Path, make: Any) -> Any:
    """What `make()` gives, kept in a file of ours."""
    if not path.exists():
        torch.save(make(), path)
    return torch.load(path, weights_only=False)
