"""The AutoShot network: six blocks of temporal convolutions that an architecture search chose, and two similarity
branches.

Module names give exactly the keys of the published checkpoint (90 tensors, 14,299,202 parameters); the digits in them
are the searched choices. Zhu et al., "AutoShot: A Short Video Dataset and State-of-the-Art Shot Boundary Detection",
2023.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidcap.autoshot.networks.similarity import WIDTH, ColourSimilarity, FrameSimilarity

BATCH_NORM_EPS = 1e-3
HIDDEN = 1024
LAST_MAP = 3 * 6 * 256
"""Numbers per frame in the last feature map."""
ATTENTION = 1024
"""What the search's attention layer would add to a frame's features, had it been chosen."""


class AutoShotNetwork(nn.Module):
    """Logits of "a boundary is here" per frame."""

    def __init__(self) -> None:
        super().__init__()
        self.Layer_0_3 = SeparateBlock(3, filters=16, middle=16, branches=4)
        self.Layer_1_8 = SharedBlock(64, filters=16, branches=5)
        self.Layer_2_8 = SharedBlock(64, filters=32, branches=5)
        self.Layer_3_8 = SharedBlock(128, filters=32, branches=5)
        self.Layer_4_13 = SeparateBlock(128, filters=64, middle=192, branches=5)
        self.Layer_5_12 = SeparateBlock(256, filters=64, middle=128, branches=5)
        self.fc1_0 = WrappedLinear(2 * WIDTH + LAST_MAP, HIDDEN)
        # Used by no forward pass: the search shares it with networks that have attention. The checkpoint holds it.
        self.fc1 = WrappedLinear(2 * WIDTH + LAST_MAP + ATTENTION, HIDDEN)
        self.dropout = nn.Dropout(0.5)
        self.cls_layer1 = WrappedLinear(HIDDEN, 1)
        self.cls_layer2 = WrappedLinear(HIDDEN, 1)
        self.frame_sim_layer = FrameSimilarity(64 + 128 + 256, WrappedLinear)
        self.color_hist_layer = ColourSimilarity(WrappedLinear)

    @staticmethod
    def arranged(thumbnails: Tensor) -> Tensor:
        """B×T×27×48×3 thumbnails as `forward` takes them."""
        return thumbnails.permute(0, 4, 1, 2, 3)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """`frames`: B×3×T×27×48 RGB, 0 … 255, of any type.

        Returns the logits of one_hot (a boundary's one frame) and many_hot (every frame of it), B×T×1 each.
        """
        colours = self.color_hist_layer(frames.permute(0, 2, 3, 4, 1).flatten(2, 3))
        x = frames.float() / 255
        maps = []
        for first, second in (
            (self.Layer_0_3, self.Layer_1_8),
            (self.Layer_2_8, self.Layer_3_8),
            (self.Layer_4_13, self.Layer_5_12),
        ):
            x = first(x)
            x = functional.avg_pool3d(second(x) + x, (1, 2, 2))
            maps.append(x)
        flat = x.permute(0, 2, 3, 4, 1).flatten(2)
        joined = torch.cat([colours, self.frame_sim_layer(maps), flat], 2)
        hidden = self.dropout(functional.relu(self.fc1_0(joined)))
        return self.cls_layer1(hidden), self.cls_layer2(hidden)


class SeparateBlock(nn.Module):
    """Every branch has a spatial convolution of its own ("V2" of the search space)."""

    def __init__(self, channels: int, *, filters: int, middle: int, branches: int) -> None:
        super().__init__()
        self.conv_blocks = nn.ModuleList(
            Chain(spatial(channels, middle), temporal(middle, out, 2**k))
            for k, out in enumerate(branch_filters(4 * filters, branches))
        )
        self.batch_norm = nn.BatchNorm3d(4 * filters, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.batch_norm(torch.cat([branch(x) for branch in self.conv_blocks], 1)))


class SharedBlock(nn.Module):
    """All branches look at the result of one spatial convolution ("ABC", type A)."""

    def __init__(self, channels: int, *, filters: int, branches: int) -> None:
        super().__init__()
        self.share = spatial(channels, 4 * filters)
        self.conv_blocks = nn.ModuleList(
            Chain(temporal(4 * filters, out, 2**k)) for k, out in enumerate(branch_filters(4 * filters, branches))
        )
        self.batch_norm = nn.BatchNorm3d(4 * filters, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.share(x)
        return functional.relu(self.batch_norm(torch.cat([branch(shared) for branch in self.conv_blocks], 1)))


class Chain(nn.Module):
    """One after the other, under the key `layers`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class WrappedLinear(nn.Module):
    """A linear layer under the key `linear`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out


def branch_filters(total: int, branches: int) -> list[int]:
    """Equal shares, rounded down; the last branch takes what is left."""
    share = total // branches
    return [share] * (branches - 1) + [total - share * (branches - 1)]


def spatial(inputs: int, outputs: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1), bias=False)


def temporal(inputs: int, outputs: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, (3, 1, 1), padding=(dilation, 0, 0), dilation=(dilation, 1, 1), bias=False)
