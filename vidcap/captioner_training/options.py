"""How a captioner is trained, and what is told of every step; without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """`steps`: of the whole schedule; `warm_up`: of them, at the beginning."""

    steps: int
    warm_up: int
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.02
    max_text_tokens: int = 32
    """Of a caption with its end mark; a longer caption is learned up to there, without an end."""
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Progress:
    step: int
    loss: float
    learning_rate: float
    examples: int
