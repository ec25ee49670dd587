"""Every loss against loops in double precision; what is masked out counts for nothing; names follow from the pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def softmax(row: np.ndarray) -> np.ndarray:
    up = np.exp(row - row.max())
    return up / up.sum()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).sum(-1, keepdims=True))


def plain_contrastive(one: np.ndarray, other: np.ndarray, index: list[int], temperature: float) -> float:
    one, other = unit(one), unit(other)
    total = 0.0
    for rows, columns in ((one, other), (other, one)):
        for i in range(len(rows)):
            likely = softmax(np.array([rows[i] @ column / temperature for column in columns]))
            same = [j for j in range(len(rows)) if index[j] == index[i]]
            total -= sum(math.log(likely[j]) for j in same) / len(same)
    return total / len(one) / 2


def drawn(torch: Any, rows: int, seed: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, rows, width, generator=generator, dtype=torch.float64).numpy()
    return one, other


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=7),
    temperature=st.sampled_from([0.02, 0.07, 0.5]),
    seed=st.integers(0, 9),
)
def test_contrast_is_that_of_the_valid_samples(rows: list[tuple[int, bool]], temperature: float, seed: int) -> None:
    import torch

    from vidcap.train.losses import contrastive

    one, other = drawn(torch, len(rows), seed)
    valid = [there for _, there in rows]
    index = [which for which, _ in rows]
    found = contrastive(
        torch.tensor(one),
        torch.tensor(other),
        torch.tensor(index),
        torch.tensor(valid),
        torch.tensor(temperature, dtype=torch.float64),
    )
    if not any(valid):
        assert float(found) == 0.0
        return
    expected = plain_contrastive(
        one[valid], other[valid], [i for i, v in zip(index, valid, strict=True) if v], temperature
    )
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_contrast_sends_no_gradient_into_what_is_not_valid(torch: Any) -> None:
    from vidcap.train.losses import contrastive

    one, other = (torch.tensor(rows, requires_grad=True) for rows in drawn(torch, 5, 0))
    temperature = torch.tensor(0.07, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([True, False, True, True, False])
    index = torch.tensor([1, 1, 2, 1, 3])
    contrastive(one, other, index, valid, temperature).backward()
    for rows in (one, other):
        assert not rows.grad[~valid].any() and bool(rows.grad[valid].any(1).all())
    assert float(temperature.grad) != 0.0

    def of(value: Any) -> Any:
        return contrastive(one.detach(), other.detach(), index, valid, value)

    assert torch.autograd.gradcheck(of, (temperature.detach().requires_grad_(),))


def test_contrast_holds_where_half_precision_would_not(torch: Any) -> None:
    from vidcap.train.losses import contrastive

    one, other = (torch.tensor(rows) for rows in drawn(torch, 6, 3))
    valid, index, temperature = torch.ones(6, dtype=torch.bool), torch.arange(6), torch.tensor(0.001)
    exact = contrastive(one, other, index, valid, temperature)
    with torch.autocast("cpu", torch.bfloat16):
        near = contrastive(one.float(), other.float(), index, valid, temperature)
    assert float(near) == pytest.approx(float(exact), rel=1e-4)


def plain_negatives(similarity: np.ndarray, index: list[int], draws: np.ndarray, hard: bool) -> list[int | None]:
    """Of each row the column in which its draw falls, when the possible columns stand side by side."""
    found: list[int | None] = []
    for i, row in enumerate(similarity):
        likely = softmax(row) + 1e-4 if hard else np.ones(len(row))
        possible = [j for j in range(len(row)) if index[j] != index[i]]
        left = draws[i] * sum(likely[j] for j in possible)
        chosen = None
        for j in possible:
            chosen = j
            if left < likely[j]:
                break
            left -= likely[j]
        found.append(chosen)
    return found


@pytest.mark.parametrize("hard", [True, False])
def test_negatives_are_drawn_among_the_valid_by_how_alike_they_are(torch: Any, hard: bool) -> None:
    from vidcap.train.losses import can_match, negatives

    media, text = drawn(torch, 8, 5)
    index = [0, 1, 0, 2, 3, 3, 4, 0]
    valid = np.array([True, True, True, False, True, True, True, False])
    generator = torch.Generator().manual_seed(11)
    draws = torch.rand(2, 8, generator=torch.Generator().manual_seed(11), dtype=torch.float64).numpy()
    given = (torch.tensor(media), torch.tensor(text), torch.tensor(index), torch.tensor(valid))
    wrong_media, wrong_text = negatives(*given, torch.tensor(0.3), generator, hard=hard)
    places = np.flatnonzero(valid)
    left = [index[i] for i in places]
    similarity = unit(media[valid]) @ unit(text[valid]).T / 0.3
    for ours, scores, row in ((wrong_media, similarity.T, draws[0]), (wrong_text, similarity, draws[1])):
        expected = [places[j] for j in plain_negatives(scores, left, row[valid], hard)]
        assert ours[torch.tensor(valid)].tolist() == expected
        assert all(index[i] != index[j] and valid[j] for i, j in zip(places, expected, strict=True))
    assert can_match(*given[2:]).tolist() == valid.tolist()


def test_hard_negatives_are_the_ones_that_look_alike(torch: Any) -> None:
    from vidcap.train.losses import negatives

    media = torch.eye(4).repeat(1, 1)
    text = torch.eye(4)[[0, 0, 2, 3]]  # text 1 says what is seen in 0
    counts = {True: 0, False: 0}
    for hard in counts:
        for seed in range(200):
            drawn_now = torch.Generator().manual_seed(seed)
            wrong, _ = negatives(
                media, text, torch.arange(4), torch.ones(4, dtype=torch.bool), torch.tensor(0.1), drawn_now, hard=hard
            )
            counts[hard] += int(wrong[1]) == 0
    assert counts[True] > 190 and 40 < counts[False] < 95


def test_nothing_is_matched_that_has_nothing_to_be_confused_with(torch: Any) -> None:
    from vidcap.train.losses import can_match

    def of(index: list[int], valid: list[bool]) -> list[bool]:
        found: list[bool] = can_match(torch.tensor(index), torch.tensor(valid)).tolist()
        return found

    assert of([1, 1, 1], [True] * 3) == [False] * 3
    assert of([1, 2], [True, False]) == [False, False]
    assert of([1, 1, 2, 3], [True, True, True, False]) == [True, True, True, False]


def test_negatives_exist_at_the_lowest_temperature(torch: Any) -> None:
    from vidcap.train.losses import negatives

    media = torch.eye(5)
    wrong = negatives(
        media, media, torch.arange(5), torch.ones(5, dtype=torch.bool), torch.tensor(0.001), torch.Generator()
    )
    for rows in wrong:
        assert all(row != at for at, row in enumerate(rows.tolist()))


def test_matching_counts_only_rows_that_can(torch: Any) -> None:
    from vidcap.train.losses import matching

    logits = torch.randn(12, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    able = [True, False, True, True]
    total, count = 0.0, 0
    for third in range(3):
        for row in range(4):
            if able[row]:
                likely = softmax(logits[4 * third + row].numpy())
                total -= math.log(likely[1 if third == 0 else 0])
                count += 1
    assert float(matching(logits, torch.tensor(able))) == pytest.approx(total / count, rel=1e-12)
    assert float(matching(logits, torch.zeros(4, dtype=torch.bool))) == 0.0


class TestHiddenWords:
    def hidden(self, torch: Any, ids: Any, probability: float = 0.5) -> tuple[Any, Any]:
        from vidcap.train.losses import hidden_words

        generator = torch.Generator().manual_seed(4)
        return hidden_words(ids, probability, generator, mask_id=4, vocabulary=1000, spared=(0, 2))

    def test_shares(self, torch: Any) -> None:
        ids = torch.full((400, 50), 77)
        ids[:, 0], ids[:, 40:] = 2, 0
        changed, chosen = self.hidden(torch, ids)
        words = ids == 77
        assert not chosen[~words].any() and torch.equal(changed[~chosen], ids[~chosen])
        assert float(chosen[words].float().mean()) == pytest.approx(0.5, abs=0.02)
        of_chosen = changed[chosen]
        assert float((of_chosen == 4).float().mean()) == pytest.approx(0.8, abs=0.02)
        assert float((of_chosen == 77).float().mean()) == pytest.approx(0.1, abs=0.02)
        assert len(of_chosen.unique()) > 400

    def test_others_in_the_batch_change_nothing(self, torch: Any) -> None:
        ids = torch.randint(5, 1000, (3, 9), generator=torch.Generator().manual_seed(0))
        other = ids.clone()
        other[1] = 0
        (one, chosen), (two, chosen_again) = self.hidden(torch, ids), self.hidden(torch, other)
        assert torch.equal(one[[0, 2]], two[[0, 2]]) and torch.equal(chosen[[0, 2]], chosen_again[[0, 2]])

    def test_loss(self, torch: Any) -> None:
        from vidcap.train.losses import masked_words

        logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        wanted = [3, 0, 6, 3, 1]
        expected = -sum(math.log(softmax(logits[at].numpy())[word]) for at, word in enumerate(wanted)) / 5
        assert float(masked_words(logits, torch.tensor(wanted))) == pytest.approx(expected, rel=1e-12)
        assert float(masked_words(logits[:0], torch.tensor(wanted)[:0])) == 0.0


def test_alignment_is_by_angle_and_of_the_valid(torch: Any) -> None:
    from vidcap.train.losses import alignment

    student, teacher = torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = 0.0
    for row in (0, 2):
        for layer in range(2):
            for token in range(4):
                s, t = student[row, layer, token].numpy(), teacher[row, layer, token].numpy()
                total += 2 - 2 * (s @ t) / math.sqrt((s @ s) * (t @ t))
    found = alignment(student, teacher, torch.tensor([True, False, True]))
    assert float(found) == pytest.approx(total / 16, rel=1e-9)
    assert float(alignment(3 * teacher, teacher, torch.ones(3, dtype=torch.bool))) == pytest.approx(0.0, abs=1e-9)


class TestSpec:
    def test_the_published_losses(self, torch: Any) -> None:
        from vidcap.train.losses import LossSpec, LossWeights, Pair

        spec = LossSpec(
            pairs=(
                Pair(media="v", types=("image", "video")),
                Pair(media="v", text="avs", types=("audio_video",)),
                Pair(media="av", text="avs", losses=LossWeights(matching=0.5)),
            ),
            avc=0.1,
        )
        assert spec.weights == {
            "vtc": 1.0, "vtm": 1.0, "mlm": 1.0, "avtc": 1.0, "avtm": 0.5, "avmlm": 1.0, "avc": 0.1,
        }  # fmt: skip
        named = {kind: [(t.name, t.text) for t in spec.terms(kind)] for kind in ("image", "audio", "audio_video")}
        assert named["image"] == [("vtc", "any"), ("vtm", "any"), ("mlm", "any")] and named["audio"] == []
        assert named["audio_video"] == [(name, "avs") for name in ("vtc", "vtm", "mlm", "avtc", "avtm", "avmlm")]

    def test_kinds_of_captions_of_one_medium_are_told_apart(self, torch: Any) -> None:
        from vidcap.train.losses import LossSpec

        spec = LossSpec.model_validate(
            {"pairs": [{"media": "v", "text": "v"}, {"media": "v", "text": "avs"}, {"media": "a"}],
             "losses": {"matching": 0, "mlm": 0}}
        )  # fmt: skip
        assert list(spec.weights) == ["vtc_v", "vtc_avs", "atc"]

    def test_speech_as_a_medium(self, torch: Any) -> None:
        from vidcap.train.losses import LossSpec, Pair

        names = list(LossSpec(pairs=(Pair(media="vs"), Pair(media="avs"))).weights)
        assert names == ["vstc", "vstm", "vsmlm", "avstc", "avstm", "avsmlm"]

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [
            ([{"media": "v"}, {"media": "v"}], "two pairs give `"),
            (
                [{"media": "v", "types": ["image"]}, {"media": "v", "types": ["video"], "losses": {"mlm": 2}}],
                "`mlm` different weights",
            ),
            ([{"media": "w"}], "media"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, torch: Any, pairs: list[dict[str, Any]], message: str) -> None:
        from vidcap.train.losses import LossSpec

        with pytest.raises(ValueError, match=message):
            LossSpec.model_validate({"pairs": pairs})
