"""A clock for Dask that never steps: what it waits for is counted from a deadline on the wall clock.

When the wall clock is set back while a message waits to be sent, `distributed` waits until the clock has caught up,
with the message: a run would hang for as long as the clock was moved. The same holds for the timers of Tornado.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from tornado.ioloop import IOLoop

_BEGAN = time.time() - time.monotonic()


def steady() -> float:
    """Seconds since 1970 as the wall clock had them when this process began, and counted on from there."""
    return _BEGAN + time.monotonic()


def install() -> None:
    """Every module of `distributed` that holds the wall clock holds this one from now on; Tornado's loops too."""
    wall = time.time
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "distributed" and getattr(module, "time", None) is wall:
            vars(module)["time"] = steady
    IOLoop.time = lambda loop: steady()  # Tornado offers no other way since version 5


def dask_setup(worker: Any) -> None:
    """Called in every worker before it takes work: nannies name this module as their `preload`."""
    del worker
    install()
