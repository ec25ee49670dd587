"""Two processes learn what one learns from all their samples; the released way of gathering is another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.full
SCRIPT = Path(__file__).with_name("two_processes.py")
NAMES = {"vtc", "vtm", "mlm", "atc", "atm", "amlm", "avtc", "avtm", "avmlm", "avc"}


def of_two(folder: Path, mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
    import torch

    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2", str(folder), mode],
            cwd=SCRIPT.parent.parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
    found: tuple[dict[str, Any], dict[str, Any]] = torch.load(folder / "found.pt", weights_only=True)
    return found


def of_one(mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
    code = "import sys, torch, two_processes as t; torch.save(t.losses_and_gradients(0, 1, sys.argv[1]), sys.argv[2])"
    import tempfile

    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.pt"
        environment = {"PYTHONPATH": f"{SCRIPT.parent}:{SCRIPT.parent.parent.parent}"}
        subprocess.run([sys.executable, "-c", code, mode, str(path)], check=True, timeout=400, env=environment)
        found: tuple[dict[str, Any], dict[str, Any]] = torch.load(path, weights_only=True)
    return found


def test_two_processes_equal_one_with_all_samples(tmp_path: Path) -> None:
    """Also where samples without sound or caption are not shared out evenly. Matching looks for wrong partners in a
    process's own samples; here there is only one in each part, and the same in all of them."""
    losses, gradients = of_two(tmp_path, "full")
    expected_losses, expected_gradients = of_one("full")
    assert set(losses) == set(expected_losses) == NAMES
    for name, value in expected_losses.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=1e-6), name
    for name, value in expected_gradients.items():
        gap = float((gradients[name] - value).abs().max())
        assert gap <= 1e-6 * max(1.0, float(value.abs().max())), f"{name}: {gap}"
    assert sum(bool(value.any()) for value in expected_gradients.values()) > 100


def test_the_released_gathering_has_the_losses_and_a_share_of_the_gradient(tmp_path: Path) -> None:
    losses, gradients = of_two(tmp_path, "published")
    expected_losses, expected_gradients = of_one("published")
    contrasts = {"vtc", "atc", "avtc", "avc"}
    for name in contrasts:
        assert float(losses[name]) == pytest.approx(float(expected_losses[name]), rel=1e-6)
    # Only contrasts reach these layers: each process sends back its own rows' part, and the mean halves it.
    for name in ("av_fusion.weight", "text_proj.weight", "audio_proj.bias"):
        assert float((gradients[name] - expected_gradients[name] / 2).abs().max()) < 1e-6
    assert float((gradients["temp"] - expected_gradients["temp"]).abs()) < 1e-6
