"""Finds a backend by its role and name: the file of that name in the role's folder, or an entry point of that name."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError

from vidcap.errors import BackendError

ROLES = (
    "shot_detector",
    "video_captioner",
    "audio_captioner",
    "transcriber",
    "language_identifier",
    "translator",
    "llm",
    "similarity",
)
ENTRY_POINTS = "vidcap.backends"
"""Packages outside offer a backend as an entry point `<role>.<name>` of this group."""


def names(role: str) -> list[str]:
    """The backends of a role, sorted; imports none of them."""
    _check_role(role)
    return sorted(_own(role) | set(_outside(role)))


def get(role: str, name: str) -> type[Any]:
    """The `Backend` class of that name. Raises `BackendError` naming the nearest one that exists."""
    _check_role(role)
    if name in _own(role):
        found: type[Any] = importlib.import_module(f"vidcap.backends.{role}.{name}").Backend
        return found
    if name in _outside(role):
        loaded: type[Any] = _outside(role)[name].load()
        return loaded
    known = names(role)
    near = get_close_matches(name, known, n=1)
    meant = f"did you mean `{near[0]}`? " if near else ""
    raise BackendError(f"no {role} backend is called `{name}`", hint=f"{meant}there are: {', '.join(known) or 'none'}")


def create(role: str, name: str, options: dict[str, Any] | None = None) -> Any:
    """An unloaded backend with its options checked. Raises `BackendError` naming the option that is wrong."""
    cls = get(role, name)
    try:
        return cls(cls.Config(**(options or {})))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(cls.Config.model_fields) or "none"
        raise BackendError(
            f"{role} backend `{name}`: option `{where}`: {first['msg'].lower()}",
            hint=f"its options are: {known}",
        ) from error


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise BackendError(f"no role is called `{role}`", hint=f"roles are: {', '.join(ROLES)}")


def _own(role: str) -> frozenset[str]:
    package = importlib.import_module(f"vidcap.backends.{role}")
    return frozenset(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[:1] != "_")


@cache
def _outside(role: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Of installed packages. Kept for the process: looking through all that is installed takes 10 ms and more."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        at, _, name = point.name.partition(".")
        if at == role:
            found.setdefault(name, point)
    return found
