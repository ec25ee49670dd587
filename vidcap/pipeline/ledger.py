"""The ledger: one small JSON record per part and stage.

A record says that a stage's outputs for a part are complete and what they were made from (`fingerprint`). Running the
same command again continues: a stage whose record carries the fingerprint that the plan computes is not run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from vidcap.store import PosixStore, sync_folder

SCHEMA = "vidcap-ledger/1"


@dataclass(frozen=True, slots=True)
class Record:
    part: int
    stage: str
    version: int
    fingerprint: str
    upstream: dict[str, str]
    outputs: dict[str, str]
    """Path relative to the output folder → digest of the file."""
    sources: dict[str, int] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)
    attempt: int = 1
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the worker's process, all its threads; 0 in records of runs that did not measure it."""
    schema: str = SCHEMA


class Ledger:
    """The records of one run folder."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.store = PosixStore(output / "_vidcap" / "ledger")

    def get(self, part: int, stage: str) -> Record | None:
        """The record, or None where there is none, it is unreadable, or one of its outputs is gone."""
        found = self.store.read_json(_name(part, stage))
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            return None
        record = Record(**found)
        return record if all((self.output / name).is_file() for name in record.outputs) else None

    def commit(self, record: Record) -> None:
        self.store.write_json(_name(record.part, record.stage), asdict(record))

    def forget(self, part: int, stage: str) -> None:
        """Before outputs are replaced: a crash in between must not leave a record that speaks of other bytes."""
        if self.store.exists(_name(part, stage)):
            self.store.delete(_name(part, stage))
            sync_folder(self.store.root)  # nor may a power cut bring it back


def _name(part: int, stage: str) -> str:
    return f"{part:06d}.{stage}.json"
