"""Finds a backend by its role and name: the file of that name in the role's folder, or an entry point of that name."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from difflib import get_close_matches
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
    package = importlib.import_module(f"vidcap.backends.{role}")
    own = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    outside = {
        point.name.partition(".")[2]
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS)
        if point.name.startswith(f"{role}.")
    }
    return sorted(own | outside)


def get(role: str, name: str) -> type[Any]:
    """The `Backend` class of that name. Raises `BackendError` naming the nearest one that exists."""
    known = names(role)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        meant = f"did you mean `{near[0]}`? " if near else ""
        raise BackendError(
            f"no {role} backend is called `{name}`", hint=f"{meant}there are: {', '.join(known) or 'none'}"
        )
    if importlib.util.find_spec(f"vidcap.backends.{role}.{name}"):
        found: type[Any] = importlib.import_module(f"vidcap.backends.{role}.{name}").Backend
        return found
    (point,) = importlib.metadata.entry_points(group=ENTRY_POINTS, name=f"{role}.{name}")
    loaded: type[Any] = point.load()
    return loaded


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
