"""`vidcap inspect` and `vidcap validate` as a user meets them: output, files and exit codes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from vidcap.cli.inspect import inspect_command
from vidcap.cli.look import validate_command
from vidcap.errors import ShardError, UsageError


@pytest.fixture(scope="module")
def factory() -> ModuleType:
    """The shard tests' sample factory, which is not on the path here."""
    path = Path(__file__).resolve().parent.parent / "shards" / "shard_factory.py"
    spec = importlib.util.spec_from_file_location("look_shard_factory", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(factory: ModuleType, tmp_path: Path) -> Path:
    factory.write_run(tmp_path / "run" / "shards", 5, flac=True, max_samples=2)
    return tmp_path / "run"


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(inspect_command, [str(a) for a in arguments], catch_exceptions=False)


def validate(*arguments: object) -> Result:
    return CliRunner().invoke(validate_command, [str(a) for a in arguments], catch_exceptions=False)


def test_inspect_shows_three_samples_by_default(run: Path, factory: ModuleType) -> None:
    result = inspect(run)
    assert result.exit_code == 0
    assert [factory.record(n * 10).key in result.stdout for n in range(5)] == [True, True, True, False, False]
    assert "a bar moves to the right" in result.stdout


def test_inspect_takes_a_number_a_folder_and_a_tar(run: Path, factory: ModuleType) -> None:
    assert factory.record(40).key in inspect(run / "shards", "-n", 9).stdout
    result = inspect(run / "shards" / "demo-000000-01.tar", "--json", "-n", 9)
    assert [json.loads(line)["key"] for line in result.stdout.splitlines()] == [factory.record(n).key for n in (20, 30)]


def test_inspect_one_key_in_full(run: Path, factory: ModuleType) -> None:
    result = inspect(run, factory.record(30).key)
    assert "0.10-0.40 bar (0.90)" in result.stdout
    assert "demo-000000-01.tar" in result.stdout.replace("\n", "").replace(" ", "")
    assert factory.record(0).key not in result.stdout


def test_inspect_json_is_the_record(run: Path, factory: ModuleType) -> None:
    wanted = factory.record(10, s="so it moves")
    assert json.loads(inspect(run, wanted.key, "--json").stdout) == json.loads(wanted.to_bytes())


def test_inspect_extracts_files(run: Path, factory: ModuleType, tmp_path: Path) -> None:
    key = factory.record(10).key
    result = inspect(run, key, "--extract", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{key}.{kind}" for kind in ("flac", "json", "mp4", "txt")
    ]
    assert (tmp_path / "out" / f"{key}.mp4").read_bytes() == factory.tiny_mp4()
    assert "wrote" in result.stderr and "wrote" not in result.stdout


def test_inspect_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sample `nothing`"):
        inspect(run, "nothing")
    with pytest.raises(UsageError, match="is not there"):
        inspect(tmp_path / "absent")
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ShardError, match=r"vidcap validate .*broken\.tar"):
        inspect(tmp_path / "broken.tar")


def test_validate_a_sound_run(run: Path) -> None:
    result = validate(run, "--media")
    assert (result.exit_code, result.stdout) == (0, "5 samples in 3 shards: no faults\n")
    result = validate(run, "--json")
    assert json.loads(result.stdout) == {"ok": True, "shards": 3, "samples": 5, "faults": []}


def test_validate_exits_4_and_names_shard_key_and_fault(run: Path, factory: ModuleType) -> None:
    path = run / "shards" / "demo-000000-01.tar"
    path.write_bytes(path.read_bytes().replace(b"a bar moves to the right", b"a bar moves to the LEFT!", 1))
    result = validate(run)
    assert result.exit_code == 4
    first, last = result.stdout.splitlines()
    assert first == f"demo-000000-01.tar {factory.record(20).key}: txt.differs: .txt is not caption v"
    assert last == "5 samples in 3 shards: 1 faults"
    result = validate(run, "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["faults"] == [
        {
            "shard": "demo-000000-01.tar",
            "key": factory.record(20).key,
            "fault": "txt.differs: .txt is not caption v",
        }
    ]


def test_validate_media_looks_into_the_clips(factory: ModuleType, tmp_path: Path) -> None:
    from vidcap.shards.writer import ShardWriter, write_sizes

    with ShardWriter(tmp_path, "demo", 0, max_bytes=10**6, flac=False) as writer:
        writer.add(factory.sample(0, mp4=factory.tiny_mp4(frames=9)))
    write_sizes(tmp_path, {"demo-000000-00.tar": 1})
    assert validate(tmp_path).exit_code == 0
    result = validate(tmp_path, "--media")
    assert result.exit_code == 4
    assert "media: decodes to 9 frames, the record says 10" in result.stdout


def test_importing_the_commands_imports_nothing_heavy() -> None:
    heavy = {"av", "jinja2", "pyarrow", "pydantic", "rich", "tornado"}
    program = f"import sys, vidcap.cli.inspect, vidcap.cli.look; print(*sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == ""
