"""The captioning pipeline of InternVid: a caption of the middle frame, captions at 1 fps, one sentence out of them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from vidcap import prompts
from vidcap.backends.frame_pictures import unseen
from vidcap.backends.installed import version_of
from vidcap.backends.picture_captions import PictureCaptioner
from vidcap.backends.reference import BackendRef
from vidcap.backends.roles import BackendConfig, ClipView, Outcome, Request
from vidcap.backends.sentences import finished, sentences
from vidcap.backends.weights.transformers_folder import TransformersModel
from vidcap.errors import BackendError, ItemError
from vidcap.seeds import seed_of
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of

VERSION = 1
"""In the identity: raise it whenever the same captions are merged in another way."""
REASON = "caption.failed"
TASK = "merge_frames"
WHERE = (
    "give `middle` and `fine` as folders with config.json, model.safetensors, tokenizer and image processor as the hub "
    "has them (e.g. Salesforce/blip2-opt-2.7b, microsoft/git-large-coco), or hub names and `download: true`"
)
_TALK = re.compile(r"(sure|certainly|of course|okay)\b|here(['’]s| is| are)\b[^.]*:|i('m| am) sorry", re.IGNORECASE)
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"))


class InternVidConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"middle", "fine", "llm", "merge_prompt", "frames_per_batch", "threads", "download"}
    )

    llm: BackendRef
    """The language model that merges the captions, e.g. `{name: openai, model: vicuna-13b, endpoints: […]}`."""
    middle: str = "Salesforce/blip2-opt-2.7b"
    """Captions the middle frame: a folder as `save_pretrained` writes it, or a name on the hub. The paper: BLIP-2."""
    middle_revision: str | None = None
    """Of a hub name: a commit or tag."""
    fine: str = "microsoft/git-large-coco"
    """Captions the other frames, in the same way. The paper: Tag2Text, which is not in transformers."""
    fine_revision: str | None = None
    merge_prompt: str = TASK
    """A prompt with the slots `middle` and `frames`: its name, or a path that ends in .md."""
    frames_per_clip: int = Field(default=30, ge=1, le=64)
    """How many frames are asked for; 30 are one a second of a clip of 30 s, the longest that `trim` leaves."""
    frames_per_second: float = Field(default=1.0, gt=0, le=10)
    """Of the frames that `fine` sees. InternVid: 1."""
    max_new_tokens: int = Field(default=40, ge=1, le=512)
    """Of a caption of one frame."""
    retries: int = Field(default=1, ge=0, le=10)
    """How often the language model is asked again, with another seed, for an answer that is not one sentence."""
    frames_per_batch: int | None = Field(default=None, ge=1, le=1024)
    """Pictures captioned at once; by default 4 on a CPU, 32 on a GPU. Halved where memory runs out."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPUs only), or `auto`: on GPUs bf16 where they have it, else fp16; on a CPU fp32."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""
    download: bool = False
    """Let the library fetch what is not here; otherwise nothing is asked of the network."""

    @field_validator("llm")
    @classmethod
    def _it_merges(cls, ref: BackendRef) -> BackendRef:
        try:
            embedded = ref.create("llm").embedded
        except BackendError as error:
            raise ValueError(error.message) from error
        if embedded:
            raise ValueError(f"`{ref.name}` has no model that could merge captions; name another, e.g. `openai`")
        return ref


class Backend:
    """InternVid's pipeline: BLIP-2 on the middle frame, GIT or BLIP at one frame a second, merged by the `llm`.

    The stage's own prompt is not asked: `merge_prompt` is. Chance is the language model's alone.
    """

    Config: ClassVar[type[BackendConfig]] = InternVidConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "captions"
    clips_per_batch: ClassVar[int] = 16
    """So that a language model behind servers is asked several things at once."""

    def __init__(self, config: Any) -> None:
        self.config: InternVidConfig = config
        self.frames_per_clip = self.config.frames_per_clip
        self.prompt = prompts.load(self.config.merge_prompt)
        self.prompt.check(("middle", "frames"))
        models = ((config.middle, config.middle_revision), (config.fine, config.fine_revision))
        self._middle_model, self._fine_model = (
            TransformersModel(model, revision, config.download, WHERE, self.extra) for model, revision in models
        )
        self._llm: Any = None

    def identity(self) -> str:
        """Both captioners and who merges, joined by ` + ` as other joint work is: each has a licence of its own."""
        config = self.config
        seen = f"{config.precision}/{config.frames_per_clip}at{config.frames_per_second:g}/n{config.max_new_tokens}"
        return (
            f"{self._middle_model.identity()}/{seen}r{config.retries}/internvid@{VERSION}"
            f"/transformers-{version_of('transformers', self.extra)}/{self.prompt.name}@{self.prompt.digest[:12]}"
            f" + {self._fine_model.identity()} + {config.llm.identity('llm')}"
        )

    def load(self, device: str) -> None:
        """Both captioners on `device`, and the language model. Raises `BackendError` with the mend."""
        for needed in ("torch", "torchvision", "transformers"):
            version_of(needed, self.extra)
        config = self.config
        place = checked_device(device)
        dtype = dtype_of(config.precision, place)
        import torch

        # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
        with torch.random.fork_rng(devices=[]), cpu_threads(config.threads):
            self._middle, self._fine = (
                PictureCaptioner(
                    model, place, dtype, pictures=config.frames_per_batch, max_new_tokens=config.max_new_tokens
                )
                for model in (self._middle_model, self._fine_model)
            )
        llm = config.llm.create("llm")
        llm.load(device)
        self._llm = llm

    def close(self) -> None:
        """Let go of what the language model holds."""
        if hasattr(self._llm, "close"):
            self._llm.close()

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Loads on the CPU where not loaded. Raises what the language model raises that is no item's fault."""
        if self._llm is None:
            self.load("cpu")
        found: list[Outcome[str]] = [unseen(clip) or ItemError(REASON, "never asked") for clip in clips]
        seen = [at for at, clip in enumerate(clips) if unseen(clip) is None]
        with cpu_threads(self.config.threads):
            middles = self._middle.captions([clips[at].frames[middle_of(clips[at])] for at in seen])
            chosen = [evenly(clips[at], self.config.frames_per_second) for at in seen]
            said = iter(
                self._fine.captions(
                    [clips[at].frames[number] for at, numbers in zip(seen, chosen, strict=True) for number in numbers]
                )
            )
        slots: dict[int, dict[str, str]] = {}
        for at, middle, numbers in zip(seen, middles, chosen, strict=True):
            frames = [text for text in itertools.islice(said, len(numbers)) if isinstance(text, str)]
            if isinstance(middle, ItemError):
                found[at] = ItemError(REASON, f"the middle frame: {middle.detail}")
            elif not frames:
                found[at] = ItemError(REASON, "no frame has a caption")
            else:
                slots[at] = {"middle": middle, "frames": numbered(frames)}
        for attempt in range(self.config.retries + 1):
            if not slots:
                break
            found = self._merged(found, clips, slots, seeds, attempt)
            slots = {at: filled for at, filled in slots.items() if isinstance(found[at], ItemError)}
        return found

    def _merged(
        self,
        found: list[Outcome[str]],
        clips: Sequence[ClipView],
        slots: dict[int, dict[str, str]],
        seeds: Sequence[int],
        attempt: int,
    ) -> list[Outcome[str]]:
        """`found` with the language model's sentences for the clips of `slots`, or what is wrong with them."""
        requests = [
            Request(clips[at].key, TASK, self.prompt.render(filled), filled, attempt) for at, filled in slots.items()
        ]
        drawn = [seeds[at] if not attempt else seed_of(seeds[at], clips[at].key, f"merge.{attempt}") for at in slots]
        merged = list(found)
        for at, answer in zip(slots, self._llm.complete(requests, seeds=drawn), strict=True):
            merged[at] = answer if isinstance(answer, ItemError) else one_sentence(answer, self.prompt)
        return merged


def middle_of(clip: ClipView) -> int:
    """Which frame is nearest to half of the duration; of two the earlier one."""
    return min(range(len(clip.times)), key=lambda at: (abs(clip.times[at] - clip.seconds / 2), at))


def evenly(clip: ClipView, frames_per_second: float) -> list[int]:
    """The frames nearest to the multiples of 1/`frames_per_second` inside the clip, each once, in order.

    Of two as near the later one: frames half a second after every whole one are all taken.
    """
    moments = [n / frames_per_second for n in range(max(1, math.ceil(clip.seconds * frames_per_second - 1e-6)))]
    nearest = (min(range(len(clip.times)), key=lambda at: (abs(clip.times[at] - moment), -at)) for moment in moments)
    return sorted(set(nearest))


def numbered(captions: Sequence[str]) -> str:
    """`1. a dog runs; 2. a dog sleeps`, without captions that only repeat the one before."""
    # Compared and shown without what ends a sentence: it would end the item of the list.
    kept = [text for text, _ in itertools.groupby(" ".join(caption.split()).rstrip(" .;") for caption in captions)]
    return "; ".join(f"{number}. {text}" for number, text in enumerate(kept, 1))


def one_sentence(answer: str, prompt: prompts.Prompt) -> Outcome[str]:
    """The answer without lead-in and quotes around it, or an `ItemError`: it is empty, several sentences, cut off."""
    text = prompts.plain(answer)
    if text.casefold().startswith(prompt.lead_in.casefold()):
        text = text[len(prompt.lead_in) :].strip()
    for opening, closing in _QUOTES:
        inner = text[1:-1]
        if len(text) > 2 and text[0] == opening and text[-1] == closing and not {opening, closing} & set(inner):
            text = inner.strip()
    fault = ""
    if not text:
        fault = "empty"
    elif _TALK.match(text):
        fault = "talk about the task"
    elif len(sentences(text)) != 1:
        fault = "not one sentence"
    elif not finished(text):
        fault = "not a finished sentence"
    elif prompt.max_words and len(text.split()) > prompt.max_words:
        fault = f"{len(text.split())} words long"
    return ItemError(REASON, f"the language model's answer is {fault}") if fault else text
