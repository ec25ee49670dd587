"""`vidcap inspect` and `vidcap validate`: look at samples, check shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vidcap.shards.validate import MediaCheck

PATH = click.Path(path_type=Path)


@click.command("inspect")
@click.argument("path", type=PATH)
@click.argument("key", required=False)
@click.option("-n", "--number", default=3, show_default=True, type=click.IntRange(min=1), help="How many samples.")
@click.option("--json", "as_json", is_flag=True, help="One JSON record per line.")
@click.option("--extract", "target", type=PATH, metavar="DIR", help="Also write the samples' files into DIR.")
def inspect_command(path: Path, key: str | None, number: int, as_json: bool, target: Path | None) -> None:
    """Show samples of PATH (a run's output, a shards folder or a tar); with KEY that one in full."""
    from itertools import islice

    from vidcap.inspector import terminal
    from vidcap.shards.reader import iter_samples, read_sample

    samples = iter([read_sample([path], key)]) if key else islice(iter_samples([path]), number)
    console = terminal.make_console()
    for sample in samples:
        record = sample.record()
        if as_json:
            click.echo(terminal.json_line(record))
        else:
            terminal.show(console, sample, record, full=key is not None)
        for file in terminal.extract(sample, target) if target else ():
            click.echo(f"wrote {terminal.printable(str(file))}", err=True)


@click.command("validate")
@click.argument("paths", type=PATH, nargs=-1, required=True)
@click.option("--media", is_flag=True, help="Also decode every clip and compare it with its record.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
@click.pass_context
def validate_command(context: click.Context, paths: tuple[Path, ...], media: bool, as_json: bool) -> None:
    """Check the shards of PATHS (run outputs, shards folders or tars); exit code 4 where something is wrong."""
    import json

    from vidcap.inspector.terminal import printable
    from vidcap.shards.validate import validate

    check: MediaCheck | None = None
    if media:
        from vidcap.inspector.clip_check import check_media

        check = check_media
    report = validate(paths, media=check)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        for fault in report.faults:
            where = f"{fault.shard} {fault.key}".strip()
            click.echo(printable(f"{where}: {fault.fault}"))
        found = f"{len(report.faults)} faults" if report.faults else "no faults"
        click.echo(f"{report.samples} samples in {report.shards} shards: {found}")
    if not report.ok:
        context.exit(4)
