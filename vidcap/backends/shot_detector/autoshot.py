"""Finds shots with AutoShot, the searched network that the InternVideo2 paper cuts its videos with."""

from __future__ import annotations

from typing import Any, ClassVar

from vidcap.autoshot.checkpoints import AUTOSHOT
from vidcap.backends.roles import BackendConfig
from vidcap.backends.shot_network import NetworkConfig, NetworkDetector


class AutoShotConfig(NetworkConfig):
    """`threshold`: 0.5 is the InternVideo2 paper's; 0.296 gives AutoShot's best F1 on its own test videos.

    On the 200 SHOT test videos, by its authors' predictions: 0.5 P .88 R .78 F1 .830; 0.296 P .85 R .83 F1 .841.
    """


class Backend(NetworkDetector):
    """AutoShot: cuts and gradual changes; needs the published checkpoint, or one that you trained.

    Logits and 25/100/50 windows are as published.
    """

    Config: ClassVar[type[BackendConfig]] = AutoShotConfig
    name: ClassVar[str] = "autoshot"
    where_weights_come_from: ClassVar[str] = (
        f"give `weights: path/to/{AUTOSHOT.file}` (sha256 {AUTOSHOT.sha256}), from {AUTOSHOT.source}; "
        "or a checkpoint that you trained"
    )

    def network(self) -> Any:
        from vidcap.autoshot.networks.autoshot import AutoShotNetwork

        return AutoShotNetwork()
