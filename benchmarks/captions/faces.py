"""Drawn faces for the calibration, and things that are none: how many there are, where and how large, is known.

A face is a lit ellipsoid with sockets, brows, a nose that catches the light and a mouth. Decoys have some of the parts
in wrong places. Both stand before the worlds of cameras.py.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from cameras import FPS, SIZES, graininess, path, seen, world
from pictures import Clip, cloud, glances, through_jpeg

Random = np.random.Generator
Image = npt.NDArray[np.float32]
NUMBERS = ((1, "one"), (2, "two"), (3, "several"))
Labels = frozenset[tuple[str, str]]
SKINS = ((255, 219, 190), (233, 188, 150), (198, 142, 102), (150, 100, 70), (104, 68, 48), (78, 52, 40))
SIDE = 200
"""Pixels a face is drawn in; its head (crown to chin) takes up `HEAD` of it, brows to chin three quarters of that."""
HEAD = 0.92


def face(random: Random) -> tuple[Image, Image]:
    """A face and where it is opaque (0-1)."""
    skin = np.asarray(SKINS[random.integers(len(SKINS))], np.float32) * random.uniform(0.85, 1.1)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    cx, cy = SIDE / 2, SIDE * 0.5
    across, down = SIDE * HEAD * random.uniform(0.36, 0.42), SIDE * HEAD / 2
    u, v = (x - cx) / across, (y - cy) / down
    inside = u**2 + v**2
    depth = np.sqrt(np.clip(1 - inside, 0, 1))
    light = np.asarray([random.normal(0, 0.35), -abs(random.normal(0.3, 0.3)), 1.0])
    light /= np.linalg.norm(light)
    shade = 0.55 + 0.5 * np.clip(u * light[0] + v * light[1] + depth * light[2], 0, 1)

    def spot(px: float, py: float, wx: float, wy: float, amount: float) -> Image:
        found: Image = amount * np.exp(-(((u - px) / wx) ** 2) - ((v - py) / wy) ** 2)
        return found

    eye, level = random.uniform(0.36, 0.42), random.uniform(-0.04, 0.06)
    for side in (-1, 1):
        shade -= spot(side * eye, level - 0.02, 0.24, 0.11, random.uniform(0.25, 0.45))  # sockets
        shade -= spot(side * eye, level - 0.17, 0.22, 0.035, random.uniform(0.3, 0.6))  # brows
        shade -= spot(side * 0.12, 0.37, 0.06, 0.03, random.uniform(0.1, 0.3))  # nostrils
        shade += spot(side * 0.5, 0.28, 0.2, 0.14, 0.08)  # cheeks
    shade += spot(0, 0.15, 0.09, 0.25, random.uniform(0.08, 0.2)) + spot(0, -0.45, 0.4, 0.2, 0.06)
    shade -= spot(0, 0.6, random.uniform(0.22, 0.32), random.uniform(0.03, 0.07), random.uniform(0.2, 0.4))
    shade -= spot(0, 0.78, 0.25, 0.05, 0.08)
    image = skin * shade[..., None]
    for side in (-1, 1):
        at = (int(cx + side * eye * across), int(cy + level * down))
        size = (int(0.13 * across), int(0.045 * down) + 1)
        cv2.ellipse(image, at, size, 0, 0, 360, (0.8 * skin + 40).tolist(), -1, cv2.LINE_AA)
        cv2.circle(image, at, int(0.06 * across), (40.0, 28.0, 20.0), -1, cv2.LINE_AA)
    if random.random() < 0.1:
        for side in (-1, 1):
            at = (int(cx + side * eye * across), int(cy + level * down))
            cv2.circle(image, at, int(0.26 * across), (30.0, 30.0, 30.0), 2, cv2.LINE_AA)
    mouth = (int(cx), int(cy + 0.6 * down))
    lips = (int(0.27 * across), int(random.uniform(0.035, 0.09) * down) + 1)
    cv2.ellipse(image, mouth, lips, 0, 0, 360, (skin * [0.75, 0.45, 0.45]).tolist(), -1, cv2.LINE_AA)
    opaque = np.clip((1 - inside) * 12, 0, 1)
    hair = np.asarray(random.choice([20, 60, 120, 170]) * np.asarray([1, 0.8, 0.55]), np.float32)
    top = (v < -0.52 - 0.18 * np.cos(3 * u)) | ((inside > 0.86) & (v < 0.1) & (random.random() < 0.7))
    image[top] = hair + cloud(SIDE, SIDE, 4, random)[top][:, None] * 8
    roll = cv2.getRotationMatrix2D((cx, cy), random.normal(0, 4), 1.0)
    image = cv2.warpAffine(image, roll, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    return np.clip(image, 0, 255), cv2.warpAffine(opaque, roll, (SIDE, SIDE))


def decoy(random: Random) -> tuple[Image, Image]:
    """A round or square thing with dark spots, but not those of a face; sometimes a face upside down or in pieces."""
    kind = random.integers(4)
    if kind == 0:
        image, opaque = face(random)
        return image[::-1].copy(), opaque[::-1].copy()
    if kind == 1:
        image, opaque = face(random)
        quarter = SIDE // 4
        order = random.permutation(4)
        while (order == np.arange(4)).any():
            order = random.permutation(4)
        return np.concatenate([image[i * quarter : (i + 1) * quarter] for i in order]), opaque
    image = np.full((SIDE, SIDE, 3), random.uniform(60, 230, 3), np.float32)
    image *= np.linspace(*random.uniform(0.6, 1.2, 2), SIDE, dtype=np.float32)[:, None, None]
    for _ in range(int(random.integers(1, 7))):
        at = tuple(int(v) for v in random.uniform(0.15, 0.85, 2) * SIDE)
        tone = random.uniform(0, 90, 3).tolist()
        if random.random() < 0.5:
            cv2.circle(image, at, int(random.uniform(4, 24)), tone, -1, cv2.LINE_AA)
        else:
            end = (at[0] + int(random.uniform(10, 70)), at[1] + int(random.uniform(4, 30)))
            cv2.rectangle(image, at, end, tone, -1)
    opaque = np.zeros((SIDE, SIDE), np.float32)
    if kind == 2:
        cv2.circle(opaque, (SIDE // 2, SIDE // 2), int(SIDE * 0.46), 1.0, -1, cv2.LINE_AA)
    else:
        opaque[10:-10, 10:-10] = 1
    return image, opaque


def render(random: Random) -> Clip:
    """A clip of 2 to 12 seconds with no, one, two or three faces, and decoys."""
    width, height = SIZES[random.integers(len(SIZES))]
    seconds = float(random.uniform(2, 12))
    behind = world(width, height, random)
    camera = path(str(random.choice(["static", "handheld", "pan", "zoom"])), int(seconds * FPS) + 2, random) * 0.3
    count = int(random.choice([0, 1, 2, 3], p=[0.4, 0.25, 0.2, 0.15]))
    head = random.uniform((0.15, 0.15, 0.22, 0.24)[count], (0.95, 0.95, 0.6, 0.42)[count])
    head = min(head, 0.95 * width / height / max(1, count))
    slots = random.permutation(np.linspace(0, 1, count + 2)[1:-1]) if count != 1 else random.uniform(0.15, 0.85, 1)
    actors = [(face(random), slot, head * random.uniform(0.9, 1.1)) for slot in slots]
    if random.random() < 0.6 and count == 0:
        actors += [(decoy(random), random.uniform(0.2, 0.8), random.uniform(0.2, 0.9)) for _ in range(2)]
    sways = random.uniform(0, 0.02, (len(actors), 2))
    blur, gain = random.uniform(0, 1.0), random.uniform(0.6, 1.05)
    grain = graininess(width, height, random.uniform(0, 6), random)
    down = random.uniform(0.42, 0.58)

    def at(t: float) -> Image:
        picture = seen(behind, camera[round(t * FPS)], 1.0, width, height)
        for ((image, opaque), slot, size), sway in zip(actors, sways, strict=True):
            side = max(12, int(size * height / HEAD))
            middle = np.asarray([slot * width, down * height]) + sway * width * np.sin(np.asarray([1.3, 1.9]) * t)
            scale = side / SIDE
            matrix = np.asarray([[scale, 0, middle[0] - side / 2], [0, scale, middle[1] - side / 2]])
            placed = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_AREA)
            where = cv2.warpAffine(opaque, matrix, (width, height))[..., None]
            picture = picture * (1 - where) + placed * where
        picture = cv2.GaussianBlur(picture, (0, 0), 0.3 + blur)
        return picture * gain + grain()

    times = glances(seconds)
    frames = [through_jpeg(at(t)) for t in times]
    boxes = [(slot, size) for (_, slot, size) in actors[:count]]
    return Clip(frames, times, *labels(boxes, width / height))


def labels(faces: list[tuple[float, float]], aspect: float) -> tuple[Labels, Labels]:
    """What holds and what does not of (place across, head height) of the faces; one half out of the frame is open."""
    inside = [face for face in faces if 0.3 * face[1] / aspect < face[0] < 1 - 0.3 * face[1] / aspect]
    decided = [("text", "present", False, True)]
    decided += [
        ("faces", name, len(inside) >= n, len(faces) < n) for n, name in enumerate(("one", "two", "several"), 1)
    ]
    if faces:
        head = max(size for _, size in faces)
        spots = [across for across, _ in faces]
        off = [abs(across - 0.5) for across in spots]
        shown = bool(inside)
        decided += [
            ("face place", "left", shown and min(spots) < 0.4, min(spots) > 0.45),
            ("face place", "middle", shown and min(off) < 0.13, min(off) > 0.17),
            ("face place", "right", shown and max(spots) > 0.6, max(spots) < 0.55),
            ("shot scale", "close-up", head > 0.5, head < 0.42),
            ("shot scale", "medium", 0.22 < head < 0.42, not 0.18 < head < 0.5),
        ]
    else:
        every = (("face place", "left middle right"), ("shot scale", "close-up medium"))
        decided += [(type_, value, False, True) for type_, values in every for value in values.split()]
    return (
        frozenset((t, v) for t, v, yes, _ in decided if yes),
        frozenset((t, v) for t, v, _, no in decided if no),
    )
