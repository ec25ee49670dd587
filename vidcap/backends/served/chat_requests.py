"""What backends that ask OpenAI-compatible servers share: requests, the text of an answer, whose fault a refusal is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from vidcap.backends.roles import Outcome
from vidcap.backends.served import conversation
from vidcap.backends.served.asking import SEED_BITS
from vidcap.backends.served.batch import Batch
from vidcap.backends.served.http_endpoints import Endpoints, EndpointsConfig
from vidcap.errors import BackendError, ItemError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def sampling(
    model: str, *, temperature: float, top_p: float, max_tokens: int, seed: int, stop: Sequence[str], structured: bool
) -> dict[str, Any]:
    """All of a request but the words."""
    payload: dict[str, Any] = {
        "model": model,
        # All are sent, because servers take what is missing from the model's own generation settings.
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "n": 1,
        "stream": False,
        "seed": seed % 2**SEED_BITS,
    }
    if stop:
        payload["stop"] = list(stop)
    if structured:
        payload["response_format"] = conversation.response_format()
    return payload


class ServedModel:
    """The servers of one `model`. `reason`: the code of the `ItemError` of an item without an answer.

    `trial`: the plainest request of its kind. It is sent before the first refusal is blamed on its item: servers that
    refuse it too refuse every request, and that is a mistake of the pipeline; `mend` says where to look for it.
    `checked(text, finish_reason)`: the answer, or what is wrong with it.
    """

    def __init__(
        self,
        config: EndpointsConfig,
        model: str,
        *,
        path: str,
        reason: str,
        trial: Mapping[str, Any],
        mend: str,
        checked: Callable[[object, object], Outcome[str]],
    ) -> None:
        self._model = model
        self._path = path
        self._reason = reason
        self._trial = trial
        self._mend = mend
        self._checked = checked
        self._proved = False
        self._proving = threading.Lock()
        self._endpoints = Endpoints(config, reason=reason)
        self._endpoints.check(model)

    def close(self) -> None:
        """Let go of the connections; requests in flight are given up."""
        self._endpoints.close()

    def ask(
        self, payload_of: Callable[[int], Mapping[str, Any]], keys: Sequence[str], seeds: Sequence[int]
    ) -> list[Outcome[str]]:
        """The answer to `payload_of(n)` for every key, asked side by side; `payload_of` is called in threads.

        Raises `TransientError` where no server answers for `outage_seconds`, `BackendError` where the servers refuse
        whatever they are asked.
        """
        with self.batch() as batch:
            answers = [
                batch.add(partial(self._nth, batch, payload_of, number, key, seed))
                for number, (key, seed) in enumerate(zip(keys, seeds, strict=True))
            ]
            return [answer.result() for answer in answers]

    def _nth(
        self, batch: Batch, payload_of: Callable[[int], Mapping[str, Any]], number: int, key: str, seed: int
    ) -> Outcome[str]:
        return self.answer(payload_of(number), key=key, seed=seed, batch=batch)

    def batch(self) -> AbstractContextManager[Batch]:
        """For jobs that call `answer`, as many at a time as the servers take."""
        return self._endpoints.batch()

    def answer(self, payload: Mapping[str, Any], *, key: str, seed: int, batch: Batch) -> Outcome[str]:
        """The answer to one request, waited for inside a job of `batch`; raises as `ask` does."""
        try:
            found = self._endpoints.post(self._path, payload, key=key, seed=seed, stop=batch.stop)
        except ItemError as error:
            self._prove(error, batch.stop)
            return error
        self._proved = True
        return self._text(found)

    def _prove(self, refusal: ItemError, stop: threading.Event) -> None:
        """Before the first refusal is blamed on its item: do the servers answer the plainest question?"""
        with self._proving:
            if self._proved:
                return
            try:
                self._endpoints.post(self._path, self._trial, key="trial", seed=0, stop=stop)
            except ItemError:
                raise BackendError(
                    f"the servers of `{self._model}` refuse every request: {refusal.detail}", hint=self._mend
                ) from refusal
            self._proved = True

    def _text(self, answer: Any) -> Outcome[str]:
        choices = answer.get("choices") if isinstance(answer, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, Mapping):
            return ItemError(self._reason, "the answer holds no choice")
        message = choice.get("message")
        message = message if isinstance(message, Mapping) else {}
        text = message.get("content") if self._path == CHAT else choice.get("text")
        if message.get("refusal") or choice.get("finish_reason") == "content_filter":
            return ItemError(self._reason, "the model refuses to answer")
        return self._checked(text, choice.get("finish_reason"))
