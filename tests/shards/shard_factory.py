"""Makes samples for the tests: records that are sound, clips that are real but tiny."""

from __future__ import annotations

import functools
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vidcap.records import clip_key, primary_kind
from vidcap.shards.schema import Sample, SampleJson
from vidcap.shards.writer import ShardInfo, ShardWriter, write_sizes

FRAMES = 10
FPS = 10


@functools.cache
def tiny_mp4(*, frames: int = FRAMES, audio: bool = True, size: tuple[int, int] = (64, 48), delay: int = 0) -> bytes:
    """A second of H.264 (and AAC), rendered once; the pictures start `delay` frames late."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as box:
        box.flags |= av.container.core.Flags.bitexact.value
        video: Any = box.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        sound: Any = box.add_stream("aac", rate=16_000, layout="mono") if audio else None
        for index in range(frames):
            picture = np.full((size[1], size[0], 3), 20 * index % 256, np.uint8)
            picture[:, : 6 * index % size[0]] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index + delay, Fraction(1, FPS)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
        if sound is not None:
            _play(box, sound, frames / FPS)
    return target.getvalue()


@functools.cache
def tiny_flac(seconds: float = FRAMES / FPS) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="flac") as box:
        box.flags |= av.container.core.Flags.bitexact.value
        _play(box, box.add_stream("flac", rate=16_000, layout="mono"), seconds)
    return target.getvalue()


def _play(box: Any, stream: Any, seconds: float) -> None:
    wave = (8000 * np.sin(np.arange(int(16_000 * seconds)) * 0.17)).astype(np.int16)
    for start in range(0, len(wave), 1024):
        block = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = 16_000, start, Fraction(1, 16_000)
        box.mux(stream.encode(block))
    box.mux(stream.encode(None))


def raw_record(first: int = 0, source: str = "9f2c4e1ab07d3355", **captions: str) -> dict[str, Any]:
    """A sound record as plain data; `captions` replaces all captions but v."""
    texts = {"v": "a bar moves to the right", "a": "", "s": "", "av": "", "avs": ""} | captions
    scores = {f"similarity_{kind}": 0.25 if text else -1.0 for kind, text in texts.items()}
    last = first + FRAMES - 1
    speech = bool(texts["s"])
    return {
        "schema": "vidcap/1",
        "key": clip_key(source, first, last),
        "source": {"id": source, "uri": "videos/a.mp4", "sha256": "0" * 64, "license": "CC0-1.0", "meta": "{}"},
        "span": {
            "start": first / FPS,
            "end": (last + 1) / FPS,
            "first_frame": first,
            "last_frame": last,
            "shot_first": first,
            "shot_last": last,
        },
        "video": {
            "codec": "h264",
            "width": 64,
            "height": 48,
            "frames": FRAMES,
            "fps": f"{FPS}/1",
            "vfr": False,
            "cut": "reencode",
            "check": "exact",
            "source_codec": "h264",
        },
        "audio": {"present": True, "silent": False, "codec": "aac", "sample_rate": 16_000, "channels": 1},
        "captions": texts,
        "primary": primary_kind(texts),
        "transcript": {
            "trusted": speech,
            "language": "en" if speech else "",
            "confidence": 0.97 if speech else 0.0,
            "text": texts["s"],
            "english": texts["s"],
            "route": "keep" if speech else "none",
            "words": [{"start": 0.1, "end": 0.4, "word": "bar", "p": 0.9}] if speech else [],
        },
        "scores": {"motion": 3.125, **scores},
        "provenance": {"backends": '{"video_captioner": "x"}', "prompts": "{}", "stages": "{}", "embedded": True},
    }


def record(first: int = 0, source: str = "9f2c4e1ab07d3355", **captions: str) -> SampleJson:
    return SampleJson.model_validate(raw_record(first, source, **captions))


def sample(first: int = 0, *, mp4: bytes | Path | None = None, flac: bytes | None = None, **more: Any) -> Sample:
    return Sample(record(first, **more), tiny_mp4() if mp4 is None else mp4, flac)


def write_run(
    folder: Path,
    count: int = 3,
    *,
    flac: bool = False,
    part: int = 0,
    source: str = "9f2c4e1ab07d3355",
    max_bytes: int = 10**9,
    max_samples: int | None = None,
) -> list[ShardInfo]:
    """Shards of one part with sizes.json, as a run leaves them."""
    with ShardWriter(folder, "demo", part, max_bytes=max_bytes, flac=flac, max_samples=max_samples) as writer:
        for number in range(count):
            writer.add(sample(number * FRAMES, source=source, flac=tiny_flac() if flac else None, s="so it moves"))
    write_sizes(folder, {info.name: info.samples for info in writer.infos})
    return writer.infos
