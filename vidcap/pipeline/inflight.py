"""Which source a step is working on: written before it starts, so that a worker's death names its item.

A driver that sees a worker die submits the step again with the dead attempt's token as `blame`. Only then does the item
named in the in-flight file count a death: a run that was stopped from outside blames nobody.
"""

from __future__ import annotations

import contextlib
import faulthandler
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

from vidcap.records import Verdict
from vidcap.store import PosixStore, json_bytes, replacing

Alive = Callable[[], None]
"""Called whenever the work on an item has come on, as often as one likes: the watchdog begins to count anew."""

DEATHS = 2
"""After so many deaths of a worker on the same item the item is poison."""


class InFlight:
    """The in-flight file and the death counts of one part."""

    def __init__(self, folder: Path, token: str, *, blame: str = "") -> None:
        self.store = PosixStore(folder)
        self.token = token
        self.deaths: dict[str, dict[str, int]] = self.store.read_json("deaths.json") or {}
        held = self.store.read_json("inflight.json")
        # Its own token: somebody else's scheduler has tried this very task before, and the worker died.
        if isinstance(held, dict) and held.get("token") in ({blame, token} - {""}):
            self._count(held)

    def _count(self, held: dict[str, Any]) -> None:
        trace = self.store.path("hang.txt")
        hung = trace.is_file() and trace.stat().st_size > 0
        found = self.deaths.setdefault(held["item"], {"died": 0, "hung": 0})
        found["hung" if hung else "died"] += 1
        self.store.write_json("deaths.json", self.deaths)
        self.store.delete("inflight.json")

    def verdict(self, item: str) -> Verdict | None:
        """Whether the item may not be touched again."""
        found = self.deaths.get(item, {})
        if found.get("hung", 0) >= DEATHS:
            return Verdict("quarantined", "worker_timeout", detail=f"the watchdog ended {found['hung']} workers on it")
        if found.get("died", 0) + found.get("hung", 0) >= DEATHS:
            return Verdict(
                "quarantined",
                "worker_died",
                detail=f"{found['died'] + found.get('hung', 0)} workers died on it, or ran out of memory",
            )
        return None

    @contextlib.contextmanager
    def working_on(self, item: str, *, timeout: float | None) -> Iterator[Alive]:
        """Mark the item; with a timeout a watchdog in C ends this process when nothing is heard of it for so long.

        The watchdog needs no interpreter lock, so it also ends a worker that hangs inside a codec.
        """
        # Not synced: it speaks of this process's death, and a power cut ends the driver that would ask for it.
        with replacing(self.store.path("inflight.json"), durable=False) as temporary:
            temporary.write_bytes(json_bytes({"item": item, "token": self.token}))
        trace = self.store.path("hang.txt")
        with trace.open("wb") as handle:
            heard = -inf

            def alive() -> None:
                nonlocal heard
                # Setting it anew starts a thread: once a second is often enough.
                if timeout is not None and time.monotonic() - heard >= min(1.0, timeout / 10):
                    heard = time.monotonic()
                    faulthandler.dump_traceback_later(timeout, exit=True, file=handle)

            alive()
            try:
                yield alive
            finally:
                heard = inf  # whoever calls later speaks of nothing
                if timeout is not None:
                    faulthandler.cancel_dump_traceback_later()
        self.store.delete("hang.txt")
        self.store.delete("inflight.json")

    def clear(self) -> None:
        self.store.delete("deaths.json")
