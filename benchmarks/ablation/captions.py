"""Backends that know the truth of a rendered corpus: what a perfect captioner of its clips would say.

They are offered to the pipeline as an entry-point package (`install`). Each looks up the shot that covers the *middle*
frame of the clip it is given: a clip that was cut wrongly, over several shots, gets the words of one of them, as a
captioner that looks at a few frames would write; what is said in a clip is all that is said in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from world import SENTENCE, Latents

from vidcap.backends.roles import BackendConfig, ClipView, Float32
from vidcap.records import Transcript, Word
from vidcap.seeds import seed_of
from vidcap.store import sha256_of

NAME = "oracle"
SEEN = (
    "A {colour} {shape} moves {motion}.",
    "A {shape} in {colour} is moving {motion}.",
    "There is a {colour} {shape} that moves {motion}.",
)
HEARD = {
    "tone": ("A steady tone is heard.", "One tone sounds on and on."),
    "noise": ("A steady noise is heard.", "There is a loud noise of hiss."),
    "siren": ("A siren is heard.", "A siren howls up and down."),
    "pulses": ("Quick pulses are heard.", "There is a row of pulses."),
    "buzz": ("A low buzz is heard.", "Something makes a deep buzz."),
    "chord": ("A chord is heard.", "Several notes make a chord."),
}


def seen(latents: Latents, seed: int) -> str:
    """A sentence about the pictures alone; the seed chooses the wording."""
    wording = SEEN[seed % len(SEEN)]
    return wording.format(colour=latents.colour, shape=latents.shape, motion=latents.motion)


def heard(latents: Latents, seed: int) -> str:
    wordings = HEARD[latents.sound]
    return wordings[seed % len(wordings)]


def said(latents: Latents) -> str:
    return SENTENCE.format(latents.word)


def shot_at(shots: Sequence[Mapping[str, Any]], frame: int) -> Mapping[str, Any]:
    """The shot of a frame; of one inside a gradual change the nearer shot."""
    return min(shots, key=lambda shot: max(shot["first"] - frame, frame - shot["last"], 0))


class _Oracle:
    class Config(BackendConfig):
        incidental: ClassVar[frozenset[str]] = frozenset({"truth"})
        truth: str
        """A `truth.json`; its digest is in the identity."""

    embedded: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self.config = config
        self.videos: dict[str, Any] = {}

    def identity(self) -> str:
        return f"{NAME}@{sha256_of(Path(self.config.truth))[:12]}"

    def load(self, device: str) -> None:
        self.videos = json.loads(Path(self.config.truth).read_text(encoding="utf-8"))["videos"]

    def latents(self, key: str) -> Latents:
        source, first, last = key.rsplit("_", 2)
        shot = shot_at(self.videos[source]["shots"], (int(first) + int(last)) // 2)
        return Latents(**shot["latents"])


class Video(_Oracle):
    """Says what the middle frame of a clip belongs to: shape, colour, motion."""

    frames_per_clip = 1

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[str]:
        return [seen(self.latents(clip.key), seed) for clip, seed in zip(clips, seeds, strict=True)]


class Audio(_Oracle):
    """Says what is heard in the middle of a clip."""

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[str]:
        return [heard(self.latents(clip.key), seed) for clip, seed in zip(clips, seeds, strict=True)]


class Transcriber(_Oracle):
    """All words of a source with their times. It is not told of which source the sound is: the seeds tell."""

    class Config(_Oracle.Config):
        seed: int
        """Of the run."""

    languages: frozenset[str] = frozenset({"en"})

    def load(self, device: str) -> None:
        super().load(device)
        self.by_seed = {seed_of(self.config.seed, source, "transcribe"): source for source in self.videos}

    def transcribe(self, audios: Sequence[Float32], *, seeds: Sequence[int]) -> list[Transcript]:
        return [_transcript(self.videos[self.by_seed[seed]]["shots"]) for seed in seeds]


def _transcript(shots: Sequence[Mapping[str, Any]]) -> Transcript:
    words = []
    for shot in shots:
        span = shot["words"]
        tokens = span["text"].split()
        step = (span["end"] - span["start"]) / len(tokens)
        for at, token in enumerate(tokens):
            words.append(Word(span["start"] + at * step, span["start"] + (at + 1) * step, token, 1.0))
    return Transcript(" ".join(word.word for word in words), tuple(words), 1.0, "en")


class English:
    """Every transcript is English here."""

    Config = BackendConfig
    embedded: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self.config = config

    def identity(self) -> str:
        return f"{NAME}-english@1"

    def load(self, device: str) -> None:
        """Nothing to load."""

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        return [("en", 1.0) if text else ("", 0.0) for text in texts]


def install(site: Path) -> str:
    """Writes a package of entry points for these backends; returns the PYTHONPATH that offers them."""
    info = site / "vidcap_ablation-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vidcap-ablation\nVersion: 1\n", encoding="utf-8")
    classes = {
        "video_captioner": Video,
        "audio_captioner": Audio,
        "transcriber": Transcriber,
        "language_identifier": English,
    }
    lines = [f"{role}.{NAME} = captions:{kind.__name__}" for role, kind in classes.items()]
    text = "[vidcap.backends]\n" + "\n".join(lines) + "\n"
    (info / "entry_points.txt").write_text(text, encoding="utf-8")
    return f"{site}:{Path(__file__).resolve().parent}"
