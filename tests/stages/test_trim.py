"""trim on evidence written by hand: lengths, windows, snapping, motion, corruption, silence."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vidcap.media.evidence import SAMPLE_RATE, Evidence
from vidcap.media.facts import SourceFacts
from vidcap.media.frames import FrameTable, PacketIndex, SourceTables
from vidcap.media.motion import measure
from vidcap.media.snap import Span
from vidcap.records import StageResult, Verdict
from vidcap.stages.base import Context
from vidcap.stages.trim import Trim, TrimOptions, random_window

MOVING = 3.0
"""Grey levels per second of the pictures that `footage` makes unless told otherwise."""


def footage(times: Sequence[float], rate: float = MOVING) -> Any:
    """Thumbnails of one grey that gets brighter by `rate` levels a second and starts over at the top."""
    grey = (np.asarray(times) * rate) % 200
    return np.broadcast_to(grey.astype(np.uint8)[:, None, None, None], (len(grey), 27, 48, 3)).copy()


def evidence(
    folder: Path,
    times: Sequence[float],
    thumbnails: Any = None,
    *,
    keys: Sequence[int] = (0,),
    corrupt: Sequence[int] = (),
    sound: Any = None,
    **facts: Any,
) -> Evidence:
    """An evidence folder whose packets stand in presentation order, of a source that can be copied."""
    count = len(times)
    base = Fraction(1, 1000)
    pts = np.round(np.asarray(times) * 1000).astype(np.int64)
    inside = np.arange(count)
    duration = np.append(np.diff(pts), 40) if count > 1 else np.array([40])
    tables = SourceTables(
        FrameTable(base, pts, duration, np.isin(inside, keys), np.isin(inside, corrupt), inside.astype(np.uint64)),
        PacketIndex(pts, pts, np.isin(inside, keys), inside + 100, inside * 1000, np.zeros(count, bool)),
    )
    seconds = tables.frames.end(count - 1)
    values: dict[str, Any] = {
        "container": "mov", "video_codec": "h264", "pix_fmt": "yuv420p", "profile": "High", "width": 640, "height": 360,
        "time_base": base, "has_audio": sound is not None, "sha256": "0", "bytes": 1, "frames": count,
        "corrupt_frames": len(corrupt), "seconds": seconds, "window": (0, count - 1),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tables.save(folder)
    (folder / "facts.json").write_text(SourceFacts(**{**values, **facts}).to_json(), "utf-8")
    (footage(times) if thumbnails is None else thumbnails).tofile(folder / "thumbnails.rgb")
    if sound is not None:
        (np.asarray(sound) * 32768).clip(-32768, 32767).astype("<i2").tofile(folder / "audio.s16")
    return Evidence(folder)


def steady(seconds: float, fps: float = 25) -> list[float]:
    return [i / fps for i in range(round(seconds * fps))]


def trim(known: Evidence, *shots: tuple[int, int], seed: int = 0, **options: Any) -> StageResult:
    rows = [
        {"source_id": "s", "shot_first": first, "shot_last": last, "shot_key": f"s_{first:08d}_{last:08d}"}
        for first, last in shots or [(0, len(known.tables.frames) - 1)]
    ]
    return Trim(TrimOptions(**options), Context(seed=seed)).run(rows, lambda _: known)


def one(result: StageResult) -> dict[str, Any]:
    return {name: values[0] for name, values in result.columns.items()}


def test_a_clip_is_strictly_longer_than_the_least(tmp_path: Path) -> None:
    known = evidence(tmp_path, steady(10))
    result = trim(known, (0, 49), (50, 100))
    assert result.verdicts == {0: Verdict("rejected", "trim.too_short", 2.0)}
    assert result.columns["first_frame"] == [0, 50]
    assert result.columns["last_frame"] == [49, 100]
    assert result.columns["start"] == [0.0, 2.0]
    assert result.columns["end"] == [2.0, 4.04]


def test_every_row_has_every_column_of_its_type(tmp_path: Path) -> None:
    import pyarrow as pa

    known = evidence(tmp_path, steady(40), corrupt=range(600, 700))
    result = trim(known, (0, 30), (31, 31), (32, 599), (600, 999), long_shots="reject", max_seconds=20)
    assert set(result.columns) == set(Trim.gives)
    for name, kind in Trim.gives.items():
        column = pa.array(result.columns[name], kind)
        assert len(column) == 4
        assert column.null_count == 0
    assert [result.verdicts[i].reason for i in (0, 1, 2, 3)] == [
        "trim.too_short", "trim.too_short", "trim.too_long", "trim.corrupt_frames",
    ]  # fmt: skip


def test_a_long_shot_gives_a_window_that_depends_on_seed_and_key_alone(tmp_path: Path) -> None:
    known = evidence(tmp_path, steady(100))
    spans = set()
    for seed in range(20):
        found = one(trim(known, (100, 2300), seed=seed))
        assert 100 <= found["first_frame"] <= found["last_frame"] <= 2300
        assert 29.9 <= found["end"] - found["start"] <= 30.000001
        spans.add((found["first_frame"], found["last_frame"]))
        both = trim(known, (0, 60), (100, 2300), seed=seed)
        assert both.columns["first_frame"][1] == found["first_frame"]
    assert len(spans) > 15
    assert one(trim(known, (101, 2300)))["first_frame"] != one(trim(known, (100, 2300)))["first_frame"]


def test_window_starts_are_uniform() -> None:
    times = steady(60)
    pts = np.round(np.array(times) * 1000).astype(np.int64)
    zeros = np.zeros(len(pts), bool)
    table = FrameTable(Fraction(1, 1000), pts, np.full(len(pts), 40), zeros, zeros, pts.astype(np.uint64))
    starts = [random_window(table, Span(0, len(pts) - 1), 30.0, seed).first / 25 for seed in range(600)]
    counts, _ = np.histogram(starts, bins=6, range=(0, 30))
    assert counts.min() > 70
    assert counts.max() < 135


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.02, 3.0), min_size=20, max_size=120), st.integers(0, 2**64 - 1), st.floats(1.0, 20.0))
def test_a_window_of_a_variable_rate_stays_inside(gaps: list[float], seed: int, seconds: float) -> None:
    pts = np.concatenate([[0], np.cumsum(np.round(np.array(gaps) * 1000))]).astype(np.int64)
    zeros = np.zeros(len(pts), bool)
    table = FrameTable(Fraction(1, 1000), pts, np.full(len(pts), 40), zeros, zeros, pts.astype(np.uint64))
    shot = Span(3, len(pts) - 4)
    if table.end(shot.last) - table.start(shot.first) <= seconds:
        return
    found = random_window(table, shot, seconds, seed)
    assert shot.first <= found.first <= found.last <= shot.last
    assert table.end(found.last) - table.start(found.first) <= seconds + 1e-6 or found.first == found.last


def test_a_long_shot_can_be_rejected_instead(tmp_path: Path) -> None:
    known = evidence(tmp_path, steady(31))
    assert trim(known, long_shots="reject").verdicts == {0: Verdict("rejected", "trim.too_long", 31.0)}
    assert trim(known, (0, 749), long_shots="reject").verdicts == {}


def test_spans_are_snapped_to_what_can_be_copied(tmp_path: Path) -> None:
    known = evidence(tmp_path, steady(10), keys=(0, 60, 120, 180))
    found = one(trim(known, (50, 170)))
    assert (found["first_frame"], found["last_frame"], found["snapped"]) == (60, 170, True)
    found = one(trim(known, (50, 170), snap_seconds=0.2))
    assert (found["first_frame"], found["last_frame"], found["snapped"]) == (50, 170, False)
    found = one(trim(known, (5, 61)))  # what is left from 60 on would be too short
    assert (found["first_frame"], found["last_frame"], found["snapped"]) == (5, 61, False)


@pytest.mark.parametrize(
    "facts", [{"video_codec": "hevc"}, {"rotation": 90}, {"interlaced": True}, {"hdr": True}, {"pix_fmt": "yuv444p"},
              {"sar": Fraction(4, 3)}, {"sizes": 2}]
)  # fmt: skip
def test_sources_that_are_encoded_anyway_are_not_snapped(tmp_path: Path, facts: dict[str, Any]) -> None:
    known = evidence(tmp_path, steady(10), keys=(0, 60), **facts)
    found = one(trim(known, (50, 170)))
    assert (found["first_frame"], found["snapped"]) == (50, False)
    kept = one(trim(known, (50, 170), video="keep"))
    assert kept["snapped"] is ("sizes" not in facts)


def test_width_and_height_are_as_shown(tmp_path: Path) -> None:
    found = one(trim(evidence(tmp_path, steady(4), rotation=270, sar=Fraction(4, 3))))
    assert (found["width"], found["height"]) == (360, 852)


def test_still_and_extreme_shots_are_rejected_with_what_was_measured(tmp_path: Path) -> None:
    times = steady(12)
    pictures = np.concatenate([footage(times[:100], 0), footage(times[100:200]), footage(times[200:300], 90)])
    result = trim(evidence(tmp_path, times, pictures), (0, 99), (100, 199), (200, 299))
    assert {i: v.reason for i, v in result.verdicts.items()} == {0: "trim.still", 2: "trim.extreme_motion"}
    assert [v.value for v in result.verdicts.values()] == [result.columns["motion_mean"][i] for i in (0, 2)]
    assert result.columns["motion_mean"][:2] == pytest.approx([0, MOVING], abs=0.2)
    assert result.columns["freeze_ratio"][:2] == [1.0, 0.0]


def test_slides_with_a_missed_cut_are_still(tmp_path: Path) -> None:
    times = steady(16)
    pictures = np.full((400, 27, 48, 3), 60, np.uint8)
    pictures[200:] = 120
    known = evidence(tmp_path, times, pictures)
    result = trim(known)
    assert one(result)["motion_mean"] > 0.4
    assert result.verdicts[0].reason == "trim.still"
    assert "94% of its length" in result.verdicts[0].detail or "93% of its length" in result.verdicts[0].detail
    assert trim(known, motion={"max_freeze_ratio": 1.0}).verdicts == {}


@pytest.mark.parametrize("fps", [5, 12.5, 25, 60])
def test_motion_does_not_depend_on_the_frame_rate(fps: float) -> None:
    times = np.array(steady(8, fps))
    assert measure(footage(times, 10), times).mean == pytest.approx(10, abs=0.3)


def test_motion_of_a_variable_rate_counts_time_not_frames() -> None:
    # Four seconds of one picture shown as one frame, then a hundred frames within four moving seconds.
    moving = np.linspace(4, 8, 101)
    times = np.concatenate([[0.0], moving])
    pictures = np.concatenate([footage([0.0], 0), footage(moving - 4, 20)])
    found = measure(pictures, times)
    assert found.freeze_ratio == pytest.approx(4 / 7, abs=0.02)
    assert found.mean == pytest.approx(20 * 3 / 7, abs=0.4)


def test_noise_of_the_codec_is_no_motion() -> None:
    rng = np.random.default_rng(5)
    noise = rng.integers(-1, 2, (200, 27, 48, 3)) * (rng.random((200, 27, 48, 3)) < 0.2)
    times = np.array(steady(8))
    found = measure(np.clip(100 + noise, 0, 255).astype(np.uint8), times)
    assert found.mean < 0.4
    assert found.freeze_ratio == 1.0


def test_one_frame_does_not_move() -> None:
    assert measure(footage([0.0]), np.array([0.0])).mean == 0.0


def test_corrupt_frames(tmp_path: Path) -> None:
    known = evidence(tmp_path, steady(8), corrupt=(10, 11, 12, 150))
    result = trim(known, (0, 99), (100, 199), max_corrupt_ratio=0.02)
    assert result.columns["corrupt_frames"] == [3, 1]
    assert result.verdicts == {0: Verdict("rejected", "trim.corrupt_frames", 0.03)}


def test_silence(tmp_path: Path) -> None:
    wave = np.zeros(SAMPLE_RATE * 8)
    wave[SAMPLE_RATE * 5] = 0.002
    wave[SAMPLE_RATE * 1] = 0.0009
    known = evidence(tmp_path / "sound", steady(8), sound=wave)
    assert trim(known, (0, 99), (100, 199)).columns["silent"] == [True, False]
    assert one(trim(known))["has_audio"] is True
    mute = one(trim(evidence(tmp_path / "mute", steady(8))))
    assert (mute["has_audio"], mute["silent"]) == (False, True)


def test_rate(tmp_path: Path) -> None:
    found = one(trim(evidence(tmp_path, steady(8))))
    assert (found["fps"], found["vfr"]) == ("25/1", False)


@pytest.mark.parametrize(
    "options", [{"min_seconds": 30}, {"motion": {"low": 70}}, {"max_corrupt_ratio": 2}, {"odd": 1}]
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrimOptions(**options)
