"""What the sentences about picture and sound share: a choice of words by seed, and claims sorted by their type."""

from __future__ import annotations

from collections.abc import Sequence

from vidcap.backends.embedded.claims import Claim


class Choice:
    """Takes one of several wordings, each time from other digits of the seed."""

    def __init__(self, seed: int) -> None:
        self._rest = seed

    def __call__(self, options: Sequence[str]) -> str:
        self._rest, position = divmod(self._rest, len(options))
        return options[position]


def by_type(claims: Sequence[Claim]) -> dict[str, tuple[str, ...]]:
    """The values claimed of each type, in their order."""
    said: dict[str, tuple[str, ...]] = {}
    for claim in claims:
        said[claim.type] = (*said.get(claim.type, ()), claim.value)
    return said


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(text: str) -> str:
    """`text` after "a" or "an"."""
    return f"{'an' if text[:1] in 'aeiou' else 'a'} {text}"


def listed(items: Sequence[str]) -> str:
    """`items` with commas and an "and" before the last."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
