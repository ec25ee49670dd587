"""Captions sound as the paper does: BEATs, a Q-Former and a language model, of which only the Q-Former was trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from vidcap.backends.audible import REASON, audible
from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, ClipView, Float32, Outcome
from vidcap.backends.weights.transformers_folder import TransformersModel, quiet
from vidcap.errors import BackendError, ItemError
from vidcap.store import sha256_of
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of, in_batches

VERSION = 1
"""In the identity: raise it whenever the same sound is put to the model in another way."""
ON_CPU, ON_GPU = 1, 16
"""Clips per batch unless told."""
WHERE_ENCODER = (
    "give `encoder: path/to/BEATs_iter3_plus_AS2M.pt`, a published file of the BEATs authors (MIT); "
    "docs/models/audio-captioners.md says where copies are"
)
WHERE_WEIGHTS = (
    "give `weights: FILE.safetensors` as `vidcap train-captioner` writes it; none are published "
    "(docs/models/audio-captioners.md)"
)
WHERE_LLM = (
    "give `llm: path/to/folder` of the causal language model that the captioner was trained with (e.g. "
    "lmsys/vicuna-7b-v1.5), or its hub name and `download: true`"
)
_NOT_FINITE = "the model gave numbers that are not finite; `precision: fp32` helps where fp16 overflows"


class BeatsQformerConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"encoder", "weights", "llm", "clips_per_batch", "threads", "download"}
    )

    encoder: Path
    """BEATs, in the published layout; its sha256 must be that of the file the captioner was trained with."""
    weights: Path
    """What `vidcap train-captioner` writes: layer norm, queries, Q-Former, projection."""
    llm: str = Field(min_length=1)
    """The language model it was trained with: a folder as `save_pretrained` writes it, or a name on the hub."""
    revision: str | None = None
    """Of a hub name: a commit or tag."""
    max_new_tokens: int = Field(default=48, ge=1, le=512)
    """Of a caption; it was trained on at most 32."""
    clips_per_batch: int | None = Field(default=None, ge=1, le=256)
    """Clips at once; by default 1 on a CPU, 16 on a GPU. Halved where memory runs out."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPUs only), or `auto`: on GPUs bf16 where they have it, else fp16; on a CPU fp32."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""
    download: bool = False
    """Let the library fetch a language model that is not here; otherwise nothing is asked of the network."""


class Backend:
    """BEATs → Q-Former → language model, trained by `vidcap train-captioner`: one caption of the whole sound.

    A sound is heard in windows of 10 s, as many as in training (three); what is longer is heard up to there. The
    Q-Former looks at the tokens of all windows side by side. The likeliest words are taken: seeds play no part.
    Batches are filled up to their full size with copies of the last clip, so that a clip's numbers do not depend on
    what is asked beside it; another batch size may choose other kernels.
    """

    Config: ClassVar[type[BackendConfig]] = BeatsQformerConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "captions"
    frames_per_clip = 1
    """It looks at none; one is the least a stage hands over."""

    def __init__(self, config: BeatsQformerConfig) -> None:
        self.config = config
        self._llm = TransformersModel(config.llm, config.revision, config.download, WHERE_LLM, self.extra)
        self._captioner: Any = None

    def identity(self) -> str:
        """Precision is named as it was asked for: what `auto` means depends on the device, the identity must not."""
        config = self.config
        encoder, weights = self._digests
        return (
            f"{config.weights.stem}@{weights[:12]}/beats-{config.encoder.stem}@{encoder[:12]}/{self._llm.identity()}"
            f"/{config.precision}/n{config.max_new_tokens}/beats-qformer@{VERSION}"
            f"/transformers-{version_of('transformers', self.extra)}/torch-{version_of('torch', self.extra)}"
        )

    @property
    def clips_per_batch(self) -> int:
        return max(8, 2 * (self.config.clips_per_batch or ON_GPU))

    def load(self, device: str) -> None:
        """Reads all three parts; raises `BackendError` where one is absent or not the one it was trained with."""
        for needed in ("torch", "transformers"):
            version_of(needed, self.extra)
        config = self.config
        place = checked_device(device)
        dtype = dtype_of(config.precision, place)
        encoder_digest, _ = self._digests
        library = self._llm.library()
        import torch

        from vidcap.models.beats import load_beats
        from vidcap.models.prefix_file import load_prefix, probe_of, read_facts, same_probe
        from vidcap.models.sound_captioner import SoundCaptioner

        facts = read_facts(config.weights, hint=WHERE_WEIGHTS)
        if facts.encoder_sha256 != encoder_digest:
            raise BackendError(
                f"`{config.weights}` was trained with another encoder than `{config.encoder}`: sha256 "
                f"{facts.encoder_sha256[:12]}, not {encoder_digest[:12]}",
                hint=WHERE_ENCODER,
            )
        # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
        with torch.random.fork_rng(devices=[]), cpu_threads(config.threads):
            encoder = load_beats(config.encoder, hint=WHERE_ENCODER).network
            prefix = load_prefix(config.weights, facts, hint=WHERE_WEIGHTS)
            llm = self._llm.weights(library.AutoModelForCausalLM, dtype=dtype)
            tokenizer = self._llm.part(library.AutoTokenizer)
        width = llm.get_input_embeddings().weight.shape[1]
        if width != facts.llm_width or not same_probe(probe_of(llm), facts.llm_probe):
            raise BackendError(
                f"`{config.weights}` was trained with another language model than `{config.llm}`: `{facts.llm}`",
                hint=WHERE_LLM,
            )
        parts = (encoder.to(place, dtype), prefix.to(place, dtype), llm.to(place))
        self._captioner = SoundCaptioner(*parts, tokenizer, mels=facts.mels, windows=facts.windows)
        self._size = config.clips_per_batch or (ON_CPU if place.type == "cpu" else ON_GPU)

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        """`prompt`: the instruction; "" is the first it was trained with. Loads on the CPU where not loaded."""
        if self._captioner is None:
            self.load("cpu")
        found: list[Outcome[str]] = [""] * len(clips)
        heard = []
        for at, (clip, _) in enumerate(zip(clips, seeds, strict=True)):
            answer = audible(clip)
            if isinstance(answer, ItemError):
                found[at] = answer
            elif answer:
                heard.append(at)
        sounds = [clips[at].audio for at in heard]
        filled = sounds + sounds[-1:] * (-len(sounds) % self._size)
        from vidcap.models.instructions import INSTRUCTIONS

        instruction = " ".join(prompt.split()) or INSTRUCTIONS[0]

        def answers(batch: Sequence[Float32]) -> list[Outcome[str]]:
            return self._answers(batch, instruction)

        with cpu_threads(self.config.threads), quiet():
            texts, self._size = in_batches(filled, self._size, answers, "clip")
        for at, text in zip(heard, texts, strict=False):
            found[at] = text
        return found

    def _answers(self, sounds: Sequence[Float32], instruction: str) -> list[Outcome[str]]:
        import torch

        with torch.inference_mode():
            tokens, heard = self._captioner.tokens(sounds, len(sounds))
            texts = self._captioner.answers(tokens, heard, instruction, self.config.max_new_tokens)
        return [
            ItemError(
                REASON, "the model gave numbers that are not finite; `precision: fp32` helps where fp16 overflows"
            )
            if text is None
            else " ".join(text.split())
            for text in texts
        ]

    @cached_property
    def _digests(self) -> tuple[str, str]:
        """sha256 of encoder and weights."""
        found = []
        for path, hint in ((self.config.encoder, WHERE_ENCODER), (self.config.weights, WHERE_WEIGHTS)):
            if not path.is_file():
                raise BackendError(f"there is no file `{path}`", hint=hint)
            found.append(sha256_of(path))
        return found[0], found[1]
