"""From a configuration to its parts: sources with their indices, tokens, the model with its first weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidcap.errors import ItemError, UsageError
from vidcap.seeds import seed_of
from vidcap.train import checkpoint, published
from vidcap.train.config import RunConfig, SourceConfig, TokenizerConfig, TrainConfig
from vidcap.train.distributed import rank, wait_for_all, world_size
from vidcap.train.losses import LossSpec
from vidcap.train.model import Stage2Model
from vidcap.train.model_config import ModelConfig
from vidcap.train.sources import ShardSource, Source
from vidcap.train.text import WordPieceTokens

INDEX = "index"


def sources_of(configs: Sequence[SourceConfig], output: Path | None) -> list[Source]:
    """Opened, their shards indexed: each shard by one of the processes. Raises `UsageError` where one is empty."""
    found = [config.opened(output / INDEX if output is not None else None) for config in configs]
    for source in found:
        if isinstance(source, ShardSource) and output is not None:
            for unit in range(rank(), len(source.shards), world_size()):
                source.index(unit)
    wait_for_all()
    for source in found:
        if not sum(source.counts):
            raise UsageError(f"there is no sample in `{source.name}`", hint="run `vidcap validate` on its shards")
    return found


def tokens_of(config: TokenizerConfig, sources: Sequence[Source], kept: Path) -> WordPieceTokens:
    """As configured, else learnt from captions by the first process and kept in the file `kept` for all."""
    if config.path is not None:
        return WordPieceTokens.read(Path(config.path))
    if rank() == 0:
        learnt = WordPieceTokens.learnt(captions_of(sources, config.captions), config.vocabulary)
        learnt.save(kept)
    wait_for_all()
    return WordPieceTokens.read(kept)


def captions_of(sources: Sequence[Source], most: int) -> Iterator[str]:
    """All captions (and choices) of at most about `most` samples, evenly spread; unusable samples are passed over."""
    stride = max(1, sum(sum(source.counts) for source in sources) // most)
    place = 0
    for source in sources:
        for unit, count in enumerate(source.counts):
            for item in range(count):
                place += 1
                if (place - 1) % stride:
                    continue
                try:
                    content = source.content(unit, item)
                except ItemError:
                    continue  # counted where it is trained on
                yield from (text for kind in sorted(content.captions) for text in content.captions[kind])
                yield from content.choices


def sized(config: ModelConfig, tokens: WordPieceTokens) -> ModelConfig:
    """With the vocabulary and the special ids of the tokenizer."""
    given = config.vocab_size if "vocab_size" in config.model_fields_set else 0
    if given and given < tokens.vocab_size:
        raise UsageError(
            f"`model.vocab_size: {given}` is less than the {tokens.vocab_size} pieces of the tokenizer",
            hint="leave it out",
        )
    ids = {
        "vocab_size": given or tokens.vocab_size,
        "pad_id": tokens.pad_id,
        "cls_id": tokens.cls_id,
        "mask_id": tokens.mask_id,
    }
    return ModelConfig.model_validate(config.model_dump(exclude_unset=True) | ids)


def model_of(config: TrainConfig, tokens: WordPieceTokens) -> Stage2Model:
    """On the CPU, with its first weights: drawn by the seed, then filled as `initial` says, then frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, "weights", "train") >> 1)
        model = Stage2Model(sized(config.model, tokens))
    model.check(config.losses)
    initial = config.initial
    if initial.weights is not None:
        path = Path(initial.weights)
        if path.is_dir() or path.name == checkpoint.MODEL:
            checkpoint.fill_weights(model, checkpoint.found(path))
        else:
            published.load_stage2(model, path, file_frames=initial.frames)
    if initial.bert is not None:
        published.load_bert(model.text_encoder, Path(initial.bert))
    if initial.audio is not None:
        published.load_audio(model, Path(initial.audio))
    if config.step.freeze:
        model.freeze(config.step.freeze, config.step.unfreeze)
    return model


class LossStep(nn.Module):
    """A batch's losses as a call of a module: what DDP listens to."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.spec: LossSpec = config.losses
        self.mask = config.step.mask
        self._weights = self.spec.weights
        # DDP waits for a way back in every step, also where no sample allowed a loss: it leads through this one.
        self._anchored = config.run.parallel == "ddp"

    def forward(self, batch: Any, seed: int) -> tuple[Any, dict[str, Any]]:
        """The weighted sum (None where there is no loss) and each loss, detached."""
        generator = torch.Generator().manual_seed(seed)
        losses = self.model(batch, self.spec, generator=generator, vision_mask=self.mask)
        total: Any = None
        for name, loss in losses.items():
            weighted = self._weights[name] * loss
            total = weighted if total is None else total + weighted
        if self._anchored:
            smallest = min((p for p in self.model.parameters() if p.requires_grad), key=lambda p: p.numel())
            nothing = smallest.sum() * 0.0
            total = nothing if total is None else total + nothing
        return total, {name: loss.detach() for name, loss in losses.items()}


def placed(model: Stage2Model, config: TrainConfig, device: torch.device) -> nn.Module:
    """The model on its device, its blocks compiled and its parameters shared as configured, as a `LossStep`."""
    run = config.run
    if run.parallel != "none" and not torch.distributed.is_initialized():
        raise UsageError(f"`run.parallel: {run.parallel}` needs processes", hint="start it with torchrun")
    if run.parallel == "none" and world_size() > 1:
        raise UsageError(f"{world_size()} processes and `run.parallel: none`", hint="set it to ddp or fsdp2")
    model.to(device)
    if run.compile:
        for block in blocks_of(model):
            block.compile()
    step = LossStep(model, config)
    if run.parallel == "fsdp2":
        _share(model, run, device)
    if run.parallel == "ddp":
        return nn.parallel.DistributedDataParallel(
            step,
            device_ids=[device.index] if device.type == "cuda" else None,
            # Which encoders take part depends on the media type of the step.
            find_unused_parameters=True,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
    return step


def blocks_of(model: Stage2Model) -> list[nn.Module]:
    return [*model.vision_encoder.blocks, *model.text_encoder.bert["encoder"].layer]


def _share(model: Stage2Model, run: RunConfig, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (world_size(),))
    half = run.precision == "bf16"
    policy = MixedPrecisionPolicy(
        # Autocast chooses what is computed in half precision; what is sent between devices is half as long.
        param_dtype=torch.bfloat16 if half and device.type == "cuda" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    blocks = blocks_of(model)
    if model.config.fuse_audio:
        blocks.append(model.audio_encoder)  # as one: its layers share a table
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    # A single number cannot be shared out: every process has the temperature, see `optimiser.clip`.
    whole = MixedPrecisionPolicy(cast_forward_inputs=False)
    fully_shard(model, mesh=mesh, mp_policy=whole, ignored_params={model.temp})
    for name in ("embed_media", "embed_text", "match_both"):  # evaluation calls these, not the module
        register_fsdp_forward_method(model, name)
