"""`vidcap shots`: where the shots of media files begin and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vidcap.errors import VidcapError
    from vidcap.media.frames import FrameTable
    from vidcap.records import Shot

UNREADABLE = 3
"""Exit code where a file could not be used; the others were done."""


@click.command("shots")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
@click.option("--backend", default="fast", show_default=True, help="The shot detector (`vidcap backends`).")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="An option of the detector: threshold=0.8.")
@click.option("--device", default="cpu", show_default=True, help="Where the detector runs: `cpu`, `cuda:0` …")
@click.option("--threads", type=click.IntRange(min=1, max=64), help="For decoding and detecting; default: all cores.")
@click.option("--json", "as_json", is_flag=True, help="One JSON record per file and line.")
@click.pass_context
def shots(context: click.Context, /, files: tuple[str, ...], threads: int | None, as_json: bool, **asked: Any) -> None:
    """Find the shots of each FILE; exit code 3 where a file could not be read.

    Frames count from 0 in presentation order and both ends belong to the shot; frames of a dissolve or fade belong to
    none.
    """
    from vidcap.backends import registry
    from vidcap.doctor.machine import cores
    from vidcap.errors import ItemError, TransientError
    from vidcap.inspector.terminal import printable

    threads = threads or min(64, max(1, int(cores())))
    known = registry.get("shot_detector", asked["backend"]).Config.model_fields
    options = {"threads": threads} if "threads" in known else {}
    detector = registry.create("shot_detector", asked["backend"], options | _options(asked["given"]))
    detector.load(asked["device"])
    failed = False
    for file in files:
        try:
            frames, found = _detect(file, detector, threads)
        except (ItemError, TransientError) as error:
            failed = True
            click.echo(printable(f"error: `{file}`: {error.message}"), err=True)
            click.echo(printable(f"hint: {_hint(error)}"), err=True)
            continue
        if as_json:
            click.echo(_json_line(file, frames, found))
        else:
            _show(printable(file), frames, found)
    if failed:
        context.exit(UNREADABLE)


def _options(given: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE as a dictionary; values are read as YAML reads them."""
    import yaml

    options: dict[str, Any] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.UsageError(f"`{text}` is not KEY=VALUE\nhint: as --set threshold=0.8")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.UsageError(f"the value of `{key}` is no YAML\nhint: put it in quotes") from error
    return options


def _detect(file: str, detector: Any, threads: int) -> tuple[FrameTable, list[Shot]]:
    """One decode pass into a folder that is gone afterwards, and the shots of its thumbnails."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from vidcap.media.decode import DecodeOptions, decode_source
    from vidcap.media.evidence import Evidence

    with TemporaryDirectory(prefix="vidcap-shots-") as folder:
        options = DecodeOptions(pictures=False, sound=False, threads=threads)
        decode_source(file, Path(folder) / "evidence", options, sound=False, durable=False)
        evidence = Evidence(Path(folder) / "evidence")
        return evidence.tables.frames, detector.detect(evidence.thumbnails, evidence.times)


def _hint(error: VidcapError) -> str:
    from vidcap.reasons import REASONS

    reason = REASONS.get(getattr(error, "reason", ""))
    return error.hint or (reason.mend if reason else "try again")


def _json_line(file: str, frames: FrameTable, found: list[Shot]) -> str:
    import json

    row = {
        "file": file,
        "fps": round(float(frames.fps), 6),
        "frames": len(frames),
        "shots": [[shot.first, shot.last] for shot in found],
    }
    return json.dumps(row)


def _show(name: str, frames: FrameTable, found: list[Shot]) -> None:
    from rich.console import Console
    from rich.table import Table

    counted = f"{len(found)} shot{'s' if len(found) != 1 else ''}"
    click.echo(f"{name}: {counted}, {len(frames)} frames, {float(frames.fps):.3f} frames/s")
    table = Table(box=None, pad_edge=False)
    for title in ("shot", "first", "last", "start", "end", "seconds"):
        table.add_column(title, justify="right")
    for number, shot in enumerate(found, 1):
        start, end = frames.start(shot.first), frames.end(shot.last)
        table.add_row(str(number), str(shot.first), str(shot.last), _clock(start), _clock(end), f"{end - start:.3f}")
    Console().print(table)


def _clock(seconds: float) -> str:
    """Hours, minutes, seconds and thousandths, as players show them."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
