"""`vidcap manifest`: a folder of media as a manifest, with what the files beside the media say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vidcap.pipeline.listing import Found, Summary

FAULTS_SHOWN = 10
PATH = click.Path(path_type=Path)


@click.command("manifest")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("-o", "--output", required=True, metavar="FILE", type=PATH, help="FILE.jsonl, FILE.csv or FILE.parquet.")
@click.option("--absolute", is_flag=True, help="Absolute paths; else they are relative to FILE's folder.")
@click.option("--sha256", is_flag=True, help="Also hash every file, which reads all of it.")
@click.option(
    "--threads", default=4, show_default=True, type=click.IntRange(1, 64), help="Files looked at at the same time."
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="No progress, no summary.")
def manifest(
    folder: Path, output: Path, absolute: bool, sha256: bool, threads: int, as_json: bool, quiet: bool
) -> None:
    """Write a manifest of the videos below DIR, for `vidcap run PIPELINE --input FILE`.

    Videos are told by their content. Beside NAME.mp4, captions (NAME.vtt, NAME.en.srt, NAME.json), a licence
    (NAME.license) and a description (NAME.info.json) are taken along. A file that is named like a video and cannot be
    read gets a row that says why in `error`.
    """
    import os

    from vidcap.pipeline.listing import COLUMNS, Summary, look_through
    from vidcap.pipeline.manifest_file import check_suffix, writing

    check_suffix(output)
    found = look_through(folder)
    base = os.path.relpath(os.path.abspath(folder), os.path.dirname(os.path.abspath(output)))
    start = os.path.abspath(folder) if absolute else base
    columns = {name: kind for name, kind in COLUMNS.items() if sha256 or name != "sha256"}
    summary = Summary()

    def uri_of(name: str) -> str:
        return os.path.normpath(os.path.join(start, name))

    with writing(output, columns) as write:
        _write_all(write, folder, found, summary, quiet, uri_of=uri_of, sha256=sha256, threads=threads)
    if as_json:
        click.echo(_json(summary))
    if not quiet:
        _show(summary, output)


def _write_all(write: Any, folder: Path, found: Found, summary: Summary, quiet: bool, **how: Any) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vidcap.pipeline.listing import rows

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("files looked at"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("files", total=len(found.files))
        for row in rows(folder, found, summary, on_file=lambda: progress.advance(task), **how):
            write(row)


def _json(summary: Summary) -> str:
    import json
    from dataclasses import asdict

    return json.dumps(asdict(summary), indent=1)


def _show(summary: Summary, output: Path) -> None:
    """The summary for people, on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vidcap.inspector.terminal import printable

    console = Console(stderr=True, highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_row(str(summary.files), "files looked at")
    clock = f"{summary.seconds / 3600:.2f} hours" if summary.seconds >= 3600 else f"{summary.seconds:.0f} s"
    table.add_row(str(summary.media), f"videos: {clock}, {summary.bytes / 1e6:.1f} MB")
    for count, what in (
        (len(summary.unreadable), "of them cannot be read (column `error`)"),
        (summary.transcripts, "with a transcript"),
        (summary.licenses, "with a licence"),
        (summary.described, "with a description"),
    ):
        if count or "with" in what:
            table.add_row(str(count), f"  {what}")
    for reason, count in sorted(summary.skipped.items(), key=lambda pair: (-pair[1], pair[0])):
        table.add_row(str(count), f"skipped: {reason}")
    console.print(table)
    told = [f"{name}: {error}" for name, error in summary.unreadable]
    told += [f"{fault.file}{f':{fault.line}' if fault.line else ''}: {fault.what}" for fault in summary.faults]
    for line in told[:FAULTS_SHOWN]:
        console.print(Text(printable(line)), soft_wrap=True)
    if len(told) > FAULTS_SHOWN:
        console.print(f"and {len(told) - FAULTS_SHOWN} more (`--json` lists them)")
    console.print(Text(f"wrote {printable(str(output))}"), soft_wrap=True)
