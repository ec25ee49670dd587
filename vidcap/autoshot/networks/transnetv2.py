"""The TransNetV2 network: three pairs of blocks of dilated temporal convolutions, and two similarity branches.

Module names give exactly the keys of the converted weights (90 tensors, 7,616,258 parameters). Souček and Lokoč,
"TransNet V2: An effective deep network architecture for fast shot transition detection", 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidcap.autoshot.networks.autoshot import BATCH_NORM_EPS, HIDDEN, LAST_MAP, Chain, spatial, temporal
from vidcap.autoshot.networks.similarity import WIDTH, ColourSimilarity, FrameSimilarity

DILATIONS = (1, 2, 4, 8)


class TransNetV2(nn.Module):
    """Logits of "a boundary is here" per frame."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 16), (64, 32), (128, 64))
        self.SDDCNN = nn.ModuleList(BlockPair(channels, filters) for channels, filters in widths)
        self.frame_sim_layer = FrameSimilarity(64 + 128 + 256)
        self.color_hist_layer = ColourSimilarity()
        self.fc1 = nn.Linear(2 * WIDTH + LAST_MAP, HIDDEN)
        self.dropout = nn.Dropout(0.5)
        self.cls_layer1 = nn.Linear(HIDDEN, 1)
        self.cls_layer2 = nn.Linear(HIDDEN, 1)

    @staticmethod
    def arranged(thumbnails: Tensor) -> Tensor:
        """B×T×27×48×3 thumbnails as `forward` takes them."""
        return thumbnails

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """`frames`: B×T×27×48×3 RGB, 0 … 255, of any type.

        Returns the logits of one_hot (a boundary's one frame) and many_hot (every frame of it), B×T×1 each.
        """
        colours = self.color_hist_layer(frames.flatten(2, 3))
        x = frames.permute(0, 4, 1, 2, 3).float() / 255
        maps = []
        for pair in self.SDDCNN:
            x = pair(x)
            maps.append(x)
        flat = x.permute(0, 2, 3, 4, 1).flatten(2)
        joined = torch.cat([colours, self.frame_sim_layer(maps), flat], 2)
        hidden = self.dropout(functional.relu(self.fc1(joined)))
        return self.cls_layer1(hidden), self.cls_layer2(hidden)


class BlockPair(nn.Module):
    """Two blocks with a shortcut around the second, at half the height and width afterwards."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([DilatedBlock(channels, filters), DilatedBlock(4 * filters, filters)])

    def forward(self, x: Tensor) -> Tensor:
        first = self.DDCNN[0](x)
        return functional.avg_pool3d(self.DDCNN[1](first) + first, (1, 2, 2))


class DilatedBlock(nn.Module):
    """Four branches that see 3, 5, 9 and 17 frames."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        for dilation in DILATIONS:
            branch = Chain(spatial(channels, 2 * filters), temporal(2 * filters, filters, dilation))
            self.add_module(f"Conv3D_{dilation}", branch)
        self.bn = nn.BatchNorm3d(4 * filters, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"Conv3D_{dilation}")(x) for dilation in DILATIONS]
        return functional.relu(self.bn(torch.cat(branches, 1)))
