"""The score stage: which captions are scored, what is kept, and that looking and comparing are two halves."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from clip_rows import FakeEvidence, row
from pydantic import ValidationError

from vidcap.backends import registry
from vidcap.backends.roles import ClipView, Outcome
from vidcap.errors import ItemError
from vidcap.pipeline.faults import guarded
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


class InBatches(Similarity):
    """`Similarity` with batches of 3 clips that go over sources. A clip that `breaks` it takes its batch along."""

    def __init__(self, failing: str = "", breaks: str = "") -> None:
        super().__init__(failing)
        self.breaks = breaks
        self.batches: list[list[str]] = []

    def embed(self, clips: Sequence[ClipView]) -> list[Outcome[Float32]]:
        keys = [clip.key for clip in clips]
        self.batches += [keys] if keys else []
        if self.breaks in keys:
            raise RuntimeError("the library fell over")
        return super().embed(clips)

    def scoring(self) -> Scoring:
        return Scoring(self)


class Scoring:
    def __init__(self, backend: InBatches) -> None:
        self.backend = backend
        self.waiting: deque[tuple[Any, Mapping[str, str]]] = deque()

    def add(self, clip: Any, texts: Mapping[str, str]) -> list[Any]:
        self.waiting.append((clip, texts))
        return self.rest() if len(self.waiting) == 3 else []

    def rest(self) -> list[Any]:
        asked = list(self.waiting)
        self.waiting.clear()
        views = [clip for clip, _ in asked if isinstance(clip, ClipView)]
        looked = iter(self.backend.embed(views))
        found = []
        for clip, texts in asked:
            vector: Any = next(looked) if isinstance(clip, ClipView) else clip
            if isinstance(vector, ItemError):
                found.append((vector, {}))
                continue
            kinds = list(texts)
            scores = self.backend.score([vector] * len(kinds), list(texts.values()), kinds=kinds)
            found.append((vector, dict(zip(kinds, scores, strict=True))))
        return found


class Sources:
    """The evidence of any source; of the unreadable ones only an error. Counts the views that were asked for."""

    def __init__(self, unreadable: str = "") -> None:
        self.unreadable = unreadable
        self.looked: list[str] = []

    def __call__(self, source_id: str) -> Sources:
        if source_id == self.unreadable:
            raise FileNotFoundError(f"there is no evidence of `{source_id}`")
        return self

    def clip_view(self, key: str, first: int, last: int, frames_per_clip: int) -> ClipView:
        self.looked.append(key)
        return FakeEvidence().clip_view(key, first, last, frames_per_clip)


def part(**clips: int) -> dict[str, list[dict[str, Any]]]:
    """Rows by source: so many clips of each."""
    return {
        source: [captioned(at, v=f"{source} {at}") | {"source_id": source, "key": f"{source}_{at}"} for at in range(n)]
        for source, n in clips.items()
    }


def through(made: Score, rows: Mapping[str, list[dict[str, Any]]], evidence: Any) -> dict[str, Any]:
    """Every source's result, as a step goes through its part."""
    with made.ahead([row for each in rows.values() for row in each], evidence):
        return {source: guarded(made, each, evidence, lambda: None) for source, each in rows.items()}


def test_batches_go_over_sources_and_only_the_last_of_a_part_is_smaller() -> None:
    backend, rows = InBatches(), part(a=2, b=2, c=4)
    found = through(stage(backend), rows, Sources())
    assert backend.batches == [["a_0", "a_1", "b_0"], ["b_1", "c_0", "c_1"], ["c_2", "c_3"]]
    alone = {source: stage(Similarity()).run(each, Sources()) for source, each in rows.items()}
    assert {s: r.columns["similarity_v"] for s, r in found.items()} == {
        s: r.columns["similarity_v"] for s, r in alone.items()
    }


def test_no_further_ahead_than_a_batch() -> None:
    evidence, rows = Sources(), part(a=1, b=9)
    made = stage(InBatches())
    with made.ahead([*rows["a"], *rows["b"]], evidence):
        assert evidence.looked == []
        made.run(rows["a"], evidence)
        assert evidence.looked == ["a_0", "b_0", "b_1"]
        made.run(rows["b"], evidence)
        assert made._ahead is not None and made._ahead.ready == {}, "what was used is let go"
    assert evidence.looked == ["a_0", *(row["key"] for row in rows["b"])]


def test_evidence_that_cannot_be_read_hits_its_source_alone() -> None:
    found = through(stage(InBatches()), part(a=2, b=2, c=1), Sources(unreadable="b"))
    assert {source: sorted(result.verdicts) for source, result in found.items()} == {"a": [], "b": [0, 1], "c": []}
    assert {verdict.reason for verdict in found["b"].verdicts.values()} == {"stage.error"}
    assert not any(math.isnan(score) for source in "ac" for score in found[source].columns["similarity_v"])


@pytest.mark.parametrize(("how", "reason"), [("failing", "score.failed"), ("breaks", "stage.error")])
def test_a_clip_that_fails_in_a_batch_of_several_sources_is_quarantined_alone(how: str, reason: str) -> None:
    rows = part(a=1, b=3, c=2)
    found = through(stage(InBatches(**{how: "b_1"})), rows, Sources())
    assert {source: sorted(result.verdicts) for source, result in found.items()} == {"a": [], "b": [1], "c": []}
    assert found["b"].verdicts[1].reason == reason
    scores = [score for result in found.values() for score in result.columns["similarity_v"]]
    assert [math.isnan(score) for score in scores] == [False, False, True, False, False, False]


def test_kept_embeddings_are_used_ahead_and_new_ones_kept_in_their_turn() -> None:
    kept, rows, evidence = Kept(), part(a=1, b=2), Sources()
    stage(Similarity(), kept).run(rows["b"][:1], Sources())
    made = stage(InBatches(), kept)
    with made.ahead([*rows["a"], *rows["b"]], evidence):
        made.run(rows["a"], evidence)
        assert set(kept.vectors) == {"a_0", "b_0"}
        made.run(rows["b"], evidence)
    assert evidence.looked == ["a_0", "b_1"] and set(kept.vectors) == {"a_0", "b_0", "b_1"}


def test_other_captions_than_those_ahead_are_scored_anew() -> None:
    made, rows = stage(InBatches()), part(a=2)
    with made.ahead(rows["a"], Sources()):
        changed = [row | {"caption_v": "ten letters"} for row in rows["a"]]
        assert made.run(changed, Sources()).columns["similarity_v"][0] == pytest.approx(0.11, abs=1e-3)


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
