"""Faults from outside: Python imports this file at its start where the folder is on PYTHONPATH.

`CHAOS_SCHEDULE` names a JSON file, {"folder": where occurrences are counted, "faults": [...]}; without it nothing
happens. A fault is

    at      replace, fsync, open (for writing), write, unlink, call, clock
    match   regular expression, searched in the path, or in what a call was given
    nth     at which occurrence it fires, counted over all processes (1 is the first)
    times   so often, one occurrence after the other
    who     any, driver, worker
    does    kill, kill_group, errno, stall, until (a file is there), hang, memory, bloat, signal, remove, swap, fill;
            of a clock: forward, back, sawtooth, shake (another way at every reading)
    value   what that needs: errno, seconds, signal, path, [from, to], [path, bytes to leave free]
    target  of a call: `package.module:Class.method`
"""

from __future__ import annotations

import errno
import functools
import importlib.abc
import importlib.machinery
import io
import json
import os
import re
import shutil
import signal
import sys
import time
from typing import Any

_open, _os_open, _replace, _rename, _unlink, _fsync, _time, _sleep = (
    io.open, os.open, os.replace, os.rename, os.unlink, os.fsync, time.time, time.sleep,
)  # fmt: skip


class Fault:
    def __init__(self, folder: str, row: dict[str, Any]) -> None:
        self.counter = os.path.join(folder, f"{row['name']}.count")
        self.at, self.match = row["at"], re.compile(row.get("match", ""))
        self.nth, self.times = row.get("nth", 1), row.get("times", 1)
        self.who, self.does, self.value = row.get("who", "any"), row["does"], row.get("value")
        self.target = row.get("target", "")

    def due(self, text: str) -> bool:
        """Count an occurrence; whether it is one that the fault waits for."""
        if not self.match.search(text):
            return False
        # An append moves the offset to its own end, so that every occurrence gets a number of its own.
        descriptor = _os_open(self.counter, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, b".")
            number = os.lseek(descriptor, 0, os.SEEK_CUR)
        finally:
            os.close(descriptor)
        return self.nth <= number < self.nth + self.times

    def act(self, text: str) -> None:
        if self.does == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.does == "kill_group":
            os.killpg(0, signal.SIGKILL)
        elif self.does == "signal":
            os.kill(os.getpid(), self.value)
        elif self.does == "errno":
            number = getattr(errno, self.value)
            raise OSError(number, os.strerror(number), text)
        elif self.does == "stall":
            _sleep(self.value)
        elif self.does == "until":
            while not os.path.exists(self.value):
                _sleep(0.02)
        elif self.does == "hang":
            _sleep(3600)
        elif self.does == "memory":
            raise MemoryError(f"injected at {text}")
        elif self.does == "bloat":
            held = []
            while len(held) < 200:  # 4 GB: the limit comes long before
                held.append(b"\1" * 20_000_000)
                _sleep(0.02)
            _sleep(3600)  # who limits the memory may look late
        elif self.does == "remove":
            _unlink(self.value)
        elif self.does == "swap":
            shutil.copyfile(*self.value)
        elif self.does == "fill":
            path, left = self.value
            free = os.statvfs(os.path.dirname(path))
            with _open(path, "wb") as handle:
                handle.write(bytes(free.f_bavail * free.f_frsize - left))


def _who() -> str:
    with _open("/proc/self/cmdline", "rb") as handle:
        line = handle.read()
    if b"spawn_main" in line:
        return "worker"
    return "driver" if b"vidcap" in line and b"\0run\0" in line else "other"


class Torn(io.FileIO):
    """A file of which half a write arrives; then the fault strikes, and again at every later write."""

    def __init__(self, path: str, mode: str, fault: Fault) -> None:
        super().__init__(path, mode)
        self._fault = fault

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        super().write(view[: len(view) // 2])
        self._fault.act(str(self.name))
        return len(view)


class Injector:
    def __init__(self, folder: str, rows: list[dict[str, Any]]) -> None:
        mine = _who()
        faults = [Fault(folder, row) for row in rows]
        self.faults = [fault for fault in faults if fault.who in ("any", mine)]

    def at(self, point: str) -> list[Fault]:
        return [fault for fault in self.faults if fault.at == point]

    def strike(self, point: str, text: str) -> None:
        for fault in self.at(point):
            if fault.due(text):
                fault.act(text)

    def install(self) -> None:
        if self.at("replace"):
            os.replace, os.rename = self._around_move(_replace), self._around_move(_rename)
        if self.at("unlink"):
            os.unlink = os.remove = self._around_unlink
        if self.at("fsync"):
            os.fsync = self._around_fsync
        if self.at("open") or self.at("write"):
            import builtins

            builtins.open = io.open = self._around_open
            os.open = self._around_os_open
        if self.at("clock"):
            Clock(self.at("clock")[0]).install()
        if self.at("call"):
            sys.meta_path.insert(0, Calls(self))

    def _around_move(self, move: Any) -> Any:
        def moved(source: Any, target: Any, **more: Any) -> None:
            self.strike("replace", os.fspath(target))
            move(source, target, **more)

        return moved

    def _around_unlink(self, path: Any, **more: Any) -> None:
        self.strike("unlink", os.fspath(path))
        _unlink(path, **more)

    def _around_fsync(self, descriptor: int) -> None:
        self.strike("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        _fsync(descriptor)

    def _around_os_open(self, path: Any, flags: int, *args: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            self.strike("open", os.fsdecode(path))
        return _os_open(path, flags, *args, **more)

    def _around_open(self, file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return _open(file, mode, *args, **more)
        path = os.fsdecode(file)
        self.strike("open", path)
        for fault in self.at("write"):
            if fault.due(path):
                raw = Torn(path, mode.replace("b", "").replace("t", ""), fault)
                whole = io.BufferedWriter(raw)
                return whole if "b" in mode else io.TextIOWrapper(whole, encoding=more.get("encoding") or "utf-8")
        return _open(file, mode, *args, **more)


class Clock:
    """A wall clock that is wrong from the nth time it is read in this process."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.reads = fault, 0

    def install(self) -> None:
        time.time = self.read
        time.time_ns = lambda: int(self.read() * 1e9)

    def read(self) -> float:
        self.reads += 1
        if self.reads < self.fault.nth:
            return _time()
        step = float(self.fault.value)
        signs = {
            "forward": 1.0,
            "back": -1.0,
            "sawtooth": 1.0 if self.reads // 500 % 2 else -1.0,
            "shake": 1.0 if self.reads % 2 else -1.0,
        }
        return _time() + signs[self.fault.does] * step


class Calls(importlib.abc.MetaPathFinder):
    """Wraps the methods that faults name, once their module is imported."""

    def __init__(self, injector: Injector) -> None:
        self.wanted: dict[str, list[Fault]] = {}
        for fault in injector.at("call"):
            self.wanted.setdefault(fault.target.partition(":")[0], []).append(fault)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.wanted:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                for fault in self.wanted[fullname]:
                    self._wrap(module, fault)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    @staticmethod
    def _wrap(module: Any, fault: Fault) -> None:
        *owners, name = fault.target.partition(":")[2].split(".")
        owner = functools.reduce(getattr, owners, module)
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def called(*args: Any, **more: Any) -> Any:
            text = " ".join(map(_told, args[1:]))
            if fault.due(text):
                fault.act(text)
            return inner(*args, **more)

        setattr(owner, name, called)


def _told(value: Any) -> str:
    """What a fault can match of an argument: a path, a source's id, the source of a list of rows."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return str(value[0].get("source_id", ""))
    if hasattr(value, "folder"):
        return os.path.basename(str(value.folder))
    return str(getattr(value, "id", value if isinstance(value, str | os.PathLike) else ""))


_schedule = os.environ.get("CHAOS_SCHEDULE")
if _schedule:
    with _open(_schedule, encoding="utf-8") as _handle:
        _told_to = json.load(_handle)
    if _who() != "other":
        Injector(_told_to["folder"], _told_to["faults"]).install()
