"""The processes of a run: where torchrun placed this one, and what all of them say together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed as dist

from vidcap.errors import UsageError


def initialised() -> bool:
    return bool(dist.is_available() and dist.is_initialized())


def world_size() -> int:
    return int(dist.get_world_size()) if initialised() else 1


def rank() -> int:
    return int(dist.get_rank()) if initialised() else 0


def launched() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Join the processes torchrun started, if it did; yields this one's device, such as `cuda:3` for `cuda`.

    Environment: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, as torchrun sets them.
    """
    if not launched():
        yield device
        return
    kind = torch.device(device).type
    if kind == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}",
                hint="start as many processes as there are GPUs: torchrun --nproc-per-node",
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def summed(values: dict[str, float], device: Any) -> dict[str, float]:
    """Each value summed over the processes; all must ask for the same names, in any order."""
    if world_size() == 1:
        return dict(values)
    names = sorted(values)
    tensor = torch.tensor([values[name] for name in names], dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return dict(zip(names, tensor.tolist(), strict=True))


def gathered_objects(value: Any) -> list[Any]:
    """What every process has, by rank; plain data only."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def wait_for_all() -> None:
    if world_size() > 1:
        dist.barrier()
