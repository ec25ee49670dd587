"""The ffmpeg program, where it is installed: which one it is, what it can do here, and a run that cannot outlive us."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, Literal

from vidcap.errors import ConfigError

PROGRAM = "ffmpeg"
OLDEST = (5, 1)
"""`-fps_mode` came with this version."""
STALL = 120.0
"""Seconds without a byte in or out after which a run is given up. It condemns no source: PyAV decodes it then."""
WORDS = 2000
"""Bytes kept of what a run complains of."""
_BLOCK = 1 << 20


class ProgramError(Exception):
    """A run failed: in words, what the program said. `passing`: it hung or was killed, which condemns no input."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Program:
    """The program that is found first on the PATH; `hwaccels` and `encoders` are what it was built with."""

    path: str
    version: str
    hwaccels: frozenset[str]
    encoders: frozenset[str]


def program() -> Program:
    """Raises `ConfigError` where there is no ffmpeg, it is too old, or the library that drives it is not here."""
    library()
    path = shutil.which(PROGRAM)
    if path is None:
        raise ConfigError(
            f"`through: ffmpeg` needs the program `{PROGRAM}`, which is not on the PATH",
            hint="install it (Debian: apt install ffmpeg), or leave `through` at `pyav`",
        )
    return _asked(path)


def libraries(*, through: Literal["pyav", "ffmpeg"]) -> str:
    """PyAV's version, and the program's where it takes part: with another one the bytes may differ."""
    own = version("av")
    return own if through == "pyav" else f"{own} + {PROGRAM} {program().version}"


def library() -> Any:
    """The module of ffmpeg-python, which puts arguments together."""
    try:
        import ffmpeg
    except ImportError as error:
        raise ConfigError(
            "`through: ffmpeg` needs the library `ffmpeg-python`", hint="pip install 'vidcap[ffmpeg]'"
        ) from error
    return ffmpeg


def check_listed(kind: str, name: str) -> None:
    """Raises `ConfigError` unless the program was built with it. `kind`: "hwaccels" or "encoders".

    That it is built in does not say that a card is there: whoever uses it tries it.
    """
    known: frozenset[str] = getattr(program(), kind)
    if name not in known:
        raise ConfigError(
            f"the ffmpeg program {program().version} has no {kind.removesuffix('s')} `{name}`",
            hint=f"install one that has it (`ffmpeg -{kind}` lists them), or choose another in the YAML",
        )


@functools.cache
def _asked(path: str) -> Program:
    first, _, _ = _answer(path, "-version").partition("\n")
    found = re.match(r"ffmpeg version (\S+)", first)
    told = found.group(1) if found else ""
    number = re.match(r"n?(\d+)\.(\d+)", told)
    # Builds from the development tree have no number and are new.
    if not told or (number and (int(number[1]), int(number[2])) < OLDEST):
        raise ConfigError(
            f"the program `{path}` is {f'ffmpeg {told}' if told else 'no ffmpeg'}",
            hint=f"`through: ffmpeg` needs ffmpeg {OLDEST[0]}.{OLDEST[1]} or newer; or leave `through` at `pyav`",
        )
    _, _, hwaccels = _answer(path, "-hwaccels").partition(":")
    encoders = re.findall(r"^ [VAS][A-Z.]{5} (\S+)", _answer(path, "-encoders"), re.MULTILINE)
    return Program(path, told, frozenset(hwaccels.split()), frozenset(encoders) - {"="})


def _answer(path: str, question: str) -> str:
    try:
        ran = subprocess.run(
            [path, "-hide_banner", question], capture_output=True, timeout=60, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"the program `{path}` cannot be asked: {error}", hint="mend it, or leave `through` at `pyav`"
        ) from error
    return ran.stdout.decode(errors="replace")


class Run:
    """One run: bytes in, bytes out, complaints kept. Nothing goes through a shell; leaving kills what still runs.

    The pipes are the program's only way to the world: where this process dies they break, and the program ends too.
    """

    def __init__(self, stream: Any, *, takes_input: bool = False) -> None:
        """`stream`: an output of ffmpeg-python, on "pipe:1"."""
        arguments: list[str] = stream.global_args("-nostdin", "-hide_banner", "-v", "error", "-xerror").compile(
            cmd=program().path
        )
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE if takes_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._in: Any = self._process.stdin
        self._open: list[Any] = [self._process.stdout, self._process.stderr]
        for pipe in (*self._open, *([self._in] if self._in else [])):
            os.set_blocking(pipe.fileno(), False)
        self._given = bytearray()
        self._said = bytearray()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._in, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    @property
    def complaint(self) -> str:
        """What the program said, on one line; "" where it said nothing."""
        return " ".join(self._said.decode(errors="replace").split())

    @property
    def held(self) -> int:
        """Bytes that the program has given and nobody has read."""
        return len(self._given)

    def read(self, count: int) -> bytes:
        """At most `count` bytes, b"" at the end: so that `av.open` takes a run as a file."""
        while not self._given and self._process.stdout in self._open:
            self._turn()
        taken = bytes(self._given[:count])
        del self._given[:count]
        return taken

    def send(self, data: Any) -> None:
        """Hand bytes to the program's input; what it gives meanwhile waits for `read`. Raises `ProgramError`."""
        rest = memoryview(data)
        while len(rest):
            if not self._turn(wants_to_write=True):
                continue
            try:
                rest = rest[os.write(self._in.fileno(), rest[:_BLOCK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                self.finish()  # which knows what it died of
                raise ProgramError("it ended before its input did") from error

    def finish(self) -> bytes:
        """End the input, and wait for the program; returns what it has given. Raises `ProgramError` where it failed."""
        if self._in is not None:
            with contextlib.suppress(OSError):
                self._in.close()
        while self._open:
            self._turn()
        try:
            code = self._process.wait(STALL)
        except subprocess.TimeoutExpired as error:
            raise ProgramError(f"it did not end within {STALL:.0f} s", passing=True) from error
        if code or self._said:
            raise ProgramError(self.complaint or f"it ended with code {code}", passing=code < 0)
        return bytes(self._given)

    def _turn(self, *, wants_to_write: bool = False) -> bool:
        """Wait until a pipe moves, take what is there to read; returns whether the input can be written to."""
        given, free, _ = select.select(self._open, [self._in] if wants_to_write else [], [], STALL)
        if not given and not free:
            self._process.kill()
            raise ProgramError(f"it moved no byte for {STALL:.0f} s", passing=True)
        for pipe in given:
            data = os.read(pipe.fileno(), _BLOCK)
            if not data:
                self._open.remove(pipe)
            elif pipe is self._process.stdout:
                self._given += data
            else:
                self._said += data[: max(0, WORDS - len(self._said))]
        return bool(free)
