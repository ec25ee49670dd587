"""Check shards against the format: members, schema, invariants, order, unique keys, sizes.json and metadata.

What the clips themselves hold is checked by a function the caller passes in, so that this room needs no video library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vidcap.errors import ShardError
from vidcap.shards.metadata import read_keys
from vidcap.shards.reader import SHARD_NAME, Fault, RawSample, find_shards, read_sizes, scan, shards_folder
from vidcap.shards.schema import SampleJson, broken_invariants, captionless, parse

FAULTS_PER_SHARD = 200
"""A damaged shard is described, not listed to the end."""

MediaCheck = Callable[[RawSample, SampleJson], list[str]]
"""Looks into a sample's media; returns what does not agree with its record."""


@dataclass(slots=True)
class Report:
    """What `validate` found."""

    shards: int = 0
    samples: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        faults = [{"shard": f.shard, "key": f.key, "fault": f.fault} for f in self.faults]
        return {"ok": self.ok, "shards": self.shards, "samples": self.samples, "faults": faults}


@dataclass(slots=True)
class _Run:
    """What must hold over all shards. One entry per key: some 150 bytes a sample."""

    shard_of: dict[str, str] = field(default_factory=dict)
    last_of_part: dict[str, str] = field(default_factory=dict)
    flac: dict[bool, list[tuple[str, str]]] = field(default_factory=lambda: {True: [], False: []})
    """With and without flac: shard and key of the first such sample of each shard."""
    flac_counts: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})


def validate(paths: Sequence[Path], *, media: MediaCheck | None = None) -> Report:
    """Check all shards of the paths (tars, shards folders, run folders), one pass each.

    Raises `UsageError` where there is nothing to check; everything wrong with what is there becomes a `Fault`.
    """
    report, run = Report(), _Run()
    tars: list[Path] = []
    for path in paths:
        found, faults = _tars(path)
        tars += [tar for tar in found if tar not in tars]
        report.faults += faults
    for tar in tars:
        report.shards += 1
        count = 0
        faults_left = FAULTS_PER_SHARD
        for item in _check_shard(tar, run, media):
            if isinstance(item, int):
                count = item
            elif faults_left:
                faults_left -= 1
                report.faults.append(item)
                if not faults_left:
                    report.faults.append(Fault(tar.name, "", f"more than {FAULTS_PER_SHARD} faults in this shard"))
        report.samples += count
    report.faults += _mixed_members(run)
    return report


def _tars(path: Path) -> tuple[list[Path], list[Fault]]:
    """The tars of a path, and where its folder and its sizes.json disagree."""
    if not path.is_dir():
        return find_shards([path]), []
    folder = shards_folder(path)
    there = {tar.name for tar in folder.glob("*.tar") if tar.is_file() and not tar.name.startswith(".")}
    try:
        listed = read_sizes(folder)
    except ShardError as error:
        return [folder / name for name in sorted(there)], [Fault("sizes.json", "", f"sizes.malformed: {error.message}")]
    if not there and not listed:
        find_shards([path])  # says what is missing
    faults = [Fault("sizes.json", "", "sizes.missing: the folder has no sizes.json")] if listed is None else []
    listed = dict.fromkeys(there, 0) if listed is None else listed
    faults += [
        Fault(name, "", "shard.missing: listed in sizes.json, not there") for name in sorted(listed.keys() - there)
    ]
    faults += [
        Fault(name, "", "shard.unlisted: there, but not in sizes.json (left over, or the run is not finished)")
        for name in sorted(there - listed.keys())
    ]
    return [folder / name for name in sorted(there)], faults


def _check_shard(tar: Path, run: _Run, media: MediaCheck | None) -> Iterator[Fault | int]:
    """Faults of one shard, and at last the number of its samples."""
    keys: list[str] = []
    try:
        for item in scan(tar):
            if isinstance(item, Fault):
                yield item
                continue
            keys.append(item.key)
            yield from (Fault(tar.name, item.key, fault) for fault in _check_order(item.key, tar, run))
            yield from (Fault(tar.name, item.key, fault) for fault in _check_sample(item, run, media))
    except OSError as error:
        yield Fault(tar.name, "", f"shard.unreadable: {error.strerror or type(error).__name__}")
    yield from (Fault(tar.name, "", fault) for fault in _check_beside(tar, keys))
    yield len(keys)


def _check_order(key: str, tar: Path, run: _Run) -> Iterator[str]:
    name = SHARD_NAME.fullmatch(tar.name)
    part = f"{tar.parent}/{name['run']}-{name['part']}" if name else str(tar)
    if key <= run.last_of_part.get(part, ""):
        yield "key.order: keys do not ascend within the part"
    run.last_of_part[part] = max(key, run.last_of_part.get(part, ""))
    if key in run.shard_of:
        yield f"key.duplicate: also in {run.shard_of[key]}"
    else:
        run.shard_of[key] = tar.name


def _check_sample(sample: RawSample, run: _Run, media: MediaCheck | None) -> Iterator[str]:
    has_flac = "flac" in sample.members
    run.flac_counts[has_flac] += 1
    firsts = run.flac[has_flac]
    if not firsts or firsts[-1][0] != sample.path.name:
        firsts.append((sample.path.name, sample.key))
    for suffix in ("json", "mp4", "txt"):
        if suffix not in sample.members:
            yield f"member.missing: no .{suffix}"
    for suffix, member in sample.members.items():
        if not member.size and not (suffix == "txt" and _has_no_captions(sample)):
            yield f"member.empty: .{suffix}"
    if "json" not in sample.members:
        return
    data = sample.read("json")
    try:
        record = parse(data)
    except ValueError as error:
        yield f"json.schema: {ascii(str(error))[1:-1]}"
        return
    if record.key != sample.key:
        yield "json.key: another key than the member's name"
    if record.to_bytes() != data:
        yield "json.not_canonical: field order, blanks, rounding or number types differ from the writer's"
    yield from (f"json.invariant: {message}" for message in broken_invariants(record))
    if "txt" in sample.members and sample.read("txt") != record.text.encode():
        yield f"txt.differs: .txt is not caption {record.primary}"
    if media is not None and "mp4" in sample.members:
        yield from (f"media: {message}" for message in media(sample, record))


def _has_no_captions(sample: RawSample) -> bool:
    """Whether its text may be empty. A record that cannot be read says nothing, and is reported by itself."""
    try:
        return "json" in sample.members and captionless(parse(sample.read("json")))
    except ValueError:
        return False


def _check_beside(tar: Path, keys: list[str]) -> Iterator[str]:
    """The shard's entry in sizes.json and its metadata file."""
    try:
        listed = (read_sizes(tar.parent) or {}).get(tar.name)
    except ShardError:
        listed = None  # reported once, for the folder
    if listed is not None and listed != len(keys):
        yield f"sizes.differs: {len(keys)} samples, {listed} in sizes.json"
    metadata = tar.with_suffix(".parquet")
    if not metadata.is_file():
        if listed is not None:  # a tar on its own needs none
            yield f"metadata.missing: no {ascii(metadata.name)[1:-1]}"
        return
    try:
        rows = read_keys(metadata)
    except ValueError as error:
        yield f"metadata.unreadable: {error}"
        return
    if rows != keys:
        yield f"metadata.differs: {len(rows)} rows, or other keys than the shard's {len(keys)} samples"


def _mixed_members(run: _Run) -> Iterator[Fault]:
    """flac is in all samples or in none: names the shards of the smaller side."""
    if all(run.flac_counts.values()):
        odd = run.flac_counts[True] < run.flac_counts[False]
        said = "with .flac though other samples have none" if odd else "without .flac though other samples have one"
        for shard, key in islice(run.flac[odd], FAULTS_PER_SHARD):
            yield Fault(shard, key, f"member.mixed: {said}")
