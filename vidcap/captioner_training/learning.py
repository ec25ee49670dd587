"""Trains what stands between BEATs and a language model; both stay as they are, bit for bit.

AdamW (1e-4, betas 0.9 and 0.999, weight decay 0.02 on matrices), a linear rise over 0.2 epoch and a cosine down to a
hundredth, one epoch: VideoChat's first stage, which the paper's captioner is modelled on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch

from vidcap.captioner_training.examples import Example
from vidcap.captioner_training.options import LearningOptions, Progress
from vidcap.errors import UsageError
from vidcap.models.sound_captioner import SoundCaptioner
from vidcap.torch_device import out_of_memory

FLOOR = 0.01
"""The last learning rate, as a share of the highest."""


def train(
    captioner: SoundCaptioner,
    batches: Iterable[list[Example]],
    options: LearningOptions,
    progress: Callable[[Progress], None] = lambda told: None,
) -> list[float]:
    """Train `captioner.prefix` in place; the losses of all steps. Sets the global seed and threads of torch.

    On a GPU the trained part computes in bfloat16 where the encoder does; its weights stay in float32. Raises
    `UsageError` where memory does not do or the loss is no number.
    """
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    prefix = captioner.prefix.float().requires_grad_(True).train()
    captioner.encoder.eval().requires_grad_(False)
    captioner.llm.eval().requires_grad_(False)
    half = captioner.llm.dtype
    place = next(prefix.parameters()).device
    optimiser = torch.optim.AdamW(_groups(prefix, options.weight_decay), lr=options.learning_rate, betas=options.betas)
    losses: list[float] = []
    for step, batch in enumerate(batches):
        rate = options.learning_rate * schedule(step, options.steps, options.warm_up)
        for group in optimiser.param_groups:
            group["lr"] = rate
        reduced: AbstractContextManager[object] = nullcontext()
        if half != torch.float32:
            reduced = torch.autocast(place.type, torch.bfloat16)
        try:
            tokens, heard = captioner.tokens([example.sound for example in batch], len(batch))
            with reduced:
                loss = captioner.loss(
                    tokens.float(),
                    heard,
                    [example.instruction for example in batch],
                    [example.caption for example in batch],
                    options.max_text_tokens,
                )
            optimiser.zero_grad()
            loss.backward()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise UsageError(
                f"a step of {len(batch)} sounds does not fit into the memory of `{place}`", hint="a smaller `--batch`"
            ) from error
        value = float(loss.detach())
        if not math.isfinite(value):
            names = ", ".join(example.name for example in batch[:3])
            raise UsageError(
                f"the loss is {value} at step {step + 1} ({names} …)", hint="a lower `--learning-rate`, or `fp32`"
            )
        optimiser.step()
        losses.append(value)
        progress(Progress(step + 1, value, rate, len(batch)))
    prefix.eval().requires_grad_(False)
    return losses


def schedule(step: int, steps: int, warm_up: int) -> float:
    """The share of the highest learning rate in step `step` (from 0): a line up, then half a cosine down to `FLOOR`."""
    if step < warm_up:
        return max(FLOOR, (step + 1) / warm_up)
    gone = min(1.0, (step - warm_up) / max(1, steps - warm_up - 1))
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * gone))


def _groups(prefix: torch.nn.Module, decay: float) -> list[dict[str, object]]:
    """Queries, biases and norms do not decay."""
    named = list(prefix.named_parameters())
    kept = [value for name, value in named if value.dim() < 2 or name.endswith("query_tokens")]
    rest = [value for name, value in named if not (value.dim() < 2 or name.endswith("query_tokens"))]
    return [{"params": rest, "weight_decay": decay}, {"params": kept, "weight_decay": 0.0}]
