"""Asks one backend one question, as a pipeline would; run by `check_extra.py` where nothing but its extra is installed.

python use_backend.py ROLE NAME OPTIONS_AS_JSON
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from vidcap.backends import needs, registry
from vidcap.backends.roles import ClipView, Request
from vidcap.errors import ItemError

RATE = 16_000


def ask(role: str, backend: Any) -> list[Any]:
    """The answers to two questions of that role."""
    random = np.random.default_rng(7)
    frames = [random.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(4)]
    sound = (0.1 * random.standard_normal(3 * RATE)).astype(np.float32)
    clips = [ClipView(f"k{i}", frames, [0.0, 0.7, 1.4, 2.1], sound, True, 3.0, "") for i in range(2)]
    if role == "shot_detector":
        thumbnails = random.integers(0, 255, (120, 27, 48, 3), np.uint8)
        return [backend.detect(thumbnails, np.arange(120) / 25)]
    if role in ("video_captioner", "audio_captioner"):
        return list(backend.caption(clips, prompt="Describe it.", seeds=[1, 2]))
    if role == "transcriber":
        heard = list(backend.transcribe([sound, sound[:0]], seeds=[1, 2]))
        assert heard[0].text, "the model that was made says something of every sound"
        return heard
    if role == "translator":
        return list(backend.translate(["un cerf-volant rouge"], languages=["fr"], to="eng"))
    if role == "llm":
        return list(backend.complete([Request("k", "av", "Say something.", {})], seeds=[1]))
    assert role == "similarity", role
    embeddings = backend.embed(clips)
    return [*embeddings, *backend.score(embeddings, ["a kite", "a lake"], kinds=["v", "v"])]


def main(role: str, name: str, options: str) -> None:
    lack = needs.lacking(role, name)
    assert lack is None, lack
    backend = registry.create(role, name, json.loads(options))
    print("identity:", backend.identity())
    backend.load("cpu")
    answers = ask(role, backend)
    assert answers and not any(isinstance(answer, ItemError) for answer in answers), answers
    print(f"answers: {answers}"[:300])


if __name__ == "__main__":
    main(*sys.argv[1:])
