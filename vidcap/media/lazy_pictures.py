"""The pictures of a clip, decoded from their JPEGs when somebody looks: the embedded backends look at half each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from vidcap.errors import ItemError

UInt8 = npt.NDArray[np.uint8]


class LazyPictures(Sequence[UInt8]):
    """H×W×3 RGB per JPEG; each is decoded once. Looking raises `ItemError` (`clip.no_frames`) where one is no JPEG."""

    def __init__(self, jpegs: Sequence[bytes], where: str) -> None:
        """`where` names the clip in the error."""
        self._jpegs = jpegs
        self._where = where
        self._decoded: dict[int, UInt8] = {}

    def __len__(self) -> int:
        return len(self._jpegs)

    @overload
    def __getitem__(self, which: int) -> UInt8: ...

    @overload
    def __getitem__(self, which: slice) -> list[UInt8]: ...

    def __getitem__(self, which: int | slice) -> UInt8 | list[UInt8]:
        at = range(len(self))[which]
        return self._picture(at) if isinstance(at, int) else [self._picture(each) for each in at]

    def _picture(self, at: int) -> UInt8:
        if at not in self._decoded:
            import cv2

            picture = cv2.imdecode(np.frombuffer(self._jpegs[at], np.uint8), cv2.IMREAD_COLOR_RGB)
            if picture is None:
                raise ItemError("clip.no_frames", f"a candidate frame {self._where} is no JPEG")
            self._decoded[at] = np.asarray(picture, np.uint8)
        return self._decoded[at]
