"""The transitions that editing programs offer, between two overlapping stretches of film."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
HEIGHT, WIDTH = 27, 48

KINDS = ("cut", "dissolve", "fade", "wipe", "slide", "flash")


def joined(kind: str, before: Float32, after: Float32, rng: np.random.Generator) -> Float32:
    """The blended frames of a gradual transition: `before` and `after` are N×27×48×3, both of the same N moments."""
    weight = ((np.arange(len(before)) + 1) / (len(before) + 1)).astype(np.float32)
    if kind == "dissolve":
        return _dissolve(before, after, weight, rng)
    if kind == "fade":
        return _fade(before, after, weight, rng)
    if kind == "wipe":
        return _wipe(before, after, weight, rng)
    if kind == "slide":
        return _slide(before, after, weight, rng)
    if kind == "flash":
        glow = np.sin(np.pi * weight)[:, None, None, None] * 255
        blended: Float32 = np.where(weight[:, None, None, None] < 0.5, before, after) + glow
        return blended
    raise ValueError(f"`{kind}` is no gradual transition")


def _dissolve(before: Float32, after: Float32, weight: Float32, rng: np.random.Generator) -> Float32:
    if rng.random() < 0.3:
        weight = weight * weight * (3 - 2 * weight)
    share = weight[:, None, None, None]
    if rng.random() < 0.12:
        # Additive, as some editors do it: brighter in the middle.
        return before * np.minimum(1, 2 - 2 * share) + after * np.minimum(1, 2 * share)
    return before * (1 - share) + after * share


def _fade(before: Float32, after: Float32, weight: Float32, rng: np.random.Generator) -> Float32:
    """Through black, white or a colour, which may stand for a while; or a cut to black and a fade in."""
    half = np.float32(0.5 - rng.uniform(0, 0.4) / 2)
    chance = rng.random()
    colour = 0 if chance < 0.75 else 255 if chance < 0.95 else rng.uniform(0, 255, 3).astype(np.float32)
    leaving = np.clip(1 - weight / half, 0, 1)
    coming = np.clip((weight - 1 + half) / half, 0, 1)
    if rng.random() < 0.2:
        leaving[:] = 0
    elif rng.random() < 0.15:
        coming[:] = 0
    share = np.where(weight < 0.5, leaving, coming)[:, None, None, None]
    faded: Float32 = np.where(weight[:, None, None, None] < 0.5, before, after) * share + colour * (1 - share)
    return faded


def _wipe(before: Float32, after: Float32, weight: Float32, rng: np.random.Generator) -> Float32:
    """A line, a diagonal, a circle or a clock's hand, sharp or soft."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    shape = rng.choice(5, p=(0.35, 0.2, 0.15, 0.2, 0.1))
    across, down = columns / WIDTH, rows / HEIGHT
    if shape == 0:
        order = across
    elif shape == 1:
        order = down
    elif shape == 2:
        order = (across + down) / 2
    elif shape == 3:
        order = np.hypot((columns - WIDTH / 2) / WIDTH, (rows - HEIGHT / 2) / HEIGHT)
        order = order / order.max()
    else:
        order = np.arctan2(rows - HEIGHT / 2, columns - WIDTH / 2) / (2 * np.pi) + 0.5
    if rng.random() < 0.5:
        order = 1 - order
    softness = rng.choice((0.01, 0.06, 0.2))
    # Stretched so that the soft edge has left the picture at both ends.
    at = weight[:, None, None] * (1 + softness) - softness / 2
    share = np.clip((at - order) / softness + 0.5, 0, 1)[..., None].astype(np.float32)
    wiped: Float32 = before * (1 - share) + after * share
    return wiped


def _slide(before: Float32, after: Float32, weight: Float32, rng: np.random.Generator) -> Float32:
    """The new picture comes in from a side, over the old one or pushing it out, evenly or with a swing."""
    if rng.random() < 0.5:
        weight = weight * weight * (3 - 2 * weight)
    axis, size = (1, HEIGHT) if rng.random() < 0.4 else (2, WIDTH)
    pushing, backwards = rng.random() < 0.6, rng.random() < 0.5
    if backwards:
        before, after = np.flip(before, axis), np.flip(after, axis)
    out = np.empty_like(before)
    for moment, share in enumerate(weight):
        new = round(float(share) * size)
        old = np.roll(before[moment], -new, axis - 1) if pushing else before[moment]
        edge = [slice(None)] * 3
        edge[axis - 1] = slice(size - new, size)
        picture = old.copy()
        entering = [slice(None)] * 3
        entering[axis - 1] = slice(0, new)
        picture[tuple(edge)] = after[moment][tuple(entering)]
        out[moment] = picture
    return np.flip(out, axis) if backwards else out
