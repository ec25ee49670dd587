"""Rows and evidence for stage tests, without a source: what a stage asks of `Evidence` is one method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidcap.backends.roles import ClipView
from vidcap.errors import ItemError


def row(number: int, **columns: Any) -> dict[str, Any]:
    first = number * 100
    key = f"src_{first:08d}_{first + 99:08d}"
    base = {"key": key, "source_id": "src", "first_frame": first, "last_frame": first + 99}
    return base | {"has_audio": True, "silent": False} | columns


class FakeEvidence:
    """Gives the views it holds by key and counts how often it was asked; an `ItemError` among them is raised."""

    def __init__(self, views: Mapping[str, ClipView | ItemError] | None = None) -> None:
        self.views = views
        self.asked: list[tuple[str, int]] = []

    def __call__(self, source_id: str) -> FakeEvidence:
        assert source_id == "src"
        return self

    def clip_view(self, key: str, first: int, last: int, frames_per_clip: int, transcript: str = "") -> ClipView:
        self.asked.append((key, frames_per_clip))
        if self.views is None:
            picture = np.full((16, 16, 3), first % 251, np.uint8)
            return ClipView(key, [picture], [0.0], np.zeros(1600, np.float32), True, 0.1, transcript)
        view = self.views[key]
        if isinstance(view, ItemError):
            raise view
        return view
