"""Clips with and without writing for the calibration: what is written where is known because it is drawn here.

Two halves that share no typeface: DejaVu and OpenCV's plain strokes to fit on, Liberation and the others to report on
(`apt install fonts-dejavu fonts-liberation`). Without writing there are fences, bars, dots, bricks and keys in rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from cameras import FPS, graininess, path, seen, world
from pictures import ABSENT, Clip, glances, through_jpeg
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont
from speak import ENGLISH

Random = np.random.Generator
Image = npt.NDArray[np.float32]
FONTS = Path("/usr/share/fonts/truetype")
HALVES = {
    "fit": ("dejavu", (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX)),
    "report": ("liberation", (cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_PLAIN)),
}
SIZES = ((426, 240), (512, 288), (384, 288), (189, 336), (320, 180))


@dataclass(frozen=True)
class Line:
    """Where a line of letters is (0-1), in every frame, and the height of its letters in parts of the frame's."""

    left: float
    top: float
    right: float
    bottom: float
    height: float


def words(random: Random) -> str:
    """Something to write: a few words, a title, a number."""
    sentence = ENGLISH[random.integers(len(ENGLISH))].split()
    count = int(random.integers(2, 7))
    begin = int(random.integers(max(1, len(sentence) - count)))
    text = " ".join(sentence[begin : begin + count])
    kind = random.random()
    if kind < 0.25:
        return text.upper()
    if kind < 0.4:
        return text.title()
    if kind < 0.5:
        return f"{random.integers(1, 99)}:{random.integers(10, 59)} {text} {random.integers(1000, 2999)}"
    return text


def letters(text: str, height: int, half: str, random: Random) -> Image:
    """Coverage (0-1) of a line, its rows cut to the ink."""
    folder, strokes = HALVES[half]
    if random.random() < 0.75:
        files = sorted((FONTS / folder).glob("*.ttf"))
        font = ImageFont.truetype(str(files[random.integers(len(files))]), int(height * 1.35))
        left, top, right, bottom = font.getbbox(text)
        page = Pictures.new("L", (int(right - left) + 4, int(bottom - top) + 4))
        ImageDraw.Draw(page).text((2 - left, 2 - top), text, fill=255, font=font)
        return np.asarray(page, np.float32) / 255
    stroke = int(random.choice(strokes))
    scale = cv2.getFontScaleFromHeight(stroke, height, 1)
    thick = max(1, round(height / random.uniform(7, 14)))
    (width, tall), below = cv2.getTextSize(text, stroke, scale, thick)
    page = np.zeros((tall + below + 4, width + 4), np.float32)
    cv2.putText(page, text, (2, tall + 2), stroke, scale, 1.0, thick, cv2.LINE_AA)
    return page


def tones(random: Random) -> tuple[Image, Image]:
    """Of letters and of what is behind them: at least 90 apart in luma."""
    while True:
        pair = [np.full(3, random.choice([0, 20, 240, 255]), np.float32), random.uniform(0, 255, 3).astype(np.float32)]
        if random.random() < 0.5:
            pair.reverse()
        if abs(float((pair[0] - pair[1]) @ [0.299, 0.587, 0.114])) > 90:
            return pair[0], pair[1]


def write(picture: Image, text: Image, x: int, y: int, random_tones: tuple[Image, Image], way: str) -> None:
    """The line over the picture: on a box, with an outline, or bare."""
    ink, behind = random_tones
    height, width = text.shape
    room = picture[y : y + height, x : x + width]
    text = text[: room.shape[0], : room.shape[1], None]
    if way == "box":
        edge = height // 3
        picture[max(0, y - edge) : y + height + edge, max(0, x - edge) : x + width + edge] = behind
    elif way == "outline":
        wide = cv2.dilate(text[..., 0], np.ones((3, 3), np.uint8))[..., None]
        room[:] = room * (1 - wide) + behind * wide
    room[:] = room * (1 - text) + ink * text


def rows(image: Image, random: Random) -> None:
    """What lies in a row and is no writing: a fence, bars, dots, bricks, keys, a wave."""
    kind = random.choice(["fence", "bars", "dots", "bricks", "keys", "wave"])
    height, width = image.shape[:2]
    tall = int(random.uniform(0.03, 0.2) * height) + 4
    y, x = int(random.uniform(0, 0.9) * (height - tall)), int(random.uniform(0, 0.4) * width)
    long = int(random.uniform(0.2, 0.6) * width)
    ink, behind = tones(random)
    if random.random() < 0.6:
        cv2.rectangle(image, (x - 4, y - 4), (x + long + 4, y + tall + 4), behind.tolist(), -1)
    step = int(random.uniform(0.3, 1.2) * tall) + 3
    for at in range(x, x + long, step):
        if kind == "fence":
            cv2.line(image, (at, y), (at, y + tall), ink.tolist(), max(1, step // 4))
        elif kind == "bars":
            top = y + int(random.uniform(0, 0.8) * tall)
            cv2.rectangle(image, (at, top), (at + max(1, step // 2), y + tall), ink.tolist(), -1)
        elif kind == "dots":
            size = int(random.uniform(0.15, 0.45) * min(step, tall)) + 1
            cv2.circle(image, (at + step // 2, y + tall // 2), size, ink.tolist(), -1, cv2.LINE_AA)
        elif kind == "bricks":
            for row in range(3):
                begin = at + (step // 2 if row % 2 else 0)
                corner = (begin + step - 2, y + (row + 1) * tall // 3 - 2)
                cv2.rectangle(image, (begin, y + row * tall // 3), corner, ink.tolist(), -1)
        elif kind == "keys":
            cv2.rectangle(image, (at, y), (at + step - 3, y + tall), ink.tolist(), 1 if random.random() < 0.5 else -1)
        else:
            swing = [int(tall / 2 * (1 + np.sin((at + d) / step * 2))) for d in (0, step)]
            cv2.line(image, (at, y + swing[0]), (at + step, y + swing[1]), ink.tolist(), 2, cv2.LINE_AA)


def render(random: Random, half: str) -> tuple[Clip, list[Line]]:
    """A clip of 2 to 12 seconds with a few lines laid over it or standing in it, or with none; and the lines."""
    width, height = SIZES[random.integers(len(SIZES))]
    seconds = float(random.uniform(2, 12))
    behind = world(width, height, random)
    for _ in range(int(random.choice([0, 0, 2, 6, 12]))):
        rows(behind, random)
    camera = path(str(random.choice(["static", "pan", "handheld", "zoom"])), int(seconds * FPS) + 2, random) * 0.4
    slide = random.random() < 0.2
    if slide:
        behind[:] = random.uniform(0, 255, 3)
        camera[:] = 0
        for _ in range(int(random.integers(0, 6))):
            rows(behind, random)
    found: list[Line] = []
    laid = []
    faint = False
    if random.random() < 0.5:
        tall = max(8, int(height * random.uniform(0.03, 0.12)))
        pair, way = tones(random), str(random.choice(["box", "outline", "bare"], p=[0.45, 0.35, 0.2]))
        faint = way == "bare" and not slide
        top = int(random.uniform(0.03, 0.95) * (height - 2 * tall))
        for number in range(int(random.integers(1, 4))):
            drawn = letters(words(random), tall, half, random)
            y = top + int(number * tall * 1.9)
            x = int(random.uniform(0.02, 0.5) * max(1, width - drawn.shape[1]))
            right = min(width, x + drawn.shape[1])
            if y + drawn.shape[0] < height and right - x > 0.12 * width:
                laid.append((drawn, x, y, pair, way))
                bottom = (y + drawn.shape[0]) / height
                found.append(Line(x / width, y / height, right / width, bottom, tall / height))
    blur, gain = random.uniform(0, 0.6), random.uniform(0.7, 1.0)
    grain = graininess(width, height, random.uniform(0, 5), random)

    def at(t: float) -> Image:
        picture = seen(behind, camera[round(t * FPS)], 1.0, width, height)
        for item in laid:
            write(picture, *item)
        return cv2.GaussianBlur(picture, (0, 0), 0.2 + blur) * gain + grain()

    times = glances(seconds)
    clip = Clip([through_jpeg(at(t)) for t in times], times, *labels(found, faint))
    return clip, found


def labels(lines: list[Line], faint: bool) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """What holds and what does not; bare letters over a picture may be illegible, so that they are left open."""
    middles = [(line.top + line.bottom) / 2 for line in lines]
    yes, no = set(), set(ABSENT[:3])
    if not lines:
        no |= {("text", "present"), ("text place", "top"), ("text place", "bottom")}
    else:
        if not faint:
            yes.add(("text", "present"))
        for place, here in (("top", [m < 0.4 for m in middles]), ("bottom", [m > 0.6 for m in middles])):
            if all(here) and not faint:
                yes.add(("text place", place))
            elif not any(here):
                no.add(("text place", place))
    return frozenset(yes), frozenset(no)
