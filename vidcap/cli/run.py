"""`vidcap run` and `vidcap plan`."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vidcap.pipeline.config import PipelineConfig
    from vidcap.pipeline.manifest import Manifest
    from vidcap.pipeline.plan import Part, Plan

Command = TypeVar("Command", bound=Callable[..., Any])


def pipeline_options(command: Command) -> Command:
    """What `run` and `plan` share."""
    for option in reversed(
        [
            click.argument("pipeline", type=click.Path(path_type=Path)),
            click.option("--input", "source", help="Folder, media file, glob or manifest; replaces input.manifest."),
            click.option("--output", type=click.Path(path_type=Path), help="Replaces output.path."),
            click.option("--workers", type=click.IntRange(min=1), help="Worker processes of the local cluster."),
            click.option("--runner", type=click.Choice(["dask", "inline"]), default="dask", show_default=True),
            click.option("--scheduler", help="Address of a running Dask scheduler, tcp://host:port."),
            click.option(
                "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As stages.trim.options.min_seconds=3."
            ),
            click.option("--limit", type=click.IntRange(min=1), help="Only the first N sources."),
        ]
    ):
        command = option(command)
    return command


@click.command()
@pipeline_options
@click.option("--retry-failed", is_flag=True, help="Try again the parts that an earlier run gave up.")
@click.option("--quiet", is_flag=True, help="No progress.")
def run(retry_failed: bool, quiet: bool, **asked: Any) -> int:
    """Run PIPELINE. The same command again continues, or does nothing where nothing changed."""
    from vidcap.cli.progress import Talk
    from vidcap.errors import InterruptedRunError
    from vidcap.pipeline.plan import extend_parts, load_parts, save_parts
    from vidcap.pipeline.run_folder import RunFolder
    from vidcap.pipeline.run_lock import RunLock
    from vidcap.report.collect import collect
    from vidcap.runners.drive import Drive

    config, plan, manifest = prepare(**asked)
    output = Path(config.output.path).resolve()  # workers may stand elsewhere
    writable(output)
    folder = RunFolder(output)
    with RunLock(output) as lock:
        known = load_parts(output)
        parts = extend_parts(
            known, manifest.sources, part_bytes=config.input.part_bytes, per_part=config.input.sources_per_part
        )
        save_parts(output, parts)
        talk = Talk(output, parts, quiet=quiet)
        talk.start(config, manifest, known=len(known))
        runner = _runner(asked["runner"], config)
        drive = Drive(plan, parts, output, runner, listener=talk.listen, retry_failed=retry_failed, lock=lock)
        state = "stopped"
        try:
            if runner.promises:
                talk.say(f"runner inline drops: {runner.promises}")
            folder.write(config, state="running", stages_run={}, skipped=manifest.skipped)
            with talk:
                drive.run()
            state = "failed" if drive.summary.failed else "done"
        except InterruptedRunError as error:
            state = "interrupted"
            talk.say(str(error))
        finally:
            runner.close()
            folder.write(config, state=state, stages_run=drive.summary.stages_run, skipped=manifest.skipped)
        report = collect(output)
        talk.finish(report, drive.summary)
    if state == "interrupted":
        return 130 if drive.signal_number == 2 else 75
    if report["parts"]["failed"]:
        return 3
    if report["clips"]["pending"] or report["sources"]["pending"]:
        from vidcap.errors import InvariantError

        raise InvariantError(f"the run ended with items pending: {report['sources']}, {report['clips']}")
    return 0


@click.command()
@pipeline_options
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def plan(as_json: bool, **asked: Any) -> int:
    """Check PIPELINE as a whole and show parts, steps, pools, backends and evidence size. Touches nothing."""
    import json

    from vidcap.cli.progress import show_plan
    from vidcap.pipeline.plan import extend_parts, load_parts

    config, made, manifest = prepare(**asked)
    parts = extend_parts(
        load_parts(Path(config.output.path)),
        manifest.sources,
        part_bytes=config.input.part_bytes,
        per_part=config.input.sources_per_part,
    )
    facts = plan_facts(config, made, manifest, parts)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        show_plan(facts)
    return 0


def prepare(
    pipeline: Path,
    source: str | None,
    output: Path | None,
    workers: int | None,
    scheduler: str | None,
    overrides: tuple[str, ...],
    limit: int | None,
    runner: str,
) -> tuple[PipelineConfig, Plan, Manifest]:
    """Everything that can be wrong before a run starts is found here: YAML, stages, backends, prompts, manifest."""
    from vidcap.pipeline.config import load_config
    from vidcap.pipeline.manifest import read_manifest
    from vidcap.pipeline.plan import Plan

    del runner
    path = find_pipeline(pipeline)
    given = list(overrides)
    if workers is not None:
        given.append(f"runner.workers={workers}")
    config = load_config(path, tuple(given))
    changes: dict[str, Any] = {}
    if source is not None:
        changes["input"] = config.input.model_copy(update={"manifest": source, "root": None})
    if output is not None:
        changes["output"] = config.output.model_copy(update={"path": str(output)})
    if scheduler is not None:
        changes["runner"] = config.runner.model_copy(update={"scheduler": scheduler})
    config = config.model_copy(update=changes)
    made = Plan(config, prompt_folders=[path.resolve().parent, path.resolve().parent.parent / "prompts"])
    made.identities()  # every backend and prompt exists and takes its options
    where = config.input.manifest
    if source is None and not Path(where).exists() and (path.resolve().parent.parent / where).exists():
        where = str(path.resolve().parent.parent / where)  # beside the YAML's folder: an installed package's demo
    return config, made, read_manifest(where, config.input.root, limit=limit)


def find_pipeline(path: Path) -> Path:
    """The YAML at `path`; else the packaged one of that name."""
    packaged = Path(str(importlib.resources.files("vidcap"))) / "_data" / path
    return packaged if not path.exists() and packaged.is_file() else path


def writable(output: Path) -> None:
    """Refuse at once where the output folder cannot be written. Raises `UsageError`."""
    from vidcap.errors import UsageError

    probe = output / "_vidcap" / ".write-check"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"cannot write to `{output}`: {error.strerror}", hint="choose another --output") from error


def _runner(name: str, config: PipelineConfig) -> Any:
    if name == "inline":
        from vidcap.runners.inline import InlineRunner

        return InlineRunner()
    from vidcap.runners.cluster import DaskRunner

    return DaskRunner(config.runner)


def plan_facts(config: PipelineConfig, made: Plan, manifest: Manifest, parts: list[Part]) -> dict[str, Any]:
    """What `vidcap plan` shows."""
    total = sum(source.bytes for source in manifest.sources)
    steps = [*made.steps, *([made.pack_step] if made.pack_step else [])]
    return {
        "name": config.name,
        "sources": len(manifest.sources),
        "bytes": total,
        "skipped": manifest.skipped,
        "parts": [
            {"part": p.number, "sources": len(p.sources), "bytes": sum(s.bytes for s in p.sources)} for p in parts
        ],
        "steps": [{"pool": step.pool, "stages": list(step.stages)} for step in steps],
        "backends": made.identities(),
        "pools": sorted({step.pool for step in steps}),
        # JPEGs and sound of a video come to about as much as the video itself at web bit rates (docs/ARCHITECTURE.md).
        "evidence_bytes": total,
        "output": config.output.path,
    }
