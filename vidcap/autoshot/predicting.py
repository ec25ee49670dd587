"""Runs a shot network over a whole video: windows in batches, smaller ones where memory runs out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vidcap.autoshot import windows
from vidcap.errors import TransientError
from vidcap.torch_device import checked_device, cpu_threads, has_bf16, out_of_memory

Precision = Literal["auto", "fp32", "bf16"]
Float32 = npt.NDArray[np.float32]

WINDOWS_ON_CPU, WINDOWS_ON_GPU = 1, 32
"""Windows per batch unless told. On a CPU more are no faster (measured: 46 frames/s with 1, less with 4)."""


class Predictor:
    """A network made ready on `device`.

    `precision`: of convolutions and linear layers; `auto` is bf16 on GPUs that have it, else fp32. Cosines are always
    taken in fp32. `threads`: on a CPU. PyTorch's own settings are as before after every call.

    Probabilities for other batch sizes are equal up to float noise (about 1e-6 in fp32), because libraries choose other
    kernels: shots may differ where a probability touches the threshold. On a CPU the default batch never varies.
    """

    def __init__(
        self,
        network: Any,
        device: str,
        *,
        precision: Precision = "auto",
        windows_per_batch: int | None = None,
        threads: int = 1,
    ) -> None:
        self.device = checked_device(device)
        self.network = network.to(self.device).eval()
        self.half = precision == "bf16" or (precision == "auto" and has_bf16(self.device))
        on_cpu = self.device.type == "cpu"
        self.windows_per_batch = windows_per_batch or (WINDOWS_ON_CPU if on_cpu else WINDOWS_ON_GPU)
        self.threads = threads

    def __call__(self, thumbnails: npt.NDArray[np.uint8]) -> tuple[Float32, Float32]:
        """Probabilities that each frame is a boundary's one frame, and that it is any frame of a boundary.

        `thumbnails`: N×27×48×3, N ≥ 1. Returns N values each. Raises `TransientError` where one window alone is too
        much for the memory that is free.
        """
        import torch

        places = windows.window_frames(len(thumbnails))
        found: list[Any] = []
        done = 0
        with torch.inference_mode(), cpu_threads(self.threads):
            while done < len(places):
                batch = places[done : done + self.windows_per_batch]
                try:
                    found.append(self._windows(thumbnails[batch]))
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    self._halve(len(batch))
                else:
                    done += len(batch)
            one_hot, many_hot = torch.cat(found).unbind(-1)
            result = [windows.kept(head.cpu().numpy(), len(thumbnails)) for head in (one_hot, many_hot)]
        return result[0], result[1]

    def _windows(self, frames: npt.NDArray[np.uint8]) -> Any:
        """W×100×2 probabilities of W windows, left on the device so that the next batch need not wait for them."""
        import torch

        given = torch.from_numpy(frames).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            logits = self.network(self.network.arranged(given))
        return torch.sigmoid(torch.cat([head.float() for head in logits], 2))

    def _halve(self, failed: int) -> None:
        """The smaller batch stays: the next video would fail in the same way."""
        import torch

        if failed == 1:
            raise TransientError(
                f"`{self.device}` has no memory left for a single window of {windows.LENGTH} frames",
                hint="free the device, or give the stage `device: cpu`",
            )
        self.windows_per_batch = failed // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
