"""Trains a shot network on clips made while it trains; the same footage, seed and thread count, the same weights.

Loss: binary cross-entropy of the middle frames, in which positives weigh more, and a part of that of all frames of
transitions; a cosine schedule; the weights kept are a running mean. How much, by network: `Recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidcap.autoshot.footage import Footage
from vidcap.autoshot.histograms import colour_histograms
from vidcap.autoshot.synthesis.clips import ClipMaker, Mixture

Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Frames B×T×27×48×3, histograms B×T×512, labels B×2×T, what counts B×T."""

Logits = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Network, frames B×T×27×48×3, histograms B×T×512 → B×2×T logits."""

MEAN_DECAY = 0.997


@dataclass(frozen=True, slots=True)
class Recipe:
    """What differs between networks; the defaults are choices of this project for the small one."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 3e-3
    clip_gradients: float = 5.0
    positive_weight: float = 3.0
    """Of the middle frames, in their loss."""
    many_weight: float = 0.3
    """Of the loss of all frames of transitions."""
    clip_frames: int = 96
    warm_up: int = 150
    """Steps in which the rate rises."""

    def made(self, network: nn.Module) -> torch.optim.Optimizer:
        if self.optimiser == "sgd":
            return torch.optim.SGD(network.parameters(), lr=self.learning_rate, momentum=0.9, weight_decay=1e-4)
        return torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=1e-2)


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    steps: int = 2000
    clips_per_step: int = 16
    seed: int = 0
    threads: int = 1
    workers: int = 1
    device: str = "cpu"
    half: bool = True
    """Convolutions in bfloat16: twice as fast on processors and GPUs that have it."""


def train(
    network: nn.Module,
    logits_of: Logits,
    footage: Footage,
    recipe: Recipe,
    options: TrainingOptions,
    mixture: Mixture | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, Tensor]:
    """The mean weights after `options.steps`; `progress` hears the step and its loss. Sets the global seed of torch."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    network.to(options.device).train()
    optimiser = recipe.made(network)
    mean = {name: value.detach().clone() for name, value in network.state_dict().items()}
    for step, batch in enumerate(batches(footage, recipe.clip_frames, options, mixture)):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, options.steps, recipe.warm_up)
        frames, histograms, labels, counts = (torch.from_numpy(part).to(options.device) for part in batch)
        with torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.half):
            logits = logits_of(network, frames, histograms)
        loss = loss_of(logits.float(), labels, counts, recipe)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_gradients)
        optimiser.step()
        _follow(mean, network, min(MEAN_DECAY, (1 + step) / (10 + step)))
        progress(step + 1, float(loss.detach()))
    return mean


def loss_of(logits: Tensor, labels: Tensor, counts: Tensor, recipe: Recipe) -> Tensor:
    """The mean loss over the frames that count; `logits` and `labels`: B×2×T."""
    weight = torch.tensor(recipe.positive_weight, device=logits.device)
    middle = functional.binary_cross_entropy_with_logits(
        logits[:, 0], labels[:, 0], pos_weight=weight, reduction="none"
    )
    every = functional.binary_cross_entropy_with_logits(logits[:, 1], labels[:, 1], reduction="none")
    return ((middle + recipe.many_weight * every) * counts).sum() / counts.sum()


def batches(footage: Footage, frames: int, options: TrainingOptions, mixture: Mixture | None) -> Iterator[Batch]:
    """`options.steps` batches, each from its own seed: the same for any number of worker processes."""
    arguments = (footage, frames, options, mixture)
    if options.workers == 0:
        _prepare(*arguments)
        yield from map(_batch, range(options.steps))
        return
    # Spawned, not forked: torch has threads running by now.
    with ProcessPoolExecutor(options.workers, get_context("spawn"), _prepare, arguments) as pool:
        steps = iter(range(options.steps))
        coming: list[Future[Batch]] = [pool.submit(_batch, step) for step in islice(steps, 4 * options.workers)]
        while coming:
            batch = coming.pop(0).result()
            coming += [pool.submit(_batch, step) for step in islice(steps, 1)]
            yield batch


_maker: ClipMaker
_options: TrainingOptions


def _prepare(footage: Footage, frames: int, options: TrainingOptions, mixture: Mixture | None) -> None:
    global _maker, _options
    _maker, _options = ClipMaker(footage, frames, mixture), options


def _batch(step: int) -> Batch:
    examples = [
        _maker.example(np.random.default_rng((_options.seed, step, number)))
        for number in range(_options.clips_per_step)
    ]
    return (
        np.stack([example.frames for example in examples]),
        np.stack([colour_histograms(example.frames) for example in examples]),
        np.stack([(example.one_hot, example.many_hot) for example in examples]).astype(np.float32),
        np.stack([example.counts for example in examples]),
    )


def _schedule(step: int, steps: int, warm_up: int) -> float:
    """A short rise, then a cosine down to a fiftieth."""
    return min(1.0, step / warm_up) * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * step / steps))))


def _follow(mean: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                mean[name].mul_(decay).add_(value, alpha=1 - decay)
            else:
                mean[name].copy_(value)
