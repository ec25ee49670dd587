"""Makes weights for the shot networks: random ones, and AutoShot weights set by hand that find hard cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def random_state(network: Any, seed: int = 0) -> dict[str, Any]:
    """Weights of the size that a fresh network has; batch norms that shift and scale, so that leaving one out shows."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif key.endswith("running_var") or (value.dim() == 1 and key.endswith("weight")):
            state[key] = noise.abs() + 0.5
        elif value.dim() == 1:
            state[key] = 0.1 * noise
        else:
            state[key] = noise / value[0].numel() ** 0.5
    return state


def cut_state() -> dict[str, Any]:
    """AutoShot weights that call a frame a boundary where its colours have little in common with the next frame's.

    All is zero but one path: colour similarity at offset +1 → first colour feature → first hidden unit → one_hot. The
    logit is 20 − 40 × similarity.
    """
    import torch

    from vidcap.autoshot.networks.autoshot import AutoShotNetwork

    state = {key: torch.zeros_like(value) for key, value in AutoShotNetwork().state_dict().items()}
    for key, value in state.items():
        if key.endswith("running_var"):
            value += 1
    state["color_hist_layer.fc.linear.weight"][0, 50 + 1] = -1
    state["color_hist_layer.fc.linear.bias"][0] = 1
    state["fc1_0.linear.weight"][0, 0] = 1
    state["cls_layer1.linear.weight"][0, 0] = 40
    state["cls_layer1.linear.bias"][0] = -20
    return state


def save_published(state: dict[str, Any], path: Path) -> Path:
    """In the layout of the published checkpoint."""
    import torch

    torch.save({"net": state}, path)
    return path
