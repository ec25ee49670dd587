"""What one pipeline needs here: its backends, prompts, weights, servers, cards and encoders, each there or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidcap.backends import needs, registry
from vidcap.backends.reference import BackendRef
from vidcap.doctor.endpoints import ask, shown
from vidcap.doctor.machine import ENCODERS, Gpus, free_bytes
from vidcap.doctor.weights import inner_backends, weights_of
from vidcap.errors import VidcapError
from vidcap.pipeline.config import PipelineConfig, StageConfig, load_config
from vidcap.pipeline.plan import Plan
from vidcap.stages.base import Context
from vidcap.stages.registry import stage_class

WEIGHTS = frozenset(".pt .pth .bin .onnx .safetensors .ckpt .gguf .ftz .npz .model".split())
PATH_OPTIONS = ("weights", "checkpoint", "path", "folder", "file")
"""An option whose name ends in one of these holds a path, whatever its value looks like."""

SECRET = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
"""Options of such a name are never shown."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing a pipeline needs: which, whether it is there, what is to be said of it, and the line that mends it."""

    what: str
    ok: bool
    detail: str = ""
    mend: str = ""


def check(path: Path, gpus: Gpus, encoders: Mapping[str, bool]) -> list[Need]:
    """All that the pipeline YAML at `path` needs; a YAML that cannot be read is one need that is not met."""
    try:
        config = load_config(path)
    except VidcapError as error:
        return [Need("pipeline", False, error.message, error.hint)]
    plan, whole = None, Need("pipeline", True, f"{config.name}: {len(config.stages)} stages")
    try:
        plan = Plan(config, prompt_folders=[path.resolve().parent, path.resolve().parent.parent / "prompts"])
    except VidcapError as error:
        whole = Need("pipeline", False, error.message, error.hint)
    found = [whole]
    for stage in config.stages:
        found += _of_stage(stage, plan, gpus)
    pack = config.stage("pack")
    if pack is not None:
        found += [
            Need(f"encoder {name}", has, f"for {ENCODERS[name]}", "" if has else "pip install --force-reinstall av")
            for name, has in encoders.items()
            if name != "flac" or pack.options.get("audio") == "flac"
        ]
    return [*dict.fromkeys(found), _room(config)]


def _of_stage(stage: StageConfig, plan: Plan | None, gpus: Gpus) -> Iterator[Need]:
    cls = stage_class(stage.stage)
    for role, ref in ((getattr(cls, "role", None), stage.backend), ("llm", stage.llm)):
        if role is not None and ref is not None:
            yield from _of_backend(stage.stage, role, ref)
    if stage.options.get("through") == "ffmpeg":
        yield _program(stage, cls)
    try:
        if plan is not None:
            plan.prompts_of(stage)
    except VidcapError as error:
        yield Need(f"{stage.stage}: prompts", False, error.message, error.hint)
    if stage.device != "cpu":
        yield _device(stage, gpus)


def _of_backend(stage: str, role: str, ref: BackendRef) -> Iterator[Need]:
    """Of the backend itself, and of those that its options name."""
    backend = _backend(stage, role, ref)
    yield backend
    inner = dict(inner_backends(role, ref))
    own = ref.model_copy(update={"options": {name: value for name, value in ref.options.items() if name not in inner}})
    yield from _weights(stage, own, backend.detail)
    for weights in weights_of(role, ref):
        what = f"{stage}: {ref.name}: {weights.option}"
        yield Need(what, bool(weights.place), weights.place or f"`{weights.name}` is not here", weights.mend)
    yield from _servers(role, own)
    for inner_role, inner_ref in inner.items():
        yield from _of_backend(stage, inner_role, inner_ref)


def _program(stage: StageConfig, cls: Any) -> Need:
    """The ffmpeg program with what the stage asks of it, tried."""
    what = f"{stage.stage}: the ffmpeg program"
    try:
        options = cls.Options.model_validate(stage.options)
        cls(options, Context())
        return Need(what, True, cls.libraries(options))
    except VidcapError as error:
        return Need(what, False, error.message, error.hint)


def _backend(stage: str, role: str, ref: BackendRef) -> Need:
    what = f"{stage}: {ref.name}"
    try:
        lack = needs.lacking(role, ref.name)
        if lack is not None:
            return Need(what, False, f"lacks {', '.join(lack.names)}", lack.mend)
        return Need(what, True, _masked(registry.create(role, ref.name, ref.options).identity(), ref))
    except VidcapError as error:
        return Need(what, False, _masked(error.message, ref), _masked(error.hint, ref))
    except Exception as error:  # a backend of somebody else may fail in any way; that too is a finding
        detail = _masked(f"{type(error).__name__}: {error}"[:300], ref)
        return Need(what, False, detail, "report it to those who wrote the backend")


def _masked(text: str, ref: BackendRef) -> str:
    """The text without the keys and passwords among the backend's options."""
    for name, value in _options(ref.options):
        if value and SECRET.search(name):
            text = text.replace(value, "•••")
        elif "://" in value:
            text = text.replace(value, shown(value))
    return text


def _weights(stage: str, ref: BackendRef, told: str) -> Iterator[Need]:
    """The paths among a backend's options that are not there, unless it has `told` so itself."""
    for name, value in _options(ref.options):
        if "://" in value or SECRET.search(name) or not (_looks_like_path(value) or name.endswith(PATH_OPTIONS)):
            continue
        if value and value not in told and not Path(value).expanduser().exists():
            yield Need(
                f"{stage}: {ref.name}: {name}", False, f"there is no `{value}`", "put it there, or mend the path"
            )


def _looks_like_path(value: str) -> bool:
    return value.startswith(("/", "./", "../", "~")) or Path(value).suffix.lower() in WEIGHTS


def _servers(role: str, ref: BackendRef) -> Iterator[Need]:
    """The servers that a backend's options name. Everything but http and https is refused, not asked."""
    wanted = ref.options.get("model")
    for name, value in _options(ref.options):
        if "://" not in value:
            continue
        answer = ask(value)
        detail = answer.detail
        if answer.models and isinstance(wanted, str) and wanted not in answer.models:
            yield Need(
                f"{role} at {shown(value)}",
                False,
                f"{detail}, not `{wanted}`",
                f"name one of its models under `{name}`",
            )
            continue
        yield Need(f"{role} at {shown(value)}", answer.ok, detail, "" if answer.ok else f"start it, or mend `{name}`")


def _options(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name and value of every option that is text, those inside lists and mappings too."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _options(inner, str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _options(inner, name)


def _device(stage: StageConfig, gpus: Gpus) -> Need:
    what = f"{stage.stage}: {stage.device}"
    kind, _, number = stage.device.partition(":")
    if kind != "cuda":
        return Need(what, True, "not checked")
    index = int(number) if number.isdecimal() else 0
    there = gpus.usable is True and index < len(gpus.found)
    detail = gpus.found[index].name if there else gpus.note or f"{len(gpus.found)} cards here"
    return Need(
        what, there, detail, "" if there else f"set `device: cpu` under `{stage.stage}`, or run where a card is"
    )


def _room(config: PipelineConfig) -> Need:
    """Space where the output goes; an empty disk fails a run hours after its start."""
    free = free_bytes(Path(config.output.path).absolute())
    detail = f"{free / 1e9:.1f} GB free" if free >= 0 else "free space unknown"
    return Need("output", free != 0, detail, "" if free else "choose another `output.path`")
