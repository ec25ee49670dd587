"""What a stage is: its name, version, options, the columns it needs and gives, and `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from vidcap.media.evidence import PARTS, Evidence
from vidcap.prompts import Prompt
from vidcap.records import StageResult

Row = Mapping[str, Any]
EvidenceOf = Callable[[str], Evidence]
"""The evidence of a source, by its id."""


class StageOptions(BaseModel):
    """Base of every stage's options: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage is given beside its rows: loaded backends, prompts, the run's seed."""

    seed: int = 0
    backend: Any = None
    llm: Any = None
    prompts: Mapping[str, Prompt] = field(default_factory=dict)
    embeddings: Any = None
    """Keeps clip embeddings between runs: `get(key)` gives a vector or None, `put(key, vector)`. Only `score` asks."""


class ClipStage(ABC):
    """A stage over the clips of one or several sources.

    It sees only rows that no stage it builds on has stopped, and returns its own columns and verdicts, nothing else.
    Its result for a row must not depend on the other rows it is given.

    One that asks servers, or computes in batches, may have `ahead(rows, evidence)` too: a context inside which `run`
    over any of `rows` finds some of its work done. Whoever goes through many sources opens it over all their rows.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """In the fingerprint: raise it whenever the output changes for the same input (a golden digest guards it)."""
    role: ClassVar[str | None] = None
    """The role of its backend, if it has one."""
    prompt_slots: ClassVar[Mapping[str, str]] = {}
    """Prompt slot → name of the default prompt."""
    wants_llm: ClassVar[bool] = False
    """Whether the YAML may name an `llm` backend beside the stage's own."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Columns of earlier stages, and `evidence` where it looks at frames or sound."""
    sees: ClassVar[frozenset[str]] = PARTS
    """What of the evidence it looks at beside tables and thumbnails; `decode` makes only what some stage sees."""
    uses: ClassVar[frozenset[str]] = frozenset()
    """Columns it reads where an earlier stage gives them."""
    gives: ClassVar[Mapping[str, pa.DataType]] = {}
    Options: ClassVar[type[StageOptions]] = StageOptions

    def __init__(self, options: Any, context: Context) -> None:
        self.options = options
        self.context = context

    @abstractmethod
    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        """`rows` hold `key`, `source_id` and the columns of `needs`."""
