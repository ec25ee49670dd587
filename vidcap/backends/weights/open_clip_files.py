"""What surrounds an open_clip model: its weights file, its published settings, and what a folder may ask for."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidcap.errors import BackendError

OWN = "own"
"""The tag of weights that somebody trained with open_clip's defaults."""
SETTINGS = ("mean", "std", "interpolation", "resize_mode", "quick_gelu")
"""What a checkpoint file does not say: how pictures were prepared, and the activation."""
PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language", "reduction_mask"})
WHERE = (
    "give `weights: path/to/open_clip_model.safetensors` (or .pt) and the `tag` it was published under, e.g. the hub's "
    "timm/vit_large_patch14_clip_224.openai for ViT-L-14, tag openai; or `model: local-dir:FOLDER` with the folder's "
    "open_clip_config.json; or `download: true` with a `tag`"
)


def weights_in(folder: Path) -> Path:
    found = sorted(file for file in folder.iterdir() if file.suffix in WEIGHTS and file.is_file())
    preferred = [folder / name for name in PREFERRED if folder / name in found]
    if preferred or len(found) == 1:
        return (preferred or found)[0]
    if not found:
        raise BackendError(f"there are no weights in the folder `{folder}`", hint=WHERE)
    names = ", ".join(file.name for file in found)
    raise BackendError(f"which weights are meant in `{folder}`: {names}?", hint=f"call them `{PREFERRED[0]}`")


def check_architecture(architecture: Mapping[str, Any], download: bool) -> None:
    """A folder's configuration is foreign input: it must not name code, nor send the library to the network."""
    text, vision = architecture.get("text_cfg", {}), architecture.get("vision_cfg", {})
    foreign = sorted(set(text.get("tokenizer_kwargs") or {}) - TOKENIZER_OPTIONS)
    if foreign:
        raise BackendError(f"the model's tokenizer has unknown options: {', '.join(foreign)}", hint="take them out")
    if ":" in str(vision.get("timm_model_name", "")):
        raise BackendError(
            f"the model names a picture encoder elsewhere: `{vision['timm_model_name']}`", hint="name one of timm's own"
        )
    if text.get("hf_model_name") and not download:
        raise BackendError(
            f"the text encoder `{text['hf_model_name']}` of this model is described on the hub",
            hint="`download: true`, or another model",
        )


def settings_of(open_clip: Any, name: str, tag: str | None) -> dict[str, Any]:
    """What open_clip knows of the published weights beside their numbers; {} for its defaults."""
    from open_clip.pretrained import get_pretrained_cfg

    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag == OWN:
        return {}
    if tag is not None:
        if tag not in tags:
            raise BackendError(
                f"open_clip knows no tag `{tag}` of `{name}`", hint=f"it knows {', '.join([*tags, OWN])}"
            )
        return _known(get_pretrained_cfg(name, tag))
    found = {repr(sorted(_known(get_pretrained_cfg(name, each)).items())): each for each in tags}
    if len(found) > 1:
        raise BackendError(
            f"weights of `{name}` were published with different settings, which the file does not say",
            hint=f"add `tag`: {', '.join(tags)}; or `tag: {OWN}` for weights you trained",
        )
    return _known(get_pretrained_cfg(name, next(iter(found.values())))) if found else {}


def _known(published: Mapping[str, Any]) -> dict[str, Any]:
    return {key: published[key] for key in SETTINGS if published.get(key)}


def fetched(open_clip: Any, name: str, tag: str) -> Path:
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    try:
        return Path(download_pretrained(get_pretrained_cfg(name, tag)))
    except Exception as error:  # the network, the hub, the disk
        raise BackendError(f"weights `{tag}` of `{name}` cannot be fetched: {first_line(error)}", hint=WHERE) from error


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Key → shape of a checkpoint; refuses what is more than tensors in containers."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
        import torch

        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a file of any content: the reader raises whatever it stumbles over
        if "TorchScript" in str(error):
            raise BackendError(
                f"`{path}` is a TorchScript archive, which holds a program",
                hint="take the same weights as .safetensors, e.g. the hub's timm/vit_large_patch14_clip_224.openai",
            ) from error
        # The library's own text advises to load without the safety; its first sentence says what is wrong.
        raise BackendError(
            f"`{path}` cannot be read as weights: {first_line(error).split('. ')[0]}", hint=WHERE
        ) from error
    state = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(state, Mapping) or not state:
        raise BackendError(f"`{path}` holds a {type(state).__name__} where named tensors should be", hint=WHERE)
    return {str(key).removeprefix("module."): tuple(getattr(value, "shape", ())) for key, value in state.items()}


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A failed loading says in its first line only that it failed.
    text = " ".join(lines[:3]) if lines and lines[0].endswith(":") else next(iter(lines), "")
    return (text or type(error).__name__)[:400]


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """The library logs through the root logger, which gives it a handler, and warns of weights not yet loaded."""
    root = logging.getLogger()
    handlers, disabled = root.handlers[:], root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
