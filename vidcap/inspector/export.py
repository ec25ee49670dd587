"""`vidcap inspect --html`: one file with a contact sheet, the samples, and as many clips as a budget allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidcap.errors import ShardError
from vidcap.inspector.document import data_url, document
from vidcap.inspector.entries import Border, Borders, Entry, border_data, sample_entry, stopped_entry
from vidcap.inspector.index import ShardIndex
from vidcap.inspector.pictures import Picture, clip_pictures
from vidcap.languages import english_name
from vidcap.shards.reader import RawSample
from vidcap.store import replacing


@dataclass(frozen=True, slots=True)
class Written:
    """What an export holds: samples with their records, clips that play, bytes of the file."""

    samples: int
    of: int
    playable: int
    bytes: int


def write_html(
    target: Path, index: ShardIndex, *, title: str, number: int, clip_bytes: int, borders: Borders | None = None
) -> Written:
    """Write `number` samples, evenly spaced over all, and what stands around the thresholds, into the file `target`.

    `clip_bytes` is what the embedded clips may take of the file; the smallest ones go in first, so that most samples
    play. The others show their pictures.
    """
    borders = borders or Borders()
    listed = [sample for _, sample in index.spread(number)]
    held = {sample.key for sample in listed}
    beside = [sample for key, (_, sample) in index.locate(borders.kept).items() if key not in held]
    playable = within(listed + beside, clip_bytes)
    entries = [_entry(sample, sample.key in playable) for sample in listed]
    data = page_data(index, title=title, borders=borders, served=False)
    data["entries"] = [entry for entry in entries if entry is not None]
    data["near"] = [entry for entry in (_entry(sample, sample.key in playable) for sample in beside) if entry]
    data["borders"] = [_border(border, borders) for border in borders.borders]
    page = document(data, _clips(listed + beside, playable))
    with replacing(target) as temporary:
        temporary.write_bytes(page)
    return Written(len(data["entries"]), len(index), len(playable), len(page))


def page_data(index: ShardIndex, *, title: str, borders: Borders, served: bool) -> dict[str, Any]:
    """What both pages share: title, numbers, and what can be chosen in the filters."""
    facets = index.facets()
    return {
        "title": title,
        "served": served,
        "total": len(index),
        "shards": len(index.shards),
        "counts": borders.counts,
        "languages": [[code, english_name(code) if code else "", count] for code, count in facets["languages"]],
        "licenses": facets["licenses"],
        "highest": facets["highest"],
        "entries": [],
        "near": [],
        "borders": [],
    }


def within(samples: Sequence[RawSample], budget: int) -> set[str]:
    """Keys of the smallest clips that fit into `budget` bytes together, as base64."""
    chosen: set[str] = set()
    sizes = {sample.key: 4 * -(-sample.members["mp4"].size // 3) for sample in samples if "mp4" in sample.members}
    for key, size in sorted(sizes.items(), key=lambda pair: (pair[1], pair[0])):
        budget -= size
        if budget < 0:
            break
        chosen.add(key)
    return chosen


def pictures_of(sample: RawSample, seconds: float) -> list[Picture]:
    if "mp4" not in sample.members:
        return []
    with sample.open("mp4") as file:
        return clip_pictures(file, seconds)


def _entry(sample: RawSample, playable: bool) -> Entry | None:
    """The sample with its pictures inside; None for one whose record is damaged (`vidcap validate` names it)."""
    try:
        record = sample.record()
    except ShardError:
        return None
    entry = sample_entry(sample, record)
    entry["pictures"] = _inside(pictures_of(sample, record.seconds))
    entry["clip"] = "inside" if playable else ""
    return entry


def _border(border: Border, borders: Borders) -> dict[str, Any]:
    entries = []
    for clip in border.stopped:
        entry = stopped_entry(clip)
        entry["pictures"] = _inside(borders.pictures(clip.key))
        entries.append(entry)
    return border_data(border, entries)


def _inside(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    return [{"time": picture.time, "src": data_url(picture.jpeg)} for picture in pictures]


def _clips(samples: Sequence[RawSample], playable: set[str]) -> Iterator[tuple[str, bytes]]:
    for sample in samples:
        if sample.key in playable:
            yield sample.key, sample.read("mp4")
