"""Clips for the calibration of camera movement: the camera's path is known because the pictures are cut along it.

A textured world larger than the frame, a camera that pans, tilts, zooms, shakes or stands, things that move before it,
nearer layers that move faster, and what editors lay over a picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from pictures import ABSENT, Clip, cloud, glances, through_jpeg

Random = np.random.Generator
Image = npt.NDArray[np.float32]
FPS = 25
SIZES = ((320, 180), (426, 240), (256, 192), (189, 336))
KINDS = (
    *("static",) * 4,
    *("actor",) * 2,
    *("pan",) * 4,
    *("tilt",) * 3,
    *("zoom",) * 4,
    "handheld",
    "sway",
    "diagonal",
    "turn",
    "walk",
)


def world(width: int, height: int, random: Random) -> Image:
    """A picture three times as wide and high as the frame: clutter, land under a sky, a wall with windows, leaves."""
    size = (height * 3, width * 3)
    coarse = (size[0] // 2, size[1] // 2)
    kind = random.choice(["clutter", "land", "windows", "leaves", "plain"], p=[0.4, 0.2, 0.15, 0.15, 0.1])
    rough = np.full((*coarse, 3), random.uniform(40, 200, 3), np.float32)
    for scale in (30, 8, 2):
        tint = (random.uniform(0, 22) * random.uniform(0.6, 1.2, 3)).astype(np.float32)
        rough += cloud(*coarse, scale, random)[..., None] * tint
    image = cv2.resize(rough, size[::-1], interpolation=cv2.INTER_LINEAR)
    if kind == "clutter":
        for _ in range(int(random.integers(60, 500))):
            shape(image, random, random.uniform(0.01, 0.25) * height)
    elif kind == "land":
        image[: size[0] // 2] = np.linspace(0, 1, size[0] // 2)[:, None, None] * 50 + random.uniform(120, 200, 3)
        for _ in range(int(random.integers(40, 250))):
            shape(image, random, random.uniform(0.02, 0.2) * height, size[0] // 2)
    elif kind == "windows":
        step = int(random.uniform(0.08, 0.3) * height)
        for y in range(0, size[0], step):
            for x in range(0, size[1], step):
                tone = random.uniform(0, 255, 3) if random.random() < 0.3 else random.uniform(30, 60, 3)
                cv2.rectangle(image, (x, y), (x + step // 2, y + step * 2 // 3), tone.tolist(), -1)
    elif kind == "leaves":
        for _ in range(int(random.integers(500, 1500))):
            shape(image, random, random.uniform(0.01, 0.05) * height)
    return np.clip(image, 0, 255, out=image)


def graininess(width: int, height: int, strength: float, random: Random) -> Callable[[], Image]:
    """A maker of sensor noise: one field of it, shifted at random each time."""
    field = random.normal(0, strength, (height, width, 1)).astype(np.float32)

    def grain() -> Image:
        return np.roll(field, (int(random.integers(height)), int(random.integers(width))), axis=(0, 1))

    return grain


def shape(image: Image, random: Random, size: float, top: int = 0) -> None:
    """A rectangle, disc or line somewhere."""
    tone = random.uniform(0, 255, 3).tolist()
    x, y = int(random.integers(image.shape[1])), int(random.integers(top, image.shape[0]))
    kind = random.integers(3)
    if kind == 0:
        across, down = (int(size * random.uniform(0.3, 2)) + 1 for _ in range(2))
        cv2.rectangle(image, (x, y), (x + across, y + down), tone, -1)
    elif kind == 1:
        cv2.circle(image, (x, y), int(size / 2) + 1, tone, -1, cv2.LINE_AA)
    else:
        end = (x + int(random.normal(0, 2 * size)), y + int(random.normal(0, 2 * size)))
        cv2.line(image, (x, y), end, tone, int(random.integers(1, 5)), cv2.LINE_AA)


def path(kind: str, count: int, random: Random) -> npt.NDArray[np.float64]:
    """Per frame: frame widths to the right, frame heights upwards, logarithm of the zoom, radians of roll."""
    u = np.linspace(0, 1, count)
    if random.random() < 0.5:  # eases in and out, sometimes after a while
        begin, end = random.uniform(0, 0.3), random.uniform(0.7, 1)
        v = np.clip((u - begin) / (end - begin), 0, 1)
        u = v * v * (3 - 2 * v)
    sign = random.choice([-1.0, 1.0])
    seconds = count / FPS
    out = np.zeros((count, 4))
    amount = min(0.85, seconds * 10 ** random.uniform(-1.9, -0.7))
    if kind == "pan":
        out[:, 0] = sign * amount * u
    elif kind == "tilt":
        out[:, 1] = sign * amount * u
    elif kind == "zoom":
        out[:, 2] = sign * min(0.7, amount) * u
    # An actor moves, the camera does not.
    elif kind == "diagonal":
        out[:, 0], out[:, 1] = sign * amount * u, random.choice([-1, 1]) * amount * random.uniform(0.5, 1.5) * u
        out[:, 1] = np.clip(out[:, 1], -0.85, 0.85)
    elif kind == "sway":
        turns = random.uniform(1, 3)
        out[:, 0] = sign * min(0.4, amount) * np.sin(2 * np.pi * turns * u)
    elif kind == "turn":
        out[:, 3] = sign * min(0.6, amount) * u
    elif kind == "walk":
        out[:, :3] = np.cumsum(random.normal(0, 0.01, (count, 3)), axis=0) * [1, 1, 0.5]
    if kind in {"handheld", "walk"} or (kind not in {"static", "actor"} and random.random() < 0.35):
        shake = random.normal(0, 1, (count, 4)).cumsum(axis=0)
        smooth = np.asarray([np.convolve(c, np.hanning(15) / 7, "same") for c in shake.T]).T
        smooth -= smooth[0] + (smooth[-1] - smooth[0]) * np.linspace(0, 1, count)[:, None]
        strength = 10 ** random.uniform(-2.5, -1.4) if kind == "handheld" else 10 ** random.uniform(-3, -2.2)
        out += smooth / (smooth.std() + 1e-9) * strength * [1, 1, 0.3, 0.3]
    out[:, :2] = np.clip(out[:, :2], -0.9, 0.9)
    return out


def render(random: Random) -> Clip:
    """A clip of 2 to 20 seconds."""
    width, height = SIZES[random.integers(len(SIZES))]
    seconds = float(random.uniform(2, 20))
    count = int(seconds * FPS) + 2
    kind = str(random.choice(KINDS))
    camera = path(kind, count, random)
    far = world(width, height, random)
    near = world(width, height, random) if random.random() < 0.2 else None
    cover = cloud(*far.shape[:2], random.uniform(20, 90), random) > random.uniform(0.5, 1.2)
    depth = random.uniform(1.3, 2.5)
    things = [thing(width, height, random) for _ in range(int(random.choice([0, 0, 1, 2, 4])))]
    if kind == "actor":
        far = cv2.GaussianBlur(far, (0, 0), 25) if random.random() < 0.5 else np.full_like(far, random.uniform(40, 220))
        things = [thing(width, height, random, actor=True)]
    overlay, mask = laid_over(width, height, random)
    gain = random.uniform(0.6, 1.0) * np.linspace(1, random.uniform(0.6, 1.5) if random.random() < 0.2 else 1, count)
    grain = graininess(width, height, random.uniform(0, 5), random)

    def at(i: int) -> Image:
        picture = seen(far, camera[i], 1.0, width, height)
        if near is not None:
            front = seen(near, camera[i], depth, width, height)
            where = seen(cover.astype(np.float32), camera[i], depth, width, height) > 0.5
            picture = np.where(where[..., None], front, picture)
        for patch, start, way, wobble in things:
            t = i / FPS
            spot = (start + way * t + wobble * np.sin(2.1 * t)) % 1.6 - 0.3
            paste(picture, patch, int(spot[0] * width), int(spot[1] * height))
        picture = picture * gain[i] + grain()
        return np.where(mask[..., None], overlay, picture)

    times = glances(seconds)
    frames = [through_jpeg(at(round(t * FPS))) for t in times]
    true, false = labels(camera, width, height, near is not None)
    return Clip(frames, times, true, false)


def seen(image: Image, camera: npt.NDArray[np.float64], depth: float, width: int, height: int) -> Image:
    """What a camera at that place of its path sees of a world; nearer worlds move faster."""
    right, up, zoom, roll = camera
    scale = np.exp(zoom * depth) * 1.0
    centre_x = image.shape[1] / 2 + right * depth * width
    centre_y = image.shape[0] / 2 - up * depth * height
    turn = np.asarray([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]) * scale
    move = np.asarray([width / 2, height / 2]) - turn @ [centre_x, centre_y]
    return cv2.warpAffine(image, np.c_[turn, move], (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_WRAP)


def thing(width: int, height: int, random: Random, *, actor: bool = False) -> tuple[Image, Image, Image, Image]:
    """A patch with a texture, where it starts, how it goes a second, and how it wobbles (frame sizes).

    An `actor` is large and stays before the camera.
    """
    if actor:
        across, down = int(width * random.uniform(0.35, 0.85)), int(height * random.uniform(0.6, 1.0))
        patch = world(across // 3 + 1, down // 3 + 1, random)[:down, :across]
        start = np.asarray([0.5 - across / width / 2 + random.uniform(-0.1, 0.1), 1 - down / height])
        return patch, start + 0.3, np.zeros(2), random.uniform(0.01, 0.06, 2)
    size = random.uniform(0.05, 0.6) if random.random() < 0.3 else random.uniform(0.05, 0.25)
    across, down = int(size * width * random.uniform(0.6, 1.4)) + 4, int(size * height * random.uniform(0.8, 1.6)) + 4
    patch = np.full((down, across, 3), random.uniform(0, 255, 3), np.float32)
    patch += cloud(down, across, random.uniform(3, 20), random)[..., None] * random.uniform(5, 40)
    return np.clip(patch, 0, 255), random.uniform(0, 1, 2), random.normal(0, 0.12, 2), random.normal(0, 0.05, 2)


def paste(picture: Image, patch: Image, x: int, y: int) -> None:
    left, top = max(0, x), max(0, y)
    right, bottom = min(picture.shape[1], x + patch.shape[1]), min(picture.shape[0], y + patch.shape[0])
    if right > left and bottom > top:
        picture[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]


def laid_over(width: int, height: int, random: Random) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Bars, a logo or a line of words that stand still, and where they are."""
    overlay = np.zeros((height, width, 3), np.float32)
    mask = np.zeros((height, width), np.uint8)
    kind = random.choice(["none", "bars", "logo", "words"], p=[0.7, 0.1, 0.1, 0.1])
    if kind == "bars":
        bar = int(height * random.uniform(0.06, 0.14))
        mask[:bar] = mask[-bar:] = 1
    elif kind == "logo":
        side = int(height * random.uniform(0.06, 0.18))
        cv2.circle(overlay, (side, side), side // 2, (250.0, 250.0, 250.0), -1)
        cv2.circle(mask, (side, side), side // 2, 1, -1)
    elif kind == "words":
        at = (int(width * 0.15), int(height * 0.9))
        for target, tone, thick in ((overlay, (0.0, 0.0, 0.0), 3), (mask, 1, 3), (overlay, (255.0,) * 3, 1)):
            cv2.putText(target, "words that stand still", at, cv2.FONT_HERSHEY_SIMPLEX, width / 520, tone, thick)
    return overlay, mask > 0


def labels(
    camera: npt.NDArray[np.float64], width: int, height: int, layered: bool
) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """What holds and what does not of the camera. Where near things move faster a movement is open, or its opposite."""
    reach = np.hypot(width, height) / 2
    pixels = camera * [width, height, reach, reach]
    way = np.abs(np.diff(pixels, axis=0)).sum() + 1e-9
    net = pixels[-1] - pixels[0]
    decided = []
    for axis, names in enumerate((("pan right", "pan left"), ("tilt up", "tilt down"), ("zoom in", "zoom out"))):
        for name, sign in zip(names, (1, -1), strict=True):
            far, share = sign * (camera[-1] - camera[0])[axis], sign * net[axis] / way
            yes = far > 0.1 and share > 0.65 and not layered
            decided.append((name, yes, far < 0.03 or share < 0.35))
    strayed = np.abs(pixels - pixels[0]).sum(axis=1).max() / (2 * reach)
    decided.append(("static", strayed < 0.003, strayed > 0.015))
    decided.append(("moving", strayed > 0.03, strayed < 0.006))
    return (
        frozenset(("camera", name) for name, yes, _ in decided if yes),
        frozenset(("camera", name) for name, _, no in decided if no) | set(ABSENT[:3]),
    )
