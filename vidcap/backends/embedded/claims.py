"""The claims the embedded captioners make and the embedded similarity checks: each a type, a value and a measurement.

Between the value at which a claim is false and the one at which it is true lies an uncertain zone; the captioners state
a claim only beyond it. The thresholds come from benchmarks/captions, which also holds their precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vidcap.backends.embedded.measure_audio import AUDIO_FIELDS
from vidcap.backends.embedded.measure_picture import VIDEO_FIELDS
from vidcap.backends.embedded.measure_video import COLOURS

Modality = Literal["video", "audio"]

FIELDS = (*VIDEO_FIELDS, *AUDIO_FIELDS)
"""Layout of the embedding: the video measurements, then the audio ones."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a text says: `type` is `value`; `denied` where it says the opposite ("no speech is heard")."""

    type: str
    value: str
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Ramp:
    """How a measurement decides: -1 at `false_at`, +1 at `true_at` (smaller or larger), stated from `stated_at` on."""

    field: str
    false_at: float
    true_at: float
    stated_at: float

    def truth(self, measures: Mapping[str, float]) -> float:
        """In [-1, 1]; NaN where the measurement is missing."""
        position = (measures[self.field] - self.false_at) / (self.true_at - self.false_at)
        return position if math.isnan(position) else 2 * min(1.0, max(0.0, position)) - 1

    def stated(self, measures: Mapping[str, float]) -> bool:
        value = measures[self.field]
        return value >= self.stated_at if self.true_at > self.false_at else value <= self.stated_at


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry of the vocabulary: true where all `ramps` are. `weight`: how much it says about a clip."""

    modality: Modality
    type: str
    value: str
    weight: float
    ramps: tuple[Ramp, ...]
    sure: tuple[tuple[str, float], ...] = ()
    """Measurements that must also reach this much before the fact is stated; they do not count for its truth."""
    unseen: float = -1.0
    """The truth where nothing of it is measured: a detector that misses much says little by not finding."""

    def truth(self, measures: Mapping[str, float]) -> float:
        """In [-1, 1]; NaN where a measurement is missing."""
        found = [ramp.truth(measures) for ramp in self.ramps]
        return math.nan if any(math.isnan(t) for t in found) else max(self.unseen, min(found))

    def stated(self, measures: Mapping[str, float]) -> bool:
        sure = all(measures[field] >= least for field, least in self.sure)
        return sure and all(ramp.stated(measures) for ramp in self.ramps)


def _video(
    type_: str,
    value: str,
    weight: float,
    *ramps: tuple[str, float, float, float],
    sure: tuple[tuple[str, float], ...] = (),
    unseen: float = -1.0,
) -> Fact:
    return Fact("video", type_, value, weight, tuple(Ramp(*ramp) for ramp in ramps), sure, unseen)


def _camera(axis: str, positive: str, negative: str) -> tuple[Fact, Fact]:
    """Both ways along an axis: far enough, and little else."""
    one, other = (
        _video(
            "camera",
            value,
            1.2,
            (axis, sign * 0.02, sign * 0.08, sign * 0.12),
            (f"{axis}_share", sign * 0.3, sign * 0.65, sign * 0.8),
            sure=(("followed", 0.5),),
        )
        for value, sign in ((positive, 1), (negative, -1))
    )
    return one, other


def _audio(type_: str, value: str, weight: float, *ramps: tuple[str, float, float, float]) -> Fact:
    # The kind of a sound shows in how it goes on: under a second nothing but its level is stated.
    enough = () if type_ in {"sound", "loudness"} else (("seconds", 1.0),)
    return Fact("audio", type_, value, weight, tuple(Ramp(*ramp) for ramp in ramps), enough)


_AUDIBLE = ("audible", 0.0, 1.0, 1.0)
_ALONE = ("speech", -1.5, 2.0, 3.0)
_FACE = (("faces_1", 1.0), ("face_looks", 2.0), ("face_settled", 0.88))
_TEXT = (("text", 5.0), ("text_settled", 0.9))
_FACE_UNSEEN = -0.4
"""The face detectors miss every second face and more."""

FACTS: dict[tuple[str, str], Fact] = {
    (fact.type, fact.value): fact
    for fact in (
        # Mean absolute luma difference of neighbouring glances (0-255), and per second.
        _video(
            "motion",
            "still",
            1.0,
            ("change", 4.0, 1.0, 0.8),
            ("change_peak", 30.0, 10.0, 6.0),
            ("change_share", 0.4, 0.12, 0.1),
        ),
        _video("motion", "calm", 0.8, ("change", 14.0, 5.0, 4.0), ("change_share", 1.0, 0.4, 0.35)),
        _video("motion", "lively", 0.8, ("change", 6.0, 15.0, 18.0), ("pace", 6.0, 15.0, 20.0)),
        _video("light", "dark", 1.0, ("light", 100.0, 64.0, 60.0)),
        _video("light", "bright", 1.0, ("light", 115.0, 148.0, 152.0)),
        # Between the two above, without a gap: there is always something to say about a picture.
        _video("light", "medium", 0.4, ("light", 44.0, 62.0, 60.0), ("light", 168.0, 150.0, 152.0)),
        _video("light change", "brighter", 1.0, ("light_change", 3.0, 15.0, 20.0)),
        _video("light change", "darker", 1.0, ("light_change", -3.0, -15.0, -20.0)),
        _video("contrast", "low", 0.6, ("contrast", 45.0, 25.0, 22.0)),
        _video("contrast", "high", 0.6, ("contrast", 50.0, 72.0, 76.0)),
        _video("saturation", "vivid", 0.8, ("chroma", 0.07, 0.115, 0.12)),
        _video("saturation", "muted", 0.8, ("chroma", 0.07, 0.035, 0.032), ("chroma_peak", 0.16, 0.1, 0.09)),
        _video("saturation", "none", 1.5, ("chroma", 0.03, 0.012, 0.008), ("chroma_peak", 0.05, 0.025, 0.015)),
        *(_video("colour", name, 1.5, (name, 0.06, 0.25, 0.27), sure=((f"sure_{name}", 0.22),)) for name in COLOURS),
        _video("colour", "mixed", 0.5, ("largest", 0.5, 0.30, 0.28)),
        *(
            _video("top", name, 1.2, (f"top_{name}", 0.15, 0.5, 0.55), (f"bottom_{name}", 0.6, 0.2, 0.15))
            for name in COLOURS
        ),
        *(
            _video("bottom", name, 1.2, (f"bottom_{name}", 0.15, 0.5, 0.55), (f"top_{name}", 0.6, 0.2, 0.15))
            for name in COLOURS
        ),
        *(
            _video(side, name, 1.2, (f"{side}_{name}", 0.15, 0.5, 0.55), (f"{other}_{name}", 0.6, 0.2, 0.15))
            for side, other in (("left", "right"), ("right", "left"))
            for name in COLOURS
        ),
        *_camera("pan", "pan right", "pan left"),
        *_camera("tilt", "tilt up", "tilt down"),
        *_camera("zoom", "zoom in", "zoom out"),
        _video(
            "camera",
            "static",
            0.8,
            ("drift", 0.012, 0.003, 0.0015),
            ("strayed", 0.02, 0.006, 0.004),
            sure=(("held", 0.6),),
        ),
        _video("camera", "moving", 0.6, ("drift", 0.003, 0.012, 0.02), sure=(("followed", 0.5),)),
        *(
            _video(
                "faces", value, 1.5, (f"faces_{least}", 0.0, 0.5, 1.0), sure=(("face_looks", 2),), unseen=_FACE_UNSEEN
            )
            for least, value in enumerate(("one", "two", "several"), start=1)
        ),
        _video("face place", "left", 0.8, ("face_across", 0.5, 0.38, 0.34), sure=_FACE),
        _video(
            "face place", "middle", 0.8, ("face_across", 0.3, 0.4, 0.42), ("face_across", 0.7, 0.6, 0.58), sure=_FACE
        ),
        _video("face place", "right", 0.8, ("face_across", 0.5, 0.62, 0.66), sure=_FACE),
        _video("shot scale", "close-up", 1.0, ("face_height", 0.26, 0.38, 0.42), sure=_FACE),
        _video(
            "shot scale", "medium", 1.0, ("face_height", 0.12, 0.17, 0.2), ("face_height", 0.42, 0.32, 0.29), sure=_FACE
        ),
        _video("text", "present", 1.2, ("text", -2.0, 2.0, 5.0), unseen=-0.5),
        _video("text place", "top", 0.8, ("text_down", 0.55, 0.4, 0.34), sure=_TEXT),
        _video("text place", "bottom", 0.8, ("text_down", 0.45, 0.6, 0.66), sure=_TEXT),
        _audio("sound", "audible", 0.3, _AUDIBLE),
        _audio("sound", "none", 1.5, ("audible", 1.0, 0.0, 0.0)),
        # Logits of the detectors.
        _audio("speech", "present", 2.0, _AUDIBLE, ("speech", -1.5, 2.0, 3.0)),
        _audio("music", "present", 2.0, _AUDIBLE, ("music", -1.5, 2.0, 2.5)),
        _audio(
            "noise",
            "present",
            1.0,
            _AUDIBLE,
            ("flatness", 0.08, 0.2, 0.22),
            ("steadiness", 4.5, 2.5, 2.2),
            # A pure tone is not a noise, however flat what lies beneath it.
            ("line", 0.8, 0.5, 0.4),
            ("speech", 2.0, -1.0, -2.0),
            ("music", 2.0, -1.0, -2.0),
        ),
        _audio(
            "tone",
            "present",
            1.5,
            _AUDIBLE,
            ("line", 0.7, 0.9, 0.93),
            ("line_drift", 0.6, 0.2, 0.15),
            ("steadiness", 3.0, 1.0, 0.8),
        ),
        # Of a voice alone: music has a pitch of its own.
        _audio("voice", "low", 0.8, _ALONE, ("pitch", 170.0, 135.0, 130.0)),
        _audio("voice", "high", 0.8, _ALONE, ("pitch", 155.0, 190.0, 195.0)),
        _audio("flow", "pauses", 0.4, _AUDIBLE, ("pauses", 0.08, 0.3, 0.35)),
        _audio("flow", "unbroken", 0.4, _AUDIBLE, ("pauses", 0.15, 0.02, 0.01)),
        _audio("texture", "percussive", 0.8, _AUDIBLE, ("percussive", -2.0, 2.0, 3.0)),
        _audio("texture", "tonal", 0.8, _AUDIBLE, ("tonal", -2.0, 2.0, 3.0)),
        *(
            _audio(when, what, 1.0, _AUDIBLE, (f"{what}_{here}", -1.5, 2.0, 3.0), (f"{what}_{there}", 2.0, -1.5, -3.0))
            for when, here, there in (("first", "first", "last"), ("then", "last", "first"))
            for what in ("speech", "music")
        ),
        _audio("first", "silence", 1.0, _AUDIBLE, ("hush_first", 20.0, 30.0, 38.0)),
        _audio("then", "silence", 1.0, _AUDIBLE, ("hush_last", 20.0, 30.0, 38.0)),
        _audio("loudness", "loud", 0.7, _AUDIBLE, ("level", -25.0, -20.0, -19.5)),
        _audio("loudness", "quiet", 0.7, _AUDIBLE, ("level", -28.0, -33.0, -34.0)),
        _audio("loudness change", "louder", 0.8, _AUDIBLE, ("level_change", 1.0, 8.0, 10.0)),
        _audio("loudness change", "softer", 0.8, _AUDIBLE, ("level_change", -1.0, -8.0, -10.0)),
    )
}
"""The vocabulary, by type and value."""

MODALITIES: dict[str, frozenset[Modality]] = {
    "v": frozenset({"video"}),
    "a": frozenset({"audio"}),
    "s": frozenset(),
    "av": frozenset({"video", "audio"}),
    "avs": frozenset({"video", "audio"}),
}
"""Which claims count for which caption kind. What is said (`s`) is not measured."""

DOUBT = 1.0
"""Weight of what a text does not say: few or vague claims stay near 0 even where they hold."""
OMISSION = 0.25
"""What leaving out speech or music that is certainly there costs, in parts of its weight."""
FALSEHOOD = 1.5
"""How much more a false claim costs than a true one gains."""


def measures_of(vector: npt.NDArray[np.float32]) -> dict[str, float]:
    """The measurements of an embedding by name. Fields past its end are missing (NaN)."""
    values = [float(value) for value in vector]
    return dict(zip(FIELDS, values + [math.nan] * (len(FIELDS) - len(values)), strict=True))


def stated(measures: Mapping[str, float], modality: Modality) -> list[Claim]:
    """The claims of a modality that hold beyond their uncertain zone, in the order of the vocabulary."""
    return [Claim(f.type, f.value) for f in FACTS.values() if f.modality == modality and f.stated(measures)]


def truth_of(claim: Claim, measures: Mapping[str, float]) -> float:
    """How true a claim is, in [-1, 1]; NaN where it was not measured. The claim must be of the vocabulary."""
    truth = FACTS[claim.type, claim.value].truth(measures)
    return -truth if claim.denied else truth


def agreement(claims: Iterable[Claim], measures: Mapping[str, float], kind: str) -> float:
    """Weighted truth of the claims that count for a caption of `kind`, in [-1, 1]; 0 where there is none."""
    total, weights = 0.0, DOUBT
    counted: set[str] = set()
    heard = False
    for claim in dict.fromkeys(claims):
        fact = FACTS[claim.type, claim.value]
        truth = truth_of(claim, measures)
        if fact.modality in MODALITIES[kind] and not math.isnan(truth):
            total += fact.weight * (truth if truth >= 0 else FALSEHOOD * truth)
            weights += fact.weight
            counted.add(claim.type)
            heard |= fact.modality == "audio"
    for type_ in ("speech", "music"):
        fact = FACTS[type_, "present"]
        if heard and type_ not in counted and fact.truth(measures) == 1:
            total -= OMISSION * fact.weight
    return min(1.0, max(-1.0, total / weights))
