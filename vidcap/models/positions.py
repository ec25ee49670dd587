"""Tables of positions of the vision encoder: as they begin, and stretched to other numbers of frames or sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BASE = 10_000.0


def sine_positions(width: int, frames: int, grid: int) -> Tensor:
    """1×(1 + frames·grid²)×width: zeros for the class token, then sines and cosines by time, row and column.

    The first quarter of the width tells the frame, the rest the place in it: its first half the column, then the row.
    """
    if width % 16:
        raise ValueError(f"a width of {width} cannot be shared by time, rows and columns: it must be a multiple of 16")
    quarter = width // 4
    time = _waves(torch.arange(frames), quarter)
    line = _waves(torch.arange(grid), 3 * quarter // 2)
    column = line[None, :].expand(grid, -1, -1)
    row = line[:, None].expand(-1, grid, -1)
    place = torch.cat([column, row], -1).reshape(1, grid * grid, -1).expand(frames, -1, -1)
    table = torch.cat([time[:, None].expand(-1, grid * grid, -1), place], -1).reshape(1, -1, width)
    return torch.cat([table.new_zeros(1, 1, width), table], 1).float()


def _waves(places: Tensor, width: int) -> Tensor:
    """Places → (places)×width: sines in the first half, cosines in the second."""
    half = width // 2
    turns = BASE ** -(torch.arange(half, dtype=torch.float64, device=places.device) / half)
    angle = places.double()[:, None] * turns
    return torch.cat([angle.sin(), angle.cos()], -1)


def stretched(table: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """1×(1 + T·G²)×width for other (frames, grid): linear over time, bicubic over rows and columns."""
    (frames, grid), (new_frames, new_grid) = before, after
    if before == after:
        return table
    width = table.shape[-1]
    places = table[:, 1:].float().reshape(frames, grid, grid, width)
    if new_frames != frames:
        over_time = places.permute(1, 2, 3, 0).reshape(1, -1, frames)
        over_time = functional.interpolate(over_time, size=new_frames, mode="linear", align_corners=False)
        places = over_time.reshape(grid, grid, width, new_frames).permute(3, 0, 1, 2)
    if new_grid != grid:
        pictures = places.permute(0, 3, 1, 2)
        pictures = functional.interpolate(pictures, size=(new_grid, new_grid), mode="bicubic", align_corners=False)
        places = pictures.permute(0, 2, 3, 1)
    return torch.cat([table[:, :1], places.reshape(1, -1, width).to(table.dtype)], 1)
