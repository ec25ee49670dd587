"""Pictures for the tests of camera, faces and writing, drawn in memory: what they show is known."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 320, 180


def clutter(seed: int = 0) -> npt.NDArray[np.float32]:
    """A world three times the frame, full of corners."""
    random = np.random.default_rng(seed)
    image = np.full((3 * HEIGHT, 3 * WIDTH, 3), 120, np.float32)
    for _ in range(1500):
        x, y = random.integers(3 * WIDTH), random.integers(3 * HEIGHT)
        size = random.integers(4, 40, 2)
        tone = random.uniform(0, 255, 3).tolist()
        cv2.rectangle(image, (int(x), int(y)), (int(x + size[0]), int(y + size[1])), tone, -1)
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def filmed(where: Callable[[float], tuple[float, float, float]], count: int = 8, seed: int = 0) -> list[Picture]:
    """Frames of a camera at (frame widths to the right, frame heights up, logarithm of the zoom) of a time in 0-1."""
    image, frames = clutter(seed), []
    for u in np.linspace(0, 1, count):
        right, up, zoom = where(float(u))
        scale = np.exp(zoom)
        centre = np.asarray([1.5 * WIDTH + right * WIDTH, 1.5 * HEIGHT - up * HEIGHT])
        move = np.asarray([WIDTH / 2, HEIGHT / 2]) - scale * centre
        matrix = np.asarray([[scale, 0, move[0]], [0, scale, move[1]]])
        frames.append(cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA).astype(np.uint8))
    return frames


def face(across: float = 0.5, height: float = 0.8, upside_down: bool = False) -> Picture:
    """A lit head before a plain wall: sockets, brows, eyes, a nose, a mouth. `height` of the head in frame heights."""
    side = 200
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    u, v = (x - 100) / 74, (y - 100) / 92
    inside = u**2 + v**2
    shade = 0.6 + 0.45 * np.sqrt(np.clip(1 - inside, 0, 1)) - 0.1 * u

    def spot(px: float, py: float, wide: float, high: float, amount: float) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = amount * np.exp(-(((u - px) / wide) ** 2) - ((v - py) / high) ** 2)
        return found

    for eye in (-0.39, 0.39):
        shade -= spot(eye, 0.0, 0.24, 0.11, 0.35) + spot(eye, -0.17, 0.22, 0.04, 0.45)
        shade -= spot(eye, 0.02, 0.07, 0.05, 0.3) + spot(eye * 0.3, 0.37, 0.06, 0.03, 0.2)
        shade += spot(eye * 1.3, 0.28, 0.2, 0.14, 0.08)
    shade += spot(0, 0.15, 0.09, 0.25, 0.15) - spot(0, 0.6, 0.28, 0.06, 0.4)
    image = np.asarray([225, 180, 150], np.float32) * shade[..., None]
    image[(v < -0.55 - 0.15 * np.cos(3 * u)) & (inside < 1)] = 40
    opaque = np.clip((1 - inside) * 12, 0, 1)
    if upside_down:
        image, opaque = image[::-1].copy(), opaque[::-1].copy()
    scale = height * HEIGHT / 184
    matrix = np.asarray([[scale, 0, across * WIDTH - 100 * scale], [0, scale, HEIGHT / 2 - 100 * scale]])
    where = cv2.warpAffine(opaque, matrix, (WIDTH, HEIGHT))[..., None]
    wall = np.full((HEIGHT, WIDTH, 3), (90, 115, 105), np.float32)
    placed = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
    return np.clip(wall * (1 - where) + placed * where, 0, 255).astype(np.uint8)


def written(text: str, down: float, picture: Picture | None = None) -> Picture:
    """A line of white letters on a dark box, its foot so far down the frame (0-1)."""
    image = np.full((HEIGHT, WIDTH, 3), (60, 110, 70), np.uint8) if picture is None else picture.copy()
    foot = int(down * HEIGHT)
    (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
    cv2.rectangle(image, (16, foot - tall - 6), (28 + wide, foot + 8), (10, 10, 10), -1)
    cv2.putText(image, text, (22, foot), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (250, 250, 250), 1, cv2.LINE_AA)
    return image


def fence() -> Picture:
    """Pales in a row: alike in height, stroke and shape."""
    image = np.full((HEIGHT, WIDTH, 3), 230, np.uint8)
    for x in range(20, 300, 12):
        cv2.rectangle(image, (x, 80), (x + 4, 110), (20, 20, 20), -1)
    return image
