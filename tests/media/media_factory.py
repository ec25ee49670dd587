"""Renders small test videos whose every frame says its own number, so that a test can tell which frame it sees."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

BLOCKS = 17
"""Sixteen bits, most significant first, and one block of odd parity (so a black strip is no number)."""

UInt8 = npt.NDArray[np.uint8]


def strip_height(height: int) -> int:
    """Rows that the barcode takes at the top of a picture: a sixth, even."""
    return max(2, height // 6 // 2 * 2)


def barcode(number: int, width: int, height: int) -> UInt8:
    """A `height`×`width` strip of black (0) and white (255) blocks that spells `number` (0 to 65535)."""
    if not 0 <= number < 1 << 16:
        raise ValueError(f"`{number}` does not fit 16 bits")
    bits = [number >> (15 - i) & 1 for i in range(16)]
    bits.append(1 - sum(bits) % 2)
    edges = np.linspace(0, width, BLOCKS + 1).round().astype(int)
    row = np.zeros(width, np.uint8)
    for bit, first, last in zip(bits, edges[:-1], edges[1:], strict=True):
        row[first:last] = 255 * bit
    return np.tile(row, (height, 1))


def read_barcode(rgb: UInt8) -> int:
    """The number in the strip at the top of an H×W×3 picture, whatever its scale. Raises ValueError if unreadable."""
    height, width = rgb.shape[:2]
    rows = strip_height(height)
    strip = rgb[rows // 4 : max(rows // 4 + 1, rows * 3 // 4)].mean(axis=(0, 2))
    edges = np.linspace(0, width, BLOCKS + 1)
    levels = []
    for first, last in itertools.pairwise(edges):
        margin = (last - first) / 4
        low = int(first + margin)
        levels.append(strip[low : max(low + 1, int(last - margin))].mean())
    bits = [int(level > 127) for level in levels]
    if sum(bits) % 2 != 1 or min(abs(level - 127) for level in levels) < 24:
        raise ValueError(f"no readable barcode: levels {[round(float(level)) for level in levels]}")
    return int("".join(map(str, bits[:16])), 2)


def picture(index: int, size: tuple[int, int], cuts: Sequence[int] = (), number: int | None = None) -> UInt8:
    """Frame `index` as H×W×3 RGB: barcode on top; below, a colour that changes at each cut and a moving bar."""
    width, height = size
    shot = sum(index >= cut for cut in cuts)
    rng = np.random.default_rng(shot + 7)
    low, high = rng.integers(20, 110, 3), rng.integers(120, 235, 3)
    ramp = np.linspace(0, 1, width)[None, :, None] if shot % 2 == 0 else np.linspace(0, 1, height)[:, None, None]
    image = np.broadcast_to(low + (high - low) * ramp, (height, width, 3)).astype(np.uint8)
    left = (index * 4) % max(1, width - 16)
    image[height // 2 : height * 3 // 4, left : left + 16] = 255 - high
    strip = barcode(index if number is None else number, width, strip_height(height))
    image[: strip.shape[0]] = strip[:, :, None]
    return image


def ticks(frames: int, vfr: bool) -> list[int]:
    """Presentation times in quarter frame steps: a constant 4, or 4, 2, 6, 5, 8, … for a variable rate."""
    steps = [(4, 2, 6, 5, 8)[i % 5] if vfr else 4 for i in range(frames)]
    return [0, *itertools.accumulate(steps[:-1])]


def sound(kind: str, seconds: float, rate: int, clicks: Sequence[float] = ()) -> npt.NDArray[np.int16]:
    """Mono samples: "sine" 440 Hz at half scale, "silence", or "click": 20 ms bursts of 1 kHz at `clicks` seconds."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * 440 * t) if kind == "sine" else np.zeros(len(t))
    if kind == "click":
        for start in clicks:
            inside = (t >= start) & (t < start + 0.02)
            wave[inside] = 0.9 * np.sin(2 * np.pi * 1000 * (t[inside] - start))
    return (wave * 32767).astype(np.int16)


def render(
    path: Path | str,
    *,
    frames: int = 100,
    fps: int | Fraction = 25,
    size: tuple[int, int] = (320, 180),
    codec: str = "libx264",
    gop: int = 25,
    bframes: int = 2,
    audio: str | None = None,
    cuts: Sequence[int] = (),
    vfr: bool = False,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    audio_codec: str = "aac",
    audio_rate: int = 48_000,
    audio_offset: float = 0.0,
    audio_seconds: float | None = None,
    clicks: Sequence[float] = (),
    video_offset: float = 0.0,
    rotation: int = 0,
    sar: Fraction | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a video whose frame `i` carries the barcode `i`; the same arguments give the same bytes.

    `audio`: None, "sine", "silence" or "click" (bursts at `clicks` seconds of the audio track's own time).
    `audio_offset` and `video_offset`: seconds at which the tracks start. `vfr`: steps of 1, ½, 1½, 1¼ and 2
    frames in turn.
    """
    path = Path(path)
    rate = Fraction(fps)
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as out:
        out.flags |= av.container.core.Flags.bitexact.value
        out.metadata.update(metadata or {})
        video: Any = out.add_stream(codec, rate=rate)
        video.width, video.height = size
        video.pix_fmt = pix_fmt
        context = video.codec_context
        context.thread_count = 1
        context.gop_size = gop
        if codec not in ("gif", "mjpeg", "ffv1", "libvpx", "libvpx-vp9", "h263"):
            context.max_b_frames = bframes
        fine = vfr or bool(video_offset)
        context.time_base = 1 / rate / (4 if fine else 1)
        if sar is not None:
            context.sample_aspect_ratio = sar
        context.options = _encoder_options(codec, gop) | (options or {})
        if rotation:
            video.set_display_rotation(rotation)
        sounding: Any = None
        if audio is not None:
            sounding = out.add_stream(audio_codec, rate=audio_rate)
            sounding.layout = "mono"
        times = ticks(frames, vfr)
        first = round(video_offset * rate * 4)
        for i, tick in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(i, size, cuts), format="rgb24")
            frame = frame.reformat(format=pix_fmt, threads=1)
            frame.pts = first + tick if fine else tick // 4
            frame.time_base = context.time_base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sounding is not None:
            seconds = float((times[-1] + 4) / 4 / rate) if audio_seconds is None else audio_seconds
            wave = sound(str(audio), seconds, audio_rate, clicks)
            base = round(audio_offset * audio_rate)
            for start in range(0, len(wave), 1024):
                block = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
                block.sample_rate = audio_rate
                block.pts = base + start
                block.time_base = Fraction(1, audio_rate)
                out.mux(sounding.encode(block))
            out.mux(sounding.encode(None))
    return path


def _encoder_options(codec: str, gop: int) -> dict[str, str]:
    """Fast, and with key frames where `gop` says and nowhere else."""
    if codec == "libx264":
        return {"preset": "ultrafast", "crf": "23", "sc_threshold": "0", "keyint_min": str(gop)}
    if codec == "libx265":
        return {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:scenecut=0:keyint={gop}:min-keyint={gop}:pools=1",
        }
    if codec in ("libvpx", "libvpx-vp9"):
        return {"deadline": "realtime", "cpu-used": "8", "b": "600k"}
    if codec == "libsvtav1":
        return {"preset": "12", "svtav1-params": "lp=1"}
    return {}
