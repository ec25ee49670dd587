"""The YAML of a training run, typed. Unknown keys are errors that name file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vidcap.models.masking import MaskSpec
from vidcap.train.batch import KINDS, MediaType
from vidcap.train.losses import LossSpec
from vidcap.train.model_config import ModelConfig
from vidcap.train.sources import AnnotationSource, ShardSource, Source, tars_of
from vidcap.yaml_file import YamlFile

Kind = Literal["v", "a", "s", "av", "avs"]
DOCUMENT = "docs/training.md"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Strict):
    """Shards, or annotations in the released format; one media type."""

    media_type: MediaType
    shards: str | tuple[str, ...] | None = None
    """Folders, tars, globs, names with lists in braces."""
    annotations: str | None = None
    """A JSON array of `{"video": file, "caption": text, …}`."""
    root: str | None = None
    """What the files of the annotations are relative to and lie below; the folder of the annotations."""
    captions: tuple[Kind, ...] | dict[Kind, str] | None = None
    """Kinds that may be used, all of them if not given; of annotations kind → the entry's key."""
    weight: float = Field(default=1.0, gt=0)
    """How often each sample comes in an epoch, on average."""
    paragraph: bool = False
    """The captions of an entry are one text."""
    first_seconds: float | None = Field(default=None, gt=0)
    """What comes later in the file is left out."""
    name: str = ""
    """In reports and keys; the last part of the path."""

    @model_validator(mode="after")
    def _one_of_both(self) -> SourceConfig:
        if (self.shards is None) == (self.annotations is None):
            raise ValueError("a source has either `shards` or `annotations`")
        if self.shards is not None:
            if isinstance(self.captions, dict):
                raise ValueError("`captions` of shards is a list of kinds")
            for key in ("root", "first_seconds"):
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` is for annotations")
        elif isinstance(self.captions, tuple):
            raise ValueError("`captions` of annotations is a map of kinds to keys")
        return self

    def opened(self, index_folder: Path | None) -> Source:
        """Raises `UsageError` where there is nothing."""
        if self.shards is not None:
            patterns = (self.shards,) if isinstance(self.shards, str) else self.shards
            kinds = self.captions if isinstance(self.captions, tuple) else KINDS
            name = self.name or Path(patterns[0]).name
            return ShardSource(name, self.media_type, tars_of(patterns), kinds, index_folder)
        path = Path(self.annotations or "")
        kinds_by_key = {str(k): key for k, key in self.captions.items()} if isinstance(self.captions, dict) else {}
        return AnnotationSource(
            self.name or path.stem,
            self.media_type,
            path,
            Path(self.root) if self.root is not None else path.parent,
            kinds_by_key,
            self.paragraph,
            self.first_seconds,
        )


class TokenizerConfig(_Strict):
    path: str | None = None
    """A BERT folder, `tokenizer.json` or `vocab.txt`. Without it pieces are learnt from the captions of the sources."""
    vocabulary: int = Field(default=8000, ge=64)
    """Pieces to learn at most."""
    captions: int = Field(default=200_000, ge=1)
    """Samples whose captions are learnt from, evenly spread over the sources."""


class InitialConfig(_Strict):
    """What the weights begin as; without any they are drawn."""

    weights: str | None = None
    """A checkpoint folder of this trainer, its `model.safetensors`, or a published stage-2 file."""
    bert: str | None = None
    """A BERT of transformers, for the text encoder."""
    audio: str | None = None
    """A published BEATs file, for the audio encoder."""
    frames: int = Field(default=4, ge=1)
    """Frames that the tables of a published file are for."""


class StepConfig(_Strict):
    """What of the model is seen and learns; stage 2 has two such steps."""

    mask: MaskSpec | None = None
    """Shares of the patches that are hidden; None shows all of them."""
    freeze: tuple[str, ...] = ()
    """Parts that learn nothing: `vision`, `audio`, `text` or names of modules."""
    unfreeze: tuple[str, ...] = ()
    """Modules inside of them that do, such as `vision_encoder.clip_projector`."""


class OptimiserConfig(_Strict):
    """AdamW; the defaults are those of the released 1B and 6B configurations."""

    learning_rate: float = Field(default=5e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    """Not of one-dimensional parameters, biases, the temperature, class and position tables."""
    clip_norm: float | None = Field(default=3.0, gt=0)
    """Gradients longer than this are shortened to it."""
    warm_up_epochs: float = Field(default=1.0, ge=0)
    warm_up_steps: int | None = Field(default=None, ge=0)
    """Instead of `warm_up_epochs`."""
    floor: float = Field(default=0.01, ge=0, le=1)
    """The least rate, of warm-up and cosine, as a share of `learning_rate`."""


class RunConfig(_Strict):
    batch: int = Field(default=64, ge=1)
    """Samples per process and forward pass."""
    accumulation: int = Field(default=1, ge=1)
    """Forward passes per step."""
    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    """Instead of `epochs`."""
    precision: Literal["fp32", "bf16"] = "bf16"
    compile: bool = False
    """Blocks of the encoders go through torch.compile."""
    parallel: Literal["none", "ddp", "fsdp2"] = "none"
    """How processes started by torchrun share the work: each with the whole model, or with a shard of it."""
    device: str = "cuda"
    threads: int | None = Field(default=None, ge=1)
    """Of torch on a CPU; None leaves its choice."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """Of the device at this precision; known for common GPUs."""

    @model_validator(mode="after")
    def _an_end(self) -> RunConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        return self


class DataConfig(_Strict):
    workers: int = Field(default=2, ge=0)
    """Processes that read and decode; 0: the training process itself. Changes no result."""
    ahead: int = Field(default=2, ge=1)
    """Batches that each of them makes in advance."""
    start: Literal["spawn", "forkserver", "fork"] = "spawn"
    shuffle_shards: int = Field(default=16, ge=1)
    """Neighbouring shards whose samples are mixed with each other."""


class EvaluationConfig(_Strict):
    """Retrieval among held-out samples while training."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    caption: Literal["primary", "v", "a", "s", "av", "avs"] = "primary"
    """Kind of the queries; `primary`: the first a sample has of avs, av, v, a, s."""
    batch: int = Field(default=32, ge=1)
    k_test: int = Field(default=16, ge=0)
    """Best candidates that the matching head orders anew; 0: none."""


class OutputConfig(_Strict):
    path: str
    log_steps: int = Field(default=10, ge=1)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Besides the one at the end; None: every epoch."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints that stay."""
    evaluate_steps: int | None = Field(default=None, ge=1)
    """None: at the end alone, where there is an `evaluation`."""
    tensorboard: bool = True
    """Where it is installed."""


class TrainConfig(_Strict):
    name: str
    seed: int = Field(default=42, ge=0)
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    model: ModelConfig = ModelConfig()
    initial: InitialConfig = InitialConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    losses: LossSpec = LossSpec()
    step: StepConfig = StepConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    run: RunConfig
    data: DataConfig = DataConfig()
    evaluation: EvaluationConfig | None = None
    output: OutputConfig

    @field_validator("model", mode="after")
    @classmethod
    def _special_ids(cls, value: ModelConfig) -> ModelConfig:
        told = value.model_fields_set & {"pad_id", "cls_id", "mask_id"}
        if told:
            raise ValueError(f"`{sorted(told)[0]}` comes from the tokenizer")
        return value

    @model_validator(mode="after")
    def _no_teacher(self) -> TrainConfig:
        if self.losses.uta or (self.step.mask is not None and self.step.mask.kind == "attention"):
            raise ValueError("`losses.uta` and masks by attention need a teacher, which only the library takes")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """Caption kinds that the losses ask for."""
        speech = {"s"} if self.model.speech else set()
        return tuple(sorted({term.text for term in self.losses.terms()} | speech))

    def plain(self) -> dict[str, Any]:
        """As it goes into a checkpoint."""
        return self.model_dump(mode="json", exclude_unset=True)


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read and check; `overrides` are `key=value` such as `run.batch=8` or `sources.0.shards=out/shards`.

    Raises `ConfigError` naming the file, the line and, for an unknown key, the nearest known one.
    """
    file = YamlFile.read(path)
    for override in overrides:
        file.override(override)
    return file.validate(TrainConfig, keys=DOCUMENT)
