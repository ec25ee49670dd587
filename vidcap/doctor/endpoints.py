"""Asks the model servers that a pipeline names whether they answer; it sends no key and follows no redirection."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

TIMEOUT = 3.0
MAX_BYTES = 1_000_000
"""A list of models is a few kB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a server answers as one that serves models, in words, and the models that it lists."""

    ok: bool
    detail: str
    models: tuple[str, ...] = ()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **named: Any) -> None:
        """Another address than the pipeline names is not asked: it could be one that only this machine reaches."""
        del args, named


def ask(address: str) -> Answer:
    """GET the list of models below an address; only http and https."""
    parts = _split(address)
    if parts is None:
        return Answer(False, "no http or https address")
    opener = urllib.request.build_opener(_NoRedirect)
    request = urllib.request.Request(_models_url(parts), headers={"Accept": "application/json"})
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            data = response.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return Answer(True, "it answers, and asks for a key")
        return Answer(False, f"it answers with HTTP {error.code}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Answer(False, f"no answer: {getattr(reason, 'strerror', None) or reason}"[:200])
    try:
        models = tuple(str(model["id"]) for model in json.loads(data)["data"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return Answer(False, "it answers, but not with a list of models")
    if not models:
        return Answer(False, "it serves no model")
    names = ", ".join(model[:80] for model in models[:3])
    return Answer(True, f"it serves {names}{' …' if models[3:] else ''}", models)


def shown(address: str) -> str:
    """The address without user, password, query and fragment, any of which may hold a secret."""
    parts = _split(address)
    if parts is None:
        return "an address that cannot be read"
    return urlunsplit((parts.scheme, _host(parts), parts.path, "", ""))


def _models_url(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    before, version, _ = path.partition("/v1")
    return urlunsplit((parts.scheme, _host(parts), f"{before if version else path}/v1/models", "", ""))


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def _host(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{host}:{parts.port}" if parts.port else host
