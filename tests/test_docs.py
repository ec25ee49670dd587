"""The documents tell the truth: their commands run, their links lead somewhere, the wheel carries what they promise."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vidcap.reasons import REASONS, page
from vidcap.shards.schema import SourceInfo

DOCUMENTS = ("README.md", "pipelines/README.md", "prompts/README.md", "shards/README.md", "docs/CONTRIBUTING.md")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(repository: Path, tmp_path: Path) -> None:
    """In order, as written, but into a folder of the test; the demo first, as the text says."""
    lines = ["$ .venv/bin/vidcap run pipelines/demo.yaml --output shards/out/demo"]
    lines += [line for block in blocks(repository / "README.md", "console") for line in block.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    assert len(commands) >= 7
    for command in commands:
        assert command.startswith(".venv/bin/vidcap ")
        ours = command.replace(".venv/bin/vidcap", f"{shlex.quote(sys.executable)} -m vidcap").replace(
            "shards/out", str(tmp_path)
        )
        ran = subprocess.run(ours, shell=True, cwd=repository, capture_output=True, text=True, timeout=400, check=False)
        assert ran.returncode in (0, 3 if " shots " in command else 0), f"{command}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr
    for block in blocks(repository / "README.md", "python"):
        code = block.replace("shards/out", str(tmp_path))
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_documents_name_exist(repository: Path, document: str) -> None:
    text = (repository / document).read_text()
    named = set(
        re.findall(r"\b(?:docs|pipelines|prompts|shards|tests|benchmarks|vidcap)/[\w./-]+\.(?:md|py|yaml|json)\b", text)
    )
    missing = [name for name in named if not (repository / name).exists() and "mine" not in name and "NAME" not in name]
    assert not missing


def test_every_option_is_documented(repository: Path) -> None:
    from vidcap.stages.registry import STAGES, stage_class

    text = (repository / "pipelines" / "README.md").read_text()
    rows = {match[1]: match[0] for match in re.finditer(r"^\| (.*?) \|.*$", text, re.MULTILINE)}
    for stage in STAGES:
        row = next(line for names, line in rows.items() if f"`{stage}`" in names)
        for option in stage_class(stage).Options.model_fields:
            assert option in row, f"pipelines/README.md: `{stage}` has an option `{option}`"


def test_the_page_of_reasons_is_the_codes_own(repository: Path) -> None:
    assert (repository / "docs" / "reasons.md").read_text() == page(), "python -m vidcap.reasons > docs/reasons.md"


def test_reasons_used_in_the_code_are_explained(repository: Path) -> None:
    prefixes = {code.partition(".")[0] for code in REASONS}
    columns = {f"source.{name}" for name in SourceInfo.model_fields}
    used: set[str] = set()
    for path in (repository / "vidcap").rglob("*.py"):
        for code in re.findall(r'"([a-z]+\.[a-z_]+)"', path.read_text()):
            if code.partition(".")[0] in prefixes and code not in columns:
                used.add(code)
    assert not used - set(REASONS)
    for code, reason in REASONS.items():
        assert reason.meaning and reason.mend, code


@pytest.mark.slow
def test_the_wheel_carries_pipelines_and_prompts(repository: Path, tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    names = set(zipfile.ZipFile(tmp_path / ran.stdout.split()[-1]).namelist())
    for name in ("pipelines/demo.yaml", "prompts/fuse_av.md", "prompts/fuse_avs.md"):
        assert f"vidcap/_data/{name}" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/")) or "shards/out" in name]
