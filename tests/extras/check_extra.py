"""Installs VidCap with one extra alone, in an environment of its own, and has each of its backends answer.

    python tests/extras/check_extra.py ffmpeg hub faster-whisper     # or: all
    python tests/extras/check_extra.py --list

Run it with a Python that has all extras: it makes the tiny models that the backends then load. Each extra with torch
takes some 6 GB while it is checked (below TMPDIR) and its downloads; the environment is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTEST = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
"""What the project's tests need beside VidCap, whatever they test."""


@dataclass(frozen=True)
class Extra:
    """What shows that an extra works alone: backends (role, name, maker of a model) that answer, modules, tests."""

    backends: tuple[tuple[str, str, Callable[[Path], dict[str, Any]]], ...] = ()
    modules: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


def _whisper(folder: Path) -> dict[str, Any]:
    import whisper_checkpoints

    path = whisper_checkpoints.save(whisper_checkpoints.saying(), folder / "whisper.pt")
    return {"model": str(path), "vad": False}


def _faster_whisper(folder: Path) -> dict[str, Any]:
    from tiny_models.faster_whisper import make_faster_whisper

    return {**make_faster_whisper(folder / "converted"), "vad": False, "batched": False}


def _open_clip(folder: Path) -> dict[str, Any]:
    import clip_models

    return {"model": f"local-dir:{clip_models.save_open_clip(folder / 'clip')}"}


def _siglip(folder: Path) -> dict[str, Any]:
    import clip_models

    return {"model": str(clip_models.save_transformers(folder / "siglip", "siglip"))}


def _seamless(folder: Path) -> dict[str, Any]:
    from tiny_models.seamless import make_seamless

    return make_seamless(folder / "seamless")


def _vlm(folder: Path) -> dict[str, Any]:
    from tiny_models.qwen25_vl import make_qwen25_vl

    make_qwen25_vl(folder / "vlm")
    return {"model": str(folder / "vlm")}


def _qwen2_audio(folder: Path) -> dict[str, Any]:
    from tiny_models.qwen2_audio import make_qwen2_audio

    return make_qwen2_audio(folder / "audio")


def _llm(folder: Path) -> dict[str, Any]:
    from tiny_models.tiny_llama import make_tiny_llama

    make_tiny_llama(folder / "llama", practice=150)
    return {"model": str(folder / "llama"), "max_tokens": 64, "temperature": 0.0}


def _autoshot(folder: Path) -> dict[str, Any]:
    import shot_checkpoints

    path = shot_checkpoints.save_published(shot_checkpoints.cut_state(), folder / "autoshot.pth")
    return {"weights": str(path), "threshold": 0.5}


def _nothing(folder: Path) -> dict[str, Any]:
    del folder
    return {}


EXTRAS = {
    "ffmpeg": Extra(modules=("ffmpeg",), tests=("tests/media/test_ffmpeg_program.py",)),
    "hub": Extra(modules=("huggingface_hub",), tests=("tests/cli/test_models.py",)),
    "faster-whisper": Extra((("transcriber", "faster_whisper", _faster_whisper),)),
    "whisper": Extra((("transcriber", "whisper", _whisper),)),
    "clip": Extra((("similarity", "open_clip", _open_clip), ("similarity", "clip_transformers", _siglip))),
    "captions": Extra(
        (
            ("video_captioner", "transformers_vlm", _vlm),
            ("audio_captioner", "transformers_audio", _qwen2_audio),
            ("llm", "transformers", _llm),
        )
    ),
    "seamless": Extra((("translator", "seamless", _seamless),)),
    "shots": Extra(
        (
            ("shot_detector", "autoshot", _autoshot),
            ("shot_detector", "transnetv2", _nothing),
            ("shot_detector", "scenedetect", _nothing),
        )
    ),
    "train": Extra(modules=("onnx", "onnxscript"), tests=("tests/autoshot/test_training.py",)),
    "trainer": Extra(modules=("safetensors", "tokenizers", "tensorboard"), tests=("tests/train/test_model.py",)),
    "torch": Extra(modules=("torch", "torchvision"), tests=("tests/autoshot/test_networks.py",)),
    "dashboard": Extra(modules=("bokeh.application",)),
}


def check(name: str, folder: Path) -> None:
    """Raises `CalledProcessError` where something of it does not work alone."""
    extra = EXTRAS[name]
    made = [(role, backend, make(_new(folder / backend))) for role, backend, make in extra.backends]
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    wanted = [f"{ROOT}[{name}]", *(PYTEST if extra.tests else ())]
    _run(
        python,
        "-m",
        "pip",
        "-q",
        "install",
        "--disable-pip-version-check",
        "-c",
        str(ROOT / "constraints.txt"),
        *wanted,
    )
    _run(python, "-m", "pip", "check")
    for module in extra.modules:
        _run(python, "-c", f"import {module}", cwd=folder)
    for role, backend, options in made:
        # Not from the repository: what is installed is what answers.
        _run(python, str(HERE / "use_backend.py"), role, backend, json.dumps(options), cwd=folder)
    if extra.tests:
        _run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not gpu and not weights", *extra.tests)


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _run(*command: str, cwd: Path = ROOT) -> None:
    print("$", " ".join(command)[:200], flush=True)
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="or `all`")
    parser.add_argument("--list", action="store_true", help="which there are")
    given = parser.parse_args()
    names = list(EXTRAS) if given.extras == ["all"] else given.extras
    unknown = [name for name in names if name not in EXTRAS]
    if given.list or not names or unknown:
        print("\n".join(EXTRAS))
        return 2 if unknown else 0
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "backends")]
    failed = []
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"vidcap-{name}-") as folder:
            try:
                check(name, Path(folder))
            except subprocess.CalledProcessError as error:
                failed.append(name)
                print(f"{name}: FAILED: {error}"[:400])
            else:
                print(f"{name}: works alone ({time.monotonic() - started:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
