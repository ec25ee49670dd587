"""`vidcap shots`: the shots of media files, without a pipeline."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--backend", default="adaptive", show_default=True, help="A shot detector of `vidcap backends`.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: file, fps, frames, shots.")
def shots(files: tuple[Path, ...], backend: str, as_json: bool) -> int:
    """First and last frame (inclusive, in presentation order) of every shot of FILES.

    A file that cannot be read is told on stderr; the others go on, and the exit code is 3.
    """
    from vidcap.backends import registry
    from vidcap.errors import ItemError
    from vidcap.reasons import REASONS

    detector = registry.create("shot_detector", backend)
    detector.load("cpu")
    failed = False
    for file in files:
        try:
            found = shots_of(file, detector)
        except ItemError as error:
            failed = True
            mend = REASONS[error.reason].mend if error.reason in REASONS else "see the reason"
            click.echo(f"error: {str(file)!r}: {error}\nhint: {mend}", err=True)
            continue
        click.echo(json.dumps(found) if as_json else _readable(found))
    return 3 if failed else 0


def shots_of(file: Path, detector: Any) -> dict[str, Any]:
    """`{"file", "fps", "frames", "shots": [[first, last], …]}` of one file. Raises `ItemError`."""
    from vidcap.media.decode import DecodeOptions, decode_source
    from vidcap.media.evidence import Evidence
    from vidcap.stages.base import Context
    from vidcap.stages.detect_shots import DetectShots

    with tempfile.TemporaryDirectory(prefix="vidcap-shots-") as scratch:
        folder = Path(scratch) / "evidence"
        # One candidate frame in a hundred seconds: only the thumbnails are looked at.
        decoded = decode_source(str(file), folder, DecodeOptions(frames_per_second=0.01))
        stage = DetectShots(DetectShots.Options(), Context(backend=detector))
        spans = [[shot.first, shot.last] for shot in stage.run(Evidence(folder))]
        table = decoded.tables.frames
    return {"file": file.name, "fps": round(float(table.fps), 6), "frames": len(table), "shots": spans}


def _readable(found: dict[str, Any]) -> str:
    lines = [f"{found['file']!r}: {found['frames']} frames, {found['fps']:g} a second, {len(found['shots'])} shots"]
    for first, last in found["shots"]:
        start, end = first / found["fps"], (last + 1) / found["fps"]
        lines.append(f"  {first:7d} - {last:7d}   {start:9.3f} - {end:9.3f} s")
    return "\n".join(lines)
