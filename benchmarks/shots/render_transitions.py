"""Renders shots with known boundaries from single-shot footage: what the detector's parameters are fixed on.

Footage comes as a folder with `pieces.mkv` (48×27 RGB frames, one single-shot piece after another) and `index.json`
(`{"pieces": [{"frames": n, "repo": name}, …]}`). Every clip is a function of (pieces, seed): nothing is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Gap = tuple[int, int]
"""(last pure frame before, first pure frame after)."""

HEIGHT, WIDTH = 27, 48
TRANSITIONS = ("cut", "dissolve", "fade_black", "fade_white", "wipe")
SHARES = (0.5, 0.25, 0.1, 0.05, 0.1)
NEGATIVES = ("none", "flash", "pan", "whip", "zoom", "shake", "occluder", "exposure", "flicker", "caption", "still")
NEGATIVE_SHARES = (0.35, 0.07, 0.09, 0.05, 0.07, 0.07, 0.1, 0.06, 0.04, 0.05, 0.05)


@dataclass(frozen=True)
class Piece:
    frames: Frames
    group: str
    """The collection it came from: a group is wholly in the fitting half or wholly in the held-out half."""


@dataclass
class Rendered:
    """A clip, its true gaps, what each gap is, and the disturbances inside its shots."""

    frames: Frames
    gaps: list[Gap] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    negatives: list[str] = field(default_factory=list)


def load_pieces(folder: Path) -> list[Piece]:
    """The pieces of a folder, at least 16 frames each."""
    import av

    index = json.loads((folder / "index.json").read_text())["pieces"]
    with av.open(str(folder / "pieces.mkv")) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    ends = np.cumsum([row["frames"] for row in index])
    return [
        Piece(frames[end - row["frames"] : end], row["repo"])
        for row, end in zip(index, ends, strict=True)
        if row["frames"] >= 16
    ]


def halves(pieces: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Fitting and held-out pieces: whole groups, the largest first, each to the half that has fewer frames."""
    groups: dict[str, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.group, []).append(piece)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    totals = [0, 0]
    for _, members in sorted(groups.items(), key=lambda item: (-sum(len(p.frames) for p in item[1]), item[0])):
        side = int(totals[1] < totals[0])
        sides[side].extend(members)
        totals[side] += sum(len(p.frames) for p in members)
    return sides


def render_all(pieces: list[Piece], seed: int, count: int) -> Iterator[Rendered]:
    for number in range(count):
        yield render(pieces, np.random.default_rng([seed, number]))


def render(pieces: list[Piece], rng: np.random.Generator) -> Rendered:
    """One clip of 1 to 5 shots; two in five are a single shot, where every reported boundary is a false one."""
    shots = 1 if rng.random() < 0.4 else int(rng.integers(2, 6))
    clip = Rendered(np.zeros((0, HEIGHT, WIDTH, 3), np.uint8))
    out = np.zeros((0, HEIGHT, WIDTH, 3), np.float32)
    before: Piece | None = None
    for number in range(shots):
        kind = str(rng.choice(TRANSITIONS, p=SHARES)) if number else "cut"
        length = 0 if kind == "cut" else int(rng.integers(2, 46) if rng.random() < 0.6 else rng.integers(4, 20))
        pure = int(rng.integers(12, 40) if rng.random() < 0.3 else rng.integers(30, 130))
        # The blended frames belong to both shots: the shot before is continued under them from its own piece.
        shot, before, negative = _shot(pieces, rng, pure + length, before)
        clip.negatives.append(negative)
        if number and rng.random() < 0.15:
            shot = _matched(shot, out[-10:], float(rng.uniform(0.5, 1)))
        if not number:
            out = shot
            continue
        length = min(length, len(out) - (clip.gaps[-1][1] if clip.gaps else 0) - 8)
        if length < 2:
            kind, length = "cut", 0
        start = len(out) - length
        blended = _blend(kind, out[start:], shot[:length], rng) if length else out[start:]
        out = np.concatenate([out[:start], blended, shot[length:]])
        clip.gaps.append((start - 1, start + length))
        clip.kinds.append(kind)
    clip.frames = _finish(out, rng)
    return _cadence(clip, rng)


def _shot(
    pieces: list[Piece], rng: np.random.Generator, length: int, before: Piece | None
) -> tuple[Floats, Piece, str]:
    near = [p for p in pieces if before is not None and p.group == before.group and p is not before]
    pool = near if near and rng.random() < 0.3 else pieces
    weight = np.sqrt([min(len(p.frames), 400) for p in pool])
    piece = pool[int(rng.choice(len(pool), p=weight / weight.sum()))]
    step = int(rng.choice([1, 1, 1, 1, 2, 3]))
    # Forward and back again, for as long as it takes: motion turns round but never jumps.
    period = max(1, 2 * len(piece.frames) - 2)
    at = (np.arange(length) * step + int(rng.integers(period))) % period
    frames = piece.frames[np.where(at >= len(piece.frames), period - at, at)]
    if rng.random() < 0.5:
        frames = frames[:, :, ::-1]
    negative = str(rng.choice(NEGATIVES, p=NEGATIVE_SHARES))
    disturbed = _disturb(np.ascontiguousarray(frames), negative, pieces, rng)
    if rng.random() < 0.6:
        disturbed = (disturbed - 128) * rng.uniform(0.75, 1.2) + 128 + rng.uniform(-20, 20)
    if rng.random() < 0.1:
        disturbed = np.repeat(disturbed.mean(-1, keepdims=True), 3, -1)
    return np.clip(disturbed, 0, 255).astype(np.float32), piece, negative


def _disturb(frames: Frames, kind: str, pieces: list[Piece], rng: np.random.Generator) -> Floats:
    n = len(frames)
    out = frames.astype(np.float32)
    t = np.arange(n)
    at, span = int(rng.integers(0, n)), int(rng.integers(3, 20))
    ramp = np.clip((t - at) / span, 0, 1)
    if kind == "still":
        return np.repeat(out[:1], n, 0)
    if kind == "flash":
        for _ in range(int(rng.integers(1, 4))):
            first, frames_lit, power = int(rng.integers(0, n)), int(rng.integers(1, 5)), rng.uniform(50, 255)
            for lit, frame in enumerate(out[first : first + frames_lit]):
                frame += power * (1 - lit / frames_lit)
        return out
    if kind == "exposure":
        return out * (1 + (rng.uniform(0.5, 1.8) - 1) * ramp)[:, None, None, None].astype(np.float32)
    if kind == "flicker":
        return out + rng.normal(0, rng.uniform(2, 12), (n, 1, 1, 1)).astype(np.float32)
    if kind == "occluder":
        return _occlude(out, pieces, rng)
    if kind == "caption":
        h, w = int(rng.integers(2, 6)), int(rng.integers(8, 44))
        y, x = int(rng.integers(0, HEIGHT - h)), int(rng.integers(0, WIDTH - w))
        ink = rng.random((h, w, 1)) < 0.6
        out[at : at + 60, y : y + h, x : x + w] = np.where(
            ink, rng.uniform(80, 255), out[at : at + 60, y : y + h, x : x + w]
        )
        return out
    dx, dy, scale = np.zeros(n), np.zeros(n), np.ones(n)
    if kind == "pan":
        dx, dy = t * rng.uniform(-2, 2), t * rng.uniform(-0.6, 0.6)
    elif kind == "whip":
        dx = rng.choice([-1, 1]) * rng.uniform(20, 120) * ramp * ramp * (3 - 2 * ramp)
    elif kind == "zoom":
        scale = 1 + (rng.uniform(1.2, 2.2) - 1) * (ramp if rng.random() < 0.5 else t / n)
    elif kind == "shake":
        dx, dy = rng.normal(0, rng.uniform(0.4, 2.5), n), rng.normal(0, rng.uniform(0.3, 1.6), n)
    else:
        return out
    return _moved(out, dx, dy, scale)


def _moved(frames: Floats, dx: npt.NDArray, dy: npt.NDArray, scale: npt.NDArray) -> Floats:  # type: ignore[type-arg]
    """Camera motion over a picture that goes on as its own mirror image."""
    middle = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    moved = []
    for frame, x, y, s in zip(frames, dx, dy, scale, strict=True):
        matrix = np.array([[1 / s, 0, middle[0] * (1 - 1 / s) + x], [0, 1 / s, middle[1] * (1 - 1 / s) + y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved.append(cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT_101))
    return np.stack(moved).astype(np.float32)


def _occlude(frames: Floats, pieces: list[Piece], rng: np.random.Generator) -> Floats:
    """Something large passes before the camera."""
    for _ in range(int(rng.integers(1, 4))):
        crossing, width = int(rng.integers(4, 40)), int(rng.integers(6, 44))
        first, top = int(rng.integers(0, len(frames))), int(rng.integers(0, 14)) if rng.random() < 0.6 else 0
        texture = pieces[int(rng.integers(len(pieces)))].frames[0].astype(np.float32)
        if rng.random() < 0.5:
            texture = np.broadcast_to(texture.mean((0, 1)) * rng.uniform(0.2, 1), texture.shape)
        lean = (np.arange(HEIGHT) - 13)[:, None] * rng.uniform(-0.6, 0.6)
        columns = np.arange(WIDTH)[None]
        for number, frame in enumerate(frames[first : first + crossing]):
            left = -width + (WIDTH + width) * number / crossing
            mask = (columns >= left + lean) & (columns < left + lean + width)
            mask[:top] = False
            frame[mask] = np.roll(texture, round(left), 1)[mask]
    return frames


def _matched(shot: Floats, like: Floats, share: float) -> Floats:
    """The shot with its colours moved towards those of the one before: neighbours that look alike."""
    mean, deviation = shot.mean((0, 1, 2)), shot.std((0, 1, 2)) + 8
    moved = (shot - mean) / deviation * (like.std((0, 1, 2)) + 8) + like.mean((0, 1, 2))
    return np.clip(shot * (1 - share) + moved * share, 0, 255).astype(np.float32)


def _blend(kind: str, a: Floats, b: Floats, rng: np.random.Generator) -> Floats:
    n = len(a)
    w = (np.arange(n) + 1) / (n + 1)
    if kind == "wipe":
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        radius = np.hypot((x - 23.5) / 24, (y - 13) / 13.5)
        order = [x / WIDTH, 1 - x / WIDTH, y / HEIGHT, 1 - y / HEIGHT, (x / WIDTH + y / HEIGHT) / 2, radius / 1.42]
        soft = float(rng.choice([1, 3, 8]))
        alpha = np.clip((w[:, None, None] - order[int(rng.integers(6))]) * WIDTH / soft + 0.5, 0, 1)[..., None]
        return (a * (1 - alpha) + b * alpha).astype(np.float32)
    if rng.random() < 0.25:
        w = w * w * (3 - 2 * w)
    if kind == "dissolve":
        alpha = w[:, None, None, None]
        return (a * (1 - alpha) + b * alpha).astype(np.float32)
    level = 0.0 if kind == "fade_black" else 255.0
    held = rng.uniform(0, 0.4)
    share_a = np.clip(1 - w / (0.5 - held / 2), 0, 1)[:, None, None, None]
    share_b = np.clip((w - 0.5 - held / 2) / (0.5 - held / 2), 0, 1)[:, None, None, None]
    if rng.random() < 0.2:
        share_a = np.zeros_like(share_a)
    return (a * share_a + b * share_b + level * (1 - share_a - share_b)).astype(np.float32)


def _finish(out: Floats, rng: np.random.Generator) -> Frames:
    """What the camera and the codec add over it: little light, bars, a logo, noise, blocks renewed now and then."""
    n = len(out)
    if rng.random() < 0.12:
        k = int(rng.integers(1, 7))
        if rng.random() < 0.5:
            out[:, : k // 2 + 1] = out[:, -(k // 2 + 1) :] = 0
        else:
            out[:, :, :k] = out[:, :, -k:] = 0
    if rng.random() < 0.1:
        h, w = int(rng.integers(2, 5)), int(rng.integers(3, 10))
        y, x = int(rng.integers(HEIGHT - h)), int(rng.integers(WIDTH - w))
        out[:, y : y + h, x : x + w] = rng.uniform(0, 255, (h, w, 3))
    if rng.random() < 0.15:
        out = out * rng.uniform(0.12, 0.5)
    if rng.random() < 0.4:
        out = out + rng.normal(0, rng.uniform(0.5, 5), (n, HEIGHT, WIDTH, 1))
    if rng.random() < 0.25:
        every = int(rng.integers(2, 13))
        blocks = rng.normal(0, rng.uniform(1, 4), (n // every + 1, 7, 12, 1)).repeat(4, 1).repeat(4, 2)
        out = out + blocks[np.arange(n) // every][:, :HEIGHT, :WIDTH]
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _cadence(clip: Rendered, rng: np.random.Generator) -> Rendered:
    """Duplicated frames (a slow source in a fast file), a duplicate now and then, or dropped frames."""
    n, choice = len(clip.frames), rng.random()
    if choice < 0.08:
        times = int(rng.integers(2, 5))
        source = np.arange(n).repeat(times)
    elif choice < 0.13:
        every = int(rng.integers(3, 7))
        source = np.sort(np.concatenate([np.arange(n), np.arange(0, n, every)]))
    elif choice < 0.18:
        source = np.arange(0, n, int(rng.integers(2, 4)))
    else:
        return clip
    gaps = [(int(np.searchsorted(source, a, "right")) - 1, int(np.searchsorted(source, b))) for a, b in clip.gaps]
    return Rendered(clip.frames[source], gaps, clip.kinds, clip.negatives)
