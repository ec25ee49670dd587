"""The stages there are, by name, and which stage gives a column."""

from __future__ import annotations

import importlib
from typing import Any

# In the order of a whole pipeline; a stage is the class of that module whose `name` it is.
STAGES = {
    "decode": "Decode",
    "detect_shots": "DetectShots",
    "trim": "Trim",
    "transcribe": "Transcribe",
    "caption_video": "CaptionVideo",
    "caption_audio": "CaptionAudio",
    "identify_language": "IdentifyLanguage",
    "translate": "Translate",
    "fuse": "Fuse",
    "score": "Score",
    "select": "Select",
    "pack": "Pack",
}

SOURCE_STAGES = ("decode", "detect_shots")
"""They make rows: `decode` one per source, `detect_shots` one per shot."""

GLOBAL_STAGES = ("select",)
"""They look at all parts at once."""


def stage_class(name: str) -> type[Any]:
    """The class of a stage; `name` is a key of `STAGES`."""
    module = importlib.import_module(f"vidcap.stages.{name}")
    found: type[Any] = getattr(module, STAGES[name])
    return found
