"""Asks language models behind OpenAI-compatible servers, e.g. Vicuna-1.5 served by vLLM."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from vidcap.backends import conversation
from vidcap.backends.http_endpoints import Endpoints, EndpointsConfig
from vidcap.backends.roles import BackendConfig, Outcome, Request
from vidcap.errors import BackendError, ItemError

VERSION = 1
"""In the identity: raise it whenever the same request is sent in other words."""
REASON = "llm.failed"
SEED_BITS = 31
"""Servers differ in the seeds they take; all take these."""
_TRIAL = "Say yes."


class OpenAIConfig(EndpointsConfig):
    model: str = Field(min_length=1, max_length=300)
    """As the servers call it (`--served-model-name` of vLLM)."""
    revision: str = Field(default="", max_length=100)
    """Of the weights; servers do not tell it, so it is only noted, in the identity."""
    api: Literal["chat", "completions"] = "chat"
    """`chat`: the server applies the model's own template; `completions`: the text is continued as it is sent."""
    template: Literal["none", "vicuna"] = "none"
    """`vicuna`: the conversation template of Vicuna v1.1 to v1.5, for `api: completions`."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """At 0 another attempt gives the same answer again."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1, le=32_768)
    """Of an answer; one that does not end before is not used."""
    stop: tuple[str, ...] = Field(default=(), max_length=4)
    """Texts that end an answer, besides those of the template."""
    structured: bool = False
    """Ask for JSON of one field, `caption`, which the server enforces."""

    @model_validator(mode="after")
    def _template_needs_completions(self) -> OpenAIConfig:
        if self.template != "none" and self.api != "completions":
            raise ValueError(f"`template: {self.template}` needs `api: completions`; `chat` applies the server's own")
        return self


class Backend:
    """Language models behind OpenAI-compatible servers such as vLLM; answers any task by its prompt."""

    Config: ClassVar[type[BackendConfig]] = OpenAIConfig
    embedded: ClassVar[bool] = False

    def __init__(self, config: OpenAIConfig) -> None:
        self.config = config
        self._endpoints: Endpoints | None = None
        self._proved = False
        self._proving = threading.Lock()

    def identity(self) -> str:
        """The model as asked for and all that shapes its answers; not where it is served."""
        config = self.config
        asked = [config.api, config.template, f"t{config.temperature:g}", f"p{config.top_p:g}", f"n{config.max_tokens}"]
        if config.stop:
            asked.append("stop:" + "|".join(ascii(text)[1:-1] for text in config.stop))
        if config.structured:
            asked.append("json")
        model = f"{config.model}@{config.revision}" if config.revision else config.model
        return f"{model}/{'/'.join(asked)}/openai@{VERSION}"

    def load(self, device: str) -> None:
        """Look for the servers; those that are down are looked for again when there is something to ask."""
        endpoints = Endpoints(self.config, reason=REASON)
        endpoints.check(self.config.model)
        self._endpoints = endpoints

    def close(self) -> None:
        """Let go of the connections; requests in flight are given up."""
        if self._endpoints is not None:
            self._endpoints.close()

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Answers in the order of the requests, asked side by side.

        The seed is sent along; whether it alone decides depends on the server. Raises `TransientError` where no server
        answers for `outage_seconds`, `BackendError` where the servers refuse whatever they are asked.
        """
        if self._endpoints is None:
            raise BackendError("the backend was not loaded", hint="call load() first")
        pairs = list(zip(requests, seeds, strict=True))
        return self._endpoints.map(lambda number: self._answer(*pairs[number]), len(pairs))

    def _answer(self, request: Request, seed: int) -> Outcome[str]:
        try:
            answer = self._ask(request.prompt, request.key, seed, self.config.max_tokens)
        except ItemError as error:
            self._prove(error)
            return error
        self._proved = True
        return self._text(answer)

    def _prove(self, refusal: ItemError) -> None:
        """Before the first refusal is blamed on its item: do the servers answer the plainest question?"""
        with self._proving:
            if self._proved:
                return
            try:
                self._ask(_TRIAL, "trial", 0, 1)
            except ItemError:
                raise BackendError(
                    f"the servers of `{self.config.model}` refuse every request: {refusal.detail}",
                    hint="check `api`, `structured`, `max_tokens`, and whether the server has a chat template",
                ) from refusal
            self._proved = True

    def _ask(self, prompt: str, key: str, seed: int, max_tokens: int) -> Any:
        config = self.config
        text = conversation.disarmed(prompt) + (conversation.AS_JSON if config.structured else "")
        stop = list(config.stop)
        payload: dict[str, Any] = {
            "model": config.model,
            # All are sent, because servers take what is missing from the model's own generation settings.
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_tokens": max_tokens,
            "n": 1,
            "stream": False,
            "seed": seed % 2**SEED_BITS,
        }
        if config.template == "vicuna":
            text = conversation.vicuna(text)
            stop += conversation.VICUNA_STOP
        if stop:
            payload["stop"] = stop
        if config.structured:
            payload["response_format"] = conversation.response_format()
        if config.api == "chat":
            payload["messages"] = [{"role": "user", "content": text}]
        else:
            payload["prompt"] = text
        path = "/v1/chat/completions" if config.api == "chat" else "/v1/completions"
        assert self._endpoints is not None
        return self._endpoints.post(path, payload, key=key, seed=seed)

    def _text(self, answer: Any) -> Outcome[str]:
        """The text of an answer that is whole, or what is wrong with it."""
        choices = answer.get("choices") if isinstance(answer, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, Mapping):
            return ItemError(REASON, "the answer holds no choice")
        message = choice.get("message")
        message = message if isinstance(message, Mapping) else {}
        text = message.get("content") if self.config.api == "chat" else choice.get("text")
        if message.get("refusal") or choice.get("finish_reason") == "content_filter":
            return ItemError(REASON, "the model refuses to answer")
        if choice.get("finish_reason") == "length":
            return ItemError(REASON, f"the answer is cut off after {self.config.max_tokens} tokens")
        if not isinstance(text, str) or not text.strip():
            return ItemError(REASON, "the answer is empty")
        if self.config.structured:
            try:
                text = conversation.from_json(text)
            except ValueError as error:
                return ItemError(REASON, str(error))
        # Half a surrogate pair can stand in JSON, but in no file.
        text = text.encode("utf-8", "ignore").decode().strip()
        return text or ItemError(REASON, "the answer is empty")
