"""What stands around a run's thresholds agrees with its report and its column files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import Command

from vidcap.errors import UsageError
from vidcap.inspector.entries import Border, Borders
from vidcap.media.candidates import CandidateWriter
from vidcap.report.borderline import load_borders
from vidcap.report.collect import collect
from vidcap.shards.reader import iter_samples


@pytest.fixture(scope="module")
def strict(made_once: Path, corpus: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference run, selected anew so that half of its clips are below the minimum."""
    output = Path(shutil.copytree(made_once, tmp_path_factory.mktemp("strict") / "run"))
    scores = [
        score
        for kept in (output / "_vidcap" / "selections").rglob("*.parquet")
        for score in pq.read_table(kept)["score"].to_pylist()
    ]
    middle = sorted(scores)[len(scores) // 2]
    Command(repository).run(output, corpus, "--runner", "inline", "--set", f"stages.select.options.min={middle}")
    return output


@pytest.fixture(scope="module")
def borders(strict: Path) -> Borders:
    return load_borders(strict)


def of(borders: Borders, reason: str) -> Border:
    return next(border for border in borders.borders if border.reason == reason)


def test_counts_are_those_of_the_report(strict: Path, borders: Borders) -> None:
    report = collect(strict)
    assert borders.counts["kept"] == report["clips"]["kept"] > 0
    assert borders.counts["rejected"] == report["clips"]["rejected"] > 0
    counted = {border.reason: border.count for border in borders.borders}
    assert counted == {reason: count for reason, count in report["reasons"].items() if reason in counted}
    assert sum(counted.values()) == report["clips"]["found"] - report["clips"]["kept"]


def test_each_side_is_on_its_side_and_the_nearest_come_first(strict: Path, borders: Borders) -> None:
    border = of(borders, "select.below_min")
    stages = json.loads((strict / "_vidcap" / "run.json").read_text())["config"]["stages"]
    assert border.threshold == next(stage["options"]["min"] for stage in stages if stage["stage"] == "select")
    assert (border.measure, border.keeps) == ("similarity primary", "above")
    packed = {sample.key: sample.record() for sample in iter_samples([strict])}
    assert len(border.stopped) == border.count
    out = [clip.value or 0.0 for clip in border.stopped]
    assert out == sorted(out, reverse=True) and out[0] < border.threshold
    kept = [value for _, value in border.kept]
    assert kept == sorted(kept) and kept[0] >= border.threshold
    for key, value in border.kept:
        assert value == getattr(packed[key].scores, f"similarity_{packed[key].primary}")
    assert min(value for _, value in border.kept) == border.threshold
    assert not {clip.key for clip in border.stopped} & set(packed)


def test_a_stopped_clip_is_told_whole(strict: Path, borders: Borders) -> None:
    for clip in of(borders, "select.below_min").stopped:
        assert (clip.kind, clip.stage) == ("rejected", "select")
        assert clip.captions["v"] and clip.uri and clip.end > clip.start
        assert clip.key == f"{clip.source_id}_{clip.first_frame:08d}_{clip.last_frame:08d}"
        assert clip.value in clip.scores.values()


def test_only_the_nearest_are_held(strict: Path, borders: Borders) -> None:
    few = load_borders(strict, nearest=1)
    assert few.counts == borders.counts
    for border in few.borders:
        whole = of(borders, border.reason)
        assert (border.count, border.stopped, border.kept) == (whole.count, whole.stopped[:1], whole.kept[:1])


def test_thresholds_of_trim(reference: Path) -> None:
    path = reference / "_vidcap" / "parts" / "000000" / "trim.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0] |= {"verdict": "rejected", "reason": "trim.still", "value": 0.3}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    border = of(load_borders(reference), "trim.still")
    assert (border.measure, border.threshold, border.keeps, border.count) == ("motion", 0.4, "above", 1)
    assert [clip.stage for clip in border.stopped] == ["trim"]
    values = [value for _, value in border.kept]
    assert len(values) > 3 and values == sorted(values) and values[0] >= 0.4


def test_pictures_come_from_the_evidence_while_it_is_kept(strict: Path, borders: Borders, tmp_path: Path) -> None:
    output = Path(shutil.copytree(strict, tmp_path / "run"))
    clip = of(borders, "select.below_min").stopped[0]
    folder = next((output / "_vidcap" / "parts").glob(f"*/evidence/{clip.source_id}"))
    grey = cv2.imencode(".jpg", np.full((360, 640, 3), 77, np.uint8))[1].tobytes()
    writer = CandidateWriter(folder)
    for frame in range(clip.first_frame, clip.last_frame + 1, 10):
        writer.add(frame, grey)
    writer.finish()
    found = load_borders(output).pictures(clip.key)
    shown = [cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR) for picture in found]
    assert shown and all(picture.shape == (180, 320, 3) and abs(picture.mean() - 77) < 3 for picture in shown)


def test_pictures_come_from_the_source_once_the_evidence_is_gone(
    strict: Path, borders: Borders, tmp_path: Path
) -> None:
    key = of(borders, "select.below_min").stopped[0].key
    found = borders.pictures(key)
    assert len(found) >= 3 and all(picture.jpeg.startswith(b"\xff\xd8") for picture in found)
    with pytest.raises(KeyError):
        borders.pictures("nobody")
    output = Path(shutil.copytree(strict, tmp_path / "run"))
    plan = output / "_vidcap" / "plan.jsonl"
    before = plan.read_text()
    plan.write_text(before.replace('"path": "', '"path": "/not/there'))
    assert load_borders(output).pictures(key) == []
    # Of another size: it may show something else by now.
    plan.write_text(re.sub(r'"bytes": (\d+)', r'"bytes": 1\1', before))
    assert load_borders(output).pictures(key) == []


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        load_borders(tmp_path)
