"""Labelled moving pictures for the calibration: colours, light and motion are known because they were drawn here.

The colour names are those of a table of named colours (the CSS names that carry a basic name in common use, and a few
paints and skins), not those of the code that is calibrated. Motion and light are labelled from all 25 frames a second,
while a captioner sees a few glances.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Random = np.random.Generator
Image = npt.NDArray[np.float32]

NAMED = {
    "red": "ff0000 dc143c b22222 8b0000 cd5c5c",
    "orange": "ffa500 ff8c00 f28500 ff7518",
    "yellow": "ffff00 ffd700 fff44f f0e68c e1ad01",
    "green": "008000 00ff00 228b22 006400 6b8e23 32cd32 2e8b57 9acd32 90ee90 7cfc00 556b2f 8fbc8f 00ff7f 808000",
    "turquoise": "40e0d0 008080 00ffff 008b8b 48d1cc 20b2aa 7fffd4 5f9ea0",
    "blue": "0000ff 000080 4169e1 1e90ff 4682b4 87ceeb 6495ed 191970 00bfff add8e6 b0c4de b0e0e6",
    "purple": "800080 4b0082 8a2be2 9932cc 663399 9370db da70d6 dda0dd ee82ee 9400d3 b57edc 6a5acd",
    "pink": "ffc0cb ff69b4 ff1493 ffb6c1 db7093 ff66cc",
    "brown": "8b4513 a0522d 964b00 5c3317 6b4423 6f4e37 cd853f 635147",
    "beige": "f5f5dc d2b48c f5deb3 ffe4c4 deb887 faebd7 c2b280 e0ac8c f1c27d",
    "grey": "808080 696969 a9a9a9 c0c0c0 d3d3d3",
    "black": "000000 0c0c0c 1a1a1a",
    "white": "ffffff fffafa f8f8ff f5f5f5",
}
"""Basic name → sRGB of colours that people call so."""

FPS = 25
SIZE = (168, 96)
ABSENT = (("faces", "one"), ("faces", "two"), ("faces", "several"), ("text", "present"))
"""What none of these clips shows."""
CALM, LIVELY, STILL = 22.0, 30.0, 2.5
"""Labels of motion: mean absolute luma difference of 48×27 thumbnails per second, as trim measures it."""


@dataclass(frozen=True)
class Clip:
    """Glances (RGB, through JPEG) with times, and the labels that hold and that do not, as (type, value)."""

    frames: list[npt.NDArray[np.uint8]]
    times: list[float]
    true: frozenset[tuple[str, str]]
    false: frozenset[tuple[str, str]]


def paint(name: str, random: Random) -> Image:
    """A colour of that name, a little off."""
    shades = NAMED[name].split()
    text = shades[random.integers(len(shades))]
    rgb = np.asarray([int(text[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
    off = random.normal(0, 5, 1 if len(set(rgb)) == 1 else 3).astype(np.float32)
    return np.clip(rgb + off, 0, 255)


def cloud(height: int, width: int, scale: float, random: Random) -> Image:
    """Smooth noise, mean 0, deviation 1."""
    small = random.normal(size=(max(2, int(height / scale)), max(2, int(width / scale)))).astype(np.float32)
    out = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return (out - out.mean()) / (out.std() + 1e-6)


def canvas(random: Random, grey: bool) -> tuple[Image, Image, list[str]]:
    """A picture larger than the frame, which colour each pixel was painted in, and the colours."""
    height, width = SIZE[1] * 2, SIZE[0] * 3
    names = [str(n) for n in random.choice(sorted(NAMED), random.integers(1, 4), replace=False)]
    if grey:
        names = [n for n in ("black", "grey", "white") if random.random() < 0.7] or ["grey"]
    field = cloud(height, width, random.uniform(15, 90), random)
    if random.random() < 0.5:  # bands, as of sky and ground
        field = np.linspace(-2, 2, height, dtype=np.float32)[:, None] + 0.3 * field
    edges = np.quantile(field, np.sort(random.uniform(0.15, 0.85, len(names) - 1)))
    label = np.digitize(field, edges)
    image = np.stack([paint(n, random) for n in names])[label]
    texture = cloud(height, width, random.uniform(2, 12), random) * random.uniform(0, 14)
    return np.clip(image + texture[..., None], 0, 255), label.astype(np.int64), names


def render(random: Random) -> Clip:
    """A clip of 2 to 20 seconds."""
    grey = random.random() < 0.12
    image, label, names = canvas(random, grey)
    seconds = float(random.uniform(2, 20))
    kind = random.choice(["still", "slow", "fast", "blobs", "shake"], p=[0.2, 0.25, 0.25, 0.15, 0.15])
    speed = {"still": 0.0, "slow": 10 ** random.uniform(-0.3, 0.9), "fast": 10 ** random.uniform(1.2, 2.2)}.get(
        kind, 0.0
    )
    angle = random.uniform(0, 6.3)
    gain0 = random.uniform(0.25, 0.5) if random.random() < 0.25 else random.uniform(0.85, 1.1)
    gain1 = gain0 * random.uniform(0.4, 2.2) if random.random() < 0.25 else gain0
    blobs = [(random.uniform(0, 1, 2), random.normal(size=2), random.uniform(5, 25)) for _ in range(4)]
    blob_speed = 10 ** random.uniform(0.3, 1.5)
    frame_noise = random.uniform(0, 4)
    top, left = SIZE[1] // 2, SIZE[0]
    shake = np.cumsum(random.normal(0, random.uniform(1, 6), (int(seconds * FPS) + 2, 2)), axis=0)
    shake -= np.linspace(0, 1, len(shake))[:, None] * shake[-1]

    def at(t: float) -> tuple[Image, Image]:
        dx, dy = speed * t * np.cos(angle), speed * t * np.sin(angle) * 0.4
        if kind == "shake":
            dx, dy = shake[int(t * FPS)]
        # Back and forth inside the canvas.
        x = left + abs((dx + left) % (2 * left) - left) - left / 2
        y = top / 2 + abs((dy + top) % (2 * top) - top) / 2
        matrix = np.asarray([[1, 0, -x], [0, 1, -y]], np.float32)
        picture = cv2.warpAffine(image, matrix, SIZE, borderMode=cv2.BORDER_REFLECT)
        marks = cv2.warpAffine(
            label.astype(np.float32), matrix, SIZE, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
        )
        if kind == "blobs":
            for place, way, size in blobs:
                spot = (place + way * t * blob_speed / 60) % 1 * SIZE
                cv2.circle(picture, (int(spot[0]), int(spot[1])), int(size), image[5, 5].tolist(), -1)
                cv2.circle(marks, (int(spot[0]), int(spot[1])), int(size), float(label[5, 5]), -1)
        gain = gain0 + (gain1 - gain0) * t / seconds
        return np.clip(picture * gain, 0, 255), marks

    dense = np.stack(
        [cv2.resize(at(i / FPS)[0], (48, 27), interpolation=cv2.INTER_AREA) for i in range(int(seconds * FPS))]
    )
    luma = dense @ np.asarray([0.299, 0.587, 0.114], np.float32)
    # Motion is what changes beside the light.
    rate = float(np.abs(np.diff(luma - luma.mean(axis=(1, 2), keepdims=True), axis=0)).mean() * FPS)
    times = glances(seconds)
    frames, shares = [], []
    for t in times:
        picture, marks = at(t)
        frames.append(through_jpeg(picture + random.normal(0, frame_noise, picture.shape)))
        shares.append([[(marks[part] == i).mean() for i in range(len(names))] for part in PARTS.values()])
    mean = dict(zip(PARTS, np.mean(shares, axis=0), strict=True))
    share = {part: dict(zip(names, values, strict=True)) for part, values in mean.items()}
    return Clip(frames, times, *labels(rate, luma, share, grey, min(gain0, gain1) > 0.88, max(gain0, gain1) < 1.12))


def glances(seconds: float) -> list[float]:
    """When a captioner looks at a clip: at most 16 of the candidates, two of which lie in every second."""
    candidates = np.arange(0, seconds, 0.5)
    count = min(16, len(candidates))
    return [float(candidates[(2 * i + 1) * len(candidates) // (2 * count)]) for i in range(count)]


def through_jpeg(picture: Image) -> npt.NDArray[np.uint8]:
    """The picture as the decode pass keeps it."""
    clipped = np.clip(picture, 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", clipped[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB)


PARTS = {
    "colour": np.s_[:, :],
    "top": np.s_[: SIZE[1] // 3],
    "bottom": np.s_[-(SIZE[1] // 3) :],
    "left": np.s_[:, : SIZE[0] // 3],
    "right": np.s_[:, -(SIZE[0] // 3) :],
}
"""Parts of the picture of which a colour can be claimed."""
ACROSS = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}


def labels(
    rate: float, luma: Image, share: dict[str, dict[str, float]], grey: bool, lit: bool, plain: bool
) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """What holds and what does not; between the two a label is left open. Colours of badly lit clips are open."""
    mean = luma.mean(axis=(1, 2))
    third = max(1, len(mean) // 3)
    change = float(mean[-third:].mean() - mean[:third].mean())
    light = float(mean.mean())
    whole = share["colour"]
    decided = [
        ("motion", "still", rate < STILL, rate > 2 * STILL),
        ("motion", "calm", rate < CALM, rate > 1.3 * CALM),
        ("motion", "lively", rate > LIVELY, rate < LIVELY / 1.3),
        ("light", "dark", light < 75, light > 95),
        ("light", "bright", light > 140, light < 120),
        ("light change", "brighter", change > 15, change < 8),
        ("light change", "darker", change < -15, change > -8),
        (
            "saturation",
            "none",
            grey,
            not grey and sum(whole.get(n, 0) for n in ("black", "grey", "white", "beige", "brown")) < 0.9,
        ),
    ]
    if lit and plain:
        decided += [("colour", name, whole.get(name, 0.0) > 0.2, whole.get(name, 0.0) < 0.1) for name in NAMED]
        for part, opposite in ACROSS.items():
            for name in NAMED:
                here, there = share[part].get(name, 0.0), share[opposite].get(name, 0.0)
                decided.append((part, name, here > 0.45 and there < 0.25, here < 0.3 or there > 0.4))
    decided += [(type_, value, False, True) for type_, value in ABSENT]
    return (
        frozenset((t, v) for t, v, yes, _ in decided if yes),
        frozenset((t, v) for t, v, _, no in decided if no),
    )
