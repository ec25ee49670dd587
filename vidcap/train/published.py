"""Weights that others have published, into a stage-2 model: whole stage-2 files, a BERT, a BEATs.

Released stage-2 files are pickles of a training framework: `{"module": {key: tensor}, …}`. They are read with an
allow-list, and what stands beside the weights becomes plain maps and empty objects: nothing in a file is run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidcap import safe_checkpoints
from vidcap.errors import BackendError
from vidcap.models.beats import TABLE, load_beats
from vidcap.models.positions import stretched
from vidcap.models.text import TextEncoder
from vidcap.train.model import Stage2Model

HINT = "a model as the file's: `fuse_audio: false` for the 1B layout, `true` for the 6B one"
UNDER = ("model", "module")
"""Where a file's weights stand, in the order in which it is looked; else at its top."""
POSITIONS = ("pos_embed", "clip_pos_embed")
IMAGE_POSITIONS = ("img_pos_embed", "clip_img_pos_embed")
NORMED = {"encoder.pos_conv.0.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g"} | {
    "encoder.pos_conv.0.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v"
}
"""Newer names of a normed convolution's weights → the published ones."""
PUBLISHED_FRAMES = 4
NOT_OURS = ("bert.pooler.", "cls.seq_relationship.")
"""Of a BERT file: heads that this model does not have."""


class _Nothing:
    """Stands in for an object of a framework beside the weights; it takes anything and keeps nothing."""

    def __new__(cls, *args: object) -> _Nothing:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


STAND_INS: list[Any] = [
    *((OrderedDict, name) for name in ("easydict.EasyDict", "utils.easydict.EasyDict")),
    *(
        (_Nothing, name)
        for name in (
            "argparse.Namespace",
            "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
            "deepspeed.runtime.fp16.loss_scaler.LossScaler",
            "deepspeed.runtime.zero.config.ZeroStageEnum",
            "deepspeed.utils.tensor_fragment.fragment_address",
        )
    ),
]
"""What a released file may name, and what is put there instead."""


def load_stage2(model: Stage2Model, path: Path, *, file_frames: int = PUBLISHED_FRAMES, hint: str = HINT) -> None:
    """Fill the whole model from a published file, strictly: all its tensors, no others.

    Position tables are stretched to the model's frames and size; the file's tables are of `file_frames` frames. Raises
    `BackendError` naming the keys that differ; the model is then as before.
    """
    state = _weights(path, hint)
    for new, old in NORMED.items():
        if f"audio_encoder.{new}" in state:
            state[f"audio_encoder.{old}"] = state.pop(f"audio_encoder.{new}")
    _stretch(state, model, file_frames, path, hint)
    _same(state, [key for key in state if key.startswith("audio_encoder.") and key.endswith(TABLE)], path, hint)
    words = ("text_encoder.bert.embeddings.word_embeddings.weight", "text_encoder.cls.predictions.decoder.weight")
    _same(state, words, path, hint)
    _same(state, ("text_encoder.cls.predictions.bias", "text_encoder.cls.predictions.decoder.bias"), path, hint)
    safe_checkpoints.fill(model, state, path, hint=hint)


def load_bert(
    encoder: TextEncoder, path: Path, *, hint: str = "a folder with a BERT of the text encoder's size"
) -> list[str]:
    """Fill the text encoder from a BERT of transformers: a file, or a folder with `model.safetensors` or
    `pytorch_model.bin`. Names with or without `bert.`, also the old `gamma` and `beta`.

    Returns the keys that stay as they were: cross-attention, and the head for words where the file has none.
    """
    if path.is_dir():
        names = ("model.safetensors", "pytorch_model.bin")
        path = next((path / name for name in names if (path / name).is_file()), path / names[0])
    found = {_bert_key(key): value for key, value in _weights(path, hint).items()}
    found = {key: value for key, value in found.items() if not key.startswith(NOT_OURS)}
    own = encoder.state_dict()
    fresh = [key for key in own if ".crossattention." in key]
    has_head = any(key.startswith("cls.") for key in found)
    if not has_head:
        fresh += [key for key in own if key.startswith("cls.") and ".decoder.weight" not in key]
    words = found.get("bert.embeddings.word_embeddings.weight")
    if words is not None:
        found.setdefault("cls.predictions.decoder.weight", words)
    if has_head and "cls.predictions.bias" in found:
        found.setdefault("cls.predictions.decoder.bias", found["cls.predictions.bias"])
    _same(found, ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"), path, hint)
    _same(found, ("cls.predictions.bias", "cls.predictions.decoder.bias"), path, hint)
    # The places of a text count up from 0 in every file; newer ones leave them out.
    found["bert.embeddings.position_ids"] = own["bert.embeddings.position_ids"]
    kept = {key: own[key] for key in fresh if key not in found}
    safe_checkpoints.fill(encoder, found | kept, path, hint=hint)
    return sorted(kept)


def load_audio(model: Stage2Model, path: Path, *, hint: str = "a BEATs file of the model's size") -> None:
    """Fill the audio encoder from a published BEATs file, `{"cfg": …, "model": …}`; its classifier is left."""
    if not model.config.fuse_audio:
        raise BackendError(f"`{path}` is of sound, which this model does not hear", hint="`fuse_audio: true`")
    loaded = load_beats(path, hint=hint)
    safe_checkpoints.fill(model.audio_encoder, loaded.network.state_dict(), path, hint=hint)


def _weights(path: Path, hint: str) -> dict[str, Tensor]:
    with torch.serialization.safe_globals(STAND_INS):
        found = safe_checkpoints.content_of(path, hint=hint)
    if isinstance(found, Mapping):
        found = next((found[key] for key in UNDER if isinstance(found.get(key), Mapping)), found)
    return safe_checkpoints.named_tensors(found, path, hint=hint)


def _bert_key(key: str) -> str:
    key = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return key if key.startswith(("bert.", "cls.")) else f"bert.{key}"


def _same(state: Mapping[str, Tensor], keys: Any, path: Path, hint: str) -> None:
    """Raises where keys that are one tensor here differ in the file."""
    there = [key for key in keys if key in state]
    if any(not torch.equal(state[key], state[there[0]]) for key in there[1:]):
        raise BackendError(f"`{path}` has different tensors under {' and '.join(there[:2])}, which are one", hint=hint)


def _stretch(state: dict[str, Tensor], model: Stage2Model, frames: int, path: Path, hint: str) -> None:
    """Tables of positions of another number of frames or another size, in place."""
    shape = model.config.vision_shape
    for name in (*POSITIONS, *IMAGE_POSITIONS):
        key = f"vision_encoder.{name}"
        table = state.get(key)
        wanted = getattr(model.vision_encoder, name, None)
        if table is None or wanted is None or table.shape == wanted.shape:
            continue
        before = frames if name in POSITIONS else 1
        grid = round(((table.shape[1] - 1) / before) ** 0.5) if table.dim() == 3 else 0
        if table.dim() != 3 or 1 + before * grid**2 != table.shape[1] or table.shape[2] != shape.width:
            raise BackendError(
                f"`{path}` has {key} of the shape {tuple(table.shape)}, which is not of {before} square frames",
                hint=hint,
            )
        after = shape.frames if name in POSITIONS else 1
        state[key] = stretched(table, (before, grid), (after, shape.grid))
