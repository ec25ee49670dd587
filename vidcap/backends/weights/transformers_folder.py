"""Models of the transformers library: a folder or a name on the hub, found, digested, loaded whole or refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vidcap.errors import BackendError
from vidcap.store import sha256_of

READ = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja")
"""Kinds of files in a model folder that change the numbers."""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class TransformersModel:
    """`model`: a folder as `save_pretrained` writes it, or a name on the hub, of `revision` (a commit or tag).

    A hub name is looked for among what was fetched before; the network is asked only with `download`. `where` is the
    mend in messages: which models will do. `extra`: what of VidCap brings the library.
    """

    model: str
    revision: str | None
    download: bool
    where: str
    extra: str

    @cached_property
    def folder(self) -> Path | None:
        """None for a name on the hub. Raises `BackendError` for what is neither a model's folder nor such a name."""
        folder = Path(self.model)
        if (folder / "config.json").is_file():
            return folder
        if not folder.is_dir() and HUB_NAME.fullmatch(self.model):
            return None
        what = "there is no `config.json` in the folder" if folder.is_dir() else "there is no folder"
        raise BackendError(f"{what} `{folder}`", hint=self.where)

    def identity(self) -> str:
        """`NAME@DIGEST` of a folder's files, `NAME@REVISION` of a hub name."""
        if self.folder is None:
            return f"{self.model}@{self.revision or 'main'}"
        return f"{self.folder.resolve().name}@{self._digest[:12]}"

    def options(self) -> dict[str, Any]:
        """For every `from_pretrained`: code that lies beside the weights is never run."""
        options: dict[str, Any] = {"local_files_only": not self.download, "trust_remote_code": False}
        if self.folder is None and self.revision:
            options["revision"] = self.revision
        return options

    def weights(self, loader: Any, *, dtype: Any, **more: Any) -> Any:
        """The network, on the CPU, ready to infer. `loader`: a class of transformers with `from_pretrained`.

        Raises `BackendError` where a weight is absent, of another shape, or not finite.
        """
        with quiet():
            try:
                network, loading = loader.from_pretrained(
                    self._source, dtype=dtype, output_loading_info=True, **self.options(), **more
                )
            except Exception as error:  # a folder of any content, and the network
                raise self._refused(error) from error
        lacking = sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]]))
        if lacking:
            raise BackendError(
                f"`{self._source}` lacks weights of its own model: {', '.join(lacking[:5])} ({len(lacking)})",
                hint=self.where,
            )
        unusable = [key for key, value in network.named_parameters() if not bool(value.isfinite().all())]
        if unusable:
            raise BackendError(
                f"`{self._source}` holds numbers that are not finite: {', '.join(unusable[:5])}", hint=self.where
            )
        return network.eval().requires_grad_(False)

    def part(self, loader: Any, **more: Any) -> Any:
        """A processor, tokenizer or configuration of the model, by its class of transformers."""
        with quiet():
            try:
                return loader.from_pretrained(self._source, **self.options(), **more)
            except Exception as error:
                raise self._refused(error) from error

    def library(self) -> Any:
        """The transformers module. Raises `BackendError` where it is absent or cannot be used."""
        try:
            import transformers
        except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises the latter
            raise BackendError(
                f"the library `transformers` cannot be used: {error}", hint=f"pip install 'vidcap[{self.extra}]'"
            ) from error
        return transformers

    @property
    def _source(self) -> str:
        return str(self.folder or self.model)

    @cached_property
    def _digest(self) -> str:
        assert self.folder is not None
        files = sorted(file for file in self.folder.iterdir() if file.suffix in READ and file.is_file())
        named = " ".join(f"{file.name}={sha256_of(file)}" for file in files)
        return hashlib.sha256(named.encode()).hexdigest()

    def _refused(self, error: Exception) -> BackendError:
        hint = self.where
        if self.folder is None and not self.download:
            hint = f"`vidcap models fetch {self.model}`, or {hint}"
        return BackendError(f"`{self._source}` cannot be loaded: {_first_line(error)}", hint=hint)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's progress bars and its reports of what it loaded, which are checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
