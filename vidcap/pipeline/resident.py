"""Backends that stay loaded in a worker process, and the stages made ready with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidcap.backends import registry
from vidcap.backends.reference import BackendRef
from vidcap.pipeline.config import PipelineConfig
from vidcap.pipeline.plan import Plan
from vidcap.stages.base import Context

_loaded: dict[tuple[str, str, str, str], Any] = {}
_plans: dict[str, Plan] = {}


def plan_of(config_json: str, prompt_folders: tuple[str, ...]) -> Plan:
    """The plan of a configuration, made once per process."""
    key = config_json + "\0".join(prompt_folders)
    if key not in _plans:
        config = PipelineConfig.model_validate_json(config_json)
        _plans[key] = Plan(config, prompt_folders=[Path(folder) for folder in prompt_folders])
    return _plans[key]


def backend(role: str, ref: BackendRef, device: str) -> Any:
    """The loaded backend; loading happens once per process, role, name, options and device."""
    key = (role, ref.name, json.dumps(ref.options, sort_keys=True, default=str), device)
    if key not in _loaded:
        made = registry.create(role, ref.name, ref.options)
        made.load(device)
        _loaded[key] = made
    return _loaded[key]


def ready_stage(plan: Plan, name: str, *, embeddings: Any = None) -> Any:
    """A stage with its options checked, its backends loaded and its prompts read."""
    config = plan.config.stage(name)
    assert config is not None
    cls = plan.classes[name]
    context = Context(
        seed=plan.config.seed,
        backend=backend(cls.role, config.backend, config.device) if config.backend else None,
        llm=backend("llm", config.llm, config.device) if config.llm else None,
        prompts=plan.prompts_of(config),
    )
    if embeddings is not None:
        context = replace(context, embeddings=embeddings)
    return cls(plan.options_of(config), context)
