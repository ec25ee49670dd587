"""Pictures of made things and close-ups: wheel, room with a ball, city, wall, colours, flower, fish tank, slide."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from nature import Colour, Paint, Picture, disc, grid, oval, picture_of, polygon, ramp


def _hue(turn: float, saturation: float = 0.8, value: float = 0.92) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(turn % 1, saturation, value)
    return round(255 * r), round(255 * g), round(255 * b)


def wheel(width: int, height: int, turns_per_second: float = 0.07) -> Paint:
    sky = picture_of(ramp(width, height, [(0, (214, 226, 240)), (1, (240, 236, 226))]))
    x, y, r = width * 0.5, height * 0.46, height * 0.39
    polygon(sky, [(x - 3, y), (x + 3, y), (x + r * 0.62, height + 4), (x + r * 0.5, height + 4)], (110, 110, 120))
    polygon(sky, [(x - 3, y), (x + 3, y), (x - r * 0.5, height + 4), (x - r * 0.62, height + 4)], (110, 110, 120))
    polygon(sky, [(0, height * 0.93), (width, height * 0.93), (width, height), (0, height)], (150, 158, 120))

    def paint(t: float) -> Picture:
        picture = sky.copy()
        disc(picture, x, y, r * 1.04, (90, 90, 100))
        for i in range(12):
            a, b = ((i + k) / 12 * 2 * np.pi + turns_per_second * t * 2 * np.pi for k in (0, 1.02))
            arc = [(x + r * np.cos(u), y + r * np.sin(u)) for u in np.linspace(a, b, 6)]
            polygon(picture, [(x, y), *arc], _hue(i / 12, 0.78, 0.95 if i % 2 else 0.82))
        disc(picture, x, y, r * 0.12, (250, 250, 250))
        return picture

    return paint


def fast_wheel(width: int, height: int) -> Paint:
    return wheel(width, height, 0.15)


def ball(width: int, height: int) -> Paint:
    room = np.full((height, width, 3), (226, 206, 168), np.uint8)
    left, right, top, low = width * 0.2, width * 0.8, height * 0.14, height * 0.68
    polygon(room, [(0, 0), (left, top), (left, low), (0, height)], (206, 184, 146))
    polygon(room, [(width, 0), (right, top), (right, low), (width, height)], (206, 184, 146))
    polygon(room, [(0, 0), (width, 0), (right, top), (left, top)], (240, 228, 204))
    polygon(room, [(0, height), (left, low), (right, low), (width, height)], (150, 104, 62))
    for i in range(1, 8):
        a, b = (round(left + (right - left) * i / 8), round(low)), (round(width * (i / 8 * 1.6 - 0.3)), height)
        cv2.line(room, a, b, (128, 86, 50), 1, cv2.LINE_AA)
    wx, wy, ws = width * 0.60, height * 0.24, height * 0.2
    for frame, colour in ((0.02, (250, 246, 236)), (0.0, (150, 200, 236))):
        pad = frame * height
        polygon(room, [(wx - pad, wy - pad), (wx + ws + pad, wy - pad), (wx + ws + pad, wy + ws + pad),
                       (wx - pad, wy + ws + pad)], colour)  # fmt: skip
    cv2.line(room, (round(wx + ws / 2), round(wy)), (round(wx + ws / 2), round(wy + ws)), (250, 246, 236), 2)

    def paint(t: float) -> Picture:
        picture = room.copy()
        u = (t / 1.5) % 1
        lift = 4 * u * (1 - u)
        x, floor = width * 0.42, height * 0.84
        size = height * 0.1
        y = floor - size - lift * height * 0.45
        oval(picture, x, floor, size * (1.1 - 0.4 * lift), size * (0.3 - 0.12 * lift), (104, 70, 42))
        squash = 1 - 0.18 * max(0.0, 1 - lift * 8)
        oval(picture, x, y + size * (1 - squash), size / squash, size * squash, (214, 38, 40))
        disc(picture, x - size * 0.35, y - size * 0.35, size * 0.2, (244, 130, 120))
        return picture

    return paint


def _city(width: int, height: int, night: bool) -> Paint:
    draw = np.random.RandomState(21)
    sky: list[tuple[float, Colour]] = (
        [(0, (8, 10, 30)), (0.75, (44, 40, 84))] if night else [(0, (96, 168, 238)), (0.75, (198, 226, 248))]
    )
    town = picture_of(ramp(width, height, sky))
    road = height * 0.78
    greys: list[Colour] = [(150, 158, 172), (124, 136, 156), (176, 170, 164), (140, 128, 128), (104, 120, 146)]
    windows: list[tuple[int, int, int, int]] = []
    x = -height * 0.05
    while x < width:
        wide, tall = height * draw.uniform(0.22, 0.4), height * draw.uniform(0.3, 0.66)
        colour = greys[draw.randint(len(greys))]
        if night:
            colour = (colour[0] // 5, colour[1] // 5, colour[2] // 4)
        cv2.rectangle(town, (round(x), round(road - tall)), (round(x + wide), round(road)), colour, -1)
        step = height * 0.085
        for row in range(int(tall / step) - 1):
            for column in range(int(wide / step)):
                wx, wy = x + step * (column + 0.35), road - tall + step * (row + 0.4)
                windows.append((round(wx), round(wy), round(wx + step * 0.5), round(wy + step * 0.55)))
        x += wide + height * 0.02
    lit = draw.uniform(0, 1, len(windows))
    for pane, share in zip(windows, lit, strict=True):
        shade = ((250, 208, 104) if share < 0.45 else (34, 36, 56)) if night else (206, 226, 240)
        cv2.rectangle(town, pane[:2], pane[2:], shade, -1)
    cv2.rectangle(town, (0, round(road)), (width, height), (30, 30, 38) if night else (92, 94, 100), -1)
    cv2.rectangle(town, (0, round(road)), (width, round(road + height * 0.02)),
                  (56, 56, 66) if night else (186, 186, 182), -1)  # fmt: skip
    for i in range(0, width, round(height * 0.2)):
        cv2.rectangle(town, (i, round(height * 0.885)), (i + round(height * 0.1), round(height * 0.895)),
                      (150, 150, 140) if night else (236, 236, 228), -1)  # fmt: skip
    fleet = [(0.05, 0.16, (208, 44, 44)), (0.55, 0.16, (240, 196, 50)), (0.30, -0.2, (44, 110, 200)),
             (0.95, -0.2, (240, 240, 240)), (1.15, 0.16, (60, 150, 90))]  # fmt: skip

    def paint(t: float) -> Picture:
        picture = town.copy()
        if night:
            for pane, share in zip(windows, lit, strict=True):
                if 0.45 <= share < 0.47 and np.sin(t * 0.9 + share * 999) > 0:
                    cv2.rectangle(picture, pane[:2], pane[2:], (250, 208, 104), -1)
        s = height * 0.075
        for start, pace, colour in fleet:
            cx = ((start + pace * t) % 1.5 - 0.25) * width
            cy = height * (0.85 if pace > 0 else 0.945)
            tone = (colour[0] // 2, colour[1] // 2, colour[2] // 2) if night else colour
            polygon(picture, [(cx - 1.5 * s, cy), (cx - 1.5 * s, cy - 0.5 * s), (cx - 0.8 * s, cy - 0.55 * s),
                              (cx - 0.5 * s, cy - s), (cx + 0.5 * s, cy - s), (cx + 0.8 * s, cy - 0.55 * s),
                              (cx + 1.5 * s, cy - 0.45 * s), (cx + 1.5 * s, cy)], tone)  # fmt: skip
            for side in (-0.85, 0.85):
                disc(picture, cx + side * s, cy, 0.3 * s, (24, 24, 26))
            if night:
                front = 1.5 if pace > 0 else -1.5
                oval(picture, cx + front * s * 1.2, cy - 0.25 * s, 0.5 * s, 0.2 * s, (250, 240, 180))
                disc(picture, cx - front * s, cy - 0.3 * s, 0.14 * s, (240, 40, 30))
        return picture

    return paint


def city_day(width: int, height: int) -> Paint:
    return _city(width, height, night=False)


def city_night(width: int, height: int) -> Paint:
    return _city(width, height, night=True)


def wall(width: int, height: int) -> Paint:
    """A textured pan: stones in reds and browns pass from right to left."""
    draw = np.random.RandomState(8)
    long = width * 2
    stones = np.full((height, long, 3), (120, 104, 92), np.uint8)
    row_height = height / 6
    for row in range(6):
        x = -draw.uniform(0, 0.3) * height
        while x < long:
            wide = height * draw.uniform(0.22, 0.42)
            tone = np.array((158, 84, 60)) + draw.uniform(-16, 16) + np.array([8, 2, -4]) * draw.uniform(-1, 1)
            y, gap = row * row_height, height * 0.007
            polygon(stones, [(x + gap, y + gap), (x + wide - gap, y + gap), (x + wide - gap, y + row_height - gap),
                             (x + gap, y + row_height - gap)], tuple(int(c) for c in tone))  # fmt: skip
            x += wide
    speckle = cv2.GaussianBlur(draw.uniform(-1, 1, (height, long)).astype(np.float32), (0, 0), 3)
    stones = picture_of(stones + 90 * speckle[..., None])

    def paint(t: float) -> Picture:
        shift = np.array([[1, 0, -(height * 0.1 * (t + 1))], [0, 1, 0]], np.float32)
        return cv2.warpAffine(stones, shift, (width, height), flags=cv2.INTER_LINEAR)

    return paint


def gradient(width: int, height: int) -> Paint:
    """Colours that drift: violet and teal."""
    y, x = grid(width, height)
    u, v = x / height, y / height

    def paint(t: float) -> Picture:
        mix = 0.5 + 0.5 * np.sin(2.2 * u + 1.4 * v + 0.5 * t + 0.8 * np.sin(1.7 * v - 0.4 * t))
        shade = (0.85 + 0.15 * np.sin(1.1 * u - 2.0 * v + 0.35 * t))[..., None]
        one, two = np.array([132, 60, 196], np.float32), np.array([40, 160, 170], np.float32)
        return picture_of((one + (two - one) * mix[..., None]) * shade)

    return paint


def flower(width: int, height: int) -> Paint:
    back = picture_of(ramp(width, height, [(0, (120, 190, 90)), (1, (60, 130, 50))]))

    def paint(t: float) -> Picture:
        picture = back.copy()
        x, y, r = width * 0.5 + height * 0.02 * np.sin(2 * t), height * 0.48, height * 0.36
        for i in range(16):
            a = i / 16 * 2 * np.pi + 0.15 * np.sin(1.5 * t)
            tone = (250, 204, 30) if i % 2 else (240, 178, 20)
            oval(picture, x + 0.66 * r * np.cos(a), y + 0.66 * r * np.sin(a), 0.42 * r, 0.15 * r, tone, np.degrees(a))
        disc(picture, x, y, 0.36 * r, (110, 62, 24))
        disc(picture, x, y, 0.24 * r, (84, 44, 16))
        return picture

    return paint


def fish(width: int, height: int) -> Paint:
    tank = picture_of(ramp(width, height, [(0, (70, 196, 206)), (0.8, (16, 120, 150)), (0.81, (204, 184, 130)),
                                           (1, (180, 156, 104))]))  # fmt: skip
    school = [(0.1, 0.3, 0.10, (250, 140, 30)), (0.6, 0.5, 0.08, (250, 210, 60)), (0.9, 0.22, -0.09, (230, 70, 90)),
              (0.4, 0.66, -0.07, (250, 160, 60))]  # fmt: skip

    def paint(t: float) -> Picture:
        picture = tank.copy()
        for i, x in enumerate((0.12, 0.2, 0.8, 0.9)):
            sway = 0.03 * np.sin(1.2 * t + i)
            blade = [(width * x - 4, height * 0.85), (width * (x + sway), height * (0.5 - 0.05 * (i % 2)))]
            polygon(picture, [*blade, (width * x + 4, height * 0.85)], (30, 130, 70))
        for start, row, pace, colour in school:
            x = ((start + pace * t) % 1.3 - 0.15) * width
            y, s = height * (row + 0.02 * np.sin(1.5 * t + start * 9)), height * 0.07
            way, wag = (1 if pace > 0 else -1), 0.3 * np.sin(7 * t + start * 5)
            polygon(picture, [(x - way * s, y), (x - way * 2.1 * s, y - s * (0.7 + wag)),
                              (x - way * 2.1 * s, y + s * (0.7 - wag))], colour)  # fmt: skip
            oval(picture, x, y, 1.4 * s, 0.75 * s, colour)
            disc(picture, x + way * 0.8 * s, y - 0.15 * s, 0.16 * s, (20, 20, 30))
        for i in range(7):
            y = 0.85 - (0.12 * t + i * 0.13) % 0.9
            disc(picture, width * (0.3 + 0.4 * (i % 2)) + 4 * np.sin(3 * t + i), height * y, 2.2, (190, 236, 240))
        return picture

    return paint


def slide(width: int, height: int) -> Paint:
    """A still: title, lines and a bar chart."""
    page = np.full((height, width, 3), (246, 246, 240), np.uint8)
    unit = height / 360
    cv2.rectangle(page, (0, 0), (width, round(66 * unit)), (36, 72, 132), -1)
    for text, x, y, size, colour in (
        ("Visitors by season", 24, 46, 1.2, (250, 250, 250)),
        ("Spring is growing", 30, 130, 0.7, (40, 40, 44)),
        ("Summer leads", 30, 180, 0.7, (40, 40, 44)),
        ("Winter is quiet", 30, 230, 0.7, (40, 40, 44)),
    ):
        at = (round(x * unit), round(y * unit))
        cv2.putText(page, text, at, cv2.FONT_HERSHEY_SIMPLEX, size * unit, colour, max(1, round(2 * unit)), cv2.LINE_AA)
    bars = ((130, (92, 170, 100)), (190, (232, 164, 52)), (150, (196, 90, 60)), (70, (90, 140, 200)))
    for i, (tall, colour) in enumerate(bars):
        left = width * (0.52 + 0.11 * i)
        corners = (round(left), round(height * 0.86 - tall * unit)), (round(left + width * 0.075), round(height * 0.86))
        cv2.rectangle(page, *corners, colour, -1)
    cv2.line(page, (round(width * 0.5), round(height * 0.86)), (round(width * 0.96), round(height * 0.86)),
             (60, 60, 60), max(1, round(2 * unit)))  # fmt: skip
    return lambda t: page.copy()


def spinner(width: int, height: int) -> Paint:
    """Extreme motion: two halves of the picture spin. A second later each stands where the other stood."""
    turns_per_second = 1.5
    y, x = grid(width, height)
    angle = np.arctan2(y - height / 2, x - width / 2)
    radius = np.hypot(y - height / 2, x - width / 2)

    def paint(t: float) -> Picture:
        side = np.sin(angle - turns_per_second * t * 2 * np.pi) * radius
        mix = np.clip(0.5 + side / 3, 0, 1)[..., None]
        dark, bright = np.array([20, 16, 70], np.float32), np.array([255, 244, 120], np.float32)
        return picture_of(dark + (bright - dark) * mix)

    return paint
