"""Finds shots with a small learned network under ONNX Runtime: no torch, no download, thousands of frames a second."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from vidcap.autoshot import boundaries
from vidcap.autoshot.chunks import probabilities
from vidcap.backends.roles import BackendConfig, Float32, Float64, UInt8
from vidcap.errors import BackendError
from vidcap.records import Shot

WEIGHTS = Path(__file__).parents[2] / "autoshot" / "fast.onnx"
"""Trained by `vidcap train-shots`; docs/models/fast-shots.md says on what, and how well it does."""
THRESHOLD = 0.7
"""Chosen on held back footage before the network was scored on annotated videos (docs/models/fast-shots.md)."""


class FastConfig(BackendConfig):
    """`threshold`: probability above which a frame is the middle of a transition; higher finds fewer.

    `weights`: another network of the same kind, as `vidcap train-shots` writes it. `threads`: parts of a video that are
    scored at once; the result is the same for any number.
    """

    incidental: ClassVar[frozenset[str]] = frozenset({"weights", "threads"})

    threshold: float = Field(default=THRESHOLD, gt=0, lt=1)
    weights: Path | None = None
    threads: int = Field(default=1, ge=1, le=64)


class Backend:
    """Shots by a small learned network: cuts, dissolves, fades, wipes; needs no torch."""

    Config: ClassVar[type[BackendConfig]] = FastConfig
    embedded: ClassVar[bool] = True

    def __init__(self, config: FastConfig) -> None:
        self.config = config
        self._session: Any = None

    def identity(self) -> str:
        digest = hashlib.sha256(self._weights).hexdigest()[:12]
        return f"fast@{digest}/{self.config.threshold:g}"

    def load(self, device: str) -> None:
        """On the processor, whatever the device: results do not depend on it, and decoding is slower anyway."""
        del device
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(self._weights, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime raises types of its own, which differ between its versions.
            raise BackendError(
                f"`{self.config.weights or WEIGHTS}` is no network that ONNX Runtime can run: {error}",
                hint="give a file written by `vidcap train-shots`, or leave `weights` out",
            ) from error
        names = [each.name for each in self._session.get_inputs()]
        if names != ["frames", "histograms"]:
            raise BackendError(
                f"`{self.config.weights}` takes the inputs {names}, not frames and histograms",
                hint="give a file written by `vidcap train-shots`, or leave `weights` out",
            )

    def detect(self, thumbnails: UInt8, times: Float64) -> list[Shot]:
        """`times` plays no part: the network counts in frames."""
        middle, part = probabilities(thumbnails, self._network, self.config.threads)
        return boundaries.shots_of(middle, part, self.config.threshold, thumbnails)

    def _network(self, frames: UInt8, histograms: Float32) -> Float32:
        found: Float32 = self._session.run(None, {"frames": frames[None], "histograms": histograms[None]})[0][0]
        return found

    @cached_property
    def _weights(self) -> bytes:
        path = self.config.weights or WEIGHTS
        try:
            return path.read_bytes()
        except OSError as error:
            raise BackendError(
                f"the weights `{path}` cannot be read: {error.strerror}",
                hint="train some with `vidcap train-shots`, or leave `weights` out",
            ) from error
