"""How alike each frame is to the frames around it: the branches that both networks have beside their convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

REACH = 50
"""Every frame is compared with so many frames before and after it."""
BAND = 2 * REACH + 1
BINS = 512
"""Of the colour histogram: three bits per channel."""
WIDTH = 128
"""Features per frame that each branch gives."""

LinearLayer = Callable[[int, int], nn.Module]


def band(features: Tensor) -> Tensor:
    """Dot products of each frame's features with those of its neighbours.

    `features`: B×T×D. Returns B×T×101 for the offsets −50 … +50; 0 where there is no such frame. The products are
    taken in float32 also under autocast: cosines close to 1 need more than the 8 bits of bfloat16.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        alike = features @ features.transpose(1, 2)
    batch, frames, _ = alike.shape
    # Row t of the padded matrix holds its band from column t on. Laid out in one line and cut again into rows that are
    # one longer, every band starts at column 0.
    line = functional.pad(alike, (REACH, REACH)).flatten(1)
    return functional.pad(line, (0, frames)).view(batch, frames, frames + BAND)[:, :, :BAND]


def colour_histogram(frames: Tensor) -> Tensor:
    """`frames`: B×T×P×3 whole numbers 0 … 255, P pixels of R, G, B. B×T×512 counts per frame, scaled to length 1."""
    red, green, blue = (frames.int() >> 5).unbind(-1)
    bins = ((red << 6) | (green << 3) | blue).long()
    counts = torch.zeros(*bins.shape[:2], BINS, device=bins.device)
    counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=counts.dtype))
    return functional.normalize(counts, dim=2)


class FrameSimilarity(nn.Module):
    """Cosines of learned embeddings of the feature maps. `linear` makes its layers: it decides their key names."""

    def __init__(self, channels: int, linear: LinearLayer = nn.Linear) -> None:
        super().__init__()
        self.projection = linear(channels, WIDTH)
        self.fc = linear(BAND, WIDTH)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """`maps`: feature maps B×C×T×H×W whose channels add up. Returns B×T×128."""
        means = torch.cat([features.mean((3, 4)) for features in maps], 1).transpose(1, 2)
        embedded = functional.normalize(self.projection(means).float(), dim=2)
        return functional.relu(self.fc(band(embedded)))


class ColourSimilarity(nn.Module):
    """Cosines of colour histograms."""

    def __init__(self, linear: LinearLayer = nn.Linear) -> None:
        super().__init__()
        self.fc = linear(BAND, WIDTH)

    def forward(self, frames: Tensor) -> Tensor:
        """`frames`: B×T×P×3 as for `colour_histogram`. Returns B×T×128."""
        return functional.relu(self.fc(band(colour_histogram(frames))))
