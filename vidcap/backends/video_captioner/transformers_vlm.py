"""Captions clips with an image-text-to-text model of transformers that looks at several frames at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from vidcap.backends.frame_pictures import of_one_size, smaller, unseen
from vidcap.backends.generated_text import Writer
from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, ClipView, Outcome, UInt8
from vidcap.backends.weights.transformers_folder import TransformersModel, quiet
from vidcap.errors import BackendError, ItemError
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of, in_batches

VERSION = 1
"""In the identity: raise it whenever the same clip is put to the model in another way."""
REASON = "caption.failed"
ON_CPU, ON_GPU = 1, 8
"""Clips per batch unless told."""
TICKS = 1000
"""Frame times go to video processors as frame numbers of a video of so many frames a second."""
WHERE = (
    "give `model: path/to/folder` with config.json, model.safetensors, tokenizer, processor and chat template as the "
    "hub has them (e.g. Qwen/Qwen2.5-VL-7B-Instruct, OpenGVLab/InternVL3-8B-hf), or a hub name and `download: true`"
)


class VlmConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset({"model", "clips_per_batch", "threads", "download"})

    model: str
    """A folder as `save_pretrained` writes it, or a name on the hub."""
    revision: str | None = None
    """Of a hub name: a commit or tag."""
    frames_per_clip: int = Field(default=16, ge=1, le=64)
    """How many frames at most are looked at, evenly over the clip."""
    frames_as: Literal["auto", "images", "video"] = "auto"
    """`video`: one video with the times of its frames; `images`: several pictures, each of more tokens, without times.
    `auto`: `video` where the model has a video processor."""
    image_height: int | None = Field(default=None, ge=16, le=4320)
    """Frames are made as low as this before the model's own processor sees them; never enlarged."""
    max_pixels: int | None = Field(default=None, ge=256)
    """Pixels of a frame at most, in the same way."""
    max_new_tokens: int = Field(default=160, ge=1, le=4096)
    """Of a caption. One that does not end before ends with its last whole sentence; without any the clip fails."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0: always the likeliest token. Above it the seed of the clip decides."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """With a temperature: the share of probability that is drawn from."""
    repetition_penalty: float = Field(default=1.0, ge=1, le=2)
    """Above 1 it makes tokens that stand in prompt or answer less likely."""
    clips_per_batch: int | None = Field(default=None, ge=1, le=256)
    """Clips of one shape at once; by default 1 on a CPU, 8 on a GPU. Halved where memory runs out."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPUs only), or `auto`: on GPUs bf16 where they have it, else fp16; on a CPU fp32."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""
    download: bool = False
    """Let the library fetch what is not here; otherwise nothing is asked of the network."""


@dataclass(frozen=True)
class _Question:
    """What a clip and the prompt became: tensors of one row (or of its pictures) on the CPU."""

    inputs: dict[str, Any]
    seed: int

    @property
    def shape(self) -> tuple[Any, ...]:
        """Questions of one shape make a batch without filling up; grids decide how pictures are cut into tokens."""
        shapes = [(name, tuple(tensor.shape)) for name, tensor in sorted(self.inputs.items())]
        grids = [tensor.tolist() for name, tensor in sorted(self.inputs.items()) if name.endswith(("_thw", "_sizes"))]
        return (*shapes, str(grids))


class Backend:
    """Image-text-to-text models of transformers on several frames: Qwen2.5-VL, Qwen3-VL, InternVL3, LLaVA families.

    Only clips that become tensors of one shape share a batch, which is filled up to its full size with copies of the
    last: nothing in it is padded, and a clip's numbers do not depend on what is asked beside it. Another batch size may
    choose other kernels: where two words are equally likely up to float noise, another word.
    """

    Config: ClassVar[type[BackendConfig]] = VlmConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "captions"

    def __init__(self, config: Any) -> None:
        self.config: VlmConfig = config
        self.frames_per_clip = self.config.frames_per_clip
        self._model = TransformersModel(config.model, config.revision, config.download, WHERE, self.extra)
        self._writer: Writer | None = None

    def identity(self) -> str:
        """Precision and `frames_as` are named as they were asked for; `auto` depends on device and model."""
        config = self.config
        size = f"h{config.image_height or ''}p{config.max_pixels or ''}"
        chosen = f"t{config.temperature:g}p{config.top_p:g}r{config.repetition_penalty:g}"
        return (
            f"{self._model.identity()}/{config.precision}/{config.frames_as}-{config.frames_per_clip}/{size}"
            f"/n{config.max_new_tokens}{chosen}/vlm@{VERSION}/transformers-{version_of('transformers', self.extra)}"
        )

    @property
    def clips_per_batch(self) -> int:
        """How many clips the stage hands over at once: enough to find several of one shape."""
        return max(8, 2 * (self.config.clips_per_batch or ON_GPU))

    def load(self, device: str) -> None:
        """Reads the weights and tries the processor on a black clip. Raises `BackendError` with the mend."""
        for needed in ("torch", "torchvision", "transformers"):
            version_of(needed, self.extra)
        config = self.config
        place = checked_device(device)
        dtype = dtype_of(config.precision, place)
        library = self._model.library()
        import torch

        # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
        with torch.random.fork_rng(devices=[]), cpu_threads(config.threads):
            network = self._model.weights(library.AutoModelForImageTextToText, dtype=dtype).to(place)
            processor = self._model.part(library.AutoProcessor)
        self._processor, self._as = processor, self._way(processor)
        self._context = getattr(network.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self._device, self._dtype = place, dtype
        self._size = config.clips_per_batch or (ON_CPU if place.type == "cpu" else ON_GPU)
        black = np.zeros((64, 96, 3), np.uint8)
        trial = ClipView("trial", [black, black], [0.0, 0.5], np.zeros(0, np.float32), False, 1.0)
        try:
            with quiet():
                self._question(trial, "What is to be seen?", 0)
        except Exception as error:  # templates and processors of any model
            raise BackendError(
                f"the processor of `{config.model}` takes no frames as {self._as}: {_first_line(error)}",
                hint="choose the other way under `frames_as`, or another model",
            ) from error
        self._writer = Writer(
            network,
            processor.tokenizer,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            repetition_penalty=config.repetition_penalty,
        )

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Loads on the CPU where not loaded. Raises `TransientError` where memory does not do for a single clip."""
        if self._writer is None:
            self.load("cpu")
        found: dict[int, Outcome[str]] = {}
        shapes: dict[tuple[Any, ...], list[tuple[int, _Question]]] = {}
        with cpu_threads(self.config.threads), quiet():
            for at, (clip, seed) in enumerate(zip(clips, seeds, strict=True)):
                outcome = self._asked(clip, prompt, seed)
                if isinstance(outcome, ItemError):
                    found[at] = outcome
                else:
                    shapes.setdefault(outcome.shape, []).append((at, outcome))
            for group in shapes.values():
                questions = [question for _, question in group]
                filled = questions + [questions[-1]] * (-len(questions) % self._size)
                texts, self._size = in_batches(filled, self._size, self._answers, "clip")
                found.update(zip([at for at, _ in group], texts, strict=False))
        return [found[at] for at in range(len(clips))]

    def _way(self, processor: Any) -> str:
        """`video` or `images`. Raises `BackendError` where the model cannot do what is asked."""
        video = getattr(processor, "video_processor", None) is not None
        if getattr(processor, "tokenizer", None) is None or not (
            video or getattr(processor, "image_processor", None) is not None
        ):
            raise BackendError(f"`{self.config.model}` has no processor of pictures beside its weights", hint=WHERE)
        if not getattr(processor, "chat_template", None):
            raise BackendError(
                f"`{self.config.model}` has no chat template: it is no model that one asks about several frames",
                hint="the backend `internvid` asks captioners of single pictures (BLIP, BLIP-2, GIT)",
            )
        if self.config.frames_as == "video" and not video:
            raise BackendError(f"`{self.config.model}` has no video processor", hint="set `frames_as: images`")
        return ("video" if video else "images") if self.config.frames_as == "auto" else self.config.frames_as

    def _asked(self, clip: ClipView, prompt: str, seed: int) -> Outcome[_Question]:
        wrong = unseen(clip)
        if wrong is not None:
            return wrong
        try:
            question = self._question(clip, prompt, seed)
        except (ValueError, ZeroDivisionError, IndexError) as error:  # a picture that the processor refuses
            return ItemError(REASON, f"the model's processor refuses the frames: {_first_line(error)}")
        tokens = question.inputs["input_ids"].shape[1]
        if self._context and tokens + self.config.max_new_tokens > self._context:
            return ItemError(
                REASON,
                f"{tokens} tokens of frames and prompt are too many for the model's {self._context}: lower "
                "`frames_per_clip` or `image_height`",
            )
        return question

    def _question(self, clip: ClipView, prompt: str, seed: int) -> _Question:
        config = self.config
        frames = [smaller(frame, height=config.image_height, pixels=config.max_pixels) for frame in clip.frames]
        frames = of_one_size(frames[: config.frames_per_clip])
        pictures = [{"type": "image"}] * len(frames) if self._as == "images" else [{"type": "video"}]
        messages = [{"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]}]
        text = self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        begin = self._processor.tokenizer.bos_token
        # A template that writes the begin token itself must not get a second one.
        given: dict[str, Any] = {"add_special_tokens": False} if begin and text.startswith(begin) else {}
        if self._as == "images":
            given["images"] = [_pictures(frames)]
        else:
            given |= _video(frames, clip)
        made = self._processor(text=[text], return_tensors="pt", **given)
        return _Question({name: _tensor(value) for name, value in made.items()}, seed)

    def _answers(self, questions: Sequence[_Question]) -> list[Outcome[str]]:
        import torch

        inputs = {}
        for name in questions[0].inputs:
            tensor = torch.cat([question.inputs[name] for question in questions])
            # Times between frames are numbers too, and bf16 would blur them.
            inputs[name] = tensor.to(self._device, self._dtype if name.startswith("pixel_values") else None)
        assert self._writer is not None
        return self._writer.write(inputs, [question.seed for question in questions])


def _pictures(frames: Sequence[UInt8]) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in frames]


def _video(frames: Sequence[UInt8], clip: ClipView) -> dict[str, Any]:
    """One video and when its frames are: a processor must neither choose among them nor guess their times."""
    times = list(clip.times[: len(frames)])
    if len(frames) == 1:  # some models see frames in pairs and refuse half of one
        frames, times = [*frames, *frames], times * 2
    about = {
        "fps": float(TICKS),
        "frames_indices": [round(time * TICKS) for time in times],
        "total_num_frames": max(1, round(clip.seconds * TICKS)),
        "duration": clip.seconds,
    }
    return {"videos": [np.stack(frames)], "video_metadata": [about], "do_sample_frames": False}


def _tensor(value: Any) -> Any:
    import torch

    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
