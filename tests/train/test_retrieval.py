"""Retrieval's numbers against plain references; the order of candidates; multiple choice; whole evaluations."""

# What follows the check for torch needs torch.
# ruff: noqa: E402
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.full

import pyarrow.parquet as pq
import torch
import trainable

from vidcap.errors import UsageError
from vidcap.train import ranking
from vidcap.train.config import load_config
from vidcap.train.embeddings import save_embeddings
from vidcap.train.retrieval import Evaluation, evaluate
from vidcap.train.sources import AnnotationSource, ShardSource, tars_of
from vidcap.train.trainer import Trainer


def plain_recall(scores: Any, right: Any, most: int) -> float:
    """By sorting, as one would write it down: wrong candidates before right ones of the same score."""
    hits = 0
    for row, truth in zip(scores.tolist(), right.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda place: (-row[place], truth[place]))
        hits += any(truth[place] for place in order[:most])
    return 100 * hits / len(scores)


def test_recalls_are_those_of_sorting() -> None:
    draw = np.random.default_rng(1)
    for _ in range(30):
        queries, candidates = draw.integers(1, 30), int(draw.integers(2, 25))
        scores = draw.integers(0, 12, (queries, candidates)).astype(float)  # with ties
        right = draw.random((queries, candidates)) < 0.15
        right[np.arange(queries), draw.integers(0, candidates, queries)] = True
        found = ranking.recalls(scores, right)
        for most in (1, 5, 10):
            assert found[f"r{most}"] == pytest.approx(plain_recall(scores, right, most))
        assert found["r_mean"] == pytest.approx((found["r1"] + found["r5"] + found["r10"]) / 3)


def test_a_model_that_scores_all_alike_finds_nothing() -> None:
    assert ranking.recalls(np.ones((12, 12)), np.eye(12, dtype=bool))["r1"] == 0
    with pytest.raises(ValueError, match="no right candidate"):
        ranking.ranks(np.ones((1, 2)), np.zeros((1, 2), bool))


def test_several_captions_of_one_medium() -> None:
    """5 texts of 3 media, of which the last has none: it only confuses."""
    owners = np.array([0, 0, 1, 1, 1])
    right = owners[:, None] == np.arange(3)[None]
    scores = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.0], [0.3, 0.2, 0.1], [0.0, 0.9, 0.1], [0.0, 0.1, 0.7]])
    found = ranking.both_ways(scores, scores.T[[0, 1]], right, [0, 1])
    assert found["t2v_r1"] == 40.0 and found["v2t_r1"] == 100.0
    assert found["t2v_median_rank"] == 2.0
    assert found["r_mean"] == pytest.approx(((40 + 100 + 100) / 3 + 100) / 2, abs=1e-3)


def test_dual_softmax_is_the_formula_and_breaks_a_hub() -> None:
    scores = np.random.default_rng(2).normal(size=(6, 4))
    expected = np.empty_like(scores)
    for row in range(6):
        for column in range(4):
            share = np.exp(scores[row, column] / 0.3) / np.exp(scores[:, column] / 0.3).sum()
            expected[row, column] = scores[row, column] * share
    assert np.allclose(ranking.dual_softmax(scores, 0.3), expected)
    hub = np.array([[0.9, 0.8, 0.85], [0.2, 0.8, 0.85], [0.2, 0.3, 0.86]])
    right = np.eye(3, dtype=bool)
    assert ranking.recalls(hub, right)["r1"] < ranking.recalls(ranking.dual_softmax(hub, 0.05), right)["r1"] == 100


def test_re_ranking_moves_nothing_into_or_out_of_the_best() -> None:
    draw = np.random.default_rng(3)
    scores, judged = draw.normal(size=(7, 20)), draw.normal(size=(7, 5)) * 200
    places = ranking.best(scores, 5)
    found = ranking.reordered(scores, places, judged)
    for row in range(7):
        before, after = np.argsort(-scores[row]), np.argsort(-found[row])
        assert set(before[:5]) == set(after[:5]) and list(before[5:]) == list(after[5:])
        assert list(after[:5]) == list(places[row][np.argsort(-judged[row])])


def test_multiple_choice_weighs_match_and_similarity() -> None:
    match, cosines = [0.2, 0.6, 0.5], [0.9, 0.0, 0.1]
    shares = np.exp(np.array(cosines) / 0.07) / np.exp(np.array(cosines) / 0.07).sum()
    assert ranking.chosen(match, cosines, 0.07) == int(np.argmax(0.7 * np.array(match) + 0.3 * shares)) == 0
    assert ranking.chosen([0.1, 0.6, 0.5], cosines, 0.07) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    """A model that has learnt eight clips by heart."""
    folder = tmp_path_factory.mktemp("trained")
    shards = trainable.write_shards(folder / "shards", 8)
    config = trainable.write_config(
        folder / "config.yaml",
        shards,
        folder / "run",
        step={"mask": None},
        losses={"losses": {"contrastive": 1.0, "matching": 1.0, "mlm": 0.0}},
        optimiser={"learning_rate": 0.004},
        run={"batch": 8, "steps": 50},
        output={"checkpoint_steps": 50, "log_steps": 50},
    )
    trainer = Trainer(load_config(config), "cpu")
    trainer.run()
    return trainer, shards


def evaluated(trainer: Trainer, source: Any, **options: Any) -> Any:
    return evaluate(trainer.model, [source], trainer.tokens, Evaluation(**options), torch.device("cpu"))


def test_what_was_learnt_by_heart_is_found(trained: tuple[Trainer, Path]) -> None:
    trainer, shards = trained
    source = ShardSource("held", "video", tars_of([str(shards)]))
    found = evaluated(trainer, source, caption="v", k_test=4, batch=3)
    told = found.metrics
    assert told["candidates"] == told["queries"] == 8 and told["chance_r1"] == 12.5 and told["ambiguous_queries"] == 0
    assert told["retrieval"]["sim"]["t2v_r1"] >= 62.5 and told["retrieval"]["sim"]["v2t_r1"] >= 62.5
    assert {"sim", "dsl", "match"} == told["retrieval"].keys()
    assert np.allclose(np.linalg.norm(found.media, axis=1), 1, atol=1e-5)
    similarity = found.features @ found.media.T
    assert told["retrieval"]["sim"]["t2v_r1"] == pytest.approx(plain_recall(similarity, np.eye(8, dtype=bool), 1))
    again = evaluated(trainer, source, caption="v", k_test=4, batch=8)
    assert (
        np.allclose(again.media, found.media, atol=1e-5)
        and again.metrics["retrieval"]["sim"] == told["retrieval"]["sim"]
    )


def test_match_is_the_head_asked_pair_by_pair(trained: tuple[Trainer, Path]) -> None:
    trainer, shards = trained
    source = ShardSource("held", "video", tars_of([str(shards)]))
    told = evaluated(trainer, source, caption="v", k_test=8).metrics["retrieval"]["match"]
    model = trainer.model.eval()
    from vidcap.train.stream import Fetcher, View, in_order

    shape = model.config
    view = View(shape.frames, shape.vision_shape.size, 16, ("v",), training=False)
    (work,) = in_order([source], 8)
    batch = Fetcher([source], trainer.tokens, view, 0)[work].batch
    with torch.no_grad():
        media, text = model.embed_media(batch), model.embed_text(batch.texts["v"], batch.text_masks["v"])
        logits = torch.stack(
            [model.match(text["hidden"][[row] * 8], text["mask"][[row] * 8], media["tokens"], "v") for row in range(8)]
        )
    assert told["t2v_r1"] == pytest.approx(plain_recall(logits.double().numpy(), np.eye(8, dtype=bool), 1))


def test_annotations_multiple_captions_and_choices(trained: tuple[Trainer, Path], tmp_path: Path) -> None:
    trainer, _ = trained
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(trainable.clip(number))
    entries: list[dict[str, Any]] = [
        {"video": f"{number}.mp4", "caption": [trainable.caption(number), "A field."]} for number in range(4)
    ]
    entries += [{"video": "0.mp4", "caption": "All of it is red."}, {"video": "gone.mp4", "caption": "gone"}]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(entries))
    told = evaluated(trainer, AnnotationSource("list", "video", path, tmp_path), k_test=0).metrics
    assert (told["candidates"], told["queries"], told["ambiguous_queries"]) == (4, 9, 4)
    assert told["skipped"] == {"source.missing": 1} and "match" not in told["retrieval"]

    choices = [trainable.caption(number) for number in range(4)]
    path.write_text(
        json.dumps([{"video": f"{number}.mp4", "caption": choices, "answer": number} for number in (0, 1, 2, 3, 0)])
    )
    told = evaluated(trainer, AnnotationSource("list", "video", path, tmp_path)).metrics
    assert told["task"] == "multiple_choice" and told["questions"] == 5 and told["chance"] == 25
    assert told["accuracy"] >= 60


def test_embeddings_are_exported(trained: tuple[Trainer, Path], tmp_path: Path) -> None:
    trainer, shards = trained
    found = evaluated(trainer, ShardSource("held", "video", tars_of([str(shards)])), caption="v", k_test=0)
    for name in ("e.npz", "e.parquet"):
        save_embeddings(found, tmp_path / name)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as kept:
        assert np.array_equal(kept["media"], found.media) and kept["owners"].tolist() == list(range(8))
        assert kept["texts"][1] == trainable.caption(1)
    rows = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert [row["kind"] for row in rows] == ["media"] * 8 + ["text"] * 8 and rows[9]["key"] == rows[1]["key"]
    assert np.allclose(rows[9]["embedding"], found.features[1])
    with pytest.raises(UsageError, match="no name for embeddings"):
        save_embeddings(found, tmp_path / "e.csv")


def test_a_kind_that_nothing_has_is_a_sentence(trained: tuple[Trainer, Path]) -> None:
    trainer, shards = trained
    with pytest.raises(UsageError, match="no sample has a caption of the kind `s`"):
        evaluated(trainer, ShardSource("held", "video", tars_of([str(shards)])), caption="s")
