"""The training YAML: presets load, unknown keys and contradictions name file and line; what a step costs."""

# What follows the check for torch needs torch.
# ruff: noqa: E402
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.full

import torch
import trainable
from tiny_models.stage2 import batch_of, config_of, model_of
from torch.utils.flop_counter import FlopCounterMode

from vidcap.errors import ConfigError, UsageError
from vidcap.models.masking import MaskSpec
from vidcap.train import assembly, flops
from vidcap.train.config import TrainConfig, load_config
from vidcap.train.losses import LossSpec
from vidcap.train.model_config import ModelConfig
from vidcap.train.text import WordPieceTokens


def test_the_presets_are_those_of_the_paper(repository: Path) -> None:
    first, second, demo = (
        load_config(repository / "pipelines" / f"stage2-{n}.yaml") for n in ("step1", "step2", "demo")
    )
    assert first.step.mask == MaskSpec(video=0.8, image=0.5) and first.step.freeze == ("audio",)
    assert second.step.mask is None and second.step.freeze == ("vision",)
    assert first.optimiser.betas == (0.9, 0.98) and first.optimiser.clip_norm == 3.0
    assert set(first.losses.weights) == {"vtc", "vtm", "mlm", "avtc", "avtm", "avmlm"}
    assert demo.run.device == "cpu" and demo.tokenizer.path is None
    assert {source.media_type for source in second.sources} == {"video", "audio", "audio_video"}


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        ("  bacth: 4", 8, "unknown key `bacth`\nhint: did you mean `batch`"),
        ("  batch: 0", 8, "`run.batch`: input should be greater"),
        ("  epochs: 2", 6, "`run`: give either `epochs` or `steps`"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, change: str, line: int, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        "name: x\nsources:\n  - shards: some\n    media_type: video\noutput: {path: out}\nrun:\n  steps: 2\n"
        + change
        + "\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}:{line}: {message}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sources.0.annotations=x.json", "either `shards` or `annotations`"),
        ("sources.0.root=x", "`root` is for annotations"),
        ("sources.3.weight=2", "there are 1 items"),
        ("model.vocab=1", "unknown key `vocab`"),
        ("model.mask_id=4", "`mask_id` comes from the tokenizer"),
        ("losses.uta=1", "need a teacher"),
        ("step.mask={video: 1.0}", "less than 1"),
    ],
)
def test_contradictions(tmp_path: Path, override: str, message: str) -> None:
    path = trainable.write_config(tmp_path / "my.yaml", tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        load_config(path, (override,))


def test_overrides_and_what_goes_into_a_checkpoint(tmp_path: Path) -> None:
    path = trainable.write_config(tmp_path / "my.yaml", tmp_path, tmp_path / "out")
    config = load_config(path, ("run.batch=3", "sources.0.weight=0.5", "losses.pairs=[{media: v, text: any}]"))
    assert (config.run.batch, config.sources[0].weight, config.kinds) == (3, 0.5, ("any",))
    assert TrainConfig.model_validate(json.loads(json.dumps(config.plain()))) == config


def test_the_tokenizer_sizes_the_model() -> None:
    tokens = WordPieceTokens.learnt(["a red car", "a blue car"], 100)
    sized = assembly.sized(ModelConfig(frames=2), tokens)
    assert (sized.vocab_size, sized.cls_id, sized.mask_id, sized.frames) == (tokens.vocab_size, 2, 4, 2)
    assert assembly.sized(ModelConfig(vocab_size=500), tokens).vocab_size == 500
    many = WordPieceTokens.learnt([f"{one}{other} {other}{one}" for one in "abcdefghij" for other in "klmnop"], 1000)
    with pytest.raises(UsageError, match="less than the"):
        assembly.sized(ModelConfig(vocab_size=104), many)


@pytest.mark.parametrize("mask", [None, MaskSpec(video=0.5)])
def test_the_formula_of_operations_agrees_with_counting_them(mask: MaskSpec | None) -> None:
    """Of the matrix products of a forward and backward pass; the word loss hides half of the words on average."""
    model = model_of().train()
    batch: Any = batch_of()
    spec = LossSpec(pairs=({"media": "v", "text": "v"}, {"media": "av", "text": "avs"}))
    counter = FlopCounterMode(display=False)
    with counter:
        found = model.losses(batch, spec, generator=torch.Generator().manual_seed(0), vision_mask=mask)
        sum(found.values()).backward()
    said = flops.cost(model.config, batch, spec, mask).flops
    assert said == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_frozen_encoders_cost_no_way_back() -> None:
    batch: Any = batch_of()
    spec = LossSpec(pairs=({"media": "av", "text": "avs"},))
    whole = flops.cost(config_of(), batch, spec, None).flops
    frozen = flops.cost(config_of(), batch, spec, None, ("vision",)).flops
    first, rest, tokens = flops.vision(config_of(), batch.frames.shape[1], None)
    assert whole - frozen == len(batch.keys) * (first + 2 * rest)
    assert tokens == batch.frames.shape[1] * config_of().vision_shape.tokens_per_frame + 1


def test_tokens_of_the_paper() -> None:
    large = ModelConfig(size="1B")
    assert flops.vision(large, 4, MaskSpec(video=0.8))[2] == 206
    assert flops.vision(large, 1, MaskSpec(image=0.5))[2] == 129
    assert flops.audio(large, 998, 64)[2] == 248
    assert flops.peak_of("NVIDIA H100 80GB HBM3") == 989e12 and flops.peak_of("Abacus") is None
