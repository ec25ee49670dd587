"""What a run says of itself: a JSON line per logged step, and the same to TensorBoard where that is installed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidcap.store import append_line, read_lines, replacing

FILE = "metrics.jsonl"


class Log:
    """`metrics.jsonl` (and `tensorboard/`) of an output folder; a run that goes on from `step` forgets what came after.

    A line that continues from a checkpoint is written again by the resumed run, so none is there twice.
    """

    def __init__(self, output: Path, *, step: int = 0, tensorboard: bool = True) -> None:
        self.path = output / FILE
        lines = [line for line in read_lines(self.path) if _step(line) <= step]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self._board: Any = _board(output / "tensorboard", step) if tensorboard else None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        append_line(self.path, json.dumps({"step": step, **values}, ensure_ascii=True, allow_nan=False))
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**63  # torn: gone with what came after


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


class Meter:
    """Counts between two log lines: samples, tokens, operations, seconds, and seconds spent waiting for data."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.samples = self.tokens = self.steps = 0
        self.flops = self.waited = 0.0
        self._since = time.perf_counter()

    def rates(self, *, processes: int, peak: float | None) -> dict[str, float]:
        """Per second, over all processes; begins anew. `peak`: of one device, None where it is not known."""
        seconds = max(1e-9, time.perf_counter() - self._since)
        found = {
            "samples_per_second": processes * self.samples / seconds,
            "tokens_per_second": processes * self.tokens / seconds,
            "tflops": self.flops / seconds / 1e12,
            "step_seconds": seconds / max(1, self.steps),
            "data_wait": self.waited / seconds,
        }
        if peak is not None:
            found["flops_utilisation"] = self.flops / seconds / peak
        self._reset()
        return {name: round(value, 6) for name, value in found.items()}
