"""The demo end to end: the promised kinds of samples, and every clip holds exactly the frames of its span.

Every frame of the demo corpus carries its number, so that a clip which is off by one frame is seen.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import pytest
from command import Command, only_one


@pytest.fixture(scope="module")
def barcode(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("barcode", repository / "pipelines" / "demo" / "barcode.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def demo_run(repository: Path, shared_folder: Path) -> Path:
    """`pipelines/demo.yaml` as it is, over the whole demo corpus."""
    with only_one(shared_folder, "demo") as output:
        if not (output / "shards" / "sizes.json").is_file():
            Command(repository)("run", "pipelines/demo.yaml", "--output", output, "--runner", "inline")
    return output


def samples(run: Path) -> list[tuple[dict[str, Any], bytes]]:
    found = []
    for path in sorted((run / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: member for member in tar}
            for name, member in members.items():
                if name.endswith(".json"):
                    video = tar.extractfile(members[name.replace(".json", ".mp4")])
                    record = tar.extractfile(member)
                    assert video is not None and record is not None
                    found.append((json.loads(record.read()), video.read()))
    assert found
    return found


def test_the_demo_has_the_promised_kinds(demo_run: Path) -> None:
    kinds = Counter(
        "".join(f"{kind} " for kind, text in r["captions"].items() if text).strip() for r, _ in samples(demo_run)
    )
    assert kinds["v a s av avs"] >= 5, kinds
    assert kinds["v"] >= 3, kinds
    assert any("a" not in found.split() for found in kinds), kinds
    assert any("a" in found.split() and "s" not in found.split() for found in kinds), kinds
    assert all(record["provenance"]["embedded"] for record, _ in samples(demo_run))


def test_each_shot_ends_as_the_truth_says(demo_run: Path, repository: Path) -> None:
    truth = json.loads((repository / "pipelines" / "demo" / "truth.json").read_text())["files"]
    report = json.loads(Command(repository)("report", demo_run, "--json"))
    expected = Counter(entry["expected"]["reason"] for entry in truth.values())
    for reason, count in expected.items():
        if reason:
            assert report["reasons"][reason] == count
    kept = sum(s["expected"]["verdict"] == "kept" for e in truth.values() for s in e.get("shots", []))
    assert report["clips"]["kept"] >= 0.9 * kept
    assert report["sources"]["in"] == len(truth)


@pytest.mark.parametrize("cut", ["exact", "reencode"])
def test_every_clip_holds_exactly_its_frames(
    demo_run: Path, repository: Path, barcode: ModuleType, tmp_path: Path, cut: str
) -> None:
    run = demo_run
    if cut == "reencode":
        run = Path(shutil.copytree(demo_run, tmp_path / "run"))
        change = ("--set", "stages.pack.options.cut=reencode")
        Command(repository)("run", "pipelines/demo.yaml", "--output", run, "--runner", "inline", *change)
    methods: Counter[str] = Counter()
    for record, video in samples(run):
        span = record["span"]
        wanted = list(range(span["first_frame"], span["last_frame"] + 1))
        methods[record["video"]["cut"]] += 1
        path = tmp_path / "clip.mp4"
        path.write_bytes(video)
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == len(wanted) == record["video"]["frames"]
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        numbers = [barcode.read_barcode(picture) for picture in pictures]
        assert numbers == wanted, record["key"]
        reader = cv2.VideoCapture(str(path))
        assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == len(wanted)
        seen = []
        while True:
            there, picture = reader.read()
            if not there:
                break
            seen.append(barcode.read_barcode(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)))
        assert (seen[0], seen[-1], len(seen)) == (wanted[0], wanted[-1], len(wanted)), record["key"]
    assert methods["reencode"] >= 1
    assert (methods["copy"] >= 1) == (cut == "exact")


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset's
def test_the_shards_open_in_webdataset_and_plain_tar(demo_run: Path) -> None:
    import webdataset

    shards = sorted(str(path) for path in (demo_run / "shards").glob("*.tar"))
    rows = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert sum(json.loads((demo_run / "shards" / "sizes.json").read_text()).values()) == len(rows)
    for row in rows:
        record = json.loads(row["json"])
        assert row["__key__"] == record["key"]
        assert row["txt"].decode() == record["captions"][record["primary"]]
    gc.collect()  # webdataset leaves the closing of its files to the garbage collector
