"""Shards and configurations for the tests of the trainer: real but tiny clips, every one unlike the others."""

from __future__ import annotations

import functools
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from shard_factory import raw_record

from vidcap.shards.schema import Sample, SampleJson
from vidcap.shards.writer import ShardWriter, write_sizes

FPS, FRAMES = 10, 12
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "white": (240, 240, 240),
    "yellow": (220, 220, 20),
    "cyan": (20, 220, 220),
    "magenta": (220, 20, 220),
    "grey": (110, 110, 110),
}
PLACES = ("left", "top", "right", "bottom")


@functools.cache
def clip(number: int, *, sound: bool = True) -> bytes:
    """12 frames of 64×48, the n-th frame's middle as bright as 16·n; a tone of its own."""
    target = io.BytesIO()
    colour = np.array(list(COLOURS.values())[number % 8], np.uint8)
    with av.open(target, "w", format="mp4") as box:
        video: Any = box.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "10"})
        video.width, video.height, video.pix_fmt, video.thread_count = 64, 48, "yuv420p", 1
        audio: Any = box.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for index in range(FRAMES):
            picture = np.zeros((48, 64, 3), np.uint8)
            half = {"left": np.s_[:, :32], "right": np.s_[:, 32:], "top": np.s_[:24], "bottom": np.s_[24:]}
            picture[half[PLACES[number // 8 % 4]]] = colour
            picture[16:32, 24:40] = 16 * index
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
        if audio is not None:
            wave = (9000 * np.sin(np.arange(16_000 * FRAMES // FPS) * 0.05 * (1 + number % 7))).astype(np.int16)
            for start in range(0, len(wave), 1024):
                block = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = 16_000, start, Fraction(1, 16_000)
                box.mux(audio.encode(block))
            box.mux(audio.encode(None))
    return target.getvalue()


def caption(number: int) -> str:
    return f"A {list(COLOURS)[number % 8]} field at the {PLACES[number // 8 % 4]}."


def write_shards(folder: Path, count: int, *, per_shard: int = 4, silent: tuple[int, ...] = ()) -> Path:
    """`count` samples in shards of a few; `silent` ones have no sound. Captions v and, with sound, a, av, avs."""
    with ShardWriter(folder, "train", 0, max_bytes=10**9, flac=False, max_samples=per_shard) as writer:
        for number in range(count):
            heard = number not in silent
            texts = {"v": caption(number)}
            if heard:
                texts |= {"a": f"A tone {number % 7}."}
                texts["av"] = texts["avs"] = f"{texts['v']} Heard: {texts['a']}"
            raw = raw_record(number * FRAMES, **texts)
            raw["span"] |= {"last_frame": number * FRAMES + FRAMES - 1, "end": (number + 1) * FRAMES / FPS}
            raw["span"] |= {"start": number * FRAMES / FPS, "shot_last": number * FRAMES + FRAMES - 1}
            raw["video"] |= {"frames": FRAMES}
            raw["key"] = f"{raw['source']['id']}_{number * FRAMES:08d}_{number * FRAMES + FRAMES - 1:08d}"
            if not heard:
                raw["audio"] = {"present": False, "silent": False, "codec": "", "sample_rate": 0, "channels": 0}
            writer.add(Sample(SampleJson.model_validate(raw), clip(number, sound=heard)))
    write_sizes(folder, {info.name: info.samples for info in writer.infos})
    return folder


def damage(shards: Path, number: int) -> str:
    """Overwrite the film of the `number`-th sample where it lies; its key."""
    from vidcap.shards.reader import find_shards, scan

    found = [sample for path in find_shards([shards]) for sample in scan(path)]
    sample = found[number]
    with sample.path.open("r+b") as file:
        file.seek(sample.members["mp4"].offset)
        file.write(b"\xff" * sample.members["mp4"].size)
    return sample.key


def write_config(path: Path, shards: Path, output: Path, /, **changes: Any) -> Path:
    """A YAML (JSON is YAML) of a tiny model; `changes` replace top-level keys, whose maps are merged."""
    value: dict[str, Any] = {
        "name": "test",
        "seed": 5,
        "sources": [{"shards": str(shards), "media_type": "video"}],
        "tokenizer": {"vocabulary": 200},
        "model": {
            "size": "tiny",
            "fuse_audio": False,
            "frames": 2,
            "image_size": 28,
            "max_text": 16,
            "vision": {"width": 48, "depth": 2, "heads": 4, "mlp_hidden": 96, "pooled": 32, "drop_path": 0.2},
            "text": {"width": 32, "layers": 2, "fusion_layer": 1, "heads": 4, "feed_forward": 64},
        },
        "losses": {"pairs": [{"media": "v", "text": "v"}]},
        "step": {"mask": {"video": 0.5}},
        "optimiser": {"learning_rate": 0.001, "warm_up_steps": 1},
        "run": {"batch": 4, "steps": 5, "precision": "fp32", "device": "cpu", "threads": 1},
        "data": {"workers": 0, "shuffle_shards": 2},
        "output": {"path": str(output), "log_steps": 2, "checkpoint_steps": 2, "tensorboard": False},
    }
    for key, change in changes.items():
        value[key] = {**value[key], **change} if isinstance(value.get(key), dict) else change
    path.write_text(json.dumps(value, indent=1))
    return path
