"""`vidcap train-captioner`: trains the audio captioner `beats_qformer` on captioned sounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vidcap.captioner_training.options import Progress
    from vidcap.captioner_training.wavcaps import Corpus

PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)
WARM_UP_EPOCHS = 0.2
WHERE_LLM = "a folder as `save_pretrained` writes it, or a hub name and `--download`"


@click.command("train-captioner")
@click.argument("annotations", type=PATH, nargs=-1, required=True)
@click.option("--sounds", type=PATH, multiple=True, required=True, metavar="FOLDER", help="Holds ID.flac, .wav, .mp3.")
@click.option("--encoder", type=PATH, required=True, metavar="FILE", help="BEATs, as published.")
@click.option("--llm", required=True, metavar="MODEL", help="Causal language model: a folder or a hub name.")
@click.option("--revision", help="Of a hub name.")
@click.option("--download", is_flag=True, help="Let the library fetch the language model.")
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE.safetensors", help="What is trained.")
@click.option("--blacklist", type=PATH, multiple=True, metavar="FILE", help='{"AudioSet": [ids], "FreeSound": [ids]}')
@click.option("--epochs", default=1, show_default=True, type=POSITIVE)
@click.option("--batch", default=32, show_default=True, type=POSITIVE, help="Sounds per step.")
@click.option("--learning-rate", default=1e-4, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--max-text-tokens", default=32, show_default=True, type=POSITIVE, help="Of a caption with its end mark.")
@click.option("--windows", default=3, show_default=True, type=click.IntRange(1, 12), help="Of 10 s that are heard.")
@click.option(
    "--mels", default="128", show_default=True, type=click.Choice(["64", "128"]), help="Bands of the spectrum."
)
@click.option("--shape", "shape_json", default="{}", metavar="JSON", help='Sizes other than BERT-base: {"layers": 6}.')
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="`cpu`, `cuda:0` …")
@click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "fp32", "bf16"]))
@click.option("--threads", default=1, show_default=True, type=POSITIVE, help="Of the networks, on a CPU.")
@click.option("--workers", default=4, show_default=True, type=POSITIVE, help="Threads that decode sounds.")
def train_captioner(annotations: tuple[Path, ...], output: Path, **asked: Any) -> None:
    """Train a captioner of sound on ANNOTATIONS, JSON files in the format of WavCaps.

    Of BEATs → Q-Former → language model only the Q-Former (with norm, queries, projection) is trained, and written.
    Sounds not learned from are counted by reason and listed in FILE.left_out.jsonl. Needs the extra `captions`.
    """
    import json

    from vidcap.errors import UsageError

    if output.suffix != ".safetensors":
        raise UsageError(f"`{output}` is no name for the weights", hint="let it end in .safetensors")
    from vidcap.backends.installed import version_of

    for library in ("torch", "transformers"):
        version_of(library, "captions")
    from vidcap.captioner_training.wavcaps import read_corpus

    corpus = read_corpus(annotations, asked["sounds"], asked["blacklist"])
    click.echo(f"{len(corpus.sounds)} of {corpus.entries} sounds are there: {corpus.by_source()}", err=True)
    if not corpus.sounds:
        _report(corpus, output)
        raise UsageError(
            f"nothing to learn from: {corpus.left_out.counts()}", hint="`--sounds` names the folders of the sound files"
        )
    summary = _trained(corpus, output, asked)
    click.echo(json.dumps(summary, indent=1))


def _trained(corpus: Corpus, output: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Train, write, and tell what was done."""
    from vidcap.captioner_training.examples import ExampleMaker, batches
    from vidcap.captioner_training.learning import train
    from vidcap.captioner_training.options import LearningOptions
    from vidcap.models.fbank import WINDOW_SECONDS
    from vidcap.models.instructions import INSTRUCTIONS
    from vidcap.models.prefix_file import save_prefix

    captioner, facts = _put_together(asked)
    maker = ExampleMaker(asked["seed"], asked["windows"] * WINDOW_SECONDS, INSTRUCTIONS)
    per_epoch = -(-len(corpus.sounds) // asked["batch"])
    options = LearningOptions(
        steps=per_epoch * asked["epochs"],
        warm_up=round(WARM_UP_EPOCHS * per_epoch),
        learning_rate=asked["learning_rate"],
        max_text_tokens=asked["max_text_tokens"],
        seed=asked["seed"],
        threads=asked["threads"],
    )
    every = (
        batch
        for epoch in range(asked["epochs"])
        for batch in batches(maker, corpus.sounds, epoch, asked["batch"], asked["workers"], corpus.left_out)
    )
    with _Bar(options.steps) as bar:
        losses = train(captioner, every, options, progress=bar)
    _report(corpus, output)
    summary: dict[str, Any] = {
        "entries": corpus.entries,
        "learned_from": corpus.entries - len(corpus.left_out.entries),
        "left_out": corpus.left_out.counts(),
        "steps": len(losses),
        "first_loss": _mean(losses[:20]),
        "last_loss": _mean(losses[-20:]),
        "seed": asked["seed"],
    }
    if not losses:
        from vidcap.errors import UsageError

        raise UsageError(f"nothing to learn from: {corpus.left_out.counts()}", hint="see FILE.left_out.jsonl")
    from dataclasses import replace

    save_prefix(captioner.prefix, replace(facts, about=summary | {"sources": corpus.by_source()}), output)
    return summary


def _put_together(asked: dict[str, Any]) -> tuple[Any, Any]:
    """A captioner whose middle part is fresh, and the facts that its file will state."""
    import json
    from dataclasses import replace

    import torch

    from vidcap.backends.weights.transformers_folder import TransformersModel
    from vidcap.errors import UsageError
    from vidcap.models.beats import load_beats
    from vidcap.models.prefix_file import PrefixFacts, probe_of
    from vidcap.models.qformer import QFormerShape, SoundPrefix
    from vidcap.models.sound_captioner import SoundCaptioner
    from vidcap.store import sha256_of
    from vidcap.torch_device import checked_device, dtype_of

    place = checked_device(asked["device"])
    dtype = dtype_of(asked["precision"], place)
    if dtype == torch.float16:
        raise UsageError(f"`{asked['device']}` has no bfloat16", hint="`--precision fp32`")
    model = TransformersModel(asked["llm"], asked["revision"], asked["download"], WHERE_LLM, "captions")
    library = model.library()
    encoder = load_beats(asked["encoder"], hint="`--encoder`: docs/models/audio-captioners.md says where copies are")
    llm = model.weights(library.AutoModelForCausalLM, dtype=dtype)
    tokenizer = model.part(library.AutoTokenizer)
    try:
        usual = QFormerShape(encoder_width=encoder.network.shape.encoder_embed_dim)
        shape = replace(usual, **json.loads(asked["shape_json"]))
        torch.manual_seed(asked["seed"])
        prefix = SoundPrefix(shape, llm.get_input_embeddings().weight.shape[1])
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"`--shape` cannot be built: {error}", hint=f"sizes are {QFormerShape()}") from error
    facts = PrefixFacts(
        shape=shape,
        llm_width=prefix.llama_proj.out_features,
        mels=int(asked["mels"]),
        windows=asked["windows"],
        encoder_sha256=sha256_of(asked["encoder"]),
        llm=model.identity(),
        llm_probe=probe_of(llm),
    )
    parts = (encoder.network.to(place, dtype), prefix.to(place), llm.to(place))
    return SoundCaptioner(*parts, tokenizer, mels=facts.mels, windows=facts.windows), facts


def _report(corpus: Corpus, output: Path) -> None:
    """FILE.left_out.jsonl beside the output, and the counts on stderr."""
    import json

    from vidcap.captioner_training.wavcaps import LEFT_OUT
    from vidcap.store import replacing

    path = output.with_name(f"{output.name}.left_out.jsonl")
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sound, reason, detail in corpus.left_out.entries:
            file.write(json.dumps({"sound": sound, "reason": reason, "detail": detail}) + "\n")
    for reason, count in corpus.left_out.counts().items():
        click.echo(f"left out: {count:>7} {reason}: {LEFT_OUT[reason]}", err=True)


def _mean(losses: list[float]) -> float:
    return round(sum(losses) / len(losses), 4) if losses else 0.0


class _Bar:
    """A bar on stderr with the mean loss of the last fifty steps."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        self._task = self._progress.add_task("listening", total=steps)
        self._losses: list[float] = []

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, told: Progress) -> None:
        self._losses = [*self._losses[-49:], told.loss]
        description = f"loss {_mean(self._losses):.3f}, rate {told.learning_rate:.2e}"
        self._progress.update(self._task, completed=told.step, description=description)
