"""The ledger: one small JSON record per part and stage.

A record says that a stage's outputs for a part are complete and what they were made from (`fingerprint`). Running the
same command again continues: a stage whose record carries the fingerprint that the plan computes is not run.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vidcap.store import PosixStore, json_bytes, replacing_all, sync_folder

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
        found = self._read(part, stage)
        return Record(**found) if found is not None and self._is_whole(found) else None

    def holds(self, part: int, stage: str, fingerprint: str) -> bool:
        """Whether there is such a record with this fingerprint: what a rerun asks of every stage of every part."""
        found = self._read(part, stage)
        return found is not None and found["fingerprint"] == fingerprint and self._is_whole(found)

    def parts(self) -> set[int]:
        """The parts that have a record of any stage, whole or not."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.store.root) as entries:
            return {int(entry.name[:6]) for entry in entries if entry.name[:6].isdigit()}
        return set()

    def _read(self, part: int, stage: str) -> dict[str, Any] | None:
        found = self.store.read_json(_name(part, stage))
        return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None

    def _is_whole(self, found: dict[str, Any]) -> bool:
        # Strings, not paths: of 100,000 parts this is asked a million times.
        return all(os.path.isfile(f"{self.output}/{name}") for name in found["outputs"])

    def commit(self, *records: Record) -> None:
        """In this order, so that after a crash no record stands without those of the stages before it."""
        with replacing_all(self.store.root) as temporary_of:
            for record in records:
                path = self.store.path(_name(record.part, record.stage))
                temporary_of(path).write_bytes(json_bytes(asdict(record)))

    def forget(self, part: int, *stages: str) -> None:
        """Before outputs are replaced: a crash in between must not leave a record that speaks of other bytes."""
        there = [name for name in (_name(part, stage) for stage in stages) if self.store.exists(name)]
        for name in there:
            self.store.delete(name)
        if there:
            sync_folder(self.store.root)  # nor may a power cut bring them back


def _name(part: int, stage: str) -> str:
    return f"{part:06d}.{stage}.json"
