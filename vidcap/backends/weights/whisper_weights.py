"""Weights of OpenAI's Whisper models: the published files by name, found, checked, and read, nothing in them run."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidcap.backends.installed import version_of
from vidcap.errors import BackendError
from vidcap.store import sha256_of

PUBLISHED = {
    "tiny.en": "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
    "tiny": "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
    "base.en": "25a8566e1d0c1e2231d1c762132cd20e0f96a85d16145c3a00adf5d1ac670ead",
    "base": "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
    "small.en": "f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872",
    "small": "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
    "medium.en": "d7440d1dc186f76616474e0ff0b3b6b879abc9d1a4926b7adfa41db2d497ab4f",
    "medium": "345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1",
    "large-v1": "e4b87e7e0bf463eb8e6956e646f1e277e901512310def2c24bf0e11bd3c28e9a",
    "large-v2": "81f7c96c852ee8fc832187b0132e569d6c3065a3252ed18e56effd0b6a73e524",
    "large-v3": "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
    "large-v3-turbo": "aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a",
}
"""Name → sha256 of the file `NAME.pt`, as openai-whisper 20250625 has them."""
ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}
VOCABULARIES = (51_864, 51_865, 51_866)
"""English only; multilingual; multilingual with Cantonese."""


def named(model: str) -> tuple[str, str]:
    """The model's name and sha256. Of a published name nothing is read; a file with a published digest has its name.

    Raises `BackendError` where `model` is neither a published name nor a file.
    """
    name = ALIASES.get(model, model)
    if name in PUBLISHED:
        return name, PUBLISHED[name]
    path = _own_file(model)
    digest = sha256_of(path)
    return next((known for known, theirs in PUBLISHED.items() if theirs == digest), path.stem), digest


def file_of(model: str, root: Path | None, *, download: bool) -> Path:
    """The file to read; that of a published name lies in `root` and has its digest.

    `root`: a folder, by default where openai-whisper keeps its files. With `download` an absent file is fetched there.
    """
    name = ALIASES.get(model, model)
    if name not in PUBLISHED:
        return _own_file(model)
    folder = root.expanduser() if root is not None else default_root()
    path = folder / f"{name}.pt"
    if not path.is_file():
        if not download:
            raise BackendError(f"the weights of `{model}` are not there: no file `{path}`", hint=_where(name))
        _download(name, path)
    if sha256_of(path) != PUBLISHED[name]:
        raise BackendError(
            f"`{path}` is not the published file: its sha256 is {sha256_of(path)}",
            hint=f"remove it, then {_where(name)}; a model of your own goes in as `model: {path}`",
        )
    return path


def default_root() -> Path:
    """openai-whisper's own cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "whisper"


def read(path: Path) -> Any:
    """The `whisper.model.Whisper` in a file `{"dims": …, "model_state_dict": …}`, on the CPU, ready to infer.

    Only numbers and tensors are read. Sizes are compared with the tensors before anything is made after them. The heads
    that word times are taken from are set where the file is a published one. Raises `BackendError` where it is none.
    """
    import torch
    import whisper
    from whisper.model import ModelDimensions, Whisper

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of any content: the reader raises whatever it stumbles over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise _refused(path, f"it cannot be read as weights: {reason}") from error
    if not isinstance(found, Mapping) or not {"dims", "model_state_dict"} <= set(found):
        raise _refused(path, "it has no `dims` and `model_state_dict`")
    dims, state = found["dims"], found["model_state_dict"]
    _check_sizes(path, dims, state)
    # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
    with torch.random.fork_rng(devices=[]):
        network = Whisper(ModelDimensions(**dims))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _refused(path, " ".join(str(error).split())[:400]) from error
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise _refused(path, "it holds numbers that are not finite")
    heads = {digest: whisper._ALIGNMENT_HEADS[name] for name, digest in PUBLISHED.items()}.get(sha256_of(path))
    if heads is not None:
        network.set_alignment_heads(heads)
    return network.eval()


def library_version() -> str:
    return version_of("openai-whisper", "whisper")


def _check_sizes(path: Path, dims: Any, state: Any) -> None:
    """The sizes that are named are those of the tensors, and such that the library can use them."""
    try:
        vocabulary, text_state = state["decoder.token_embedding.weight"].shape
        audio_context, audio_state = state["encoder.positional_embedding"].shape
        actual = {
            "n_mels": state["encoder.conv1.weight"].shape[1],
            "n_audio_ctx": audio_context,
            "n_audio_state": audio_state,
            "n_audio_layer": _layers(state, "encoder"),
            "n_vocab": vocabulary,
            "n_text_ctx": state["decoder.positional_embedding"].shape[0],
            "n_text_state": text_state,
            "n_text_layer": _layers(state, "decoder"),
        }
        heads = {key: dims[key] for key in ("n_audio_head", "n_text_head")}
        named_sizes = {key: value for key, value in dims.items() if key not in heads}
    except (KeyError, AttributeError, TypeError, ValueError, IndexError) as error:
        raise _refused(path, f"it lacks {error}") from error
    if named_sizes != actual:
        raise _refused(path, f"its `dims` are {named_sizes}, its tensors have {actual}")
    fits = all(
        isinstance(count, int) and count > 0 and state % count == 0
        for count, state in zip(heads.values(), (audio_state, text_state), strict=True)
    )
    if not fits or actual["n_mels"] not in (80, 128) or audio_context != 1500 or vocabulary not in VOCABULARIES:
        raise _refused(path, f"no Whisper model has the sizes {dims}")


def _layers(state: Mapping[str, Any], tower: str) -> int:
    return len({key.split(".")[2] for key in state if key.startswith(f"{tower}.blocks.")})


def _own_file(model: str) -> Path:
    path = Path(model).expanduser()
    if not path.is_file():
        names = ", ".join((*PUBLISHED, *ALIASES))
        raise BackendError(
            f"there is no Whisper model `{model}`", hint=f"`model` is the path of a `.pt` file, or one of: {names}"
        )
    return path


def _download(name: str, path: Path) -> None:
    """Through openai-whisper, which checks the digest; the file appears when it is whole."""
    import whisper

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the library leaves the file open
            os.replace(whisper._download(whisper._MODELS[name], folder, False), path)
    except (OSError, RuntimeError) as error:
        raise BackendError(f"`{path.name}` could not be fetched: {error}", hint=_where(name)) from error


def _where(name: str) -> str:
    return (
        f"fetch `{name}.pt` once with openai-whisper's own command (`whisper --model {name} ANY.wav`), set "
        f"`download: true`, or give `model: path/to/{name}.pt` (MIT, sha256 {PUBLISHED[name]})"
    )


def _refused(path: Path, reason: str) -> BackendError:
    return BackendError(f"`{path}` is no Whisper model: {reason}", hint="give a file in openai-whisper's `.pt` layout")
