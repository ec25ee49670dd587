"""A backend as configurations name it: in a stage of the pipeline, or inside another backend's options."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidcap.backends import registry


class BackendRef(BaseModel):
    """A backend by name, with its own options beside the name: `whisper`, or `{name: whisper, model: large-v2}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "name" in value and "options" not in value:
            return {"name": value["name"], "options": {k: v for k, v in value.items() if k != "name"}}
        return value

    def create(self, role: str) -> Any:
        """The backend, not loaded. Raises `BackendError` naming what is wrong with the name or an option."""
        return registry.create(role, self.name, self.options)

    def identity(self, role: str) -> str:
        """What decides its answers: name, the backend's own identity, the options that are not incidental."""
        backend = self.create(role)
        incidental: frozenset[str] = getattr(backend.Config, "incidental", frozenset())
        telling = {name: value for name, value in self.options.items() if name not in incidental}
        options = f" {json.dumps(telling, sort_keys=True, default=str)}" if telling else ""
        return f"{self.name}: {backend.identity()}{options}"
