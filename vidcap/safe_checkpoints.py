"""Reads files of network weights without running anything in them; fills a network with all of one, or with nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidcap.errors import BackendError

NAMED = 10
"""Differing keys of a kind that an error names; more are counted."""


def content_of(path: Path, *, hint: str) -> Any:
    """What a file holds, on the CPU: of `.safetensors` its tensors by key, of others whatever `torch.save` wrote.

    Only tensors, numbers, texts and their lists and maps are read; a file that asks for anything else is refused.
    """
    if not path.is_file():
        raise BackendError(f"there are no weights `{path}`", hint=hint)
    if path.suffix == ".safetensors":
        return _safetensors(path, hint)
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of any content: the reader raises whatever it stumbles over
        # The library's own text advises to load without the safety; its first sentence says what is wrong.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise BackendError(f"`{path}` cannot be read as weights: {reason}", hint=hint) from error


def tensors_of(path: Path, *, hint: str, under: str = "") -> dict[str, Any]:
    """The tensors of a checkpoint by key: those under the top-level key `under` where the file has one, else all."""
    found = content_of(path, hint=hint)
    return named_tensors(found.get(under, found) if isinstance(found, Mapping) else found, path, hint=hint)


def named_tensors(state: Any, path: Path, *, hint: str) -> dict[str, Any]:
    """`state` where it is key → tensor and nothing else; raises `BackendError` otherwise."""
    import torch

    if not isinstance(state, Mapping):
        raise BackendError(f"`{path}` holds a {type(state).__name__} where named tensors should be", hint=hint)
    foreign = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise BackendError(f"`{path}` holds more than tensors: {_listed(foreign)}", hint=hint)
    return {str(key): value for key, value in state.items()}


def fill(network: Any, state: Mapping[str, Any], path: Path, *, hint: str, assign: bool = False) -> None:
    """Give `network` the tensors of `state`, read from `path`: all of them, no others, of the same shapes, finite.

    With `assign` they become its own, as a network on the device `meta` needs. Raises `BackendError` naming the keys
    that differ; the network is then as before.
    """
    wrong = differences(
        {key: tuple(value.shape) for key, value in network.state_dict().items()},
        {key: tuple(value.shape) for key, value in state.items()},
    )
    if wrong:
        raise BackendError(
            f"`{path}` does not hold the weights of {type(network).__name__}: {'; '.join(wrong)}", hint=hint
        )
    unusable = [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if unusable:
        raise BackendError(f"`{path}` holds numbers that are not finite: {_listed(unusable)}", hint=hint)
    network.load_state_dict(state, strict=True, assign=assign)


def metadata_of(path: Path, *, hint: str) -> dict[str, str]:
    """What stands beside the tensors of a `.safetensors` file, as texts; the tensors are not read."""
    if not path.is_file():
        raise BackendError(f"there are no weights `{path}`", hint=hint)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise BackendError("the library `safetensors` is not installed", hint="install safetensors") from error
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise BackendError(f"`{path}` cannot be read as weights: {error}", hint=hint) from error


def _safetensors(path: Path, hint: str) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise BackendError("the library `safetensors` is not installed", hint="install safetensors") from error
    try:
        state: dict[str, Any] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BackendError(f"`{path}` cannot be read as weights: {error}", hint=hint) from error
    return state


def differences(expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> list[str]:
    """What stands between two listings key → shape, in words; empty where they are equal."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    shapes = [
        f"{key} is {tuple(found[key])}, not {tuple(shape)}"
        for key, shape in expected.items()
        if key in found and tuple(found[key]) != tuple(shape)
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("shape", shapes))
    return [f"{kind}: {_listed(keys)}" for kind, keys in kinds if keys]


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
