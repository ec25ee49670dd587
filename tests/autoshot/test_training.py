"""Training learns, and learns the same thing again; what it writes is what it trained."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from vidcap.autoshot.footage import Footage, Piece, gathered
from vidcap.autoshot.synthesis import scenes
from vidcap.autoshot.synthesis.clips import Mixture
from vidcap.cli.main import main
from vidcap.errors import UsageError
from vidcap.media.footage import FootageFolder

pytestmark = [pytest.mark.full, pytest.mark.slow]
EASY = Mixture(kinds=(1, 0, 0, 0, 0, 0), continuous=0, quiet=0, procedural=1.0, shot_frames=(12,))


def footage(pieces: int = 6, frames: int = 60) -> Footage:
    rng = np.random.default_rng(0)
    made = [
        Piece(np.repeat(scenes.texture(rng)[None], frames, 0), f"film {n}", np.zeros((frames, 2), np.float32))
        for n in range(pieces)
    ]
    return gathered(made, [])


def test_it_learns_and_the_same_seed_learns_the_same() -> None:
    torch = pytest.importorskip("torch")
    from vidcap.autoshot.trainable import Fast
    from vidcap.autoshot.training import Recipe, TrainingOptions, train

    def trained(seed: int, workers: int) -> tuple[list[float], dict[str, object]]:
        losses: list[float] = []
        torch.manual_seed(0)
        options = TrainingOptions(steps=30, clips_per_step=4, seed=seed, workers=workers, half=False)
        recipe = Recipe(clip_frames=48)
        weights = train(
            Fast().made(), Fast().logits, footage(), recipe, options, EASY, lambda step, loss: losses.append(loss)
        )
        return losses, weights

    losses, weights = trained(1, 0)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    again, same = trained(1, 2)
    assert again == losses, "the number of processes that make clips changes nothing"
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert trained(2, 0)[0] != losses


def test_the_exported_network_answers_as_the_trained_one(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from vidcap.autoshot.chunks import probabilities
    from vidcap.autoshot.export import export
    from vidcap.autoshot.networks.fast import FastShotNetwork
    from vidcap.backends import registry

    torch.manual_seed(3)
    network = FastShotNetwork().eval()
    export(network, tmp_path / "one.onnx", {"a": "b"})
    export(network, tmp_path / "two.onnx", {"a": "b"})
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert (tmp_path / "one.onnx").stat().st_size < 3_000_000
    assert str(Path(__file__).parents[2]).encode() not in (tmp_path / "one.onnx").read_bytes()
    backend = registry.create("shot_detector", "fast", {"weights": str(tmp_path / "one.onnx")})
    backend.load("cpu")
    frames = np.random.default_rng(0).integers(0, 256, (700, 27, 48, 3), np.uint8)

    def asked(some: np.ndarray, histograms: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = network(torch.from_numpy(some)[None].float(), torch.from_numpy(histograms)[None])
        return torch.sigmoid(logits)[0].numpy()

    assert probabilities(frames, backend._network) == pytest.approx(probabilities(frames, asked), abs=2e-5)


def write_footage(folder: Path, films: int = 24, frames: int = 40) -> None:
    """A folder as `vidcap train-shots` reads it: lossless thumbnails, an index, a teacher who sees nothing."""
    rng = np.random.default_rng(0)
    for name in ("pieces", "distil"):
        with av.open(str(folder / f"{name}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 48, 27, "bgr0"
            for _ in range(films):
                picture = scenes.texture(rng)
                for shift in range(frames):
                    frame = av.VideoFrame.from_ndarray(np.roll(picture, shift, 1), format="rgb24")
                    container.mux(stream.encode(frame.reformat(format="bgr0")))
            container.mux(stream.encode(None))
        np.savez(folder / f"{name}_teacher.npz", teacher=np.zeros((films * frames, 2), np.float16))
    rows = [{"frames": frames, "repo": "made/here", "path": f"{n}.mp4", "licence": "CC0-1.0"} for n in range(films)]
    (folder / "index.json").write_text(json.dumps({"pieces": rows, "distil": rows}))


def test_the_verb_writes_a_network_that_the_detector_takes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    write_footage(tmp_path)
    target = tmp_path / "out" / "mine.onnx"
    assert main(["train-shots", str(tmp_path), "-o", str(target), "--steps", "2", "--seed", "5", "--workers", "0"]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert summary["seed"] == 5
    assert 0 < summary["threshold"] < 1
    from vidcap.backends import registry

    backend = registry.create("shot_detector", "fast", {"weights": str(target)})
    backend.load("cpu")
    assert backend.detect(np.zeros((30, 27, 48, 3), np.uint8), np.arange(30) / 25)


def test_the_large_networks_learn_too(tmp_path: Path) -> None:
    """A few steps: what matters is that the loss is theirs and that their backend takes what is written."""
    torch = pytest.importorskip("torch")
    from dataclasses import replace
    from itertools import pairwise

    from vidcap.autoshot.trainable import KINDS
    from vidcap.autoshot.training import TrainingOptions, train
    from vidcap.backends import registry

    for name, file, steps in (("autoshot", "own.safetensors", 16), ("transnetv2", "own.pth", 2)):
        kind, losses = KINDS[name], []
        torch.manual_seed(0)
        network = kind.made()
        options = TrainingOptions(steps=steps, clips_per_step=2, seed=1, workers=0, half=False)
        recipe = replace(kind.recipe, clip_frames=32, warm_up=2)
        weights = train(
            network, kind.logits, footage(), recipe, options, EASY, lambda step, loss, to=losses: to.append(loss)
        )
        assert steps < 16 or np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
        network.load_state_dict(weights)
        kind.write(network.eval(), tmp_path / file, {"a": "b"})
        frames = np.random.default_rng(0).integers(0, 256, (60, 27, 48, 3), np.uint8)
        found = kind.probabilities(network, frames)
        threshold = float(np.median(found[0]))
        backend = registry.create(
            "shot_detector", name, {"weights": str(tmp_path / file), "threshold": threshold, "precision": "fp32"}
        )
        backend.load("cpu")
        shots = backend.detect(frames, np.arange(60) / 25)
        assert kind.gaps(found, threshold) == [(one.last, other.first) for one, other in pairwise(shots)]
        assert np.array_equal(np.stack(backend._predictor(frames)), found)
        assert found[0].std() > 0


def test_a_file_name_of_another_network_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    assert main(["train-shots", str(tmp_path), "-o", str(tmp_path / "a.onnx"), "--network", "autoshot"]) == 2
    assert "end it in .safetensors or .pth" in capfd.readouterr().err


class TestFolder:
    def test_frames_come_back_as_they_were_written(self, tmp_path: Path) -> None:
        write_footage(tmp_path, films=3)
        folder = FootageFolder(tmp_path, tmp_path)
        found = folder.thumbnails("pieces")
        assert found.shape == (120, 27, 48, 3)
        assert np.array_equal(found[0], scenes.texture(np.random.default_rng(0)))
        assert folder.licences() == {"CC0-1.0": 240}

    def test_what_does_not_fit_together_is_refused(self, tmp_path: Path) -> None:
        write_footage(tmp_path, films=3)
        np.savez(tmp_path / "pieces_teacher.npz", teacher=np.zeros((7, 2), np.float16))
        with pytest.raises(UsageError, match="7 opinions"):
            FootageFolder(tmp_path, tmp_path).read()
        with pytest.raises(UsageError, match=r"index\.json"):
            FootageFolder(tmp_path / "nowhere", tmp_path).read()

    def test_a_teacher_is_asked_once_and_remembered(self, tmp_path: Path) -> None:
        write_footage(tmp_path, films=3)
        (tmp_path / "pieces_teacher.npz").unlink()
        folder = FootageFolder(tmp_path, tmp_path / "opinions")
        assert folder.without_teacher() == ["pieces"]
        asked: list[int] = []

        def teacher(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            asked.append(len(frames))
            return np.full(len(frames), 0.25, np.float32), np.full(len(frames), 0.5, np.float32)

        folder.ask("pieces", teacher)
        assert asked == [40, 40, 40]
        assert folder.without_teacher() == []
        assert folder._pieces("pieces", folder._index()["pieces"])[2].teacher[0].tolist() == [0.25, 0.5]
