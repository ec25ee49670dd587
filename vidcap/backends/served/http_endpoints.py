"""Several servers of one model as one: the least busy is asked, one that fails is set aside, the request goes on.

Whose fault a failure is decides what becomes of the item. That servers are down, busy or die never counts against it:
the whole batch waits for them, and after `outage_seconds` without any answer raises `TransientError`, so that the part
is tried again. Only a request that servers fail on while they are well becomes an `ItemError`. A server that says that
the pipeline is mistaken (no such model, a key it refuses) is a `BackendError`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, field_validator

from vidcap.backends.roles import BackendConfig
from vidcap.backends.served.batch import Batch, StoppedError
from vidcap.backends.served.http_exchange import Exchange, ExchangeError, Fault
from vidcap.errors import BackendError, ItemError, TransientError
from vidcap.seeds import seed_of

HEALTH_SECONDS = 5.0
"""A server that takes longer over saying that it is well is not."""


class EndpointsConfig(BackendConfig):
    """Where and how servers are reached; none of it changes an answer."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        "endpoints api_key_env requests_per_endpoint timeout_seconds retries backoff_seconds max_backoff_seconds "
        "outage_seconds max_answer_bytes".split()
    )

    endpoints: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """Addresses of servers of the same model, `http://host:8000`; a `/v1` at the end changes nothing."""
    api_key_env: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", max_length=100)
    """The environment variable that holds the key. The key itself stands in no file."""
    requests_per_endpoint: int = Field(default=16, ge=1, le=1024)
    """Requests in flight per server and worker process."""
    timeout_seconds: float = Field(default=120.0, gt=0, le=3600)
    """For one whole answer."""
    retries: int = Field(default=5, ge=0, le=50)
    """How often a request is asked again that a server failed on; waiting for a server that is down costs none."""
    backoff_seconds: float = Field(default=0.5, gt=0, le=60)
    """Before the first retry; doubled each time."""
    max_backoff_seconds: float = Field(default=30.0, gt=0, le=600)
    """No wait is longer, also where a server asks for it (`Retry-After`)."""
    outage_seconds: float = Field(default=600.0, gt=0, le=86_400)
    """Without any answer from any server the part is given up for now. Keep it below `runner.item_timeout`."""
    max_answer_bytes: int = Field(default=1_000_000, ge=1000)

    @field_validator("endpoints", mode="after")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(map(_base, given))
        if len(set(found)) < len(found):
            raise ValueError("an address stands there twice")
        return found


def _base(address: str) -> str:
    """The address without a trailing `/v1`. Messages do not repeat it: it may hold a password."""
    try:
        parts = urlsplit(address.strip())
        _ = parts.port
    except ValueError:
        raise ValueError("an address cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address begins with http:// or https:// and names a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an address holds no user, password, query or fragment; a key goes into `api_key_env`")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


@dataclass(slots=True)
class _Endpoint:
    url: str
    in_flight: int = 0
    failures: int = 0
    """In a row."""
    until: float = 0.0
    """Set aside until then."""
    suspect: bool = False
    """It failed; before the next request it is asked whether it is well."""
    probing: bool = False
    asked: int = 0


class Endpoints:
    """`reason`: the code of the `ItemError` of a request that servers cannot answer. Times are monotonic seconds."""

    def __init__(self, config: EndpointsConfig, *, reason: str) -> None:
        self.config = config
        self.reason = reason
        self._exchange = Exchange(
            api_key_env=config.api_key_env,
            connections=config.requests_per_endpoint,
            timeout_seconds=config.timeout_seconds,
            max_bytes=config.max_answer_bytes,
        )
        self._endpoints = [_Endpoint(url) for url in config.endpoints]
        self._changed = threading.Condition()
        self._answered_at = -1.0
        self._failing_since: float | None = None
        self._last_trouble = ""
        self._batches: list[Batch] = []

    def check(self, model: str) -> None:
        """Ask every server for its models. One that is down is set aside; `BackendError` where one lacks the model."""
        for endpoint in self._endpoints:
            try:
                reply = self._exchange.get(f"{endpoint.url}/v1/models", timeout_seconds=HEALTH_SECONDS)
            except ExchangeError as error:
                self._set_aside(endpoint, error)
                continue
            if reply.status in (401, 403):
                raise BackendError(f"`{endpoint.url}` refuses the key", hint=self._key_hint())
            served = _models(reply.body) if reply.status == 200 else ()
            if served and model not in served:
                names = ", ".join(name[:80] for name in served[:3])
                raise BackendError(
                    f"`{endpoint.url}` serves no model `{model}`",
                    hint=f"it serves {names}; name it under `model`, or start the server with that name",
                )

    def close(self) -> None:
        for batch in list(self._batches):
            batch.end()
        self._exchange.close()

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Jobs that ask with `post`, as many at a time as the servers take; leaving it gives up what is not done."""
        batch = Batch(len(self._endpoints) * self.config.requests_per_endpoint, self._forget_trouble)
        with self._changed:
            self._batches.append(batch)
        try:
            with batch:
                yield batch
        finally:
            with self._changed:
                self._batches.remove(batch)
                self._changed.notify_all()

    def _forget_trouble(self) -> None:
        """What earlier requests met says nothing about those that begin after a pause."""
        with self._changed:
            self._failing_since = None

    def post(self, path: str, payload: Any, *, key: str, seed: int, stop: threading.Event) -> Any:
        """The JSON answer of some server to `payload`. Raises `ItemError`, `TransientError`, `BackendError`.

        `key` names the item in errors; the waits are jittered by `seed`, so that workers do not come back together.
        They end with `StoppedError` when `stop` is set.
        """
        failed, first = 0, time.monotonic()
        while True:
            endpoint = self._claim(stop)
            try:
                answer = self._exchange.post(f"{endpoint.url}{path}", payload)
            except ExchangeError as error:
                self._release(endpoint)
                if error.fault in (Fault.REFUSED, Fault.HUGE):
                    self._well(endpoint)
                    raise ItemError(self.reason, error.detail) from error
                self._set_aside(endpoint, error)
                if error.fault in (Fault.DOWN, Fault.BUSY):
                    continue  # `_claim` waits for the server, or takes another one
                failed += 1
                if failed > self.config.retries:
                    self._give_up(endpoint, error, key, first, failed)
                    failed -= 1  # the server is not well: the request is not to blame
                self._sleep(stop, self._backoff(failed - 1, seed_of(seed, key, f"backoff.{failed}")))
            except BaseException:
                self._release(endpoint)
                raise
            else:
                self._release(endpoint)
                self._well(endpoint)
                return answer

    def _give_up(self, endpoint: _Endpoint, error: ExchangeError, key: str, first: float, times: int) -> None:
        """Raise what a request comes to that failed too often; return where the server is to blame after all."""
        detail = f"{error.detail} ({times} times)"
        if error.fault is Fault.WRONG:
            hint = self._key_hint() if "HTTP 40" in error.detail else "check the addresses under `endpoints`"
            raise BackendError(f"`{endpoint.url}`: {error.detail}", hint=hint) from error
        if error.fault is Fault.ERROR:
            if self._healthy(endpoint):
                raise ItemError(self.reason, detail) from error
            return
        if error.fault is Fault.SLOW and self._answered_at > first:
            raise ItemError(self.reason, detail) from error  # others were answered meanwhile
        raise TransientError(f"`{endpoint.url}` on `{key}`: {detail}", hint="look at the server's log") from error

    def _claim(self, stop: threading.Event) -> _Endpoint:
        """A place at the least busy server that is well; waits for one. `TransientError` after a whole outage."""
        while True:
            with self._changed:
                endpoint = self._free(stop)
                if not endpoint.suspect:
                    return endpoint
                endpoint.probing = True
            well = False
            try:
                well = self._healthy(endpoint)
            finally:
                with self._changed:
                    endpoint.probing = False
                    if well:
                        endpoint.suspect = False
                    self._changed.notify_all()
            if well:
                return endpoint
            self._release(endpoint)
            self._set_aside(endpoint, ExchangeError(Fault.DOWN, self._last_trouble or "it is not well"))

    def _free(self, stop: threading.Event) -> _Endpoint:
        """Wait for a server with a free place and take it. Called with the lock held."""
        while True:
            if stop.is_set():
                raise StoppedError
            now = time.monotonic()
            self._check_outage(now)
            free = [
                endpoint
                for endpoint in self._endpoints
                if endpoint.until <= now
                and not endpoint.probing
                and endpoint.in_flight < self.config.requests_per_endpoint
            ]
            if free:
                # A suspect one comes first: asking whether it is well is cheap, and its places are wanted.
                best = min(free, key=lambda e: (not e.suspect, e.in_flight, e.asked))
                best.in_flight += 1
                best.asked += 1
                return best
            later = [endpoint.until - now for endpoint in self._endpoints if endpoint.until > now]
            ends = [] if self._failing_since is None else [self._failing_since + self.config.outage_seconds - now]
            self._changed.wait(max(0.001, min([1.0, *later, *ends])))

    def _check_outage(self, now: float) -> None:
        since = self._failing_since
        if since is not None and now - since > self.config.outage_seconds:
            raise TransientError(
                f"no answer from {', '.join(f'`{e.url}`' for e in self._endpoints[:3])} for "
                f"{self.config.outage_seconds:g} s: {self._last_trouble}",
                hint="start the servers, or raise `outage_seconds`; the run goes on where it stands",
            )

    def _release(self, endpoint: _Endpoint) -> None:
        with self._changed:
            endpoint.in_flight -= 1
            self._changed.notify()

    def _well(self, endpoint: _Endpoint) -> None:
        with self._changed:
            endpoint.failures, endpoint.suspect = 0, False
            self._answered_at = time.monotonic()
            self._failing_since = None

    def _set_aside(self, endpoint: _Endpoint, error: ExchangeError) -> None:
        """It gets no request for a while, and then only if it says that it is well.

        One that merely failed on a request, or was too slow, is asked at once: it may be the request.
        """
        with self._changed:
            now = time.monotonic()
            self._last_trouble = error.detail
            if self._failing_since is None:
                self._failing_since = now
            if endpoint.until > now:
                return  # requests that failed together count once
            endpoint.suspect = True
            if error.wait is not None:
                endpoint.until = now + min(error.wait, self.config.max_backoff_seconds)
            elif error.fault not in (Fault.ERROR, Fault.SLOW):
                endpoint.until = now + self._backoff(
                    endpoint.failures, seed_of(0, endpoint.url, str(endpoint.failures))
                )
                endpoint.failures += 1
            self._changed.notify_all()

    def _healthy(self, endpoint: _Endpoint) -> bool:
        """`/health`, or where a server has none its list of models."""
        for path in ("/health", "/v1/models"):
            try:
                status = self._exchange.get(endpoint.url + path, timeout_seconds=HEALTH_SECONDS).status
            except ExchangeError as error:
                self._last_trouble = error.detail
                return False
            if status not in (404, 405):
                # A key that is refused is told by the next request, in words that say so.
                if status in (200, 204, 401, 403):
                    return True
                self._last_trouble = f"{path} answers with HTTP {status}"
                return False
        return True  # it has neither; whether it answers the requests themselves shows next

    def _backoff(self, times: int, jitter: int) -> float:
        """Doubled each time, between half and all of it by `jitter` (64 bits)."""
        full = min(self.config.max_backoff_seconds, self.config.backoff_seconds * 2.0 ** min(times, 30))
        return full * (0.5 + 0.5 * jitter / 2**64)

    def _sleep(self, stop: threading.Event, seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    def _key_hint(self) -> str:
        variable = self.config.api_key_env
        return f"check the key in `{variable}`" if variable else "name the variable that holds the key in `api_key_env`"


def _models(body: bytes) -> Sequence[str]:
    try:
        return [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()
