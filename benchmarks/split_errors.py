"""How far clips are from the spans they claim, and which readers count their frames wrong.

Where a clip begins and ends in its source is found by its pictures: its first and last frame, shrunk to 160×90 grey,
against every frame of the source. Of frames that look alike the one next to the claim counts: errors are lower bounds.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

COUNT_WITH_DECORD = Path(__file__).parent / "peers" / "count_frames.py"
_SIZE = {"width": 160, "height": 90, "format": "gray"}


@dataclass(frozen=True)
class Clip:
    """A file, its source, and the frames it claims: first and last, inclusive."""

    path: Path
    source: Path
    first: int
    last: int
    cut: str = ""


@dataclass
class Errors:
    """Of all clips of a tool; `worst` in seconds, `counts`: reader → clips it counts otherwise than PyAV decodes."""

    clips: int = 0
    seconds: float = 0.0
    off: int = 0
    worst: float = 0.0
    lost: int = 0
    """Clips whose first or last picture is nowhere in the source, or that hold none."""
    counts: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)


def measured(clips: Sequence[Clip], readers: Path | None) -> Errors:
    """`readers`: the environment that has decord."""
    found = Errors(clips=len(clips))
    numbers = _by_decord([clip.path for clip in clips], readers) if readers is not None and clips else {}
    for clip in sorted(clips, key=lambda clip: clip.source):
        pictures, times, step = _source(clip.source)
        shown = list(_pictures(clip.path))
        found.cuts[clip.cut] += 1
        if not shown:
            found.lost += 1
            continue
        found.seconds += len(shown) * step
        ends = [_place(pictures, shown[0][1], clip.first), _place(pictures, shown[-1][1], clip.last)]
        if None in ends:
            found.lost += 1
        else:
            last = min(clip.last, len(times) - 1)
            errors = [abs(times[ends[0]] - times[min(clip.first, last)]), abs(times[ends[1]] - times[last])]
            found.off += max(errors) > step / 2
            found.worst = max(found.worst, *errors)
        count = len(shown)
        found.counts["claimed"] += clip.last - clip.first + 1 != count
        for reader, number in {**_by_opencv(clip.path), "decord": numbers.get(str(clip.path), count)}.items():
            found.counts[reader] += number != count
    return found


def _place(pictures: np.ndarray[Any, Any], picture: np.ndarray[Any, Any], claimed: int) -> int | None:
    """The frame of the source that looks most like the picture; of equals the one nearest to the claim."""
    differences = np.abs(pictures - picture).mean((1, 2), dtype=np.float32)
    best = float(differences.min())
    if best > 12:
        return None
    alike = np.flatnonzero(differences <= 1.05 * best + 0.02)
    return int(alike[np.argmin(np.abs(alike - claimed))])


@lru_cache(maxsize=1)
def _source(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """All pictures (N×90×160, int16), their times in seconds from the first, the usual step."""
    times, pictures = zip(*_pictures(path), strict=True)
    seconds = np.array(times) - times[0]
    return np.stack(pictures), seconds, float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.04


def _pictures(path: Path) -> Iterator[tuple[float, np.ndarray[Any, Any]]]:
    with av.open(str(path), metadata_errors="replace") as container:
        if not container.streams.video:
            return
        for frame in container.decode(video=0):
            small = frame.reformat(**_SIZE, interpolation="AREA", threads=1)
            yield float(frame.time or 0), small.to_ndarray().astype(np.int16)


def _by_opencv(path: Path) -> dict[str, int]:
    reader = cv2.VideoCapture(str(path))
    said, read = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    while reader.grab():
        read += 1
    reader.release()
    return {"OpenCV's count": said, "OpenCV": read}


def _by_decord(paths: Sequence[Path], readers: Path) -> dict[str, Any]:
    told = subprocess.run(
        [str(readers / "bin" / "python"), str(COUNT_WITH_DECORD)],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


def of_vidcap(out: Path, sources: Sequence[Path], unpacked: Path) -> list[Clip]:
    by_name = {path.name: path for path in sources}
    return [
        Clip(
            clip,
            by_name[Path(record["source"]["uri"]).name],
            record["span"]["first_frame"],
            record["span"]["last_frame"],
            record["video"]["cut"],
        )
        for clip, record in _from_tars(out / "run" / "shards", unpacked)
    ]


def of_video2dataset(out: Path, unpacked: Path) -> list[Clip]:
    clips = []
    for clip, record in _from_tars(out / "dataset", unpacked):
        source = Path(record["url"])
        _, times, step = _source(source)
        start, end = record["clips"][0]
        first, last = (int(np.searchsorted(times, time - step / 2)) for time in (start, end))
        clips.append(Clip(clip, source, first, last - 1))
    return clips


def of_data_juicer(out: Path, sources: Sequence[Path], claims: Mapping[str, list[list[int]]]) -> list[Clip]:
    by_stem = {path.stem: path for path in sources}
    clips = []
    for clip in sorted((out / "clips").iterdir()):
        stem, _, rest = clip.stem.partition("__dj_hash")
        source = by_stem[stem]
        first, end = claims[str(source)][int(rest.rpartition("_")[2]) - 1]
        clips.append(Clip(clip, source, first, end - 1))
    return clips


def of_scenedetect(out: Path) -> list[Clip]:
    claims = json.loads((out / "claims.json").read_text())
    return [
        Clip(out / f"{number:03d}-{scene:03d}.mp4", Path(source), first, end - 1)
        for number, (source, spans) in enumerate(claims.items())
        for scene, (first, end) in enumerate(spans, 1)
    ]


def _from_tars(folder: Path, unpacked: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every clip, written out as a file, with its record."""
    unpacked.mkdir(parents=True, exist_ok=True)
    for tar in sorted(folder.glob("*.tar")):
        members: dict[str, dict[str, bytes]] = {}
        with tarfile.open(tar) as archive:
            for member in archive:
                data = archive.extractfile(member)
                key, _, suffix = member.name.partition(".")
                members.setdefault(key, {})[suffix] = data.read() if data else b""
        for key, parts in members.items():
            if "mp4" in parts:
                clip = unpacked / f"{key}.mp4"
                clip.write_bytes(parts["mp4"])
                yield clip, json.load(io.BytesIO(parts["json"]))
