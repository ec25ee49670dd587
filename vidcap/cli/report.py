"""`vidcap report`: what became of every source and clip."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots to this file instead."
)
def report(folder: Path, as_json: bool, html: Path | None) -> int:
    """Sources, clips, parts, reasons and the stages of the latest run of FOLDER (an --output folder)."""
    if html is not None:
        if as_json:
            raise click.UsageError("give --json or --html, not both")
        from vidcap.report.render import write_page

        write_page(folder, html)
        click.echo(f"wrote {html}", err=True)
        return 0
    from vidcap.report.collect import collect

    found = collect(folder)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return 0
    from rich.console import Console

    from vidcap.cli.progress import report_view

    Console(highlight=False).print(report_view(found), soft_wrap=True)
    return 0
