"""Parts never move, fingerprints change exactly with their inputs, a stage depends on what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.errors import ConfigError
from vidcap.pipeline.config import PipelineConfig, load_config
from vidcap.pipeline.plan import Part, Plan, cut_parts, extend_parts, load_parts, save_parts
from vidcap.records import Source


def source(name: str, size: int = 1, row: int = 0) -> Source:
    return Source(id=name, row=row, uri=f"{name}.mp4", path=f"/there/{name}.mp4", bytes=size)


@pytest.fixture
def config(repository: Path) -> PipelineConfig:
    return load_config(repository / "pipelines" / "demo.yaml")


def variant(repository: Path, *overrides: str) -> Plan:
    return Plan(load_config(repository / "pipelines" / "demo.yaml", overrides))


sizes = st.lists(st.integers(0, 100), min_size=1, max_size=60)


@given(sizes=sizes, part_bytes=st.integers(1, 150), count=st.integers(1, 10))
def test_parts_hold_every_source_once_in_order(sizes: list[int], part_bytes: int, count: int) -> None:
    sources = [source(f"s{i}", size, i) for i, size in enumerate(sizes)]
    parts = cut_parts(sources, part_bytes=part_bytes, sources_per_part=count)
    assert [s for part in parts for s in part.sources] == sources
    assert [part.number for part in parts] == list(range(len(parts)))
    for part in parts:
        assert len(part.sources) <= count
        assert len(part.sources) == 1 or sum(s.bytes for s in part.sources) <= part_bytes


@given(sizes=sizes, more=sizes, count=st.integers(1, 10))
def test_adding_sources_never_moves_a_part(sizes: list[int], more: list[int], count: int) -> None:
    old = [source(f"s{i}", size, i) for i, size in enumerate(sizes)]
    new = [source(f"n{i}", size, i) for i, size in enumerate(more)]
    before = cut_parts(old, part_bytes=150, sources_per_part=count)
    mixed = new[::2] + old + new[1::2]
    after = extend_parts(before, mixed, part_bytes=150, per_part=count)
    assert after[: len(before)] == before
    assert sorted(s.id for part in after for s in part.sources) == sorted(s.id for s in mixed)
    rows = [s.row for part in after for s in part.sources]
    assert len(set(rows)) == len(rows)


def test_parts_survive_the_disk(tmp_path: Path) -> None:
    parts = cut_parts([source("a"), source("b")], part_bytes=10, sources_per_part=1)
    save_parts(tmp_path, parts)
    assert load_parts(tmp_path) == parts


def test_a_prompt_change_touches_fuse_and_score_only(repository: Path, tmp_path: Path) -> None:
    prompt = (repository / "prompts" / "fuse_av.md").read_text().replace(
        "name: fuse_av\n", "name: mine\n"
    ) + "\nMore.\n"
    (tmp_path / "mine.md").write_text(prompt)
    part = Part(0, (source("a"),))
    before = variant(repository).fingerprints(part)
    after = variant(repository, f"stages.fuse.prompts.av={tmp_path / 'mine.md'}").fingerprints(part)
    assert {name for name in before if before[name] != after[name]} == {"fuse", "score"}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("stages.trim.options.min_seconds=3", "all after detect_shots"),
        (
            "stages.transcribe.options.min_word_confidence=0.5",
            {"transcribe", "identify_language", "translate", "fuse", "score"},
        ),
        ("stages.score.options.kinds=[v]", {"score"}),
        ("stages.select.options.min=0.3", set()),
        ("runner.workers=7", set()),
        ("output.path=elsewhere", set()),
        ("name=other", set()),
        # How the detector works is incidental; what it decides is not.
        ("stages.detect_shots.backend={name: fast, threads: 3}", set()),
        ("stages.detect_shots.backend={name: fast, threshold: 0.9}", "all after decode"),
    ],
)
def test_a_fingerprint_changes_if_and_only_if_an_input_does(
    repository: Path, override: str, changed: set[str] | str
) -> None:
    part = Part(0, (source("a"),))
    before = variant(repository).fingerprints(part)
    after = variant(repository, override).fingerprints(part)
    above = {"all after decode": {"decode"}, "all after detect_shots": {"decode", "detect_shots"}}
    expected = set(before) - above[changed] if isinstance(changed, str) else changed
    assert {name for name in before if before[name] != after[name]} == expected


def test_where_the_corpus_is_mounted_does_not_matter(repository: Path) -> None:
    plan = variant(repository)
    there = source("a")
    here = Source(**{**{f: getattr(there, f) for f in Source.__slots__}, "path": "/here/a.mp4"})
    bigger = Source(**{**{f: getattr(there, f) for f in Source.__slots__}, "bytes": 2})
    assert plan.fingerprints(Part(0, (there,))) == plan.fingerprints(Part(0, (here,)))
    assert plan.fingerprints(Part(0, (there,)))["decode"] != plan.fingerprints(Part(0, (bigger,)))["decode"]


def test_stages_on_one_pool_are_one_step(repository: Path) -> None:
    assert len(variant(repository).steps) == 1
    split = variant(repository, "stages.caption_video.pool=gpu", "stages.caption_audio.pool=gpu")
    assert [(step.pool, len(step.stages)) for step in split.steps] == [("cpu", 4), ("gpu", 2), ("cpu", 4)]


def test_a_missing_stage_is_named(repository: Path, tmp_path: Path) -> None:
    text = (repository / "pipelines" / "demo.yaml").read_text()
    lines = [line for line in text.splitlines() if "stage: caption_video" not in line]
    path = tmp_path / "p.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="caption_v") as caught:
        Plan(load_config(path))
    assert "caption_video" in caught.value.hint


def test_a_pipeline_may_end_before_selection(repository: Path) -> None:
    config = load_config(repository / "pipelines" / "demo.yaml")
    stages = tuple(stage for stage in config.stages if stage.stage not in ("select", "pack"))
    plan = Plan(config.model_copy(update={"stages": stages}))
    assert plan.order[-1] == "score"
    assert plan.pack_step is None


def test_prompts_are_read_once(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidcap import prompts

    read = []
    real = prompts.load

    def load(name: str, **where: Any) -> prompts.Prompt:
        read.append(name)
        return real(name, **where)

    monkeypatch.setattr(prompts, "load", load)
    plan = variant(repository)
    for _ in range(3):
        plan.identities()
        for stage in plan.config.stages:
            plan.prompts_of(stage)
    assert len(read) == len(set(read)) > 0
