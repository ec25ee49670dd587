"""AdamW over what learns, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from vidcap.train.config import OptimiserConfig
from vidcap.train.distributed import world_size

UNDECAYED = ("bias", "temp", "cls_token", "pos_embed", "img_pos_embed", "clip_pos_embed", "clip_img_pos_embed")
"""Last parts of the names of parameters that do not decay; neither do those of one dimension."""


def decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and name.rpartition(".")[2] not in UNDECAYED


def made(model: nn.Module, config: OptimiserConfig, *, fused: bool) -> torch.optim.AdamW:
    """Groups with and without decay of the parameters that learn, each in the order of the model.

    Single numbers are a group of their own: where the others are in shards they are not, and no group may mix.
    """
    learning = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [
        {"params": [value for name, value in learning if decays(name, value)], "weight_decay": config.weight_decay},
        {
            "params": [value for name, value in learning if value.ndim and not decays(name, value)],
            "weight_decay": 0.0,
        },
        {"params": [value for _, value in learning if not value.ndim], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=fused,
    )


def clip(parameters: Sequence[nn.Parameter], most: float | None) -> float:
    """Shorten the gradients together to the length `most` (None: leave them); returns the length that they had.

    Parameters in shards count with all their shards. Those that are not, in a run where others are (the temperature),
    take the mean of the processes' gradients first, as sharing does for the others.
    """
    parts = [value for value in parameters if hasattr(value, "full_tensor") and value.grad is not None]
    wholes = [value for value in parameters if not hasattr(value, "full_tensor") and value.grad is not None]
    if not parts:
        return float(nn.utils.clip_grad_norm_(wholes, math.inf if most is None else most))
    for value in wholes:
        torch.distributed.all_reduce(value.grad)
        value.grad /= world_size()
    lengths = [nn.utils.get_total_norm([value.grad for value in parts]).full_tensor()]
    lengths += [value.grad.norm() for value in wholes]
    length = float(torch.stack(lengths).norm())
    if most is not None and length > most:
        for value in (*parts, *wholes):
            value.grad *= most / (length + 1e-6)
    return length


def rate(step: int, steps: int, warm_up: int, floor: float) -> float:
    """Share of the full rate in step `step` of `steps`, counted from 0: a line up, then half a cosine down to `floor`.

    The line begins at `floor` too.
    """
    if step < warm_up:
        return max(floor, step / warm_up)
    done = (step - warm_up) / max(1, steps - warm_up)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = value
