"""Work of the score stage that is counted: a picture is decoded once, a caption embedded once, in full batches."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clip_models import options_of

from vidcap.backends import registry
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.stages.base import Context
from vidcap.stages.score import Score, ScoreOptions


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of a film of 6 s, which has 2 candidate frames a second."""
    folder = tmp_path_factory.mktemp("evidence")
    with av.open(str(folder / "film.mp4"), "w") as box:
        video: Any = box.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt, video.thread_count = 64, 48, "yuv420p", 1
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
    decode_source(folder / "film.mp4", folder / "e", DecodeOptions())
    return Evidence(folder / "e")


def rows(**captions: list[str]) -> list[dict[str, Any]]:
    """Clips of 2 s, so of 4 candidate frames."""
    return [
        {
            "key": f"s_{first:08d}_{first + 19:08d}",
            "source_id": "s",
            "first_frame": first,
            "last_frame": first + 19,
            **{f"caption_{kind}": texts[number] for kind, texts in captions.items()},
        }
        for number, first in enumerate((0, 20, 40))
    ]


def scored(backend: Any, evidence: Evidence, given: list[dict[str, Any]]) -> Any:
    stage = Score(ScoreOptions(kinds=["v", "avs"]), Context(backend=backend))
    result = stage.run(given, lambda _: evidence)
    assert not result.verdicts
    return result.columns


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each JPEG was decoded."""
    import cv2

    counts: Counter[bytes] = Counter()
    really = cv2.imdecode

    def counting(data: Any, *how: Any) -> Any:
        counts[data.tobytes()] += 1
        return really(data, *how)

    monkeypatch.setattr(cv2, "imdecode", counting)
    return counts


@pytest.mark.full
class TestModel:
    def test_each_picture_is_decoded_once(self, evidence: Evidence, decoded: Counter[bytes]) -> None:
        backend = registry.create("similarity", "open_clip", options_of("open_clip"))
        scored(backend, evidence, rows(v=["red", "green", "blue"], avs=["one", "two", "three"]))
        assert len(decoded) == 12
        assert set(decoded.values()) == {1}

    def test_each_distinct_caption_is_embedded_once_and_batches_go_over_clips(self, evidence: Evidence) -> None:
        backend = registry.create("similarity", "open_clip", options_of("open_clip"))
        backend.load("cpu")
        batches: dict[str, list[int]] = {}
        words: list[str] = []
        for name in ("_pictures", "_texts"):
            whole = getattr(backend, name)

            def watched(function: Any = whole.function, name: str = name, **inputs: Any) -> Any:
                batches.setdefault(name, []).append(len(next(iter(inputs.values()))))
                return function(**inputs)

            whole.function = watched
        encode = backend._model.text_inputs
        backend._model.text_inputs = lambda texts: (words.extend(texts), encode(texts))[1]
        found = scored(backend, evidence, rows(v=["a dog", "a cat", "a dog"], avs=["a dog", "a cat sings", "a dog"]))
        assert sorted(words) == ["a cat", "a cat sings", "a dog"]
        assert batches == {"_pictures": [4, 4, 4], "_texts": [4]}, "12 frames in fours, 3 texts filled up to four"
        assert found["similarity_v"][0] == found["similarity_avs"][0]
        assert found["similarity_v"][1] != found["similarity_avs"][1]


def test_one_picture_that_is_none_spares_the_clips_beside_it(tmp_path: Path, evidence: Evidence) -> None:
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(evidence.folder, folder)
    pictures = next(folder.glob("candidates*.jpgs"))
    whole = Evidence(folder)
    at = pictures.read_bytes().index(whole.frame_jpeg(int(whole.candidates[5])))
    with pictures.open("r+b") as file:
        file.seek(at)
        file.write(bytes(len(whole.frame_jpeg(int(whole.candidates[5])))))
    backend = registry.create("similarity", "descriptor")
    stage = Score(ScoreOptions(kinds=["v"]), Context(backend=backend))
    result = stage.run(rows(v=["A still picture."] * 3), lambda _: Evidence(folder))
    assert list(result.verdicts) == [1]
    assert result.verdicts[1].reason == "clip.no_frames"
    assert not np.isnan([result.columns["similarity_v"][at] for at in (0, 2)]).any()
