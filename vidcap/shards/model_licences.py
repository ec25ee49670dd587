"""Licences of the models that backends wrap, as far as they are known here: whoever trains on captions has to know.

A model is recognised by its name inside a backend's identity. A model that is not in the table is reported as unknown,
never as free. None of this is legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelLicence:
    """What is known of a model. `hub` is the identifier of the Hugging Face hub, "other" where it has none.

    Not `verified`: said from memory, without the model's card at hand. `accept`: it must be accepted before use.
    """

    model: str
    licence: str
    hub: str
    noncommercial: bool = False
    note: str = ""
    verified: bool = True

    @property
    def accept(self) -> bool:
        return self.noncommercial or self.hub in ("llama2", "other")

    @property
    def told(self) -> str:
        """For people: its name, and what is to be known of it."""
        remarks = ["" if self.verified else "unverified", "no commercial use" if self.noncommercial else ""]
        told = ", ".join(remark for remark in remarks if remark)
        return f"{self.licence} ({told})" if told else self.licence


UNKNOWN = ModelLicence("not in VidCap's table", "unknown", "unknown", note="look up the model's own card")
_OURS = ModelLicence("embedded in VidCap", "Apache-2.0", "apache-2.0")
_EMBEDDED = frozenset({"descriptor", "template", "passthrough", "adaptive", "fast"})
"""Backends that are VidCap's own code and weights, by their name."""

_NC = "use of the captions it made is limited to non-commercial purposes"
_SIZES = "not all sizes have the same licence"
_BY_LLAMA = "made from Vicuna, which has the Llama 2 Community License"
# Name in an identity (a regular expression over lower case) → licence. The first that matches counts: special cases
# stand before their family.
_KNOWN: tuple[tuple[str, ModelLicence], ...] = (
    (r"seamless", ModelLicence("SeamlessM4T", "CC-BY-NC-4.0", "cc-by-nc-4.0", True, _NC)),
    (r"nllb", ModelLicence("NLLB-200", "CC-BY-NC-4.0", "cc-by-nc-4.0", True, _NC)),
    (r"m2m[-_]?100", ModelLicence("M2M-100", "MIT", "mit", verified=False)),
    (r"vicuna", ModelLicence("Vicuna 1.5", "Llama 2 Community License", "llama2", note="not an open-source licence")),
    (r"llama[-_]?2", ModelLicence("Llama 2", "Llama 2 Community License", "llama2", note="not an open-source licence")),
    (r"whisper", ModelLicence("Whisper", "MIT", "mit")),
    (
        r"lid218|fasttext-language-identification",
        ModelLicence("fastText lid218e", "CC-BY-NC-4.0", "cc-by-nc-4.0", True),
    ),
    (r"lid\.?176", ModelLicence("fastText lid.176", "CC-BY-SA-3.0", "cc-by-sa-3.0", note="names languages, no text")),
    (r"pocketsphinx|en-us@", ModelLicence("CMU PocketSphinx en-us", "BSD-2-Clause", "bsd-2-clause")),
    (r"silero", ModelLicence("Silero VAD", "MIT", "mit")),
    (r"transnet", ModelLicence("TransNetV2", "MIT", "mit")),
    (r"autoshot", ModelLicence("AutoShot", "MIT", "mit")),
    (
        r"pyscenedetect|scenedetect",
        ModelLicence("PySceneDetect (no model)", "BSD-3-Clause", "bsd-3-clause", verified=False),
    ),
    (
        r"blip-?2[^+]*opt",
        ModelLicence("BLIP-2 with OPT", "MIT (card)", "mit", note="the OPT language model inside has terms of its own"),
    ),
    (r"blip-?2", ModelLicence("BLIP-2", "MIT (card)", "mit")),
    (r"tag2text", ModelLicence("Tag2Text", "Apache-2.0 (repository)", "apache-2.0", verified=False)),
    (r"qwen2\.5-vl-3b", ModelLicence("Qwen2.5-VL-3B", "Qwen Research License", "other", True, _NC)),
    (r"audio-?flamingo", ModelLicence("Audio Flamingo", "NVIDIA non-commercial", "other", True, _NC, verified=False)),
    (r"conette", ModelLicence("CoNeTTE", "MIT", "mit")),
    (r"effb2-trm", ModelLicence("EffB2-Transformer audio captioning", "Apache-2.0", "apache-2.0")),
    (r"qwen2\.5-vl", ModelLicence("Qwen2.5-VL", "Apache-2.0", "apache-2.0", note=_SIZES, verified=False)),
    (r"qwen3-vl", ModelLicence("Qwen3-VL", "Apache-2.0", "apache-2.0", verified=False)),
    (r"qwen2-audio", ModelLicence("Qwen2-Audio", "Apache-2.0", "apache-2.0", verified=False)),
    (r"qwen3-omni", ModelLicence("Qwen3-Omni", "Apache-2.0", "apache-2.0", verified=False)),
    (r"internvl3", ModelLicence("InternVL3", "see its card", "unknown", note=_SIZES, verified=False)),
    (
        r"llava-next-video",
        ModelLicence("LLaVA-NeXT-Video", "Llama 2 Community License", "llama2", note=_BY_LLAMA, verified=False),
    ),
    (r"video-llava", ModelLicence("Video-LLaVA", "Apache-2.0", "apache-2.0", note=_BY_LLAMA, verified=False)),
    (r"git-(base|large)", ModelLicence("GIT", "MIT", "mit", verified=False)),
    (r"blip-image-captioning", ModelLicence("BLIP", "BSD-3-Clause", "bsd-3-clause", verified=False)),
    (r"siglip", ModelLicence("SigLIP", "Apache-2.0", "apache-2.0", verified=False)),
    (r"beats", ModelLicence("BEATs", "MIT", "mit")),
    (r"viclip", ModelLicence("ViCLIP", "see its card", "unknown", note="trained on annotations under CC-BY-NC-SA-4.0")),
    (
        r"internvideo2",
        ModelLicence("InternVideo2", "Apache-2.0", "apache-2.0", note="its training annotations are CC-BY-NC-SA-4.0"),
    ),
    (r"laion", ModelLicence("OpenCLIP (LAION)", "MIT", "mit")),
    (
        r"vit-[bl]-\d\d.*openai|openai.*vit-[bl]-\d\d|openai/clip|clip_224\.openai",
        ModelLicence("CLIP (OpenAI)", "MIT", "mit"),
    ),
)
_TABLE = tuple((re.compile(pattern), licence) for pattern, licence in _KNOWN)


def licence_of(identity: str) -> ModelLicence:
    """The licence of one backend, from `name: identity {options}` as it stands in a sample's provenance."""
    plain = identity.lower()
    if plain.partition(":")[0] in _EMBEDDED:
        return _OURS
    return next((licence for pattern, licence in _TABLE if pattern.search(plain)), UNKNOWN)


@dataclass(frozen=True, slots=True)
class UsedModel:
    """A backend of a run: the stage it worked in, its identity, and the licence of what it wraps."""

    stage: str
    identity: str
    licence: ModelLicence


def used_models(backends: Mapping[str, str]) -> list[UsedModel]:
    """From stage → identity; a stage with a backend and a language model joins the two by ` + `."""
    return [
        UsedModel(stage, identity, licence_of(identity))
        for stage, both in backends.items()
        for identity in both.split(" + ")
    ]
