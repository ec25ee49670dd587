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


def rows(source: str = "s", **captions: list[str]) -> list[dict[str, Any]]:
    """Clips of 2 s, so of 4 candidate frames."""
    return [
        {
            "key": f"{source}_{first:08d}_{first + 19:08d}",
            "source_id": source,
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


def watched(backend: Any) -> dict[str, list[int]]:
    """The sizes of the batches that each encoder is asked in from now on."""
    batches: dict[str, list[int]] = {}
    for name in ("_pictures", "_texts"):
        whole = getattr(backend, name)

        def counting(function: Any = whole.function, name: str = name, **inputs: Any) -> Any:
            batches.setdefault(name, []).append(len(next(iter(inputs.values()))))
            return function(**inputs)

        whole.function = counting
    return batches


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
        batches = watched(backend)
        words: list[str] = []
        encode = backend._model.text_inputs
        backend._model.text_inputs = lambda texts: (words.extend(texts), encode(texts))[1]
        found = scored(backend, evidence, rows(v=["a dog", "a cat", "a dog"], avs=["a dog", "a cat sings", "a dog"]))
        assert sorted(words) == ["a cat", "a cat sings", "a dog"]
        assert batches == {"_pictures": [4, 4, 4], "_texts": [4]}, "12 frames in fours, 3 texts filled up to four"
        assert found["similarity_v"][0] == found["similarity_avs"][0]
        assert found["similarity_v"][1] != found["similarity_avs"][1]

    @pytest.mark.parametrize("name", ["open_clip", "clip_transformers"])
    def test_batches_that_mix_sources_give_the_numbers_of_a_source_alone(self, evidence: Evidence, name: str) -> None:
        """Of 4, 3 and 2 frames a clip: alone each fills up its last batch, together only the part does."""
        frames = {"frames_per_clip": 4, "images_per_batch": 4, "texts_per_batch": 4}
        given = {
            source: [row | {"first_frame": row["first_frame"] + skip} for row in rows(source, v=words, avs=words[::-1])]
            for source, words, skip in (
                ("a", ["a dog", "a cat runs", "the moon"], 5),
                ("b", ["a dog", "two cats", "rain falls on the street"], 10),
                ("c", ["a dog. " * 60, "", "red"], 0),
            )
        }
        together, alone = (registry.create("similarity", name, options_of(name) | frames) for _ in range(2))
        for backend in (together, alone):
            backend.load("cpu")
        asked, asked_alone = watched(together), watched(alone)
        kept: dict[str, dict[str, Any]] = {"together": {}, "alone": {}}
        options = ScoreOptions(kinds=["v", "avs"])
        stage = Score(options, Context(backend=together, embeddings=Keeping(kept["together"])))
        with stage.ahead([row for each in given.values() for row in each], lambda _: evidence):
            found = {source: stage.run(each, lambda _: evidence) for source, each in given.items()}
        for source, each in given.items():
            lonely = Score(options, Context(backend=alone, embeddings=Keeping(kept["alone"])))
            by_one = [lonely.run([row], lambda _: evidence).columns for row in each]
            for column in ("similarity_v", "similarity_avs"):
                assert np.array_equal(found[source].columns[column], [one[column][0] for one in by_one], equal_nan=True)
        assert all(np.array_equal(kept["together"][key], vector) for key, vector in kept["alone"].items())
        frames_seen = 3 * (3 + 2 + 4)
        assert len(asked["_pictures"]) == -(-frames_seen // 4) < len(asked_alone["_pictures"])
        assert len(asked["_texts"]) < len(asked_alone["_texts"])
        assert {*asked["_pictures"], *asked["_texts"]} == {4}


class Keeping:
    def __init__(self, vectors: dict[str, Any]) -> None:
        self.get = vectors.get
        self.put = vectors.__setitem__


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
