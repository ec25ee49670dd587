"""The machine: cores, memory, disks, graphics cards, and what FFmpeg can do here."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

ENCODERS = {"libx264": "clips", "aac": "the sound of clips", "flac": "`pack.audio: flac`"}
"""Encoder of PyAV's FFmpeg → what it is for."""
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "opus")
LEAST_FILES = 1024
"""Open files that a run with a few dozen workers needs; less makes it fail late."""
LEAST_TEMP = 2_000_000_000
CARD_NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What stands below /dev where a card is offered to programs: Nvidia's, AMD's, and that of a guest of Windows."""
_CGROUP = Path("/sys/fs/cgroup")
_ASK_TORCH = (
    "import json, torch;"
    "p = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())];"
    "print(json.dumps({'torch': torch.__version__, 'gpus': [[q.name, q.total_memory] for q in p]}))"
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card; memory in bytes, `driver` "" where it is not known."""

    name: str
    memory: int
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Gpus:
    """The cards, and whether torch can use them (None: torch is not installed, or there is nothing to use)."""

    found: tuple[Gpu, ...] = ()
    usable: bool | None = None
    note: str = ""


def cores() -> float:
    """Cores that this process may use; a container's share may be a fraction."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    share = int(quota) / int(period) if quota.isdecimal() and period.strip().isdecimal() else count
    return round(min(count, share), 2)


def memory() -> tuple[int, int]:
    """Bytes for this process (the machine's, or its container's limit), and those that are free; 0: unknown."""
    lines = dict(line.split(":", 1) for line in _read(Path("/proc/meminfo")).splitlines() if ":" in line)
    total, free = (int(lines.get(name, "0 kB").split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if limit.isdecimal() and used.isdecimal() and 0 < int(limit) < (total or int(limit) + 1):
        total, free = int(limit), min(free or int(limit), max(0, int(limit) - int(used)))
    return total, free


def facts() -> dict[str, Any]:
    """Cores, memory, disks and limits, in bytes and counts."""
    total, free = memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    temp = tempfile.gettempdir()
    return {
        "cores": cores(),
        "memory": total,
        "memory_free": free,
        "open_files": soft if soft != resource.RLIM_INFINITY else -1,
        "open_files_most": hard if hard != resource.RLIM_INFINITY else -1,
        "temp": temp,
        "temp_free": free_bytes(Path(temp)),
        "disk_free": free_bytes(Path.cwd()),
    }


def warnings(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What is scarce, and the line that mends it. Nothing here keeps a pipeline from running."""
    told = []
    if 0 <= found["open_files"] < LEAST_FILES:
        told.append((f"only {found['open_files']} open files are allowed", f"ulimit -n {LEAST_FILES * 4}"))
    if 0 <= found["temp_free"] < LEAST_TEMP:
        told.append((f"little space in {found['temp']}", "export TMPDIR=/a/larger/disk"))
    return told


def free_bytes(path: Path) -> int:
    """Free bytes of the disk that holds `path`, or would hold it; -1 where that cannot be told."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return -1


def media() -> dict[str, Any]:
    """PyAV's version, the encoders and decoders that its FFmpeg has, and whether the `ffmpeg` program is there."""
    found: dict[str, Any] = {"pyav": "", "encoders": {}, "decoders": {}, "ffmpeg_program": _ffmpeg()}
    try:
        import av
        from av.codec import Codec
        from av.codec.codec import UnknownCodecError
    except ImportError:
        return found | {"encoders": dict.fromkeys(ENCODERS, False), "decoders": dict.fromkeys(DECODERS, False)}
    found["pyav"] = av.__version__

    def has(name: str, mode: Literal["r", "w"]) -> bool:
        try:
            Codec(name, mode)
        except UnknownCodecError:
            return False
        return True

    found["encoders"] = {name: has(name, "w") for name in ENCODERS}
    found["decoders"] = {name: has(name, "r") for name in DECODERS}
    return found


def gpus(torch_installed: bool) -> Gpus:
    """The cards as `nvidia-smi` lists them, else as torch does.

    torch is asked in a process of its own, and only where a card can be: importing it takes seconds.
    """
    listed = _listed(
        _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    )
    if not listed and not any(Path(node).exists() for node in CARD_NODES):
        return Gpus()
    if not torch_installed:
        return Gpus(listed, None, "torch is not installed" if listed else "")
    said = _output(sys.executable, "-c", _ASK_TORCH, seconds=120)
    try:
        answer = json.loads(said.splitlines()[-1])
        seen = tuple(Gpu(str(name), int(size)) for name, size in answer["gpus"])
    except (IndexError, ValueError, TypeError, KeyError):
        return Gpus(listed, False if listed else None, "torch cannot be imported")
    if listed and not seen:
        return Gpus(listed, False, f"torch {answer['torch']} cannot use them")
    return Gpus(listed or seen, True if seen else None)


def gpu_rows(found: Gpus) -> list[dict[str, Any]]:
    return [asdict(gpu) for gpu in found.found]


def _listed(text: str) -> tuple[Gpu, ...]:
    """The answer of `nvidia-smi`: a card per line, its name, MiB and driver; a line of another shape is left out."""
    cards = []
    for line in text.splitlines():
        name, _, rest = line.partition(",")
        size, _, driver = rest.partition(",")
        if size.strip().isdecimal() and driver.strip():
            cards.append(Gpu(name.strip(), int(size) << 20, driver.strip()))
    return tuple(cards)


def _ffmpeg() -> str:
    """The first line of `ffmpeg -version`; "" where there is no such program."""
    lines = _output("ffmpeg", "-version").splitlines()
    return lines[0].partition(" Copyright")[0] if lines else ""


def _output(*command: str, seconds: float = 20) -> str:
    """What a program prints; "" where it is not there, fails or takes too long."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout if ran.returncode == 0 else ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
