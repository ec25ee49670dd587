"""The networks that `vidcap train-shots` trains: how each is made, asked, optimised, judged and written down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vidcap.autoshot import boundaries, windows
from vidcap.autoshot.chunks import probabilities
from vidcap.autoshot.evaluation import Interval
from vidcap.autoshot.export import export, save
from vidcap.autoshot.networks.autoshot import AutoShotNetwork
from vidcap.autoshot.networks.fast import FastShotNetwork
from vidcap.autoshot.networks.transnetv2 import TransNetV2
from vidcap.autoshot.predicting import Predictor
from vidcap.autoshot.training import Recipe

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


class Trainable(ABC):
    """A kind of network, by the name of the backend that uses it."""

    name: ClassVar[str]
    recipe: ClassVar[Recipe]
    suffixes: ClassVar[tuple[str, ...]]
    """Of the files it is written to."""

    @abstractmethod
    def made(self) -> nn.Module:
        """A fresh one; its weights are drawn from torch's global generator."""

    @abstractmethod
    def logits(self, network: nn.Module, frames: Tensor, histograms: Tensor) -> Tensor:
        """B×2×T from frames B×T×27×48×3 of bytes and their histograms B×T×512."""

    @abstractmethod
    def probabilities(self, network: nn.Module, frames: UInt8) -> Float32:
        """2×N for a whole video, as the backend asks the network."""

    @abstractmethod
    def gaps(self, both: Float32, threshold: float) -> list[Interval]:
        """The transitions that the backend would find: (last frame of a shot, first frame of the next)."""

    @abstractmethod
    def write(self, network: nn.Module, path: Path, about: Mapping[str, str]) -> None:
        """The file that the backend takes as `weights`."""


class Fast(Trainable):
    """Recipe: choices of this project (docs/models/fast-shots.md)."""

    name = "fast"
    recipe = Recipe()
    suffixes = (".onnx",)

    def made(self) -> nn.Module:
        return FastShotNetwork()

    def logits(self, network: nn.Module, frames: Tensor, histograms: Tensor) -> Tensor:
        found: Tensor = network(frames.float(), histograms)
        return found

    def probabilities(self, network: nn.Module, frames: UInt8) -> Float32:
        def asked(some: UInt8, histograms: Float32) -> Any:
            with torch.inference_mode():
                logits = network(torch.from_numpy(some)[None].float(), torch.from_numpy(histograms)[None])
            return torch.sigmoid(logits)[0].numpy()

        return probabilities(frames, asked)

    def gaps(self, both: Float32, threshold: float) -> list[Interval]:
        return boundaries.gaps_of(both[0], both[1], threshold)

    def write(self, network: nn.Module, path: Path, about: Mapping[str, str]) -> None:
        export(network, path, about)


class Windowed(Trainable):
    """A network that sees windows of 100 frames.

    Recipe: TransNetV2's (Souček and Lokoč 2020): momentum 0.9, rate 0.01, gradients clipped at 10, the middle frame
    weighs 5, all frames of a transition 0.1; the clips are those of VidCap's own synthesis. AutoShot's own training ran
    inside its search and is not published as a recipe.
    """

    recipe = Recipe(
        optimiser="sgd", learning_rate=0.01, clip_gradients=10.0, positive_weight=5.0, many_weight=0.1, clip_frames=100
    )
    suffixes = (".safetensors", ".pth")

    def logits(self, network: nn.Module, frames: Tensor, histograms: Tensor) -> Tensor:
        del histograms  # the network makes its own
        one, many = network(network.arranged(frames))
        return torch.cat([one, many], 2).transpose(1, 2)

    def probabilities(self, network: nn.Module, frames: UInt8) -> Float32:
        device = str(next(network.parameters()).device)
        return np.stack(Predictor(network, device, precision="fp32", threads=torch.get_num_threads())(frames))

    def gaps(self, both: Float32, threshold: float) -> list[Interval]:
        shots = windows.shots_of(both[0] > threshold)
        return [(one.last, other.first) for one, other in pairwise(shots)]

    def write(self, network: nn.Module, path: Path, about: Mapping[str, str]) -> None:
        save(network, path, about)


class AutoShot(Windowed):
    name = "autoshot"

    def made(self) -> nn.Module:
        return AutoShotNetwork()


class TransNet(Windowed):
    name = "transnetv2"

    def made(self) -> nn.Module:
        return TransNetV2()


KINDS: dict[str, Trainable] = {kind.name: kind for kind in (Fast(), AutoShot(), TransNet())}
