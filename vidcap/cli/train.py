"""`vidcap train`: trains a video-audio-text model on shards."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

SKIPS_SAID = 5
"""Unusable samples that are named; more are counted."""


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As run.batch=8, sources.0.shards=DIR.")
@click.option("--output", type=click.Path(path_type=Path), help="Replaces output.path.")
@click.option("--resume", is_flag=True, help="Go on from the latest checkpoint of the output folder.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="No progress.")
def train(
    config: Path, overrides: tuple[str, ...], output: Path | None, resume: bool, as_json: bool, quiet: bool
) -> int:
    """Train as CONFIG says, such as pipelines/stage2-demo.yaml. Start it with torchrun for several processes.

    Needs the extra `trainer`. SIGTERM and Ctrl-C end it after a step, with a checkpoint.
    """
    import json

    needed()
    from vidcap.train.config import load_config
    from vidcap.train.distributed import processes, rank

    loaded = load_config(config, (*overrides, *((f"output.path={json.dumps(str(output))}",) if output else ())))
    with processes(loaded.run.device) as device:
        from vidcap.errors import InterruptedRunError
        from vidcap.train.trainer import Trainer

        with _Talk(quiet=quiet or rank() > 0) as talk:
            trainer = Trainer(loaded, device, resume=resume, listen=talk.hear)
            caught: list[int] = []

            def stop(number: int, frame: Any) -> None:
                del frame
                caught.append(number)
                trainer.stopping = True

            before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                summary = trainer.run()
            except InterruptedRunError as error:
                talk.say(str(error))
                return 130 if signal.SIGINT in caught else error.exit_code
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        if rank() == 0:
            _conclude(summary, as_json=as_json)
    return 0


def needed() -> None:
    """Raises `UsageError` where the trainer's libraries are not installed."""
    from importlib.util import find_spec

    from vidcap.errors import UsageError

    for library in ("torch", "safetensors", "tokenizers"):
        if find_spec(library) is None:
            raise UsageError(f"the library `{library}` is not installed", hint="pip install 'vidcap[trainer]'")


def _conclude(summary: Any, *, as_json: bool) -> None:
    """Say what a run came to, a `vidcap.train.trainer.Summary`."""
    if as_json:
        import json

        told = {
            "steps": summary.steps,
            "first": dict(summary.first),
            "last": dict(summary.last),
            "skipped": dict(summary.skipped),
            "checkpoint": str(summary.checkpoint),
            "evaluation": summary.evaluation,
        }
        click.echo(json.dumps(told, indent=1))
        return
    if summary.first and summary.last:
        click.echo(f"loss {summary.first['loss']:.4f} → {summary.last['loss']:.4f} in {summary.steps} steps")
    if summary.skipped:
        click.echo("skipped: " + ", ".join(f"{reason} {count}" for reason, count in summary.skipped.items()))
    click.echo(f"checkpoint: {summary.checkpoint}")


class _Talk:
    """A progress bar with the loss, the speed and the wait for data, and the lines worth keeping, on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.quiet = quiet
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("steps", total=None, told="")
        self._skips = 0

    def __enter__(self) -> _Talk:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        from rich.text import Text

        if not self.quiet:
            self._progress.console.print(Text(text), soft_wrap=True)

    def hear(self, event: str, values: Mapping[str, Any]) -> None:
        if event == "step":
            self._progress.update(self._task, completed=values["step"], total=values["steps"])
        elif event == "start":
            samples = ", ".join(f"{name} {count}" for name, count in values["samples"].items())
            self.say(f"{values['parameters']:,} parameters, {values['learning']:,} learn; samples: {samples}")
            if values["step"]:
                self.say(f"going on after step {values['step']} of {values['steps']}")
            for name, faults in values["shard_faults"].items():
                told = ", ".join(f"{code} {count}" for code, count in faults.items())
                self.say(f"in the shards of {name}: {told} (see `vidcap validate`)")
        elif event == "log":
            used = values.get("flops_utilisation")
            told = f"loss {values['loss']:.3f}  {values['tokens_per_second']:,.0f} tokens/s"
            told += f"  {100 * used:.0f} % of peak" if used is not None else ""
            told += f"  data wait {100 * values['data_wait']:.1f} %"
            self._progress.update(self._task, told=told)
            if not self._progress.console.is_terminal:
                self.say(f"step {values['step']}: {told}")
        elif event == "skipped":
            self._skips += 1
            if self._skips <= SKIPS_SAID:
                from vidcap.inspector.terminal import printable

                self.say(printable(f"skipped {values['key']}: {values['reason']}: {values['detail']}"))
        elif event == "evaluation":
            for name, found in values["retrieval"].items():
                self.say(f"retrieval by {name}: t2v R@1 {found['t2v_r1']:.1f}, v2t R@1 {found['v2t_r1']:.1f}")
