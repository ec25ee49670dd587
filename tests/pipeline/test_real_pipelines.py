"""The pipelines of real models pass `vidcap plan` where no weights are: what they need is named, not opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcap.cli.run import prepare

pytestmark = pytest.mark.full


@pytest.mark.parametrize("name", ["internvid2", "laptop"])
def test_it_passes_the_plan_without_weights(
    name: str, repository: Path, demo_media: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, plan, manifest = prepare(
        pipeline=repository / "pipelines" / f"{name}.yaml",
        source=str(demo_media),
        output=tmp_path / "out",
        workers=None,
        scheduler=None,
        overrides=(),
        limit=None,
        runner="dask",
    )
    assert manifest.sources
    found = plan.identities()
    speaking = {"transcribe", "caption_video", "caption_audio", "identify_language", "translate", "fuse"}
    assert set(found) == {"detect_shots", "score"} | speaking
    if name == "internvid2":
        said = " ".join(found.values())
        for choice in (
            "autoshot@3e85290546ce",
            "/0.5/",
            "large-v2",
            "blip2-opt",
            "lid.176",
            "seamless-m4t",
            "vicuna-13b-v1.5",
            "ViT-L-14",
        ):
            assert choice in said
        assert plan.config.stage("select").options["top"] == 60_000_000  # type: ignore[union-attr]
