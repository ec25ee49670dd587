"""`vidcap inspect`: samples in the terminal, in one HTML file, or on a local page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vidcap.inspector.entries import Borders

PATH = click.Path(path_type=Path)
TERMINAL, SHEET = 3, 200


@click.command("inspect")
@click.argument("path", type=PATH)
@click.argument("key", required=False)
@click.option("-n", "--number", type=click.IntRange(min=1), help=f"How many samples ({TERMINAL}; with --html {SHEET}).")
@click.option("--json", "as_json", is_flag=True, help="One JSON record per line.")
@click.option("--extract", "target", type=PATH, metavar="DIR", help="Also write the samples' files into DIR.")
@click.option("--html", type=PATH, metavar="FILE", help="Write a contact sheet that needs no network into FILE.")
@click.option(
    "--clip-megabytes",
    default=32,
    show_default=True,
    type=click.IntRange(min=0),
    help="What the playable clips may take of the HTML file; the others show pictures.",
)
@click.option("--serve", "serving", is_flag=True, help="Show all samples on a local web page.")
@click.option("--port", default=8017, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; by default only this machine."
)
def inspect_command(
    path: Path,
    key: str | None,
    number: int | None,
    as_json: bool,
    target: Path | None,
    html: Path | None,
    clip_megabytes: int,
    serving: bool,
    port: int,
    host: str,
) -> None:
    """Show samples of PATH (a run's output, a shards folder or a tar); with KEY that one in full."""
    if (html or serving) and (key or as_json or target):
        raise click.UsageError("--html and --serve show all samples: leave out KEY, --json and --extract")
    if html and serving:
        raise click.UsageError("give --html or --serve, not both")
    if html:
        _write(path, html, number or SHEET, clip_megabytes * 1_000_000)
    elif serving:
        _serve(path, host, port)
    else:
        _print(path, key, number or TERMINAL, as_json, target)


def _print(path: Path, key: str | None, number: int, as_json: bool, target: Path | None) -> None:
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


def _write(path: Path, html: Path, number: int, clip_bytes: int) -> None:
    from vidcap.errors import UsageError
    from vidcap.inspector.export import write_html
    from vidcap.inspector.index import ShardIndex
    from vidcap.inspector.terminal import printable

    if not html.parent.is_dir() or html.is_dir():
        raise UsageError(f"`{html}` cannot be written", hint="name a file in a folder that is there")
    index = ShardIndex([path])
    done = write_html(html, index, title=_title(path), number=number, clip_bytes=clip_bytes, borders=_borders(path))
    _tell_faults(index.faults, path)
    megabytes = done.bytes / 1_000_000
    click.echo(
        f"wrote {printable(str(html))}: {done.samples} of {done.of} samples, {done.playable} clips that play, "
        f"{megabytes:.1f} MB",
        err=True,
    )


def _serve(path: Path, host: str, port: int) -> None:
    import asyncio

    from vidcap.inspector.index import ShardIndex
    from vidcap.inspector.server import serve

    index = ShardIndex([path])
    if host not in ("127.0.0.1", "::1", "localhost"):
        click.echo(f"warning: whoever reaches {host} can see these samples; there is no password", err=True)

    def ready(address: str) -> None:
        click.echo(f"{len(index)} samples; Ctrl-C ends", err=True)
        click.echo(address)

    asyncio.run(serve(index, title=_title(path), host=host, port=port, borders=_borders(path), ready=ready))


def _title(path: Path) -> str:
    """What to call the samples: the pipeline's name where PATH is a run, else the name of the path."""
    from vidcap.pipeline.run_folder import RunFolder
    from vidcap.store import PosixStore

    run = PosixStore(RunFolder(path).store.root).read_json("run.json") if path.is_dir() else None
    name = run.get("config", {}).get("name") if isinstance(run, dict) else None
    return str(name or path.resolve().name or "samples")


def _borders(path: Path) -> Borders | None:
    """What stands around the thresholds, where PATH is a run's output folder; a damaged one shows its samples alone."""
    if not (path / "_vidcap" / "run.json").is_file():
        return None
    from vidcap.errors import VidcapError
    from vidcap.report.borderline import load_borders

    try:
        return load_borders(path)
    except (VidcapError, OSError, ValueError, KeyError) as error:
        click.echo(f"warning: the rejected clips cannot be shown: {error}", err=True)
        return None


def _tell_faults(faults: dict[str, int], path: Path) -> None:
    if faults:
        shards = ", ".join(sorted(faults)[:3])
        click.echo(f"warning: {sum(faults.values())} faults in {shards}: run `vidcap validate {path}`", err=True)
