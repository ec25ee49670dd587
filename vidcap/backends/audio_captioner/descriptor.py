"""Describes a clip's sound by what was measured on its even half-seconds: speech, music, beats, noise, order.

Only claims beyond their calibrated thresholds are said (benchmarks/captions has their precision); a sound that is
audible but of no known kind is only called a sound. `prompt` is not used: there is no model to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vidcap.backends.embedded.claims import Claim, stated
from vidcap.backends.embedded.measure_audio import AUDIO_FIELDS, measure_audio
from vidcap.backends.embedded.sound_phrases import say_sound
from vidcap.backends.roles import BackendConfig, ClipView, Outcome

VERSION = 2
"""In the identity: raise it whenever the same sound gives another sentence."""


class Backend:
    """One sentence of at most 16 words a clip; "" for a clip without a track or with a peak of -60 dBFS or less."""

    class Config(BackendConfig):
        pass

    embedded: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> str:
        return f"descriptor@{VERSION}"

    def load(self, device: str) -> None:
        """Nothing to load; any device will do."""

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        return [say_sound(heard(clip), seed) for clip, seed in zip(clips, seeds, strict=True)]


def heard(clip: ClipView) -> list[Claim]:
    """What is stated of the clip's sound."""
    vector = measure_audio(clip.audio, has_audio=clip.has_audio, parity=0)
    return stated(dict(zip(AUDIO_FIELDS, map(float, vector), strict=True)), "audio")
