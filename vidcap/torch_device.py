"""What every backend that computes with torch needs of its device: is it there, is it full, how many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from vidcap.errors import BackendError, TransientError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Precision = Literal["auto", "fp32", "bf16", "fp16"]


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


def dtype_of(precision: Precision, device: Any) -> Any:
    """`auto`: on a GPU bf16 where it has it, else fp16; on a CPU fp32. Raises `BackendError` for fp16 on a CPU."""
    import torch

    if precision == "fp16" and device.type == "cpu":
        raise BackendError("`precision: fp16` needs a GPU", hint="`bf16` or `fp32` on a CPU")
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if has_bf16(device) else torch.float16
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def in_batches(
    items: Sequence[Item], size: int, answer: Callable[[Sequence[Item]], Sequence[Answer]], what: str
) -> tuple[list[Answer], int]:
    """The answers to all items, asked in batches of `size`, which is halved where memory runs out; and the last size.

    Raises `TransientError` where a single item (`what` names it) is too much for the memory there is.
    """
    import torch

    found: list[Answer] = []
    while len(found) < len(items):
        try:
            found.extend(answer(items[len(found) : len(found) + size]))
            continue
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        # Outside the handler: the error holds the frames, and they hold the tensors, of the try that failed.
        if size == 1:
            raise TransientError(
                f"there is no memory left for a single {what}", hint="free the device, or give the stage `device: cpu`"
            )
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return found, size


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
