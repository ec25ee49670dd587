"""Checkpoints: weights and the optimiser's state as safetensors, all else as JSON. Whole or absent; the last few stay.

    <output>/checkpoints/step-00000100/   model.safetensors  optimiser.safetensors  state.json  config.json
                                          tokenizer.json

`model.safetensors` has the published key names. A run whose parameters are in shards (FSDP2) writes `sharded/`, a
checkpoint of torch.distributed (DCP), in place of `optimiser.safetensors`; each process reads and writes its own.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidcap import safe_checkpoints
from vidcap.errors import UsageError
from vidcap.store import PosixStore, sync_folder
from vidcap.train.distributed import rank, wait_for_all

NAME = re.compile(r"step-(\d{8})")
MODEL, OPTIMISER, STATE, CONFIG, TOKENIZER = (
    "model.safetensors",
    "optimiser.safetensors",
    "state.json",
    "config.json",
    "tokenizer.json",
)
SHARDED = "sharded"
HINT = "give a checkpoint folder of `vidcap train`, or the output folder that holds its `checkpoints`"
PLAIN = {
    "torch": {"Size", "device"},
    "torch._utils": {"_rebuild_tensor_v2"},
    "torch.serialization": {"_get_layout"},
    "torch._tensor": set(),
    "collections": {"OrderedDict"},
    "torch.distributed.checkpoint.metadata": {
        "Metadata",
        "MetadataIndex",
        "TensorStorageMetadata",
        "BytesStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "StorageMeta",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "pathlib": {"Path", "PosixPath"},
}
"""What the description of a sharded checkpoint may name."""


class Checkpoints:
    """The checkpoints of one output folder; `keep` of them stay."""

    def __init__(self, output: Path, keep: int) -> None:
        self.folder = output / "checkpoints"
        self.keep = keep

    def all(self) -> list[Path]:
        """Whole ones, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name) and (path / STATE).is_file()]
        return sorted(found, key=lambda path: path.name)

    def latest(self) -> Path | None:
        return next(reversed(self.all()), None)

    def save(
        self,
        step: int,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        state: Mapping[str, Any],
        files: Mapping[str, str],
        *,
        sharded: bool,
    ) -> Path:
        """Every process must ask; the first one writes what is not in shards. `files`: further texts by name."""
        target = self.folder / f"step-{step:08d}"
        making = self.folder / f".{target.name}.making"
        if rank() == 0:
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
        wait_for_all()
        if sharded:
            _save_sharded(making / SHARDED, model, optimiser)
        weights = _whole(model) if sharded else model.state_dict()
        if rank() == 0:
            _write(weights, making / MODEL)
            if not sharded:
                _write(_optimiser_tensors(model, optimiser), making / OPTIMISER)
            store = PosixStore(making)
            for name, text in files.items():
                store.write(name, text.encode())
            store.write_json(STATE, dict(state) | {"sharded": sharded})
            shutil.rmtree(target, ignore_errors=True)
            making.rename(target)
            sync_folder(self.folder)
            for old in self.all()[: -self.keep]:
                shutil.rmtree(old)
        wait_for_all()
        return target

    @staticmethod
    def restore(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, *, sharded: bool) -> dict[str, Any]:
        """Fill model and optimiser; returns the rest of the state. Raises `UsageError` where it does not fit."""
        state = read_state(folder)
        if bool(state.get("sharded")) != sharded:
            kind = "in shards (`run.parallel: fsdp2`)" if state.get("sharded") else "not in shards"
            raise UsageError(f"the optimiser's state in `{folder}` is {kind}", hint="resume as the run began")
        if sharded:
            _load_sharded(folder / SHARDED, model, optimiser)
            return state
        fill_weights(model, folder)
        _load_optimiser(folder / OPTIMISER, model, optimiser)
        return state


def read_state(folder: Path) -> dict[str, Any]:
    state = PosixStore(folder).read_json(STATE)
    if not isinstance(state, dict):
        raise UsageError(f"`{folder}` holds no checkpoint", hint=HINT)
    return state


def found(path: Path) -> Path:
    """The checkpoint folder meant by it, by a run's output folder, or by a file in a checkpoint folder."""
    if path.is_file():
        path = path.parent
    if (path / STATE).is_file():
        return path
    latest = Checkpoints(path, 1).latest()
    if latest is None:
        raise UsageError(f"no checkpoint in `{path}`", hint=HINT)
    return latest


def fill_weights(model: nn.Module, folder: Path) -> None:
    """All of `model.safetensors`, strictly."""
    safe_checkpoints.fill(model, safe_checkpoints.tensors_of(folder / MODEL, hint=HINT), folder / MODEL, hint=HINT)


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        held = tensor.detach().cpu().contiguous()
        # Tensors that share memory (tied weights) are written once under each of their names.
        apart[name] = held.clone() if held.untyped_storage().data_ptr() in seen else held
        seen.add(held.untyped_storage().data_ptr())
    save_file(apart, path)
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`parameter/quantity` → tensor, of the parameters that have a state."""
    return {
        f"{name}/{quantity}": value
        for name, parameter in model.named_parameters()
        for quantity, value in optimiser.state.get(parameter, {}).items()
    }


def _load_optimiser(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    tensors = safe_checkpoints.tensors_of(path, hint=HINT)
    learning = {id(value): name for name, value in model.named_parameters() if value.requires_grad}
    state = optimiser.state_dict()
    numbers = {
        name: number
        for group, saved in zip(optimiser.param_groups, state["param_groups"], strict=True)
        for parameter, number in zip(group["params"], saved["params"], strict=True)
        for name in [learning[id(parameter)]]
    }
    values: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, quantity = key.rpartition("/")
        if name not in numbers:
            raise UsageError(f"`{path}` has a state of `{name}`, which does not learn here", hint="resume as it began")
        values.setdefault(numbers[name], {})[quantity] = value
    optimiser.load_state_dict({"state": values, "param_groups": state["param_groups"]})


def _whole(model: nn.Module) -> dict[str, Tensor]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    whole: dict[str, Tensor] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return whole


def _save_sharded(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, momenta = get_state_dict(model, optimiser)
    dcp.save({"model": weights, "optimiser": momenta}, checkpoint_id=folder)


def _load_sharded(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    check_plain(folder / ".metadata")
    weights, momenta = get_state_dict(model, optimiser)
    state = {"model": weights, "optimiser": momenta}
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(model, optimiser, model_state_dict=state["model"], optim_state_dict=state["optimiser"])


def check_plain(path: Path) -> None:
    """Raises `UsageError` where a description of shards, which torch unpickles, names more than tensors and sizes."""
    try:
        with path.open("rb") as file:
            _Described(file).load()
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError, TypeError, IndexError) as error:
        raise UsageError(f"`{path}` describes no checkpoint: {error}", hint=HINT) from error


class _Described(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype | torch.layout)
        if dtype or name in PLAIN.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names `{module}.{name}`")


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"
