"""The small network behind `fast`: a third of a million weights, plain convolutions over space and time.

It sees thumbnails, and bands of similarity between each frame and the 24 before and after it. Every operator it uses
exists in ONNX, and it takes any number of frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidcap.autoshot.histograms import BINS

REACH = 24
"""Offsets of the similarity bands, in frames: the middle of a change of 45 frames sees both its ends."""
BAND = 2 * REACH + 1


class TemporalConvolutions(nn.Module):
    """Parallel 3×1 convolutions over time at every place, dilations 1, 2, 4 and 8; batch norm and ReLU."""

    def __init__(self, channels: int, each: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, each, (3, 1), padding=(dilation, 0), dilation=(dilation, 1), bias=False)
            for dilation in (1, 2, 4, 8)
        )
        self.norm = nn.BatchNorm2d(4 * each)

    def forward(self, x: Tensor) -> Tensor:
        """B×C×T×P → B×4·each×T×P."""
        # In full precision: oneDNN's bfloat16 gradients of dilated convolutions come out as NaN (torch 2.14).
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            return functional.relu(self.norm(torch.cat([branch(x) for branch in self.branches], 1)))


class FastShotNetwork(nn.Module):
    """Logits of the middle and of all frames of transitions: B×2×T from thumbnails and their colour histograms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, stride=3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(24)
        self.embed = nn.Conv2d(24, 32, 3, stride=2, padding=1, bias=False)
        self.embed_norm = nn.BatchNorm2d(32)
        self.embed_out = nn.Linear(32 * 40, 48)
        self.early = TemporalConvolutions(24, 12)
        self.down = nn.Conv2d(48, 48, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(48)
        self.late = TemporalConvolutions(48, 16)
        self.last = nn.Conv2d(64, 48, 3, stride=2, padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(48)
        self.picture = nn.Linear(48 * 12, 128)
        self.likeness = nn.Sequential(nn.Linear(4 * BAND, 128), nn.ReLU(), nn.Linear(128, 64))
        self.head = nn.ModuleList(
            nn.Conv1d(channels, 96, 3, padding=dilation, dilation=dilation)
            for channels, dilation in ((192, 1), (96, 2), (96, 4))
        )
        self.out = nn.Conv1d(96, 2, 3, padding=1)
        self.drop = nn.Dropout(0.15)

    def forward(self, frames: Tensor, histograms: Tensor) -> Tensor:
        """`frames`: B×T×27×48×3, 0 to 255, float; `histograms`: B×T×512. Returns B×2×T logits."""
        batch, count = frames.shape[0], frames.shape[1]
        x = frames.reshape(batch * count, 27, 48, 3).permute(0, 3, 1, 2) / 128.0 - 1.0
        stem = functional.relu(self.stem_norm(self.stem(x)))
        embedded = functional.relu(self.embed_norm(self.embed(stem))).reshape(batch, count, -1)
        # Frames of a shot are alike to a thousandth: products of half precision would not tell them apart.
        with torch.autocast(x.device.type, enabled=False):
            embedded = self.embed_out(embedded.float())
            embedded = embedded / (embedded.norm(dim=-1, keepdim=True) + 1e-4)
            bands = torch.cat([band(embedded, embedded), band(histograms, histograms), *_fixed_bands(x, batch)], -1)
        # B·T×C×places → B×C×T×places for the convolutions over time, and back for those over space.
        y = self.early(stem.reshape(batch, count, -1, 144).transpose(1, 2))
        y = functional.relu(self.down_norm(self.down(y.transpose(1, 2).reshape(batch * count, -1, 9, 16))))
        y = self.late(y.reshape(batch, count, -1, 40).transpose(1, 2))
        y = functional.relu(self.last_norm(self.last(y.transpose(1, 2).reshape(batch * count, -1, 5, 8))))
        picture = functional.relu(self.picture(self.drop(y.reshape(batch, count, -1))))
        likeness = functional.relu(self.likeness(bands))
        first, *rest = self.head
        z = functional.relu(first(self.drop(torch.cat([picture, likeness], -1).transpose(1, 2))))
        for layer in rest:
            z = z + functional.relu(layer(z))
        logits: Tensor = self.out(z)
        return logits


def band(one: Tensor, other: Tensor) -> Tensor:
    """B×T×49 products of each row of `one` with the 24 rows of `other` before it, its own and the 24 after; 0 outside.

    The diagonals of the product are lined up by padding and reshaping: no gather, which ONNX Runtime does slowly.
    """
    batch, count = one.shape[0], one.shape[1]
    products = functional.pad(torch.bmm(one, other.transpose(1, 2)), (REACH, REACH))
    shifted = functional.pad(products.reshape(batch, -1), (0, count)).reshape(batch, count, -1)
    return shifted[:, :, :BAND]


def _fixed_bands(x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """What needs no learning: correlation of the grey pictures, and closeness of the colours of 3×6 places.

    `x`: the frames of the whole batch in one row, B·T×3×27×48.
    """
    count = x.shape[0] // batch
    grey = functional.avg_pool2d(x.mean(1, keepdim=True), 3).reshape(batch, count, -1)
    grey = grey - grey.mean(-1, keepdim=True)
    grey = grey / (grey.norm(dim=-1, keepdim=True) + 0.2)
    layout = functional.avg_pool2d(x, (9, 8)).reshape(batch, count, -1)
    # -|a-b|² = 2ab - a² - b² as one product, so that it comes out of the same band.
    square = (layout * layout).sum(-1, keepdim=True)
    ones = torch.ones_like(square)
    distance = band(torch.cat([layout, square, ones], -1), torch.cat([2 * layout, -ones, -square], -1))
    return band(grey, grey), torch.exp(distance * 0.25)


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


assert BINS == 512, "the weights were trained on 512 bins"
