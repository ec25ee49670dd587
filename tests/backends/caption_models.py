"""Tiny captioning models in the format of the hub, made once per process, and servers that caption as they are told."""

from __future__ import annotations

import atexit
import base64
import functools
import hashlib
import importlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from model_server import Reply, chat

SENTENCE = re.compile(r"[Rr]ed|[Gg]reen|[Bb]lue|[Ww]hite|[Bb]lack")
REST = " kites fly over the quiet lake in this calm evening light."


@functools.cache
def folder_of(family: str) -> Path:
    """The folder of a tiny model by the name of its maker in tests/tiny_models; skips where libraries are missing."""
    for library in ("torch", "torchvision", "transformers"):
        pytest.importorskip(library)
    base = Path(tempfile.mkdtemp(prefix=f"{family}-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    folder = base / f"tiny-{family}"
    getattr(importlib.import_module(f"tiny_models.{family}"), f"make_{family}")(folder)
    return folder


def pictures_of(payload: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """The pictures that a chat request shows, decoded (H×W×3 RGB)."""
    found = []
    for part in payload["messages"][0]["content"]:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/jpeg;base64"
            found.append(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB))
    return found


def words_of(payload: dict[str, Any]) -> str:
    """The words of a chat request, with or without pictures."""
    content = payload["messages"][0]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def seen(payload: dict[str, Any], number: int) -> Reply:
    """A sentence that depends on the request and on nothing else."""
    shown = hashlib.sha256(repr((payload["messages"], payload["seed"])).encode()).hexdigest()[:8]
    return chat(f"Something of kind {shown} moves.")


def options_of(backend: str, url: str) -> dict[str, Any]:
    """Options with which a backend of the role captions with tiny models; `url`: a server that answers by `seen`."""
    served = {"endpoints": [url], "model": "m"}
    if backend == "openai":
        return served
    if backend == "internvid":
        models = {"middle": str(folder_of("blip2")), "fine": str(folder_of("git_caption"))}
        return {**models, "llm": {"name": "openai", **served}}
    return {"model": str(folder_of("qwen25_vl"))} if backend == "transformers_vlm" else {}
