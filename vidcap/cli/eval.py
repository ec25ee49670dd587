"""`vidcap eval`: retrieval and multiple choice with a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


@click.command("eval")
@click.argument("model", type=PATH)
@click.option("--shards", multiple=True, metavar="DIR", help="Held-out shards: folder, tars, glob. Repeatable.")
@click.option("--annotations", type=PATH, help="Instead: a JSON array of {video, caption …}.")
@click.option("--root", type=PATH, help="What the annotations' files are relative to.")
@click.option(
    "--media-type", type=click.Choice(["image", "video", "audio", "audio_video"]), default="video", show_default=True
)
@click.option("--media", help="What is compared: v, a, av …; all that the model fuses if not given.")
@click.option(
    "--caption",
    type=click.Choice(["primary", "v", "a", "s", "av", "avs"]),
    default="primary",
    show_default=True,
    help="Kind of the queries.",
)
@click.option("--k-test", type=click.IntRange(min=0), default=128, show_default=True, help="Re-ranked; 0: none.")
@click.option("--dsl-temperature", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--paragraph", is_flag=True, help="The captions of an annotation are one query.")
@click.option("--first-seconds", type=click.FloatRange(min=0, min_open=True), help="Only so much of each file.")
@click.option("--max-text", type=click.IntRange(min=4), help="Tokens of a query; the model's if not given.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that decode.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--embeddings", type=PATH, help="Write all embeddings to this .npz or .parquet.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def evaluate_command(model: Path, as_json: bool, **asked: Any) -> None:
    """Judge MODEL: an output folder of `vidcap train`, one of its checkpoints, or a YAML whose `initial` names weights.

    Text to media and back, R@1, 5 and 10: by similarity (sim), with dual softmax (dsl), re-ranked by the matching head
    (match). Samples with an `answer` are multiple choice.
    """
    import json

    from vidcap.cli.train import needed

    needed()
    from vidcap.errors import UsageError
    from vidcap.torch_device import checked_device
    from vidcap.train import assembly
    from vidcap.train.config import SourceConfig
    from vidcap.train.embeddings import save_embeddings
    from vidcap.train.retrieval import Evaluation, evaluate
    from vidcap.train.trained import open_model

    if bool(asked["shards"]) == (asked["annotations"] is not None):
        raise UsageError("nothing to evaluate on", hint="give --shards or --annotations, one of the two")
    given: dict[str, Any] = (
        {"shards": asked["shards"]}
        if asked["shards"]
        else {
            "annotations": str(asked["annotations"]),
            "root": str(asked["root"]) if asked["root"] is not None else None,
            "paragraph": asked["paragraph"],
            "first_seconds": asked["first_seconds"],
        }
    )
    target: Path | None = asked["embeddings"]
    if target is not None and target.suffix not in (".npz", ".parquet"):
        raise UsageError(f"`{target.name}` is no name for embeddings", hint="end it in .npz or .parquet")
    sources = assembly.sources_of([SourceConfig(media_type=asked["media_type"], **given)], None)
    device = checked_device(asked["device"])
    network, tokens = open_model(model)
    options = Evaluation(
        caption=asked["caption"],
        media=asked["media"],
        batch=asked["batch"],
        k_test=asked["k_test"],
        dual_softmax_temperature=asked["dsl_temperature"],
        max_text=asked["max_text"],
        workers=asked["workers"],
        precision=asked["precision"],
    )
    found = evaluate(network.to(device), sources, tokens, options, device)
    if target is not None:
        save_embeddings(found, target)
        click.echo(f"wrote {target}", err=True)
    if as_json:
        click.echo(json.dumps(found.metrics, indent=1))
    else:
        _show(found.metrics)


def _show(metrics: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    skipped = "; skipped: " + ", ".join(f"{r} {n}" for r, n in metrics["skipped"].items()) if metrics["skipped"] else ""
    if metrics["task"] == "multiple_choice":
        click.echo(
            f"{metrics['questions']} questions: {metrics['accuracy']:.2f} % right, by similarity alone "
            f"{metrics['accuracy_by_similarity']:.2f} %, by chance {metrics['chance']:.2f} %{skipped}"
        )
        return
    click.echo(
        f"{metrics['queries']} queries, {metrics['candidates']} candidates ({metrics['media']}), "
        f"chance R@1 {metrics['chance_r1']:.2f} %{skipped}"
    )
    if metrics["ambiguous_queries"]:
        click.echo(f"{metrics['ambiguous_queries']} queries have the words of another medium's caption")
    table = Table(box=None, pad_edge=False)
    table.add_column("by")
    names = [f"{way}_r{most}" for way in ("t2v", "v2t") for most in (1, 5, 10)] + ["r_mean"]
    for name in names:
        table.add_column(name.replace("_r", " R@", 1) if name != "r_mean" else "mean", justify="right")
    for by, values in metrics["retrieval"].items():
        table.add_row(by, *(f"{values[name]:.2f}" for name in names))
    Console(highlight=False).print(table)
