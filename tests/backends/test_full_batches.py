"""Items in line for an encoder: full batches, the next prepared while the device computes one, nothing out of order."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vidcap.backends.clip_scoring import Scoring
from vidcap.backends.full_batches import Line
from vidcap.backends.roles import ClipView
from vidcap.errors import ItemError


class Vectors:
    """What an encoder leaves on a device, until somebody wants it."""

    def __init__(self, rows: list[list[float]], said: list[str]) -> None:
        self.rows, self.said = rows, said

    def double(self) -> Vectors:
        return self

    def cpu(self) -> Vectors:
        self.said.append("fetch")
        return self

    def numpy(self) -> Any:
        return np.array(self.rows)


class Encoder:
    """`Batches` of numbers, each of which becomes the vector (number, 1), on a device that says what it does."""

    def __init__(self, size: int, device: str) -> None:
        self.size = size
        self.device = SimpleNamespace(type=device)
        self.said: list[str] = []

    def prepared(self, items: Sequence[float], prepare: Any) -> dict[str, Any]:
        self.said.append("prepare " + " ".join(f"{item:g}" for item in items))
        return {"items": list(items)}

    def features(self, inputs: dict[str, Any], count: int) -> Vectors:
        self.said.append("compute")
        return Vectors([[item, 1.0] for item in inputs["items"][:count]], self.said)


def numbers(vectors: list[Any]) -> list[float]:
    return [float(vector[0]) for vector in vectors]


def test_a_batch_computes_while_the_next_is_prepared() -> None:
    encoder = Encoder(2, "cuda")
    line = Line(encoder, dict)  # type: ignore[arg-type]  # a stand-in
    assert [numbers(line.add(item)) for item in range(5)] == [[], [], [], [0, 1], []]
    assert encoder.said == ["prepare 0 1", "compute", "prepare 2 3", "fetch", "compute"]
    assert numbers(line.settle()) == [2, 3]
    assert line.settle() == []
    assert numbers(line.rest()) == [4]
    assert line.rest() == []


def test_a_cpu_has_them_at_once() -> None:
    line = Line(Encoder(2, "cpu"), dict)  # type: ignore[arg-type]  # a stand-in
    assert [numbers(line.add(item)) for item in range(3)] == [[], [0, 1], []]
    assert numbers(line.rest()) == [2]


def scoring(pictures: Encoder, texts: Encoder) -> Scoring:
    """A picture's number is its brightness, a piece's is its length; a text is cut at commas."""
    return Scoring(
        Line(Seen(pictures), dict),  # type: ignore[arg-type]  # a stand-in
        Line(Seen(texts), dict),  # type: ignore[arg-type]  # a stand-in
        lambda text: [piece for piece in text.split(",") if piece],
        rows=max(pictures.size, texts.size),
    )


class Seen:
    def __init__(self, encoder: Encoder) -> None:
        self.size, self.device, self.features = encoder.size, encoder.device, encoder.features
        self.prepared = lambda items, prepare: encoder.prepared([number(item) for item in items], prepare)


def number(item: Any) -> float:
    return float(len(item)) if isinstance(item, str) else float(item.mean())


def view(*brightness: int) -> ClipView:
    frames = [np.full((2, 2, 3), value, np.uint8) for value in brightness]
    return ClipView("key", frames, [0.0] * len(frames), np.zeros(0, np.float32), False, 1.0)


def unit(*values: float) -> Any:
    vector = np.array(values)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_clips_come_in_their_order_with_the_mean_of_their_pieces(device: str) -> None:
    asked = scoring(Encoder(2, device), Encoder(3, device))
    given = [
        (view(10, 20, 30), {"v": "ab,abcd", "a": ""}),
        (view(), {"v": "never read"}),
        (np.array([0.6, 0.8], np.float32), {"v": "ab"}),
        (view(200), {}),
    ]
    found = [done for clip, texts in given for done in asked.add(clip, texts)] + asked.rest()
    assert asked.rest() == []
    (first, scores), (second, none), (third, kept), (last, nothing) = found
    direction = unit(*np.mean([unit(10, 1), unit(20, 1), unit(30, 1)], axis=0))
    assert np.allclose(first, direction, atol=1e-7)
    assert scores["v"] == pytest.approx(np.mean([direction @ unit(2, 1), direction @ unit(4, 1)]), abs=1e-6)
    assert np.isnan(scores["a"])
    assert isinstance(second, ItemError) and none == {}
    assert third.tolist() == pytest.approx([0.6, 0.8])
    assert kept["v"] == pytest.approx(np.array([0.6, 0.8]) @ unit(2, 1), abs=1e-6)
    assert np.allclose(last, unit(200, 1)) and nothing == {}


def test_clips_that_wait_for_few_texts_do_not_pile_up() -> None:
    texts = Encoder(4, "cuda")
    asked = scoring(Encoder(4, "cuda"), texts)
    waiting = 0
    for at in range(100):
        waiting += 1 - len(asked.add(view(at), {"v": "a" * (at + 1)} if at % 50 == 0 else {"v": ""}))
        assert waiting <= 8
    assert sum(said.startswith("prepare") for said in texts.said) == 2


def test_a_text_that_is_known_is_not_read_again() -> None:
    texts = Encoder(2, "cpu")
    asked = scoring(Encoder(1, "cpu"), texts)
    for _ in range(5):
        asked.add(view(1), {"v": "ab", "avs": "abcd"})
    assert texts.said == ["prepare 2 4", "compute", "fetch"]


def test_a_text_whose_numbers_are_not_finite_spares_the_clip() -> None:
    asked = scoring(Encoder(1, "cpu"), Encoder(1, "cpu"))
    broken = Seen(Encoder(1, "cpu"))
    broken.features = lambda inputs, count: Vectors([[np.nan, 1.0]], [])
    asked._texts = Line(broken, dict)  # type: ignore[arg-type]  # a stand-in
    ((embedding, scores),) = asked.add(view(3), {"v": "ab"})
    assert np.allclose(embedding, unit(3, 1))  # type: ignore[arg-type]  # no error
    assert isinstance(scores["v"], ItemError) and "not finite" in scores["v"].detail
