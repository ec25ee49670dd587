"""What a run costs, in counts that are the same on every machine: openings, frames, bytes, tasks, files.

A change that makes the pipeline do more shows here before any clock can tell.

`counted_run.py` counts; three films of H.264 and AAC, two parts, the whole embedded pipeline.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vidcap.pipeline.config import load_config

FILMS = {"day/city.mp4": 450, "night/city.mp4": 498, "sunrise.mp4": 535}
"""Frames of each, as `pipelines/demo/truth.json` has them."""
PARTS = 2
WAYS = ("copy", "hybrid", "reencode")
FRAMES_LOOKED_AT = 16
"""Of a clip, by the captioner and the similarity together: each is given 16 and looks at every second one."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who opens files")


@dataclass(frozen=True)
class Run:
    counts: dict[str, Any]
    output: Path
    source_bytes: int

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The stage's column file of all parts."""
        files = sorted((self.output / "_vidcap" / "parts").glob(f"*/{stage}.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def clips(self) -> list[dict[str, Any]]:
        """First and last frame and way of cutting of each clip in a shard."""
        return [
            {**trim, **pack} for trim, pack in zip(self.rows("trim"), self.rows("pack"), strict=True) if pack["cut"]
        ]


def run(folder: Path, demo_media: Path, repository: Path, *more: str) -> Run:
    films = folder / "films"
    for name in FILMS:
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo_media / name, films / name)
    counts, output = folder / "counts.json", folder / "run"
    arguments = ["run", "pipelines/demo.yaml", "--input", films, "--output", output, "--quiet"]
    arguments += ["--set", "input.sources_per_part=2", *more]
    done = subprocess.run(
        [sys.executable, repository / "tests" / "counted_run.py", counts, films, *arguments],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    sizes = sum((films / name).stat().st_size for name in FILMS)
    return Run(json.loads(counts.read_text("utf-8")), output, sizes)


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory, demo_media: Path, repository: Path) -> Run:
    found = run(tmp_path_factory.mktemp("counted"), demo_media, repository, "--runner", "inline")
    assert len(found.clips()) >= 6, "the counts below need clips"
    return found


def test_a_source_is_opened_once_to_decode_it_and_once_to_pack_it(inline: Run) -> None:
    assert inline.counts["opened"] == dict.fromkeys(FILMS, 2)


def test_a_part_is_one_task_and_packing_it_another(inline: Run) -> None:
    assert inline.counts["tasks"] == {str(part): 2 for part in range(PARTS)}


def test_every_frame_is_decoded_once_before_packing(inline: Run) -> None:
    frames = sum(FILMS.values())
    assert inline.counts["looked"]["decode"] == frames
    # Opening a container decodes its first picture, to know the pixel format.
    assert frames <= inline.counts["pictures"]["decode"] <= frames + len(FILMS)


def test_the_sound_is_decoded_once(inline: Run) -> None:
    assert inline.counts["sounds"] == len(FILMS)
    assert not any(row["silent"] is None for row in inline.rows("trim")), "nobody had to ask the clip itself"


def test_decoding_reads_a_source_once(inline: Run) -> None:
    """Beside the pass that makes its digest. The index of an MP4 is found with a second look at its end."""
    assert inline.source_bytes <= inline.counts["read"]["decode"] <= 1.2 * inline.source_bytes


def test_packing_decodes_and_encodes_only_what_cannot_be_copied(inline: Run) -> None:
    clips = inline.clips()
    lengths = {way: [c["last_frame"] - c["first_frame"] + 1 for c in clips if c["cut"] == way] for way in WAYS}
    assert sum(lengths["copy"]) > sum(lengths["hybrid"]) + sum(lengths["reencode"]), "most of these are copied"
    assert not lengths["reencode"], "every clip of these has a key frame inside"
    # Up to that: here less than half of the clip.
    assert 0 < inline.counts["encoded"]["pack"] <= sum(length // 2 for length in lengths["hybrid"])
    sampled = sum(
        c["last_frame"] - c["first_frame"] + 1 for c in clips if (c["first_frame"] + c["last_frame"]) % 8 == 0
    )
    # Opened twice at most, with a picture decoded each time, and the first one compared; one clip in eight to its end;
    # what is encoded is decoded from the key frame before it, and compared.
    most = 4 * len(clips) + sampled + 2 * sum(lengths["hybrid"])
    assert inline.counts["pictures"]["pack"] <= most < sum(FILMS.values())


def test_packing_reads_little_more_than_it_packs(inline: Run) -> None:
    openings = inline.counts["by_libav"]["pack"]
    assert openings <= len(FILMS) + 2 * len(inline.clips()), "a source once, a clip for its check and its sound"
    clips = 0
    for shard in (inline.output / "shards").glob("*.tar"):
        with tarfile.open(shard) as tar:
            clips += sum(member.size for member in tar if member.name.endswith(".mp4"))
    # libav reads in blocks of 32 kB, and again after each jump to another clip of a small file.
    assert inline.counts["read"]["pack"] <= 3 * inline.source_bytes + 2 * clips + 65_536 * openings


def test_candidate_frames_are_made_once_and_read_back_where_looked_at(inline: Run) -> None:
    found = {row["id"]: row["frames"] / float(_fraction(row["fps"])) for row in inline.rows("sources")}
    shots = len(inline.rows("detect_shots"))
    # Two a second and the first of each shot.
    assert inline.counts["jpegs_made"] <= sum(math.ceil(2 * seconds) for seconds in found.values()) + shots
    passed = [row for row in inline.rows("trim") if not row["verdict"]]
    assert 0 < inline.counts["jpegs_read"] <= FRAMES_LOOKED_AT * len(passed)
    kept = sum(row["last_frame"] - row["first_frame"] + 1 for row in passed) / sum(FILMS.values())
    assert inline.counts["jpegs_read"] <= kept * inline.counts["jpegs_made"] + len(passed)


def _fraction(text: str) -> float:
    over, _, under = text.partition("/")
    return int(over) / int(under or 1)


def test_files_brought_to_the_disk_are_counted_by_part_and_source_not_by_clip(inline: Run) -> None:
    """Per part and stage: its columns and its record. An fsync is milliseconds on a disk, and far more on a network."""
    fsyncs, replaced = inline.counts["fsyncs"], inline.counts["replaced"]
    stages = [stage.stage for stage in load_config(Path("pipelines/demo.yaml"), ()).stages]
    for stage in stages:
        columns = "sources" if stage == "decode" else stage
        for name in (f"#/{columns}.parquet", f"ledger/#.{stage}.json"):
            assert fsyncs.get(name, 0) <= PARTS, f"{name}: {fsyncs.get(name)} for {PARTS} parts"
            assert replaced[name] == PARTS
    # A source: six files of evidence, embeddings, its line in the journal, candidates again where trim dropped some,
    # their folders. A part: keep-list, duplicates, statistics, a shard and its table, and the folders they lie in.
    assert sum(fsyncs.values()) <= PARTS * (2 * len(stages) + 16) + 15 * len(FILMS) + 13
    assert sum(replaced.values()) <= PARTS * (2 * len(stages) + 5) + 6 * len(FILMS) + 7


@pytest.mark.cluster
def test_two_workers_do_no_more_than_one_process(
    tmp_path: Path, demo_media: Path, repository: Path, inline: Run
) -> None:
    found = run(tmp_path, demo_media, repository, "--workers", "2")
    assert found.counts["opened"] == dict.fromkeys(FILMS, 2)
    assert found.counts["tasks"] == inline.counts["tasks"]
