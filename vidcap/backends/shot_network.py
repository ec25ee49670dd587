"""What the backends of the shot networks share: their options, their identity, and how they load and decide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from vidcap.autoshot import checkpoints
from vidcap.autoshot.predicting import Precision, Predictor
from vidcap.autoshot.windows import shots_of
from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, Float64, UInt8
from vidcap.errors import BackendError, ItemError
from vidcap.records import Shot
from vidcap.store import sha256_of


class NetworkConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset({"weights", "sha256", "windows_per_batch", "threads"})

    weights: Path | None = None
    """A checkpoint file, `.pth` or `.safetensors`."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the checkpoint. With it the file need lie only where it is used; a file that is another one is refused."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """A frame is a boundary where its probability exceeds this; higher finds fewer."""
    windows_per_batch: int | None = Field(default=None, ge=1)
    """Windows of 100 frames at once; by default 1 on a CPU, 32 on a GPU. Halved where memory runs out."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, or `auto`: bf16 on GPUs that have it, fp32 elsewhere."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""


class NetworkDetector(ABC):
    """A shot detector whose probabilities come from a network of `vidcap.autoshot.networks`."""

    Config: ClassVar[type[BackendConfig]] = NetworkConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "shots"
    name: ClassVar[str]
    where_weights_come_from: ClassVar[str]
    """The hint of every error about weights."""

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self._predictor: Predictor | None = None

    @abstractmethod
    def network(self) -> Any:
        """The network, weights not yet loaded; torch is there."""

    def packaged_weights(self) -> Path | None:
        """Weights that an installed package carries."""
        return None

    def identity(self) -> str:
        """Precision is named as it was asked for: what `auto` means depends on the device, the identity must not."""
        config = self.config
        weights = f"{self.name}@{self._digest[:12]}"  # absent weights are told before an absent library
        return f"{weights}/{config.precision}/{config.threshold:g}/torch-{version_of('torch', 'shots')}"

    def load(self, device: str) -> None:
        """Reads the weights and puts the network on `device`. A second call moves it."""
        weights = self._weights
        wanted = self.config.sha256
        if wanted is not None and (found := sha256_of(weights)) != wanted:
            raise BackendError(
                f"`{weights}` is not the file that `sha256` names: its own is {found}",
                hint=self.where_weights_come_from,
            )
        version_of("torch", "shots")
        import torch

        # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
        with torch.random.fork_rng(devices=[]):
            network = self.network()
        checkpoints.load_strictly(network, weights, hint=self.where_weights_come_from)
        self._predictor = Predictor(
            network,
            device,
            precision=self.config.precision,
            windows_per_batch=self.config.windows_per_batch,
            threads=self.config.threads,
        )

    def detect(self, thumbnails: UInt8, times: Float64) -> list[Shot]:
        """`times` plays no part: the networks count frames, at whatever rate. Loads on the CPU where not loaded."""
        if self._predictor is None:
            self.load("cpu")
        assert self._predictor is not None
        one_hot, _ = self._predictor(thumbnails)
        if not np.isfinite(one_hot).all():
            raise ItemError("shots.bad_answer", f"{self.name} gave probabilities that are no numbers")
        return shots_of(one_hot > self.config.threshold)

    @cached_property
    def _weights(self) -> Path:
        path = self.config.weights or self.packaged_weights()
        if path is None:
            raise BackendError(f"the backend `{self.name}` has no weights", hint=self.where_weights_come_from)
        if not path.is_file():
            raise BackendError(f"there are no weights `{path}`", hint=self.where_weights_come_from)
        return path

    @cached_property
    def _digest(self) -> str:
        return self.config.sha256 or sha256_of(self._weights)
