"""What every backend that computes with torch needs of its device: is it there, is it full, how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vidcap.errors import BackendError


def out_of_memory(error: RuntimeError) -> bool:
    import torch

    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def checked_device(device: str) -> Any:
    """The `torch.device`. Raises `BackendError` where there is no such device here."""
    import torch

    try:
        checked = torch.device(device)
        torch.empty(1, device=checked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BackendError(
            f"device `{device}` cannot be used: {reason}", hint="`cpu`, or `cuda:0` where there is a GPU"
        ) from error
    return checked


def has_bf16(device: Any) -> bool:
    """In hardware; emulated bfloat16 is slower than float32."""
    import torch

    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))


@contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """PyTorch computes with so many threads inside; afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
