"""Describes a clip's picture by what was measured on its even frames: camera, light, colours, faces, writing.

Only claims beyond their calibrated thresholds are said (benchmarks/captions has their precision); objects, actions and
places are never named, and of a face only that it is one. `prompt` is not used: there is no model to ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vidcap.backends.embedded.claims import Claim, measures_of, stated
from vidcap.backends.embedded.measure_picture import measure_picture
from vidcap.backends.embedded.measure_video import share_of
from vidcap.backends.embedded.picture_phrases import say_picture
from vidcap.backends.roles import BackendConfig, ClipView, Outcome
from vidcap.errors import ItemError

VERSION = 2
"""In the identity: raise it whenever the same frames give another sentence."""
_MOST_COLOURS = 3


class Backend:
    """One sentence of at most 28 words a clip; an `ItemError` (`caption.failed`) for a clip without frames."""

    class Config(BackendConfig):
        frames_per_clip: int = 16
        """How many frames are asked for; every second one is looked at, the others are left to the similarity."""

    embedded: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.frames_per_clip = config.frames_per_clip

    def identity(self) -> str:
        return f"descriptor@{VERSION}"

    def load(self, device: str) -> None:
        """Nothing to load; any device will do."""

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        return [_caption(clip, seed) for clip, seed in zip(clips, seeds, strict=True)]


def _caption(clip: ClipView, seed: int) -> Outcome[str]:
    if not clip.frames:
        return ItemError("caption.failed", "the clip has no frames to look at")
    measures = measures_of(measure_picture(share_of(clip.frames, 0), share_of(clip.times, 0)))
    return say_picture(_worth_saying(stated(measures, "video"), measures), seed)


def _worth_saying(claims: list[Claim], measures: Mapping[str, Any]) -> list[Claim]:
    """The largest colours first and not too many, one a place; what says little only where there is little else."""
    colours = sorted(
        (c for c in claims if c.type == "colour" and c.value != "mixed"), key=lambda c: -float(measures[c.value])
    )
    mixed = [c for c in claims if c.value == "mixed"] if not colours else []
    places: list[Claim] = []
    for across in (("top", "bottom"), ("left", "right")):
        # One pair of places is enough for a sentence: the one over the other, where both hold.
        if places:
            break
        for place in across:
            there = [c for c in claims if c.type == place]
            places += sorted(there, key=lambda c: -float(measures[f"{c.type}_{c.value}"]))[:1]
    rest = [
        c for c in claims if c.type not in {"colour", "top", "bottom", "left", "right", "faces"} and c.value != "medium"
    ]
    if any(c.type == "camera" and c.value not in {"static", "moving"} for c in rest):
        rest = [c for c in rest if (c.type, c.value) != ("camera", "moving")]
    faces = [c for c in claims if c.type == "faces"][-1:]
    telling = [*rest, *faces, *colours[:_MOST_COLOURS], *mixed, *places]
    return telling if len(telling) > 1 else [*(c for c in claims if c.value == "medium"), *telling]
