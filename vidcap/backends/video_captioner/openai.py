"""Asks vision-language models behind OpenAI-compatible servers such as vLLM about frames, sent as JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from vidcap.backends.frame_pictures import jpeg_url, smaller, unseen
from vidcap.backends.roles import BackendConfig, ClipView, Outcome, UInt8
from vidcap.backends.sentences import whole_sentences
from vidcap.backends.served import conversation
from vidcap.backends.served.chat_requests import CHAT, ServedModel, sampling
from vidcap.backends.served.http_endpoints import EndpointsConfig
from vidcap.errors import BackendError, ItemError

VERSION = 1
"""In the identity: raise it whenever the same clip is sent in another way."""
REASON = "caption.failed"
AT_ONCE = 64
"""Clips that the stage hands over at once, at most: their decoded frames stay in memory."""
_TRIAL = "Say yes."


class OpenAIVisionConfig(EndpointsConfig):
    model: str = Field(min_length=1, max_length=300)
    """As the servers call it (`--served-model-name` of vLLM)."""
    revision: str = Field(default="", max_length=100)
    """Of the weights; servers do not tell it, so it is only noted, in the identity."""
    frames_per_clip: int = Field(default=8, ge=1, le=64)
    """How many frames at most are sent, evenly over the clip; vLLM takes as many as `--limit-mm-per-prompt` says."""
    image_height: int = Field(default=336, ge=16, le=4320)
    """Frames are made as low as this; never enlarged. 336 is how high `decode` keeps them."""
    jpeg_quality: int = Field(default=85, ge=1, le=100)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, ge=1, le=32_768)
    """Of an answer. One that does not end before ends with its last whole sentence; without any the clip fails."""
    stop: tuple[str, ...] = Field(default=(), max_length=4)
    """Texts that end an answer."""
    structured: bool = False
    """Ask for JSON of one field, `caption`, which the server enforces; one that is cut off is not used."""

    def checked(self, text: object, finish_reason: object) -> Outcome[str]:
        """The caption, or what is wrong with it. `finish_reason`: as the OpenAI API calls it."""
        if not isinstance(text, str) or not text.strip():
            return ItemError(REASON, "the answer is empty")
        if finish_reason == "length":
            text = "" if self.structured else whole_sentences(text)
            if not text:
                return ItemError(REASON, f"the answer is cut off after {self.max_tokens} tokens")
        if self.structured:
            try:
                text = conversation.from_json(text)
            except ValueError as error:
                return ItemError(REASON, str(error))
        # Half a surrogate pair can stand in JSON, but in no file.
        text = text.encode("utf-8", "ignore").decode().strip()
        return text or ItemError(REASON, "the answer is empty")


class Backend:
    """Vision-language models behind OpenAI-compatible servers such as vLLM: frames as JPEG inside chat messages."""

    Config: ClassVar[type[BackendConfig]] = OpenAIVisionConfig
    embedded: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config: OpenAIVisionConfig = config
        self.frames_per_clip = self.config.frames_per_clip
        self._served: ServedModel | None = None

    def identity(self) -> str:
        """The model as asked for and all that shapes its answers; not where it is served."""
        config = self.config
        model = f"{config.model}@{config.revision}" if config.revision else config.model
        seen = f"images-{config.frames_per_clip}/h{config.image_height}/q{config.jpeg_quality}"
        chosen = f"t{config.temperature:g}/p{config.top_p:g}/n{config.max_tokens}"
        if config.stop:
            chosen += "/stop:" + "|".join(ascii(text)[1:-1] for text in config.stop)
        return f"{model}/{seen}/{chosen}{'/json' if config.structured else ''}/openai-vision@{VERSION}"

    @property
    def clips_per_batch(self) -> int:
        """As many as the servers answer side by side."""
        return min(AT_ONCE, max(8, len(self.config.endpoints) * self.config.requests_per_endpoint))

    def load(self, device: str) -> None:
        """Look for the servers; those that are down are looked for again when there is something to ask."""
        black = [np.zeros((64, 96, 3), np.uint8)] * self.config.frames_per_clip
        self._served = ServedModel(
            self.config,
            self.config.model,
            path=CHAT,
            reason=REASON,
            trial=self._payload(black, _TRIAL, 0, 1),
            mend="check that the model takes images, as many as `frames_per_clip` (vLLM: `--limit-mm-per-prompt`), and "
            "`structured`, `max_tokens`",
            checked=self.config.checked,
        )

    def close(self) -> None:
        """Let go of the connections; requests in flight are given up."""
        if self._served is not None:
            self._served.close()

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Asked side by side. The seed is sent along; whether it alone decides depends on the server.

        Raises `TransientError` where no server answers for `outage_seconds`, `BackendError` where the servers refuse
        whatever they are asked.
        """
        if self._served is None:
            raise BackendError("the backend was not loaded", hint="call load() first")
        drawn = list(seeds)
        found: list[Outcome[str]] = [unseen(clip) or "" for clip in clips]
        asked = [at for at, outcome in enumerate(found) if not isinstance(outcome, ItemError)]
        answers = self._served.ask(
            lambda n: self._payload(clips[asked[n]].frames, prompt, drawn[asked[n]], self.config.max_tokens),
            [clips[at].key for at in asked],
            [drawn[at] for at in asked],
        )
        for at, answer in zip(asked, answers, strict=True):
            found[at] = answer
        return found

    def _payload(self, frames: Sequence[UInt8], prompt: str, seed: int, max_tokens: int) -> dict[str, Any]:
        config = self.config
        pictures = [
            {
                "type": "image_url",
                "image_url": {"url": jpeg_url(smaller(frame, height=config.image_height), config.jpeg_quality)},
            }
            for frame in frames[: config.frames_per_clip]
        ]
        text = prompt + (conversation.AS_JSON if config.structured else "")
        content = [*pictures, {"type": "text", "text": text}]
        return {"messages": [{"role": "user", "content": content}]} | sampling(
            config.model,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=max_tokens,
            seed=seed,
            stop=config.stop,
            structured=config.structured,
        )
