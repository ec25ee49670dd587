"""Pictures of the open air: sunrise, sea, night sky, mountains, a cave, snow, a flower, a fish tank."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Paint = Callable[[float], Picture]
"""A shot's painter: seconds since its first pure frame (negative inside a dissolve) to an H×W×3 RGB picture."""
Colour = tuple[int, int, int]

SHIFT = 4
"""Fractional bits of the coordinates that are handed to OpenCV, so that slow things move smoothly."""


def fixed(*values: float) -> list[int]:
    """Pixel coordinates as OpenCV's fixed-point integers."""
    return [round(value * (1 << SHIFT)) for value in values]


def disc(picture: Picture, x: float, y: float, radius: float, colour: Colour) -> None:
    cx, cy, r = fixed(x, y, radius)
    cv2.circle(picture, (cx, cy), max(r, 1), colour, -1, cv2.LINE_AA, SHIFT)


def polygon(picture: Picture, points: list[tuple[float, float]], colour: Colour) -> None:
    corners = np.array([fixed(x, y) for x, y in points], np.int32)
    cv2.fillPoly(picture, [corners], colour, cv2.LINE_AA, SHIFT)


def oval(picture: Picture, x: float, y: float, rx: float, ry: float, colour: Colour, angle: float = 0) -> None:
    cx, cy, ax, ay = fixed(x, y, rx, ry)
    cv2.ellipse(picture, (cx, cy), (max(ax, 1), max(ay, 1)), angle, 0, 360, colour, -1, cv2.LINE_AA, SHIFT)


def grid(width: int, height: int) -> tuple[Floats, Floats]:
    """Pixel coordinates, y and x, as H×W floats."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return y, x


def ramp(width: int, height: int, stops: list[tuple[float, Colour]]) -> Floats:
    """A vertical gradient through `stops` (height fraction, colour), H×W×3."""
    where = np.linspace(0, 1, height)
    levels = [np.interp(where, [s for s, _ in stops], [c[i] for _, c in stops]) for i in range(3)]
    return np.repeat(np.stack(levels, -1)[:, None, :], width, axis=1).astype(np.float32)


def picture_of(floats: Floats) -> Picture:
    return np.clip(np.rint(floats), 0, 255).astype(np.uint8)


def ridge(width: int, base: float, swing: float, waves: float, phase: float) -> list[tuple[float, float]]:
    """The upper edge of a range of hills, left to right."""
    x = np.linspace(-4, width + 4, 96)
    u = x / width * 2 * np.pi * waves + phase
    y = base - swing * (0.6 * np.sin(u) + 0.3 * np.sin(2.3 * u + 1.1) + 0.1 * np.sin(5.1 * u))
    return list(zip(x.tolist(), y.tolist(), strict=True))


def cloud(picture: Picture, x: float, y: float, size: float, colour: Colour) -> None:
    for dx, dy, r in ((-1.1, 0.15, 0.5), (-0.5, -0.15, 0.65), (0.2, -0.25, 0.75), (0.9, 0.1, 0.55)):
        oval(picture, x + dx * size, y + dy * size, r * size, r * size * 0.62, colour)


def sunrise(width: int, height: int) -> Paint:
    y, x = grid(width, height)
    early = ramp(width, height, [(0, (62, 86, 150)), (0.45, (236, 142, 92)), (0.6, (255, 190, 110))])
    later = ramp(width, height, [(0, (96, 160, 236)), (0.45, (228, 200, 160)), (0.6, (255, 226, 160))])

    def paint(t: float) -> Picture:
        day = np.float32(np.clip(t / 8, 0, 1))
        sx, sy = width * 0.64, height * (0.60 - 0.035 * t)
        distance = (x - sx) ** 2 + (y - sy) ** 2
        glow = np.exp(-distance / (0.045 * width * width))[..., None] * np.array([70, 50, 10], np.float32)
        picture = picture_of(early + (later - early) * day + glow)
        disc(picture, sx, sy, height * 0.085, (255, 238, 150))
        cloud(picture, width * (0.2 + 0.006 * t), height * 0.2, height * 0.1, (250, 214, 190))
        for layer, (base, swing, waves, colour) in enumerate(
            ((0.60, 0.07, 1.1, (88, 140, 96)), (0.72, 0.08, 0.8, (60, 128, 62)), (0.86, 0.07, 1.4, (38, 104, 40)))
        ):
            edge = ridge(width, height * base, height * swing, waves, layer * 2.1)
            polygon(picture, [*edge, (width + 4, height + 4), (-4, height + 4)], colour)
        for bird in range(3):
            bx, by = width * (0.15 + 0.07 * bird + 0.05 * t), height * (0.32 - 0.05 * bird)
            flap = height * 0.02 * np.sin(9 * t + bird)
            for side in (-1, 1):
                wing = fixed(bx, by, bx + side * height * 0.035, by - flap)
                cv2.line(picture, tuple(wing[:2]), tuple(wing[2:]), (50, 50, 60), 1, cv2.LINE_AA, SHIFT)
        return picture

    return paint


def _sea(width: int, height: int, sky: list[tuple[float, Colour]], deep: Colour, crest: Colour, low_sun: bool) -> Paint:
    y, x = grid(width, height)
    horizon = height * 0.42
    near = np.clip((y - horizon) / (height - horizon), 0, 1)
    across, away = (x / width - 0.5) / (near + 0.18), 1 / (near + 0.18)
    water = (y >= horizon)[..., None]
    above = ramp(width, height, sky)
    dark, light = np.array(deep, np.float32), np.array(crest, np.float32)
    path = np.exp(-(((x / width - 0.5) / (0.05 + 0.1 * near)) ** 2)).astype(np.float32)

    def paint(t: float) -> Picture:
        wave = 0.5 * np.sin(5 * across + 7 * away - 1.5 * t) + 0.35 * np.sin(-9 * across + 11 * away - 1.1 * t + 1)
        wave = (wave + 0.25 * np.sin(17 * across + 4 * away + 1.9 * t)) * (0.25 + 0.75 * near)
        level = np.clip(0.32 + 0.4 * wave, 0, 1)[..., None]
        sea = dark + (light - dark) * level
        if low_sun:
            spark = (path * np.clip(0.5 + 0.9 * wave, 0, 1))[..., None]
            sea = sea + (np.array([255, 214, 110], np.float32) - sea) * spark * 0.8
        picture = picture_of(np.where(water, sea, above))
        if low_sun:
            top = picture[: int(horizon)]
            disc(top, width * 0.5, height * (0.34 + 0.008 * t), height * 0.1, (255, 226, 120))
            return picture
        cloud(picture, width * (0.24 + 0.008 * t), height * 0.15, height * 0.09, (244, 248, 252))
        cloud(picture, width * (0.8 + 0.005 * t), height * 0.22, height * 0.07, (236, 244, 250))
        bx, by = width * (0.3 + 0.025 * t), horizon + height * (0.10 + 0.012 * np.sin(1.7 * t))
        s = height * 0.11
        polygon(picture, [(bx - s, by), (bx + s, by), (bx + 0.7 * s, by + 0.35 * s), (bx - 0.7 * s, by + 0.35 * s)],
                (120, 60, 40))  # fmt: skip
        polygon(picture, [(bx, by - 2.0 * s), (bx, by - 0.1 * s), (bx + 0.9 * s, by - 0.1 * s)], (250, 250, 246))
        polygon(picture, [(bx - 0.08 * s, by - 1.6 * s), (bx - 0.08 * s, by - 0.1 * s), (bx - 0.7 * s, by - 0.1 * s)],
                (226, 80, 70))  # fmt: skip
        return picture

    return paint


def sea(width: int, height: int) -> Paint:
    return _sea(
        width, height, [(0, (110, 180, 240)), (0.42, (206, 232, 250))], (12, 70, 150), (90, 178, 220), low_sun=False
    )


def evening_sea(width: int, height: int) -> Paint:
    sky: list[tuple[float, Colour]] = [(0, (120, 40, 60)), (0.25, (226, 84, 40)), (0.42, (255, 176, 70))]
    return _sea(width, height, sky, (120, 26, 24), (226, 110, 50), low_sun=True)


def stars(width: int, height: int) -> Paint:
    draw = np.random.RandomState(5)
    radius, angle = draw.uniform(0.1, 1.3, 110) * width, draw.uniform(0, 2 * np.pi, 110)
    size, pace = draw.uniform(0.5, 1.3, 110) * height / 180, draw.uniform(0.6, 2.2, 110)
    sky = picture_of(ramp(width, height, [(0, (6, 8, 34)), (0.7, (18, 30, 84)), (1, (40, 56, 120))]))
    pole = (width * 0.3, height * 0.85)

    def paint(t: float) -> Picture:
        picture = sky.copy()
        turned = angle + 0.05 * t
        for r, a, s, p in zip(radius, turned, size, pace, strict=True):
            level = int(185 + 60 * np.sin(p * t + a * 7))
            disc(picture, pole[0] + r * np.cos(a), pole[1] - r * np.sin(a), s, (level, level, min(level + 20, 255)))
        mx, my = width * (0.7 + 0.012 * t), height * (0.28 - 0.004 * t)
        disc(picture, mx, my, height * 0.11, (240, 236, 210))
        for dx, dy, r in ((-0.03, -0.02, 0.025), (0.035, 0.03, 0.03), (-0.01, 0.05, 0.018)):
            disc(picture, mx + dx * height, my + dy * height, r * height, (214, 208, 180))
        fall = (t % 3.5) / 0.6
        if 0 <= fall < 1:
            x, y = width * (0.2 + 0.35 * fall), height * (0.1 + 0.25 * fall)
            tail = fixed(x, y, x - width * 0.06, y - height * 0.045)
            cv2.line(picture, tuple(tail[:2]), tuple(tail[2:]), (230, 230, 255), 1, cv2.LINE_AA, SHIFT)
        polygon(picture, [*ridge(width, height * 0.86, height * 0.05, 1.3, 0.4), (width + 4, height + 4),
                          (-4, height + 4)], (8, 12, 22))  # fmt: skip
        for x, tall in ((0.08, 0.16), (0.13, 0.22), (0.19, 0.14), (0.91, 0.18), (0.96, 0.24)):
            polygon(picture, [(width * x, height * (0.9 - tall)), (width * (x + 0.035), height * 0.93),
                              (width * (x - 0.035), height * 0.93)], (6, 10, 18))  # fmt: skip
        return picture

    return paint


def balloon(width: int, height: int) -> Paint:
    back = picture_of(ramp(width, height, [(0, (72, 140, 226)), (0.8, (196, 224, 248)), (1, (220, 236, 250))]))
    draw = np.random.RandomState(11)
    for base, peaks, colour in ((0.78, 6, (126, 140, 178)), (0.9, 5, (84, 104, 130))):
        for i in range(peaks):
            x, half = (i + draw.uniform(0.2, 0.8)) / peaks * width, width * draw.uniform(0.12, 0.18)
            top = height * (base - draw.uniform(0.18, 0.32))
            polygon(back, [(x, top), (x + half, height + 4), (x - half, height + 4)], colour)
            snow = 0.22
            side, low = half * snow, top + (height - top) * snow
            polygon(back, [(x, top), (x + side, low), (x + side * 0.3, low - 3), (x - side * 0.2, low + 2),
                           (x - side, low)], (240, 244, 250))  # fmt: skip
    polygon(back, [*ridge(width, height * 0.92, height * 0.04, 1.2, 2.0), (width + 4, height + 4), (-4, height + 4)],
            (64, 116, 70))  # fmt: skip

    def paint(t: float) -> Picture:
        picture = back.copy()
        for start, row, pace, s in ((0.1, 0.16, 0.012, 0.10), (0.55, 0.28, 0.009, 0.07), (0.9, 0.1, 0.014, 0.08)):
            x = ((start + pace * t) % 1.4 - 0.2) * width
            cloud(picture, x, height * row, height * s, (246, 250, 254))
        x, y = width * (0.14 + 0.02 * t), height * (0.42 - 0.05 * np.sin(t / 5) - 0.002 * t)
        r = height * 0.17
        polygon(picture, [(x - 0.75 * r, y + 0.6 * r), (x + 0.75 * r, y + 0.6 * r), (x + 0.22 * r, y + 1.35 * r),
                          (x - 0.22 * r, y + 1.35 * r)], (196, 40, 40))  # fmt: skip
        for i, share in enumerate((1.0, 0.72, 0.4, 0.12)):
            oval(picture, x, y, r * share, r, (214, 48, 44) if i % 2 == 0 else (250, 206, 60))
        polygon(picture, [(x - 0.2 * r, y + 1.6 * r), (x + 0.2 * r, y + 1.6 * r), (x + 0.16 * r, y + 1.9 * r),
                          (x - 0.16 * r, y + 1.9 * r)], (120, 78, 40))  # fmt: skip
        for side in (-0.18, 0.18):
            rope = fixed(x + side * r, y + 1.3 * r, x + side * r, y + 1.62 * r)
            cv2.line(picture, tuple(rope[:2]), tuple(rope[2:]), (90, 60, 40), 1, cv2.LINE_AA, SHIFT)
        return picture

    return paint


def cave(width: int, height: int) -> Paint:
    """Very dark: a lantern that swings before a rock face."""
    y, x = grid(width, height)
    rock = 0.7 + 0.2 * np.sin(x / width * 31 + 3 * np.sin(y / height * 5)) + 0.1 * np.sin(y / height * 47 + x / 23)

    def paint(t: float) -> Picture:
        lx, ly = width * (0.5 + 0.22 * np.sin(1.1 * t)), height * (0.5 - 0.06 * np.cos(2.2 * t))
        near = np.exp(-((x - lx) ** 2 + (y - ly) ** 2) / (0.02 * width * width))
        light = (near * rock)[..., None] * np.array([78, 46, 16], np.float32) + np.array([5, 5, 8], np.float32)
        picture = picture_of(light)
        disc(picture, lx, ly, height * 0.022, (250, 190, 96))
        return picture

    return paint


def snow(width: int, height: int) -> Paint:
    """Very bright: snow falls on a white field with pale trees."""
    field = picture_of(ramp(width, height, [(0, (228, 234, 240)), (0.55, (242, 245, 248)), (1, (252, 252, 252))]))
    polygon(field, [*ridge(width, height * 0.62, height * 0.05, 0.9, 0.8), (width + 4, height + 4), (-4, height + 4)],
            (248, 249, 251))  # fmt: skip
    for x, base, tall in ((0.16, 0.7, 0.34), (0.3, 0.66, 0.24), (0.72, 0.72, 0.38), (0.86, 0.68, 0.26)):
        for tier in range(3):
            top, half = base - tall + tier * tall * 0.24, tall * (0.14 + 0.05 * tier)
            low = top + tall * 0.42
            polygon(field, [(width * x, height * top), (width * x + height * half, height * low),
                            (width * x - height * half, height * low)], (206, 222, 226))  # fmt: skip
    draw = np.random.RandomState(3)
    places, sizes = draw.uniform(0, 1, (60, 3)), draw.uniform(0.010, 0.020, 60)

    def paint(t: float) -> Picture:
        picture = field.copy()
        for (x, y, pace), s in zip(places, sizes, strict=True):
            fx = (x + 0.015 * np.sin(1.3 * t + 9 * pace)) * width
            fy = ((y + (0.08 + 0.07 * pace) * t) % 1.1 - 0.05) * height
            disc(picture, fx, fy, s * height, (196, 212, 234))
        return picture

    return paint
