"""All that the embedded backends measure of a clip's picture, one vector: colours and light, camera, faces, writing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidcap.backends.embedded.measure_camera import CAMERA_FIELDS, measure_camera
from vidcap.backends.embedded.measure_faces import FACE_FIELDS, measure_faces
from vidcap.backends.embedded.measure_text import TEXT_FIELDS, measure_text
from vidcap.backends.embedded.measure_video import LIGHT_FIELDS, measure_video

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

VIDEO_FIELDS = (*LIGHT_FIELDS, *CAMERA_FIELDS, *FACE_FIELDS, *TEXT_FIELDS)
"""Layout of the vector of `measure_picture`."""


def measure_picture(frames: Sequence[UInt8], times: Sequence[float]) -> Float32:
    """The vector of `VIDEO_FIELDS`. `frames`: H×W×3 RGB, at least one; `times`: their seconds, ascending."""
    return np.concatenate(
        [measure_video(frames, times), measure_camera(frames), measure_faces(frames), measure_text(frames)]
    )
