"""`vidcap validate`: check shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vidcap.shards.validate import MediaCheck

PATH = click.Path(path_type=Path)


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
