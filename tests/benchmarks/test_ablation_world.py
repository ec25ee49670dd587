"""The rendered corpus of the ablation: the same seed gives the same bytes, and the truth is what the files hold."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "ablation"


def room(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the benchmark, which is no package: found in its folder, forgotten after the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for each in ("world", "captions", "tables"):
        monkeypatch.delitem(sys.modules, each, raising=False)
    return importlib.import_module(name)


def made(world: ModuleType, folder: Path, seed: int = 3) -> dict[str, Any]:
    truth: dict[str, Any] = world.render(folder, videos=2, shots=3, seed=seed, gradual=0.5, speech="tones")
    return truth


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(path)) as box:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in box.decode(video=0)])
    with av.open(str(path)) as box:
        track = np.concatenate([frame.to_ndarray().reshape(-1) for frame in box.decode(audio=0)])
    return frames, track


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = room("world", monkeypatch)
    one, other = made(world, tmp_path / "one"), made(world, tmp_path / "other")
    assert one == other == json.loads((tmp_path / "one" / "truth.json").read_text(encoding="utf-8"))
    for path in sorted((tmp_path / "one" / "media").iterdir()):
        assert path.read_bytes() == (tmp_path / "other" / "media" / path.name).read_bytes()
    assert made(world, tmp_path / "third", seed=4)["videos"] != one["videos"]


def test_shots_end_where_the_truth_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = room("world", monkeypatch)
    truth = made(world, tmp_path)
    joins = set()
    for name, video in truth["videos"].items():
        frames, _ = decoded(tmp_path / "media" / f"{name}.mp4")
        assert len(frames) == video["frames"] == video["shots"][-1]["last"] + 1
        change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))
        assert video["shots"][0]["first"] == 0
        for shot, after, join in zip(video["shots"], video["shots"][1:], video["joins"], strict=False):
            joins.add(join)
            between = change[shot["last"] : after["first"]]
            inside = np.concatenate([change[shot["first"] : shot["last"]], change[after["first"] : after["last"]]])
            assert (len(between) == 1) == (join == "cut")
            assert between.min() > np.median(inside)
            if join == "cut":
                assert between[0] > inside.max()
    assert "cut" in joins
    assert joins & {"dissolve", "fade"}


def test_the_latents_are_what_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = room("world", monkeypatch)
    for name, video in made(world, tmp_path)["videos"].items():
        frames, _ = decoded(tmp_path / "media" / f"{name}.mp4")
        for shot in video["shots"]:
            frame = frames[(shot["first"] + shot["last"]) // 2].astype(int)
            near = {colour: int((np.abs(frame - rgb).sum(2) < 60).sum()) for colour, rgb in world.COLOURS.items()}
            assert max(near, key=lambda colour: near[colour]) == shot["latents"]["colour"], near


def test_the_words_are_heard_when_the_truth_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = room("world", monkeypatch)
    for name, video in made(world, tmp_path)["videos"].items():
        _, track = decoded(tmp_path / "media" / f"{name}.mp4")
        for shot in video["shots"]:
            words = shot["words"]
            assert words["text"] == world.SENTENCE.format(shot["latents"]["word"])
            low, high = (round(words[end] * world.RATE) for end in ("start", "end"))
            tenth = world.RATE // 10
            first, last = (np.abs(track[at : at + tenth]).mean() for at in (low, high - tenth))
            before, after = (np.abs(track[at : at + tenth]).mean() for at in (low - 2 * tenth, high + tenth))
            assert min(first, last) > 1.5 * max(before, after)


def test_a_clip_over_two_shots_gets_the_words_of_its_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = room("captions", monkeypatch)
    truth = made(sys.modules["world"], tmp_path)
    oracle = captions.Video(captions.Video.Config(truth=str(tmp_path / "truth.json")))
    oracle.load("cpu")
    name, video = next(iter(truth["videos"].items()))
    first, second, third = video["shots"]
    assert oracle.latents(f"{name}_{first['first']:08d}_{third['last']:08d}").word == second["latents"]["word"]
    assert oracle.latents(f"{name}_{first['first']:08d}_{second['first']:08d}").word == first["latents"]["word"]


def test_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = room("tables", monkeypatch)
    assert tables.recall([0, 1, 5, 0], 1) == 50.0
    assert tables.over_seeds([10.0, 12.0, 14.0]) == {"mean": 12.0, "half": pytest.approx(4.303 * 2 / 3**0.5, abs=0.01)}
    better, worse = [[0] * 90 + [3] * 10] * 3, [[0] * 10 + [3] * 90] * 3
    found = tables.difference(better, worse)
    assert found["mean"] == 80.0
    assert 60 < found["low"] < 80 < found["high"] < 95
    assert tables.difference(better, better) == {"mean": 0.0, "low": 0.0, "high": 0.0}
