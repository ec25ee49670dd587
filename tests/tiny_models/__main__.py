"""Makes a tiny model for every role and a pipeline that uses them:

    python tests/tiny_models FOLDER
    vidcap run FOLDER/internvid2.yaml --input VIDEOS --output RUN

The pipeline is `pipelines/internvid2.yaml` with the same stages, backends and options; only where models lie differs,
the devices are CPUs, and the language model answers in the worker instead of behind a server.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
# Instead of this folder, whose modules are called like libraries.
sys.path[:1] = [str(ROOT), str(TESTS), str(TESTS / "backends")]

SPOKEN = " nous avons marché longtemps dans la forêt et il faisait très froid"
"""What the tiny Whisper hears in everything; fastText is sure that it is French."""


def make(folder: Path, pipeline: Path = ROOT / "pipelines" / "internvid2.yaml") -> Path:
    """Fills `folder`; returns the pipeline in it. Takes about a minute on one core."""
    import yaml

    given = yaml.safe_load(pipeline.read_text())
    where = make_models(folder)
    for stage in given["stages"]:
        stage.pop("pool", None)
        stage.pop("device", None)
        if isinstance(stage.get("backend"), dict):
            stage["backend"] = small(stage["backend"], where)
        if "llm" in stage:
            stage["llm"] = small(stage["llm"], where)
    given["runner"] = {"workers": 1}
    given["output"] = {"path": str(folder / "run")}
    target = folder / pipeline.name
    target.write_text(yaml.safe_dump(given, sort_keys=False))
    return target


def small(backend: dict[str, Any], where: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The same backend, with the tiny model; a language model behind a server becomes one in the worker."""
    found = {**backend, **where[backend["name"]]}
    if isinstance(found.get("llm"), dict):
        found["llm"] = small(found["llm"], where)
    return {name: value for name, value in found.items() if value is not None}


def make_models(folder: Path) -> dict[str, dict[str, Any]]:
    """Backend → the options that its tiny model asks for; None takes an option out."""
    import clip_models
    import shot_checkpoints
    import whisper_checkpoints
    from tiny_models.blip2 import make_blip2
    from tiny_models.git_caption import make_git_caption
    from tiny_models.qwen2_audio import make_qwen2_audio
    from tiny_models.seamless import make_seamless
    from tiny_models.tiny_vicuna import make_tiny_vicuna

    folder.mkdir(parents=True, exist_ok=True)
    autoshot = shot_checkpoints.save_published(shot_checkpoints.cut_state(), folder / "ckpt_0_200_0.pth")
    whisper = whisper_checkpoints.save(whisper_checkpoints.saying(SPOKEN), folder / "whisper.pt")
    make_blip2(folder / "blip2")
    make_git_caption(folder / "git")
    make_qwen2_audio(folder / "qwen2-audio")
    seamless = make_seamless(folder / "seamless")
    make_tiny_vicuna(folder / "vicuna")
    clip = clip_models.save_open_clip(folder / "clip")
    vicuna = {"name": "transformers", "model": str(folder / "vicuna"), "temperature": 0.7, "max_tokens": 64}
    return {
        "autoshot": {"weights": str(autoshot), "sha256": None},
        "whisper": {"model": str(whisper)},
        "internvid": {"middle": str(folder / "blip2"), "fine": str(folder / "git")},
        "transformers_audio": {"model": str(folder / "qwen2-audio")},
        "seamless": seamless,
        "openai": {**vicuna, "endpoints": None, "api": None},
        "open_clip": {"model": f"local-dir:{clip}", "tag": None, "download": None},
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    made = make(Path(sys.argv[1]).resolve())
    print(f"vidcap run {made} --input VIDEOS --output RUN")
