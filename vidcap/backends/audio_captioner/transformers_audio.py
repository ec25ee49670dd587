"""Captions sound with an audio-language model of transformers: Qwen2-Audio, omni models, Audio Flamingo 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from vidcap.backends.audible import REASON, audible
from vidcap.backends.generated_text import Writer
from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, ClipView, Float32, Outcome
from vidcap.backends.weights.transformers_folder import TransformersModel, quiet
from vidcap.errors import BackendError, ItemError
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of, in_batches

VERSION = 1
"""In the identity: raise it whenever the same sound is put to the model in another way."""
RATE = 16_000
ON_CPU, ON_GPU = 1, 8
"""Clips per batch unless told."""
MIN_SECONDS = 1.0
"""Shorter sound is filled up with silence: some encoders have no token for less."""
THINKERS = {
    "qwen2_5_omni": "Qwen2_5OmniThinkerForConditionalGeneration",
    "qwen3_omni_moe": "Qwen3OmniMoeThinkerForConditionalGeneration",
}
"""Of models that also speak only the part that writes is loaded."""
LOADERS = ("AutoModelForMultimodalLM", "AutoModelForSeq2SeqLM")
"""Where the library lists audio-language models."""
OF_TEXT = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})
"""What a processor makes of the text; all else is of the sound."""
WHERE = (
    "give `model: path/to/folder` with config.json, model.safetensors, tokenizer, feature extractor and chat template "
    "as the hub has them (e.g. Qwen/Qwen2-Audio-7B-Instruct), or a hub name and `download: true`"
)


class AudioModelConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset({"model", "clips_per_batch", "threads", "download"})

    model: str
    """A folder as `save_pretrained` writes it, or a name on the hub."""
    revision: str | None = None
    """Of a hub name: a commit or tag."""
    max_seconds: float = Field(default=30.0, ge=1, le=600)
    """So much of a clip is heard, from its start. Qwen2-Audio hears 30 s at most."""
    max_new_tokens: int = Field(default=120, ge=1, le=2048)
    """Of a caption. One that does not end before ends with its last whole sentence; without any the clip fails."""
    repetition_penalty: float = Field(default=1.0, ge=1, le=2)
    """Above 1 it makes tokens that stand in prompt or answer less likely."""
    clips_per_batch: int | None = Field(default=None, ge=1, le=256)
    """Clips at once; by default 1 on a CPU, 8 on a GPU. Halved where memory runs out."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPUs only), or `auto`: on GPUs bf16 where they have it, else fp16; on a CPU fp32."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""
    download: bool = False
    """Let the library fetch what is not here; otherwise nothing is asked of the network."""


class Backend:
    """Audio-language models of transformers: Qwen2-Audio, thinkers of Qwen2.5-Omni and Qwen3-Omni, Audio Flamingo 3.

    The likeliest words are taken: seeds play no part. Every question is filled up, on the left, to the length of one
    about `max_seconds` of sound, and every batch to its full size with copies of the last: a clip's numbers do not
    depend on what is asked beside it. Another batch size may choose other kernels.
    """

    Config: ClassVar[type[BackendConfig]] = AudioModelConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "captions"
    frames_per_clip = 1
    """It looks at none; one is the least a stage hands over."""

    def __init__(self, config: Any) -> None:
        self.config: AudioModelConfig = config
        self._model = TransformersModel(config.model, config.revision, config.download, WHERE, self.extra)
        self._writer: Writer | None = None

    def identity(self) -> str:
        """Precision is named as it was asked for: what `auto` means depends on the device, the identity must not."""
        config = self.config
        return (
            f"{self._model.identity()}/{config.precision}/s{config.max_seconds:g}/n{config.max_new_tokens}"
            f"r{config.repetition_penalty:g}/audio-model@{VERSION}"
            f"/transformers-{version_of('transformers', self.extra)}"
        )

    @property
    def clips_per_batch(self) -> int:
        """How many clips the stage hands over at once."""
        return max(8, 2 * (self.config.clips_per_batch or ON_GPU))

    def load(self, device: str) -> None:
        """Reads the weights and tries the processor on silence. Raises `BackendError` with the mend."""
        for needed in ("torch", "transformers"):
            version_of(needed, self.extra)
        config = self.config
        place = checked_device(device)
        dtype = dtype_of(config.precision, place)
        library = self._model.library()
        import torch

        loader = self._loader(library)
        # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
        with torch.random.fork_rng(devices=[]), cpu_threads(config.threads):
            network = self._model.weights(loader, dtype=dtype).to(place)
            processor = self._model.part(library.AutoProcessor)
        self._processor, self._rate = processor, self._rate_of(processor)
        self._device, self._dtype = place, dtype
        self._context = getattr(network.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self._size = config.clips_per_batch or (ON_CPU if place.type == "cpu" else ON_GPU)
        self._longest: dict[str, dict[str, Any]] = {}
        try:
            with quiet():
                self._question(np.zeros(RATE, np.float32), "What is to be heard?")
        except Exception as error:  # templates and processors of any model
            raise BackendError(
                f"the processor of `{config.model}` takes no sound: {_first_line(error)}", hint=WHERE
            ) from error
        self._writer = Writer(
            network,
            processor.tokenizer,
            max_new_tokens=config.max_new_tokens,
            repetition_penalty=config.repetition_penalty,
        )

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Without a `prompt` the model gets nothing but the sound, as captioning models want it.

        Loads on the CPU where not loaded. Raises `TransientError` where memory does not do for a single clip.
        """
        if self._writer is None:
            self.load("cpu")
        found: list[Outcome[str]] = [""] * len(clips)
        questions: dict[int, dict[str, Any]] = {}
        with cpu_threads(self.config.threads), quiet():
            for at, (clip, _) in enumerate(zip(clips, seeds, strict=True)):
                asked = self._asked(clip, prompt)
                if isinstance(asked, ItemError):
                    found[at] = asked
                elif asked is not None:
                    questions[at] = asked
            asking = list(questions.values())
            filled = asking + asking[-1:] * (-len(asking) % self._size)
            texts, self._size = in_batches(filled, self._size, self._answers, "clip")
        for at, text in zip(questions, texts, strict=False):
            found[at] = text
        return found

    def _loader(self, library: Any) -> Any:
        """The class of transformers that reads the model's weights."""
        configuration = self._model.part(library.AutoConfig)
        kind = str(configuration.model_type)
        if kind in THINKERS:
            return getattr(library, THINKERS[kind])
        for name in LOADERS:
            loader = getattr(library, name)
            if type(configuration) in loader._model_mapping:
                return loader
        raise BackendError(f"`{self.config.model}` is a model of the kind `{kind}`, which hears nothing", hint=WHERE)

    def _rate_of(self, processor: Any) -> int:
        """Samples per second that the model hears."""
        listener = getattr(processor, "feature_extractor", None)
        if listener is None or getattr(processor, "tokenizer", None) is None:
            raise BackendError(f"`{self.config.model}` has no processor of sound beside its weights", hint=WHERE)
        if not getattr(processor, "chat_template", None):
            raise BackendError(f"`{self.config.model}` has no chat template", hint=WHERE)
        heard = getattr(listener, "chunk_length", None)
        # Audio Flamingo cuts longer sound into pieces of that length; the others leave out what is beyond it.
        whole = hasattr(processor, "max_audio_len")
        if isinstance(heard, (int, float)) and self.config.max_seconds > heard and not whole:
            raise BackendError(
                f"`{self.config.model}` hears {heard:g} s at most, not `max_seconds: {self.config.max_seconds:g}`",
                hint=f"set `max_seconds: {heard:g}`",
            )
        return int(listener.sampling_rate)

    def _asked(self, clip: ClipView, prompt: str) -> dict[str, Any] | ItemError | None:
        """The question about a clip; None where there is nothing to hear."""
        heard = audible(clip)
        if isinstance(heard, ItemError):
            return heard
        if not heard:
            return None
        try:
            return self._question(clip.audio, prompt)
        except (ValueError, IndexError, RuntimeError) as error:  # a sound that the processor refuses
            return ItemError(REASON, f"the model's processor refuses the sound: {_first_line(error)}")

    def _question(self, sound: Float32, prompt: str) -> dict[str, Any]:
        """Tensors of one row on the CPU, as large as those about the longest sound. Raises `ItemError`."""
        if prompt not in self._longest:
            silence = np.zeros(round(self.config.max_seconds * RATE), np.float32)
            self._longest = {prompt: self._inputs(silence, prompt)}
        longest = self._longest[prompt]
        tokens = longest["input_ids"].shape[1]
        if self._context and tokens + self.config.max_new_tokens > self._context:
            raise ItemError(
                REASON, f"{tokens} tokens of sound and prompt are too many for the model's {self._context}: "
                "lower `max_seconds`",
            )  # fmt: skip
        made = self._inputs(sound[: round(self.config.max_seconds * RATE)], prompt)
        fill = {"input_ids": self._processor.tokenizer.pad_token_id or 0}
        return {
            name: _filled(value, longest[name], left=name in OF_TEXT, value=fill.get(name, 0))
            for name, value in made.items()
        }

    def _inputs(self, sound: Float32, prompt: str) -> dict[str, Any]:
        sound = _resampled(sound, self._rate)
        sound = np.pad(sound, (0, max(0, round(MIN_SECONDS * self._rate) - len(sound))))
        content = [{"type": "audio", "audio": "sound"}, *([{"type": "text", "text": prompt}] if prompt else [])]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        begin = self._processor.tokenizer.bos_token
        # A template that writes the begin token itself must not get a second one.
        given: dict[str, Any] = {"add_special_tokens": False} if begin and text.startswith(begin) else {}
        made = self._processor(text=[text], audio=[sound], sampling_rate=self._rate, return_tensors="pt", **given)
        return dict(made)

    def _answers(self, questions: Sequence[dict[str, Any]]) -> list[Outcome[str]]:
        import torch

        inputs = {}
        for name in questions[0]:
            tensor = torch.cat([question[name] for question in questions])
            inputs[name] = tensor.to(self._device, self._dtype if tensor.is_floating_point() else None)
        assert self._writer is not None
        return self._writer.write(inputs, [0] * len(questions))


def _filled(tensor: Any, longest: Any, *, left: bool, value: int) -> Any:
    """`tensor` as large as `longest` in every dimension: texts are filled up on the left, sounds on the right."""
    from torch.nn import functional

    lacks = [want - has for want, has in zip(longest.shape, tensor.shape, strict=True)]
    if not any(lacks):
        return tensor
    pads: list[int] = []
    for lack in reversed(lacks):
        pads += [lack, 0] if left else [0, lack]
    return functional.pad(tensor, pads, value=value)


def _resampled(sound: Float32, rate: int) -> Float32:
    if rate == RATE:
        return sound
    import av

    block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound)[None], format="flt", layout="mono")
    block.sample_rate = RATE
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    found: Float32 = np.concatenate(
        [part.to_ndarray().reshape(-1) for given in (block, None) for part in resampler.resample(given)]
    )
    return found


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
