"""What the embedded backends measure of a clip's light: motion, contrast, and how much of the picture has which colour.

The captioner measures the even frames, the similarity the odd ones, so that a caption is checked on frames it was not
written from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Item = TypeVar("Item")

RASTER = (64, 36)
"""Width and height every frame is brought to; motion is measured at half of it."""
LEVELS = 32
"""Steps per channel of the table of colour names."""

COLOURS = tuple("black white grey red orange yellow green turquoise blue purple pink brown beige".split())
LIGHT_FIELDS = (
    "light",  # mean luma, 0-255
    "light_change",  # luma of the last third of the frames minus that of the first: as much as 7 of 10 places change
    "contrast",  # standard deviation of luma inside a frame, mean over frames
    "chroma",  # mean Oklab chroma, 0 (grey) to about 0.3
    "chroma_peak",  # its 95th percentile
    "change",  # mean absolute luma difference of neighbouring frames, their means aside; NaN for a single frame
    "change_share",  # `change` in parts of `contrast`: in a picture without contrast little change is much motion
    "change_peak",  # the same of the hundredth of the picture that changes most
    "pace",  # the same per second: a lower bound of the motion between the frames; NaN for a single frame
    "largest",  # share of the commonest colour, 0-1
    *COLOURS,  # share of the picture, 0-1
    *(f"sure_{name}" for name in COLOURS),  # share of what nobody would call another colour
    *(f"top_{name}" for name in COLOURS),  # share of the upper third that nobody would call another colour
    *(f"bottom_{name}" for name in COLOURS),  # the same of the lower third
    *(f"left_{name}" for name in COLOURS),  # of the left third
    *(f"right_{name}" for name in COLOURS),  # of the right third
)
"""Layout of the vector of `measure_video`."""


def share_of(items: Sequence[Item], parity: int) -> Sequence[Item]:
    """Every second item from `parity` (0 even, 1 odd) on; the only one where one is all."""
    return items[parity::2] if len(items) > 1 else items


def measure_video(frames: Sequence[UInt8], times: Sequence[float]) -> Float32:
    """The vector of `LIGHT_FIELDS`. `frames`: H×W×3 RGB, at least one; `times`: their seconds, ascending."""
    import cv2

    small = np.stack([cv2.resize(frame, RASTER, interpolation=cv2.INTER_AREA) for frame in frames])
    luma = small.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)
    halved = luma.reshape(len(luma), RASTER[1] // 2, 2, RASTER[0] // 2, 2).mean(axis=(2, 4))
    level = luma.mean(axis=(1, 2))
    # A change of light is another claim than a change of what is seen.
    moved = np.abs(np.diff(halved - level[:, None, None], axis=0))
    contrast = luma.std(axis=(1, 2)).mean()
    steps = moved.mean(axis=(1, 2))
    gaps = np.maximum(np.diff(np.asarray(times, np.float64)), 1e-3)
    index = small.astype(np.int64) * LEVELS // 256
    cell = (index[..., 0] * LEVELS + index[..., 1]) * LEVELS + index[..., 2]
    names, chroma, sure = _tables()
    shares, chromas = names[cell], chroma[cell]
    certain = sure[cell]
    whole, third = shares.mean(axis=(0, 1, 2)), RASTER[1] // 3
    side = RASTER[0] // 3
    values = (
        level.mean(),
        _light_change(luma),
        contrast,
        chromas.mean(),
        np.percentile(chromas, 95),
        steps.mean() if len(steps) else np.nan,
        steps.mean() / max(contrast, 1.0) if len(steps) else np.nan,
        np.percentile(moved, 99, axis=(1, 2)).mean() if len(steps) else np.nan,
        steps.sum() / gaps.sum() if len(steps) else np.nan,
        whole.max(),
        *whole,
        *certain.mean(axis=(0, 1, 2)),
        *certain[:, :third].mean(axis=(0, 1, 2)),
        *certain[:, -third:].mean(axis=(0, 1, 2)),
        *certain[:, :, :side].mean(axis=(0, 1, 2)),
        *certain[:, :, -side:].mean(axis=(0, 1, 2)),
    )
    return np.asarray(values, np.float32)


def _light_change(luma: Float32) -> float:
    """What comes into view changes the mean of the picture; a change of light changes nearly all of it, one way."""
    third = max(1, len(luma) // 3)
    darker, brighter = np.percentile(luma[-third:].mean(axis=0) - luma[:third].mean(axis=0), [70, 30])
    return float(max(brighter, 0.0) + min(darker, 0.0))


@cache
def _tables() -> tuple[Float32, Float32, Float32]:
    """Per RGB cell: how far it belongs to each of `COLOURS` (rows sum to 1 at most), Oklab chroma, and what is sure."""
    step = (np.arange(LEVELS) + 0.5) / LEVELS
    # The end cells stand for pure black and white, not for the middle of their cell.
    step[0], step[-1] = 0.0, 1.0
    rgb = np.stack(np.meshgrid(step, step, step, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, chroma, hue = _oklab(rgb)
    names = colour_membership(lightness, chroma, hue)
    sure = names > np.asarray([_SURE.get(name, _SURE_ELSE) for name in COLOURS])
    # White in a little shadow and a light grey are the same pixels; so are a dull brown in the dark and a dark grey.
    sure[:, COLOURS.index("grey")] &= (lightness > 0.35) & (lightness < 0.82) & (chroma < 0.02)
    return names.astype(np.float32), chroma.astype(np.float32), sure.astype(np.float32)


def _oklab(rgb: Float64) -> tuple[Float64, Float64, Float64]:
    """Lightness (0-1), chroma and hue (degrees) of sRGB in 0-1, by the published Oklab matrices."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(
        linear
        @ np.asarray(
            [
                [0.4122214708, 0.2119034982, 0.0883024619],
                [0.5363325363, 0.6806995451, 0.2817188376],
                [0.0514459929, 0.1073969566, 0.6299787005],
            ]
        )
    )
    lightness, a, b = (
        cones
        @ np.asarray(
            [
                [0.2104542553, 1.9779984951, 0.0259040371],
                [0.7936177850, -2.4285922050, 0.7827717662],
                [-0.0040720468, 0.4505937099, -0.8086757660],
            ]
        )
    ).T
    return lightness, np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360


def colour_membership(lightness: Float64, chroma: Float64, hue: Float64) -> Float64:
    """How far Oklab colours belong to each of `COLOURS`: N×13 in [0, 1].

    The edges were set on some hundred named colours (benchmarks/captions); between two names there is a ramp, so that
    a border colour never makes a strong claim.
    """
    out = {name: np.zeros_like(lightness) for name in COLOURS}
    out["black"] = 1 - _ramp(lightness + 0.3 * chroma, 0.22, 0.35)
    seen = 1 - out["black"]
    coloured = seen * _ramp(chroma, 0.012, 0.055)
    plain = seen - coloured
    out["white"] = plain * _ramp(lightness, 0.90, 0.96)
    out["grey"] = plain - out["white"]
    pinkish, reddish, orangish, yellowish, greenish, cyanish, bluish, purplish = (
        coloured * _between(hue, low, high)
        for low, high in zip(_HUE_EDGES, (*_HUE_EDGES[1:], _HUE_EDGES[0]), strict=True)
    )
    out["pink"] = pinkish * _ramp(lightness, 0.50, 0.60) + reddish * _ramp(lightness, 0.70, 0.78)
    red = reddish * _ramp(chroma, 0.08, 0.12) * (1 - _ramp(lightness, 0.70, 0.78))
    out["red"] = red + pinkish * (1 - _ramp(lightness, 0.45, 0.55))
    out["brown"] = reddish * (1 - _ramp(chroma, 0.08, 0.12)) * (1 - _ramp(lightness, 0.70, 0.78))
    light = _ramp(lightness, 0.66, 0.74)
    out["orange"] = orangish * _ramp(chroma, 0.10, 0.15) * _ramp(lightness, 0.54, 0.72)
    rest = orangish - out["orange"]
    out["beige"] = rest * light
    out["brown"] += rest - rest * light
    out["yellow"] = yellowish * _ramp(chroma, 0.09, 0.12) * light
    rest = yellowish - out["yellow"]
    out["beige"] += rest * light
    out["brown"] += (rest - rest * light) * (1 - _ramp(hue, 92, 102))
    out["green"] = greenish + (rest - rest * light) * _ramp(hue, 92, 102)
    out["turquoise"], out["blue"], out["purple"] = cyanish, bluish, purplish
    return np.stack([out[name] for name in COLOURS], axis=-1)


_HUE_EDGES = (338.0, 14.0, 40.0, 82.0, 113.0, 168.0, 204.0, 281.0)
_EDGE_WIDTH = 14.0
_SURE = {"turquoise": 0.97, "grey": 0.95}
_SURE_ELSE = 0.85
"""How far a colour must belong to its name to count as one that nobody would call by another."""


def _ramp(x: Float64, low: float, high: float) -> Float64:
    return np.clip((x - low) / (high - low), 0.0, 1.0)


def _between(hue: Float64, low: float, high: float) -> Float64:
    """1 inside the arc from `low` to `high`, falling to 0 across its edges."""
    width = (high - low) % 360
    inside = (hue - low + 180 - width / 2) % 360 - 180 + width / 2
    return np.clip(np.minimum(inside, width - inside) / _EDGE_WIDTH + 0.5, 0.0, 1.0)
