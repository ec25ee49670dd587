"""The pipeline YAML: what is accepted, and that every mistake names its line and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcap.errors import ConfigError
from vidcap.pipeline.config import load_config


@pytest.fixture
def demo_yaml(repository: Path) -> str:
    return (repository / "pipelines" / "demo.yaml").read_text()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    return path


def test_the_demo_is_valid(repository: Path) -> None:
    config = load_config(repository / "pipelines" / "demo.yaml")
    assert [stage.stage for stage in config.stages][:3] == ["decode", "detect_shots", "trim"]
    assert config.input.part_bytes == 2_000_000_000


def test_an_unknown_key_names_line_and_nearest_key(tmp_path: Path, demo_yaml: str) -> None:
    path = write(tmp_path, demo_yaml.replace("min_seconds: 2", "min_second: 2"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    line = next(i for i, text in enumerate(demo_yaml.splitlines(), 1) if "stage: trim" in text)
    assert f"{path}:{line}:" in caught.value.message
    assert "`min_second`" in caught.value.message
    assert "`min_seconds`" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("backend: fast", "backend: nothing", "nothing"),
        ("{stage: trim", "{stage: trimm", "trimm"),
        ("name: demo", "name: de.mo", "letters"),
        ("seed: 17", "seed: -1", "seed"),
        ("seed: 17", "seed: 17\nseed: 18", "twice"),
        ("seed: 17", "seed: [", "YAML"),
        ("part_bytes: 2GB", "part_bytes: two", "part_bytes"),
        (", backend: pocketsphinx", "", "needs a backend"),
        ("prompts: {av: fuse_av", "prompts: {ab: fuse_av", "no prompt `ab`"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, demo_yaml: str, old: str, new: str, message: str) -> None:
    from vidcap.errors import UsageError
    from vidcap.pipeline.plan import Plan

    assert old in demo_yaml
    path = write(tmp_path, demo_yaml.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        Plan(load_config(path)).identities()
    assert message in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_overrides_take_precedence(repository: Path) -> None:
    path = repository / "pipelines" / "demo.yaml"
    config = load_config(path, ("stages.trim.options.min_seconds=3.5", "seed=4", "runner.workers=1"))
    trim = config.stage("trim")
    assert trim is not None
    assert trim.options["min_seconds"] == 3.5
    assert (config.seed, config.runner.workers) == (4, 1)


@pytest.mark.parametrize(
    "text", ["seed", "stages.trimm.options.min_seconds=3", "seed.deeper=3", "nonsense=1", "seed={"]
)
def test_a_bad_override_is_refused(repository: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(repository / "pipelines" / "demo.yaml", (text,))
    assert caught.value.hint


def test_aliases_are_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\nb: [*a, *a]\n"
    with pytest.raises(ConfigError, match="aliases"):
        load_config(write(tmp_path, bomb))


def test_tags_execute_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, "name: !!python/object/apply:os.system ['touch owned']\n"))
    assert not (Path.cwd() / "owned").exists()
