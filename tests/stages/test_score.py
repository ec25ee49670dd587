"""The score stage: which captions are scored, what is kept, and that looking and comparing are two halves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from clip_rows import FakeEvidence, row
from pydantic import ValidationError

from vidcap.backends import registry
from vidcap.backends.roles import ClipView, Outcome
from vidcap.errors import ItemError
from vidcap.records import CAPTION_KINDS
from vidcap.stages.base import Context
from vidcap.stages.score import Score

Float32 = npt.NDArray[np.float32]


class Similarity:
    """Embeds the first frame's value; a text's score is its length over 100 plus a little of the embedding."""

    embedded = True
    frames_per_clip = 4

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.embedded_keys: list[str] = []
        self.scored: list[tuple[str, str]] = []

    def identity(self) -> str:
        return "fake@1"

    def embed(self, clips: Sequence[ClipView]) -> list[Outcome[Float32]]:
        self.embedded_keys += [clip.key for clip in clips]
        return [
            ItemError("score.failed", "broken") if c.key == self.failing else np.full(3, c.frames[0].mean(), np.float32)
            for c in clips
        ]

    def score(self, embeddings: Sequence[Float32], texts: Sequence[str], *, kinds: Sequence[str]) -> list[float]:
        self.scored += list(zip(kinds, texts, strict=True))
        return [len(t) / 100 + float(e[0]) / 987654 for t, e in zip(texts, embeddings, strict=True)]


class Kept:
    def __init__(self) -> None:
        self.vectors: dict[str, Float32] = {}

    def get(self, key: str) -> Float32 | None:
        return self.vectors.get(key)

    def put(self, key: str, vector: Float32) -> None:
        self.vectors[key] = vector


def stage(backend: Any, kept: Kept | None = None, **options: Any) -> Score:
    return Score(Score.Options(**options), Context(backend=backend, embeddings=kept))


def captioned(number: int, **texts: str) -> dict[str, Any]:
    return row(number, **{f"caption_{kind}": texts.get(kind, "") for kind in CAPTION_KINDS})


def test_asked_kinds_are_scored_and_the_rest_have_none() -> None:
    backend = Similarity()
    rows = [captioned(0, v="a cat", a="a purr", avs="both of them"), captioned(1, v="dog")]
    columns = stage(backend).run(rows, FakeEvidence()).columns
    assert set(columns) == {f"similarity_{kind}" for kind in CAPTION_KINDS}
    assert columns["similarity_v"] == [0.05, 0.0301]
    assert columns["similarity_avs"][0] == 0.12 and math.isnan(columns["similarity_avs"][1])
    for kind in ("a", "s", "av"):
        assert all(math.isnan(score) for score in columns[f"similarity_{kind}"])
    assert backend.scored == [("v", "a cat"), ("avs", "both of them"), ("v", "dog")]


def test_columns_that_no_stage_gave_count_as_empty() -> None:
    bare = row(0, caption_v="a cat")
    columns = stage(Similarity(), kinds=["v", "av"]).run([bare], FakeEvidence()).columns
    assert columns["similarity_v"] == [0.05] and math.isnan(columns["similarity_av"][0])


def test_a_clip_without_embedding_is_quarantined_alone() -> None:
    rows = [captioned(i, v="word") for i in range(3)]
    keys = [r["key"] for r in rows]
    views: dict[str, Any] = {key: FakeEvidence().clip_view(key, 0, 9, 1) for key in keys}
    views[keys[2]] = ItemError("clip.no_frames", "none")
    result = stage(Similarity(failing=keys[0])).run(rows, FakeEvidence(views))
    assert {at: v.reason for at, v in result.verdicts.items()} == {0: "score.failed", 2: "clip.no_frames"}
    assert [math.isnan(s) for s in result.columns["similarity_v"]] == [True, False, True]


def test_kept_embeddings_score_new_captions_without_looking() -> None:
    kept, rows = Kept(), [captioned(i, v="one") for i in range(10)]
    first = stage(Similarity(), kept).run(rows, FakeEvidence())
    assert set(kept.vectors) == {r["key"] for r in rows}
    backend, evidence = Similarity(), FakeEvidence()
    renewed = [r | {"caption_v": "two words"} for r in rows]
    second = stage(backend, kept).run(renewed, evidence)
    assert evidence.asked == [] and backend.embedded_keys == []
    assert second.columns["similarity_v"] == stage(Similarity()).run(renewed, FakeEvidence()).columns["similarity_v"]
    assert second.columns["similarity_v"] != first.columns["similarity_v"]


def test_only_missing_clips_are_looked_at() -> None:
    kept, backend = Kept(), Similarity()
    rows = [captioned(i, v="one") for i in range(4)]
    stage(Similarity(), kept).run(rows[::2], FakeEvidence())
    stage(backend, kept).run(rows, FakeEvidence())
    assert backend.embedded_keys == [rows[1]["key"], rows[3]["key"]]


def test_failures_are_not_kept() -> None:
    kept, rows = Kept(), [captioned(0, v="one")]
    stage(Similarity(failing=rows[0]["key"]), kept).run(rows, FakeEvidence())
    assert kept.vectors == {}


def test_the_two_halves_are_the_whole() -> None:
    rows = [captioned(i, v="x" * (i + 1)) for i in range(11)]
    made = stage(Similarity())
    whole = made.run(rows, FakeEvidence()).columns["similarity_v"]
    assert made.compare(rows, made.embed(rows, FakeEvidence())).columns["similarity_v"] == whole
    back = made.run(rows[::-1], FakeEvidence()).columns["similarity_v"]
    assert back[::-1] == whole == [made.run([r], FakeEvidence()).columns["similarity_v"][0] for r in rows]


@pytest.mark.parametrize("kinds", [["v", "v"], ["x"], [], "v"])
def test_wrong_kinds_are_refused(kinds: Any) -> None:
    with pytest.raises(ValidationError):
        Score.Options(kinds=kinds)


def test_no_rows() -> None:
    result = stage(Similarity()).run([], FakeEvidence())
    assert set(result.columns) == set(Score.gives) and all(values == [] for values in result.columns.values())


def test_golden_scores_of_the_embedded_backend() -> None:
    """When they change on purpose, raise VERSION in the descriptor."""
    frame = np.zeros((90, 160, 3), np.uint8)
    frame[:45] = (30, 80, 220)
    frame[45:] = (30, 150, 40)
    sound = (0.1 * np.random.default_rng(0).normal(size=64_000)).astype(np.float32)
    made = captioned(
        0,
        v="A still shot, blue at the top and green at the bottom.",
        a="A person speaks over steady noise.",
        av="A dark, still shot in blue while steady noise is heard.",
    )
    view = ClipView(made["key"], [frame] * 8, [0.5 * i for i in range(8)], sound, True, 4.0)
    backend = registry.create("similarity", "descriptor")
    columns = stage(backend, kinds=["v", "a", "av"]).run([made], FakeEvidence({made["key"]: view})).columns
    assert backend.identity() == "descriptor@2"
    found = [columns[f"similarity_{kind}"][0] for kind in ("v", "a", "av")]
    assert found == pytest.approx([0.7727, -0.5, 0.4955], abs=2e-4)
