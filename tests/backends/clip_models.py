"""Tiny CLIP models with random weights, saved as the libraries save them and large ones are published."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

ARCHITECTURE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def random_state(architecture: dict[str, Any] | None = None) -> dict[str, Any]:
    """Weights of a tiny open_clip network, spread so that pictures and texts differ."""
    import torch
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = CLIP(**json.loads(json.dumps(architecture or ARCHITECTURE)))
        state = network.state_dict()
        for key in ("positional_embedding", "token_embedding.weight", "visual.positional_embedding"):
            state[key] = torch.randn_like(state[key])
    return {key: value.contiguous() for key, value in state.items()}


def save_open_clip(folder: Path, state: dict[str, Any] | None = None, **changed: Any) -> Path:
    """A folder for `local-dir:`, weights in safetensors. `changed`: sections of the configuration."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "model_cfg": ARCHITECTURE,
        "preprocess_cfg": {"mean": [0.48, 0.45, 0.40], "std": [0.26, 0.26, 0.27]},
    } | changed
    (folder / "open_clip_config.json").write_text(json.dumps(configuration))
    save_file(state or random_state(), folder / "open_clip_model.safetensors")
    return folder


def _siglip2_tokenizer() -> Any:
    from transformers import Siglip2Tokenizer

    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    symbols = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS]
    tokenizer = Siglip2Tokenizer({symbol: at for at, symbol in enumerate(symbols)}, [], padding_side="right")
    tokenizer.model_max_length = 64
    return tokenizer


def _clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    symbols = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), ".</w>", "th", "the</w>"]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer({symbol: at for at, symbol in enumerate(symbols)}, [("t", "h"), ("th", "e</w>")])
    tokenizer.model_max_length = 77
    return tokenizer


def save_transformers(folder: Path, family: str) -> Path:
    """A tiny `siglip` or `clip` with its processor, by `save_pretrained`."""
    import torch
    import transformers

    if family == "siglip":
        kinds: Any = (transformers.SiglipConfig, transformers.SiglipModel, transformers.SiglipProcessor)
        tokenizer, pictures, context = _siglip2_tokenizer(), transformers.SiglipImageProcessor, 64
    else:
        kinds = (transformers.CLIPConfig, transformers.CLIPModel, transformers.CLIPProcessor)
        tokenizer, pictures, context = _clip_tokenizer(), transformers.CLIPImageProcessor, 77
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": context,
        "projection_size": 32,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    configuration = kinds[0](
        text_config=sizes | text, vision_config=sizes | {"image_size": 64, "patch_size": 16}, projection_dim=32
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = kinds[1](configuration)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    crop = {"crop_size": {"height": 64, "width": 64}} if family == "clip" else {}
    size = {"shortest_edge": 64} if family == "clip" else {"height": 64, "width": 64}
    kinds[2](image_processor=pictures(size=size, **crop), tokenizer=tokenizer).save_pretrained(folder)
    return folder


@functools.cache
def folders() -> dict[str, Path]:
    """One folder of each kind, made once per process; skips where the libraries are not installed."""
    for library in ("torch", "open_clip", "transformers", "safetensors"):
        pytest.importorskip(library)
    base = Path(tempfile.mkdtemp(prefix="clip-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    return {
        "open_clip": save_open_clip(base / "open_clip"),
        "siglip": save_transformers(base / "siglip", "siglip"),
        "clip": save_transformers(base / "clip", "clip"),
    }


def options_of(backend: str) -> dict[str, Any]:
    """Options with which a CLIP backend loads a tiny model."""
    if backend == "open_clip":
        return {"model": f"local-dir:{folders()['open_clip']}"}
    return {"model": str(folders()["siglip"])}
