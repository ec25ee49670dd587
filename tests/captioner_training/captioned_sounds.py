"""Writes a small corpus in WavCaps' layout: sounds as FLAC, WAV, MP3, annotations, a blacklist, faults of all kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 32_000
CAPTIONS = ("A low hum.", "A high whistle.", "Noise like rain.", "A click repeats.")


def wave(kind: int, seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(kind).normal(size=len(t)) / 4
    found = (np.sin(2 * np.pi * 90 * t), np.sin(2 * np.pi * 2500 * t), noise, np.sign(np.sin(2 * np.pi * 3 * t)))[kind]
    return (0.4 * found).astype(np.float32)


def write_sound(path: Path, samples: np.ndarray[Any, np.dtype[np.float32]], channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, kind = {".flac": ("flac", "s16"), ".wav": ("pcm_s16le", "s16"), ".mp3": ("mp3", "fltp")}[path.suffix]
    layout = "mono" if channels == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.layout = layout
        stream.format = kind
        block = av.AudioFrame.from_ndarray(np.repeat(samples[None], channels, 0), format="fltp", layout=layout)
        block.sample_rate = RATE
        resampler = av.AudioResampler(format=kind, layout=layout, rate=RATE, frame_size=1152)
        for frame in (*resampler.resample(block), *resampler.resample(None)):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def annotation(path: Path, entries: list[Any]) -> Path:
    path.write_text(json.dumps({"num_captions_per_audio": 1, "data": entries}), encoding="utf-8")
    return path


def make_corpus(folder: Path, *, sounds: int = 8) -> dict[str, Path]:
    """`audioset.json` of `sounds` good sounds and every fault; `freesound.json` of two; their files; a blacklist."""
    suffixes = (".flac", ".wav", ".mp3")
    good = []
    for at in range(sounds):
        write_sound(folder / "sounds" / "AudioSet" / f"Y{at}{suffixes[at % 3]}", wave(at % 4, 1 + at % 3), 1 + at % 2)
        good.append(
            {"id": f"Y{at}.wav", "caption": CAPTIONS[at % 4], "duration": 1.0, "audio": f"/somewhere/Y{at}.flac"}
        )
    audioset = folder / "sounds" / "AudioSet"
    write_sound(audioset / "hush.wav", np.zeros(RATE, np.float32))
    write_sound(audioset / "banned.wav", wave(0, 1))
    write_sound(folder / "sounds" / "a" / "twice.wav", wave(0, 1))
    write_sound(folder / "sounds" / "b" / "twice.wav", wave(0, 1))
    (audioset / "torn.flac").write_bytes((audioset / "Y0.flac").read_bytes()[:60])
    (audioset / "text.mp3").write_text("no sound at all")
    faulty = [
        {"id": "hush", "caption": "Silence."},
        {"id": "banned.wav", "caption": "A hum."},
        {"id": "twice", "caption": "A hum."},
        {"id": "torn", "caption": "A hum."},
        {"id": "text", "caption": "A hum."},
        {"id": "nowhere", "caption": "A hum."},
        {"id": "../../etc/passwd", "caption": "A secret."},
        {"id": "Y0.wav", "caption": "The same again."},
        {"id": "Y1", "caption": "  ...  "},
        {"caption": "Without an id."},
        {"id": "Y2", "caption": 7},
        "nothing of the kind",
    ]
    write_sound(folder / "sounds" / "FreeSound" / "1.flac", wave(1, 34))
    write_sound(folder / "sounds" / "FreeSound" / "2.flac", wave(2, 1))
    (folder / "blacklist.json").write_text(json.dumps({"AudioSet": ["banned"], "FreeSound": []}))
    return {
        "sounds": folder / "sounds",
        "audioset": annotation(folder / "AudioSet_small.json", good + faulty),
        "freesound": annotation(
            folder / "fsd_FreeSound.json", [{"id": 1, "caption": "A whistle."}, {"id": "2", "caption": "Rain."}]
        ),
        "blacklist": folder / "blacklist.json",
    }
