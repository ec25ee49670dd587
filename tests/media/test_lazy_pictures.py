"""Pictures that are decoded when somebody looks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from vidcap.errors import ItemError
from vidcap.media.lazy_pictures import LazyPictures


def jpeg(level: int) -> bytes:
    done, data = cv2.imencode(".jpg", np.full((8, 16, 3), level, np.uint8))
    assert done
    return data.tobytes()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for every JPEG that is decoded."""
    times: list[int] = []
    real = cv2.imdecode

    def counted(*more: Any) -> Any:
        times.append(1)
        return real(*more)

    monkeypatch.setattr(cv2, "imdecode", counted)
    return times


def test_nothing_is_decoded_before_somebody_looks_and_nothing_twice(decoded: list[int]) -> None:
    pictures = LazyPictures([jpeg(level) for level in (10, 60, 110, 160, 210)], "between 0 and 4")
    assert len(pictures) == 5 and bool(pictures) and not decoded
    odd = pictures[1::2]
    assert [int(picture.mean()) for picture in odd] == [60, 160] and len(decoded) == 2
    assert pictures[1] is odd[0] and pictures[-1].shape == (8, 16, 3) and len(decoded) == 3
    assert [int(picture.mean()) for picture in pictures] == [10, 60, 110, 160, 210] and len(decoded) == 5


def test_red_stays_red() -> None:
    done, data = cv2.imencode(".jpg", np.full((8, 8, 3), (0, 0, 255), np.uint8))  # blue, green, red
    assert done
    assert LazyPictures([data.tobytes()], "")[0][0, 0].argmax() == 0


def test_one_that_is_no_jpeg_is_an_item_error_when_it_is_looked_at() -> None:
    pictures = LazyPictures([jpeg(10), b"nothing"], "between 3 and 9")
    assert pictures[0].shape == (8, 16, 3)
    with pytest.raises(ItemError, match="between 3 and 9") as caught:
        pictures[1]
    assert caught.value.reason == "clip.no_frames"
    with pytest.raises(IndexError):
        pictures[2]
