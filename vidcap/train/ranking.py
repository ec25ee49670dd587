"""How well each query finds what belongs to it, from a matrix of scores: R@1, 5, 10, dual softmax, multiple choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

RECALLS = (1, 5, 10)
MATCH_SHARE = 0.7
"""Of the matching head in the answer to a multiple choice; the rest is of the similarity."""


def ranks(scores: Scores, right: Bool) -> npt.NDArray[np.int64]:
    """Of each query (row) the 0-based rank of its best right candidate, of Q×C scores; `right` Q×C.

    Wrong candidates with the very same score come first: a model that scores all alike finds nothing. Queries without a
    right candidate raise `ValueError`.
    """
    if not right.any(1).all():
        raise ValueError("a query has no right candidate")
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return ((scores >= best) & ~right).sum(1)


def recalls(scores: Scores, right: Bool) -> dict[str, float]:
    """`r1`, `r5`, `r10`, their mean, in percent of the queries, and the median rank, counted from 1."""
    found = ranks(scores, right)
    values = {f"r{most}": 100.0 * float((found < most).mean()) for most in RECALLS}
    mean = sum(values.values()) / len(values)
    return {**values, "r_mean": mean, "median_rank": float(np.median(found)) + 1}


def both_ways(text_to_media: Scores, media_to_text: Scores, right: Bool, asked: Sequence[int]) -> dict[str, float]:
    """`t2v_*`, `v2t_*` and `r_mean` of both, of T×M scores and those of the `asked` media; `right` is T×M.

    A medium that no text is of is there to be confused with and asks nothing itself.
    """
    forth, back = recalls(text_to_media, right), recalls(media_to_text, right.T[list(asked)])
    found = {f"t2v_{name}": value for name, value in forth.items()}
    found |= {f"v2t_{name}": value for name, value in back.items()}
    found["r_mean"] = (forth["r_mean"] + back["r_mean"]) / 2
    return {name: round(value, 4) for name, value in found.items()}


def softmax(scores: Scores, axis: int) -> Scores:
    raised = np.exp(scores - scores.max(axis, keepdims=True))
    shares: Scores = raised / raised.sum(axis, keepdims=True)
    return shares


def dual_softmax(scores: Scores, temperature: float = 1.0) -> Scores:
    """Q×C scores, each weighed with its share among all queries of its candidate: one that all find counts for less.

    `temperature` 1, as released, hardly changes an order of cosines; lower ones do.
    """
    weighed: Scores = scores * softmax(scores / temperature, 0)
    return weighed


def best(scores: Scores, count: int) -> npt.NDArray[np.int64]:
    """The places of the `count` highest of each row, best first; equal ones in their order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def reordered(scores: Scores, places: npt.NDArray[np.int64], judged: Scores) -> Scores:
    """Scores in which the candidates at `places` (Q×K) are ordered by `judged` (Q×K), before all others as before."""
    floor = judged.min(initial=0.0) - 1.0
    found = floor + scores - scores.max(initial=0.0)
    np.put_along_axis(found, places, judged, 1)
    return found


def chosen(match: Sequence[float], cosines: Sequence[float], temperature: float) -> int:
    """Which choice: 0.7 · the probability of a match + 0.3 · the softmax over the choices of cosine / temperature."""
    shares = softmax(np.asarray(cosines, np.float64)[None] / temperature, 1)[0]
    return int(np.argmax(MATCH_SHARE * np.asarray(match, np.float64) + (1 - MATCH_SHARE) * shares))
