"""Translates nothing: text that is in the wanted language already comes back unchanged, all else is not supported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from vidcap.backends.roles import BackendConfig, Outcome
from vidcap.errors import ItemError
from vidcap.languages import is_language


class Backend:
    """The honest default where no translation model is at hand: the stage marks its rows `translated: false`."""

    class Config(BackendConfig):
        pass

    embedded: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self.config = config

    def identity(self) -> str:
        return "passthrough@1"

    def load(self, device: str) -> None:
        """Nothing to load; any device will do."""

    def supports(self, language: str, to: str) -> bool:
        return is_language(language, to)

    def translate(self, texts: Sequence[str], *, languages: Sequence[str], to: str) -> list[Outcome[str]]:
        """The texts themselves; an error for one in another language, which must not pass for translated."""
        return [
            text if self.supports(language, to) else ItemError("translate.failed", f"cannot translate `{language}`")
            for text, language in zip(texts, languages, strict=True)
        ]
