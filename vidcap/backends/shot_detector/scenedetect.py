"""Finds cuts with PySceneDetect's ContentDetector: the baseline that papers compare shot detectors with."""

from __future__ import annotations

import importlib.metadata
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from vidcap.backends.roles import BackendConfig, Float64, UInt8
from vidcap.errors import BackendError
from vidcap.records import Shot

PACKAGES = ("scenedetect-headless", "scenedetect")
FRAMES_PER_SECOND = 25.0
"""The library wants a rate to name frames with. All lengths here are counted in frames, so it plays no part."""


class Backend:
    """PySceneDetect's ContentDetector: hard cuts by changes of hue, saturation and brightness.

    It sees the 48×27 thumbnails, not the video; by default PySceneDetect shrinks videos too, to about 256 columns.
    Gradual changes are found late or not at all, and no frame is left out between two shots.
    """

    class Config(BackendConfig):
        threshold: float = Field(default=27.0, gt=0, le=255)
        """Mean change of a pixel's hue, saturation and value, 0 to 255."""
        min_frames: int = Field(default=15, ge=1)
        """A cut so soon after the last one is held back."""

    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "shots"

    def __init__(self, config: Config) -> None:
        self.config = config
        self._library: Any = None

    def identity(self) -> str:
        return f"content-detector@{self.config.threshold:g}/{self.config.min_frames}/{_library()}"

    def load(self, device: str) -> None:
        """Imports the library; it computes on the CPU, whatever the device."""
        _library()
        try:
            from scenedetect import ContentDetector, FrameTimecode
        except ImportError as error:
            raise BackendError(
                f"scenedetect cannot be imported: {error}", hint="pip install 'vidcap[shots]'"
            ) from error
        self._library = (ContentDetector, FrameTimecode)

    def detect(self, thumbnails: UInt8, times: Float64) -> list[Shot]:
        """As the role says; `times` plays no part. Loads where not loaded."""
        if self._library is None:
            self.load("cpu")
        detector_class, timecode = self._library
        # A detector of its own for every source: it remembers the frames before.
        detector = detector_class(threshold=self.config.threshold, min_scene_len=self.config.min_frames)
        cuts: set[int] = set()
        last = timecode(0, FRAMES_PER_SECOND)
        for number, frame in enumerate(thumbnails):
            last = timecode(number, FRAMES_PER_SECOND)
            # The library reads B, G, R.
            cuts.update(cut.frame_num for cut in detector.process_frame(last, np.ascontiguousarray(frame[:, :, ::-1])))
        cuts.update(cut.frame_num for cut in detector.post_process(last))
        firsts = [0, *sorted(cut for cut in cuts if 0 < cut < len(thumbnails))]
        return [Shot(a, b - 1) for a, b in zip(firsts, [*firsts[1:], len(thumbnails)], strict=True)]


def _library() -> str:
    for name in PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if int(version.partition(".")[0]) == 0 and int(version.split(".")[1]) < 7:
            raise BackendError(f"{name} {version} is too old", hint="pip install 'vidcap[shots]' brings 0.7")
        return f"{name}-{version}"
    raise BackendError("the library `scenedetect` is not installed", hint="pip install 'vidcap[shots]'")
