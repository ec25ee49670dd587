"""An encoder that is asked in batches of one size, and what stands in line for it until a batch is full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vidcap.errors import TransientError
from vidcap.torch_device import cpu_threads, out_of_memory

Float64 = npt.NDArray[np.float64]
Prepare = Callable[[Sequence[Any]], dict[str, Any]]
"""Items → tensors on the CPU, one row per item."""
Made = TypeVar("Made")


class Batches:
    """The encoder. The size of its batches is halved where memory runs out.

    A batch is filled up to the size with copies of its last row, so that all are computed alike: an item's numbers do
    not depend on what is asked beside it.
    """

    def __init__(
        self, function: Callable[..., Any], device: Any, dtype: Any, size: int, what: str, threads: int = 1
    ) -> None:
        """`function`: tensors of a batch → N×D; `what` it encodes, for the error; `threads` of the CPU."""
        self.function = function
        self.device = device
        self.dtype = dtype
        self.size = size
        self.what = what
        self.threads = threads

    def prepared(self, items: Sequence[Any], prepare: Prepare) -> dict[str, Any] | None:
        """What a batch is asked with, in the encoder's precision, still on the CPU. None where memory ran out."""
        return self._tried(lambda: {name: self._filled(tensor) for name, tensor in prepare(items).items()})

    def features(self, inputs: dict[str, Any], count: int) -> Any:
        """`count`×D on the device, which may still be computing them. None where memory ran out."""
        return self._tried(
            lambda: self.function(
                **{name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
            )[:count].float()
        )

    def halve(self) -> None:
        """The smaller size stays: the next batch would fail in the same way."""
        import torch

        if self.size == 1:
            raise TransientError(
                f"`{self.device}` has no memory left for a single {self.what}",
                hint="free the device, or give the stage `device: cpu`",
            )
        self.size //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tried(self, work: Callable[[], Made]) -> Made | None:
        """None where memory ran out: what the failed try held is let go with it, before the next."""
        import torch

        try:
            with cpu_threads(self.threads), torch.inference_mode():
                return work()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def _filled(self, tensor: Any) -> Any:
        missing = self.size - len(tensor)
        if missing:
            tensor = tensor[[*range(len(tensor)), *[len(tensor) - 1] * missing]]
        if tensor.is_floating_point():
            tensor = tensor.to(self.dtype)
        return tensor.pin_memory() if self.device.type == "cuda" else tensor


class Line:
    """Items on their way through an encoder, over any number of calls: their vectors come in the items' order.

    One batch is left on the device until the next is ready: while it computes, the CPU prepares that.
    """

    def __init__(self, batches: Batches, prepare: Prepare) -> None:
        self._batches = batches
        self._prepare = prepare
        self._waiting: list[Any] = []
        self._asked: Any = None

    def add(self, item: Any) -> list[Float64]:
        """The vectors that are there by now. Raises `TransientError` where an item is too much for the memory."""
        self._waiting.append(item)
        found: list[Float64] = []
        while len(self._waiting) >= self._batches.size:
            found += self._ask()
        return found

    def settle(self) -> list[Float64]:
        """The vectors that the device is still computing."""
        asked, self._asked = self._asked, None
        return [] if asked is None else list(asked.double().cpu().numpy())

    def rest(self) -> list[Float64]:
        """All that are left: the last batch is filled up."""
        found: list[Float64] = []
        while self._waiting:
            found += self._ask()
        return found + self.settle()

    def _ask(self) -> list[Float64]:
        batch = self._waiting[: self._batches.size]
        inputs = self._batches.prepared(batch, self._prepare)
        found = self.settle()
        asked = None if inputs is None else self._batches.features(inputs, len(batch))
        if asked is None:
            self._batches.halve()
            return found
        del self._waiting[: len(batch)]
        self._asked = asked
        # A CPU has computed them already.
        return found + self.settle() if self._batches.device.type == "cpu" else found
