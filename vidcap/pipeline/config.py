"""The pipeline YAML, typed: what runs, with which options, over what, and where to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator

from vidcap.backends.reference import BackendRef
from vidcap.errors import ConfigError, VidcapError
from vidcap.stages.registry import STAGES, stage_class
from vidcap.yaml_file import YamlFile


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputConfig(_Strict):
    manifest: str
    """A manifest (CSV, JSONL, Parquet), a folder, a glob or one media file."""
    root: str | None = None
    """What relative URIs are relative to; default: the manifest's folder."""
    part_bytes: ByteSize = Field(default=ByteSize(2_000_000_000), gt=0)
    sources_per_part: int = Field(default=64, ge=1)


class EvidenceConfig(_Strict):
    keep: Literal["until_pack", "always", "none"] = "until_pack"


class StageConfig(_Strict):
    stage: str
    backend: BackendRef | None = None
    llm: BackendRef | None = None
    prompts: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    pool: str = "cpu"
    """The stage runs only on workers that offer this pool."""
    device: str = "cpu"

    @field_validator("stage")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in STAGES:
            raise ValueError(f"no stage is called `{value}`; stages are: {', '.join(STAGES)}")
        return value


class OutputConfig(_Strict):
    path: str


class RunnerConfig(_Strict):
    workers: int = Field(default=1, ge=1)
    """Worker processes of the local cluster that offer the pool `cpu`."""
    pools: dict[str, int] = Field(default_factory=dict)
    """Further pools of the local cluster: name → worker processes."""
    scheduler: str | None = None
    """Address of a running Dask scheduler; then nothing is started here."""
    attempts: int = Field(default=3, ge=1)
    """How often a part is tried before it is failed."""
    item_timeout: float = Field(default=1800.0, gt=0)
    """Seconds on one source after which a worker counts as hung and is ended."""
    dashboard: bool = False
    """Serve Dask's dashboard on loopback (needs the extra `dashboard`)."""
    memory_limit: str = "auto"
    """Bytes per local worker, e.g. `4GB`; the nanny restarts a worker that outgrows it."""


class PipelineConfig(_Strict):
    name: str
    seed: int = Field(default=0, ge=0)
    input: InputConfig
    evidence: EvidenceConfig = EvidenceConfig()
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    output: OutputConfig
    runner: RunnerConfig = RunnerConfig()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        # It becomes part of shard names, which WebDataset expands braces in and cuts at dots.
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
            raise ValueError("use 1 to 64 letters, digits, `_` or `-`")
        return value

    @field_validator("stages")
    @classmethod
    def _unique(cls, value: tuple[StageConfig, ...]) -> tuple[StageConfig, ...]:
        seen: set[str] = set()
        for stage in value:
            if stage.stage in seen:
                raise ValueError(f"stage `{stage.stage}` appears twice; stage names are unique")
            seen.add(stage.stage)
        return value

    def stage(self, name: str) -> StageConfig | None:
        return next((stage for stage in self.stages if stage.stage == name), None)


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> PipelineConfig:
    """Read and check a pipeline YAML; `overrides` are `key=value` with paths like `stages.trim.options.min_seconds`.

    Raises `ConfigError` naming the file, the line and, for an unknown key, the nearest known one.
    """
    file = YamlFile.read(path)
    for override in overrides:
        file.override(override)
    config = file.validate(PipelineConfig)
    for index, stage in enumerate(config.stages):
        file.validate(stage_class(stage.stage).Options, at=("stages", index, "options"), value=stage.options)
        _check_roles(file, index, stage)
    return config


def _check_roles(file: YamlFile, index: int, stage: StageConfig) -> None:
    cls = stage_class(stage.stage)
    role = getattr(cls, "role", None)
    try:
        if role is None and stage.backend is not None:
            raise ConfigError(f"stage `{stage.stage}` has no backend", hint="remove `backend`")
        if role is not None and stage.backend is None:
            raise ConfigError(
                f"stage `{stage.stage}` needs a backend", hint=f"add `backend: NAME`; see `vidcap backends {role}`"
            )
        if stage.llm is not None and not getattr(cls, "wants_llm", False):
            raise ConfigError(f"stage `{stage.stage}` asks no language model", hint="remove `llm`")
        for slot in stage.prompts:
            known = getattr(cls, "prompt_slots", {})
            if slot not in known:
                hint = f"its prompts are: {', '.join(known) or 'none'}"
                raise ConfigError(f"stage `{stage.stage}` has no prompt `{slot}`", hint=hint)
    except VidcapError as error:
        raise file.error(error.message, at=("stages", index), hint=error.hint) from error
