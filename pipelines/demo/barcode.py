"""The frame number in every frame: a strip of small grey blocks in the bottom left corner, drawn and read.

The strip is 21 blocks of 4×4 pixels, from the left: a dark and a bright guard, 16 bits of the number's Gray code (most
significant first), their parity, a bright and a dark guard. Gray code, because only two blocks then change from one
frame to the next: at 320×180 and 25 frames a second this adds about 2.8 to the motion measure (mean luma difference per
second), a plain binary strip twice that. Blocks of 4×4 aligned to the grid are single transform blocks in H.264,
which is why they survive strong compression.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 4
"""Side of a block in pixels. Picture heights must be a multiple of it."""
BITS = 16
BLOCKS = 2 + BITS + 1 + 2
DARK, BRIGHT = 24, 232
THRESHOLD, MARGIN = 128, 16
"""A block reads as a bit if its mean is at least `MARGIN` away from `THRESHOLD`."""

Picture = npt.NDArray[np.uint8]


def blocks_of(number: int) -> list[bool]:
    """The strip of a frame number in [0, 65535], True for bright; ValueError outside."""
    if not 0 <= number < 1 << BITS:
        raise ValueError(f"frame number `{number}` does not fit {BITS} bits")
    gray = number ^ (number >> 1)
    bits = [bool(gray >> place & 1) for place in reversed(range(BITS))]
    return [False, True, *bits, sum(bits) % 2 == 1, True, False]


def draw_barcode(rgb: Picture, number: int, dark: int = DARK, bright: int = BRIGHT) -> None:
    """Draw the strip of `number` into an H×W×3 picture, in place; nothing but its blocks changes.

    A still picture asks for less contrast, so that its strip does not count as motion; `read_barcode` reads it too.
    """
    height, width = rgb.shape[:2]
    if height % BLOCK or width < BLOCKS * BLOCK:
        raise ValueError(f"a picture of {width}x{height} has no room for the strip")
    levels = np.where(blocks_of(number), bright, dark).astype(np.uint8)
    rgb[height - BLOCK :, : BLOCKS * BLOCK] = np.repeat(levels, BLOCK)[None, :, None]


def read_barcode(rgb: Picture) -> int | None:
    """The number in an H×W×3 RGB picture of the size it was drawn at; None where no strip can be read safely.

    None means: a block of medium grey, wrong guards, or a parity that does not hold.
    """
    height, width = rgb.shape[:2]
    if height < BLOCK or width < BLOCKS * BLOCK:
        return None
    strip = rgb[height - BLOCK :, : BLOCKS * BLOCK].astype(np.float64).mean(axis=2)
    means = strip.reshape(BLOCK, BLOCKS, BLOCK).mean(axis=(0, 2))
    if np.abs(means - THRESHOLD).min() < MARGIN:
        return None
    bright = [bool(mean > THRESHOLD) for mean in means]
    gray = 0
    for bit in bright[2 : 2 + BITS]:
        gray = gray << 1 | bit
    number = gray
    shift = gray >> 1
    while shift:
        number ^= shift
        shift >>= 1
    return number if bright == blocks_of(number) else None
