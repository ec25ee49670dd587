"""Parts given up after their attempts: remembered between runs until somebody asks to try them again."""

from __future__ import annotations

from pathlib import Path

from vidcap.store import PosixStore


class Failures:
    def __init__(self, output: Path) -> None:
        self.store = PosixStore(output / "_vidcap" / "failed")

    def parts(self) -> dict[int, str]:
        """Part number → the last error."""
        found = {}
        for name in self.store.names("."):
            row = self.store.read_json(name) if name.endswith(".json") else None
            if row:
                found[int(row["part"])] = str(row["error"])
        return found

    def add(self, part: int, error: str) -> None:
        self.store.write_json(f"{part:06d}.json", {"part": part, "error": error})

    def clear(self) -> None:
        for name in self.store.names("."):
            self.store.delete(name)
