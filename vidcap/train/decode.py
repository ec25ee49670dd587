"""From a clip's bytes to numbers: T frames of its pictures and a window of 10 s of its sound.

Frames are taken one from each of T equal intervals, the sound from one place; where `draw` is given (training) both
are drawn, and one crop and flip for all frames; without (evaluation) they are the middle ones and the whole picture.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vidcap.errors import ItemError
from vidcap.models.fbank import RATE, WINDOW, WINDOW_SECONDS, encoder_input
from vidcap.train.film import Film, Pictures, Pixels, Wave, opened

Draw = np.random.Generator

MELS = 64
MEAN = (0.485, 0.456, 0.406)
SPREAD = (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, channels red, green, blue in [0, 1]."""
CROP_AREA = (0.5, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
CROP_TRIES = 10


def places(frames: int, count: int, draw: Draw | None) -> list[int]:
    """`count` ascending frame indices, one from each of as many equal intervals of `frames` (at least 1).

    Drawn inside each interval, or its middle. A clip with fewer frames gives each once, then the last again and again.
    """
    distinct = min(count, frames)
    bounds = [index * frames // distinct for index in range(distinct + 1)]
    found = [(low + high - 1) // 2 if draw is None else int(draw.integers(low, high)) for low, high in pairwise(bounds)]
    return found + [frames - 1] * (count - distinct)


def pictures(
    film: Film | BinaryIO,
    count: int,
    draw: Draw | None,
    *,
    span: tuple[int, int | None] = (0, None),
    seconds: float | None = None,
    expected: int = 0,
) -> Pictures:
    """`count` frames of a film, of the frames `span` (first, last; both inclusive) and the first `seconds` alone.

    Frames are found by presentation time; only what lies between a key frame and a chosen frame is decoded. Raises
    `ItemError` (`media.unrecognised`, `.no_video`, `.no_frames`, `.too_large`, `.truncated` where fewer than
    `expected` frames are there, `sample.undecodable`).
    """
    with _film(film) as one:
        return one.pictures(lambda frames: places(frames, count, draw), span=span, seconds=seconds, expected=expected)


def picture(film: Film | BinaryIO) -> Pixels:
    """The first picture of an image file, H×W×3. Raises `ItemError`."""
    with _film(film) as one:
        return one.picture()


def pictures_tensor(frames: Sequence[Pixels], size: int, draw: Draw | None) -> Tensor:
    """Frames of equal H×W×3 → T×3×`size`×`size`, normalised; with `draw` one random crop and flip for all."""
    height, width = frames[0].shape[:2]
    top = left = 0
    if draw is not None:
        top, left, height, width = crop(height, width, draw)
    within = np.stack([frame[top : top + height, left : left + width] for frame in frames])
    # uint8 in and out, with anti-aliasing: what picture libraries do.
    resized = functional.interpolate(
        torch.from_numpy(within).permute(0, 3, 1, 2), (size, size), mode="bicubic", antialias=True, align_corners=False
    )
    if draw is not None and draw.random() < 0.5:
        resized = resized.flip(-1)
    mean, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
    # Planes are made while the values are small, and computed with in place: half the time of four new tensors.
    return resized.to(torch.float32, memory_format=torch.contiguous_format).div_(255).sub_(mean).div_(spread)


def crop(height: int, width: int, draw: Draw) -> tuple[int, int, int, int]:
    """Top, left, height, width: half to all of the area, aspect 3:4 to 4:3; where that fits nowhere the middle."""
    for _ in range(CROP_TRIES):
        area = height * width * draw.uniform(*CROP_AREA)
        aspect = math.exp(draw.uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return int(draw.integers(0, height - high + 1)), int(draw.integers(0, width - wide + 1)), high, wide
    high = min(height, round(width / CROP_ASPECT[0]))
    wide = min(width, round(height * CROP_ASPECT[1]))
    return (height - high) // 2, (width - wide) // 2, high, wide


def sound(film: Film | BinaryIO, draw: Draw | None, *, start: float = 0.0, end: float | None = None) -> Wave:
    """10 s of 16 kHz mono in [-1, 1] from [start, end) seconds of a file, silence after what is shorter.

    Of longer sound the window is drawn, or the middle one. Raises `ItemError` (`sample.no_sound`,
    `media.unrecognised`, `sample.undecodable`).
    """
    with _film(film) as one:
        if end is None:
            end = one.seconds
        spare = max(0.0, end - start - WINDOW_SECONDS)
        begin = start + (spare / 2 if draw is None else float(draw.uniform(0, spare)) if spare else 0.0)
        length = min(WINDOW, round((end - begin) * RATE))
        wave = np.zeros(WINDOW, np.float32)
        heard = False
        for at, block in one.sound(begin):
            offset = round((at - begin) * RATE)
            if offset >= length:
                break
            low, high = max(0, offset), min(length, offset + len(block))
            if low < high:
                wave[low:high] = block[low - offset : high - offset]
                heard = True
        if not heard:
            raise ItemError("sample.no_sound", "no samples in its audio track")
        return wave


def spectrum(wave: Wave) -> Tensor:
    """10 s of sound → 998×64, as BEATs reads it."""
    return encoder_input(torch.from_numpy(wave), MELS)


@contextlib.contextmanager
def _film(given: Film | BinaryIO) -> Iterator[Film]:
    """The film that whoever asks has opened, or one opened here of these bytes."""
    if isinstance(given, Film):
        yield given
    else:
        with opened(given) as film:
            yield film
