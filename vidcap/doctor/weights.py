"""Which weights a backend will look for on this machine, by the names in its options, and whether they are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidcap.backends import registry
from vidcap.backends.reference import BackendRef
from vidcap.backends.weights import hub_cache, model_catalogue, whisper_weights
from vidcap.backends.weights.transformers_folder import HUB_NAME
from vidcap.errors import VidcapError


@dataclass(frozen=True, slots=True)
class Weights:
    """`option`: which option names them. `place`: where they lie, "" where they do not. `mend`: what brings them."""

    option: str
    name: str
    place: str
    mend: str


def inner_backends(role: str, ref: BackendRef) -> Iterator[tuple[str, BackendRef]]:
    """The backends that a backend's options name, with their roles: such an option is called as its role."""
    config = _config(role, ref)
    for name in registry.ROLES:
        inner = getattr(config, name, None)
        if isinstance(inner, BackendRef):
            yield name, inner


def weights_of(role: str, ref: BackendRef) -> Iterator[Weights]:
    """Those that must be fetched before: nothing for a backend that may download, or that asks a server."""
    config = _config(role, ref)
    if config is None or getattr(config, "download", True):
        return
    held = getattr(config, "download_root", None)
    for option in type(config).model_fields:
        value = getattr(config, option)
        if not isinstance(value, str) or Path(value).expanduser().exists():
            continue
        model = _listed(role, ref.name, option, config)
        if model is not None and model.origin == "whisper":
            file = (held or whisper_weights.default_root()) / f"{model.option}.pt"
            to = f" --to {held}" if held else ""
            yield Weights(option, value, str(file) if file.is_file() else "", f"vidcap models fetch {model.name}{to}")
        elif model is not None or (HUB_NAME.fullmatch(value) and not value.endswith(".md")):
            name = model.name if model is not None else value
            revision = getattr(config, f"{option}_revision", None) or getattr(config, "revision", None)
            found = hub_cache.snapshot(name, revision, within=held)
            pinned = f" --revision {revision}" if revision else ""
            yield Weights(option, name, str(found or ""), f"vidcap models fetch {name}{pinned}, or `download: true`")


def _config(role: str, ref: BackendRef) -> Any:
    """The backend's options, checked; None where they are wrong, which is told elsewhere."""
    try:
        return registry.get(role, ref.name).Config(**ref.options)
    except (VidcapError, ImportError, ValueError, TypeError):
        return None


def _listed(role: str, backend: str, option: str, config: Any) -> model_catalogue.KnownModel | None:
    """The model that this backend knows under a short name, as `large-v2`, or under two options together."""
    if option != "model":
        return None
    told = {config.model, f"model: {config.model}, tag: {getattr(config, 'tag', '')}"}
    if config.model in whisper_weights.ALIASES:
        told.add(whisper_weights.ALIASES[config.model])
    for model in model_catalogue.known():
        if model.role == role and backend in model.backends and model.option in told:
            return model
    return None
