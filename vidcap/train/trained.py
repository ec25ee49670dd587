"""A trained model as it lies on disk: a checkpoint of this trainer, or a YAML that names published weights."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from vidcap.errors import UsageError
from vidcap.train import assembly, checkpoint
from vidcap.train.config import TrainConfig, load_config
from vidcap.train.model import Stage2Model
from vidcap.train.text import WordPieceTokens


def open_model(path: Path) -> tuple[Stage2Model, WordPieceTokens]:
    """On the CPU, with its tokens. Raises `UsageError` or `BackendError` where weights or tokens are missing."""
    if path.suffix in (".yaml", ".yml"):
        config = load_config(path)
        if config.initial.weights is None or config.tokenizer.path is None:
            raise UsageError(
                f"`{path}` names no `initial.weights` or no `tokenizer.path`",
                hint="give a folder of `vidcap train`, or name both",
            )
        tokens = WordPieceTokens.read(Path(config.tokenizer.path))
        return assembly.model_of(config, tokens), tokens
    folder = checkpoint.found(path)
    try:
        config = TrainConfig.model_validate(json.loads((folder / checkpoint.CONFIG).read_bytes()))
    except (OSError, ValueError, ValidationError) as error:
        raise UsageError(f"`{folder}` has no sound config.json: {error}", hint=checkpoint.HINT) from error
    tokens = WordPieceTokens.read(folder / checkpoint.TOKENIZER)
    model = Stage2Model(assembly.sized(config.model, tokens))
    checkpoint.fill_weights(model, folder)
    return model, tokens
