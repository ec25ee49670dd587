"""Asks language models behind OpenAI-compatible servers, e.g. Vicuna-1.5 served by vLLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from vidcap.backends.roles import BackendConfig, Outcome, Request
from vidcap.backends.served.asking import REASON, AskingConfig
from vidcap.backends.served.batch import Batch
from vidcap.backends.served.chat_requests import CHAT, COMPLETIONS, ServedModel, sampling
from vidcap.backends.served.http_endpoints import EndpointsConfig
from vidcap.errors import BackendError

VERSION = 1
"""In the identity: raise it whenever the same request is sent in other words."""
_TRIAL = "Say yes."

T = TypeVar("T")


class OpenAIConfig(AskingConfig, EndpointsConfig):
    model: str = Field(min_length=1, max_length=300)
    """As the servers call it (`--served-model-name` of vLLM)."""
    revision: str = Field(default="", max_length=100)
    """Of the weights; servers do not tell it, so it is only noted, in the identity."""


class Backend:
    """Language models behind OpenAI-compatible servers such as vLLM; answers any task by its prompt."""

    Config: ClassVar[type[BackendConfig]] = OpenAIConfig
    embedded: ClassVar[bool] = False

    def __init__(self, config: OpenAIConfig) -> None:
        self.config = config
        self._served: ServedModel | None = None

    def identity(self) -> str:
        """The model as asked for and all that shapes its answers; not where it is served."""
        config = self.config
        model = f"{config.model}@{config.revision}" if config.revision else config.model
        return f"{model}/{config.traits()}/openai@{VERSION}"

    def load(self, device: str) -> None:
        """Look for the servers; those that are down are looked for again when there is something to ask."""
        config = self.config
        self._served = ServedModel(
            config,
            config.model,
            path=CHAT if config.api == "chat" else COMPLETIONS,
            reason=REASON,
            trial=self.payload(_TRIAL, 0, 1),
            mend="check `api`, `structured`, `max_tokens`, and whether the server has a chat template",
            checked=config.checked,
        )

    def close(self) -> None:
        """Let go of the connections; requests in flight are given up."""
        if self._served is not None:
            self._served.close()

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Answers in the order of the requests, asked side by side.

        The seed is sent along; whether it alone decides depends on the server. Raises `TransientError` where no server
        answers for `outage_seconds`, `BackendError` where the servers refuse whatever they are asked.
        """
        if self._served is None:
            raise BackendError("the backend was not loaded", hint="call load() first")
        pairs = list(zip(requests, seeds, strict=True))
        return self._served.ask(
            lambda number: self.payload(pairs[number][0].prompt, pairs[number][1], self.config.max_tokens),
            [request.key for request in requests],
            [seed for _, seed in pairs],
        )

    @contextmanager
    def conversations(self) -> Iterator[Conversations]:
        """For questions that follow from answers, each with its own pace; leaving it gives up what is not done."""
        if self._served is None:
            raise BackendError("the backend was not loaded", hint="call load() first")
        with self._served.batch() as batch:
            yield Conversations(self, self._served, batch)

    def payload(self, prompt: str, seed: int, max_tokens: int) -> dict[str, Any]:
        """A request as it is sent."""
        config = self.config
        text = config.worded(prompt)
        words = {"messages": [{"role": "user", "content": text}]} if config.api == "chat" else {"prompt": text}
        return words | sampling(
            config.model,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=max_tokens,
            seed=seed,
            stop=config.stops(),
            structured=config.structured,
        )


class Conversations:
    """`add` a job that calls `ask`, once or more: as many jobs run side by side as the servers take."""

    def __init__(self, backend: Backend, served: ServedModel, batch: Batch) -> None:
        self._backend = backend
        self._served = served
        self._batch = batch

    def add(self, job: Callable[[], T]) -> Future[T]:
        """What `job` will give, or raise. Jobs begin in the order they were added.

        `TransientError` and `BackendError` of one, as `complete` raises them, end all.
        """
        return self._batch.add(job)

    def ask(self, request: Request, seed: int) -> Outcome[str]:
        """The answer, waited for; only in a job."""
        payload = self._backend.payload(request.prompt, seed, self._backend.config.max_tokens)
        return self._served.answer(payload, key=request.key, seed=seed, batch=self._batch)
