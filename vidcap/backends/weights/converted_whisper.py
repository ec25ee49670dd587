"""Whisper models in CTranslate2's layout: found by folder or name, put on a device, checked against misfits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vidcap.backends.installed import version_of
from vidcap.backends.weights.transformers_folder import TransformersModel
from vidcap.backends.whisper_hearing import OURS, THEIRS
from vidcap.errors import BackendError

EXTRA = "faster-whisper"
PUBLISHED = {
    **{name: f"Systran/faster-whisper-{name}" for name in ("tiny", "base", "small", "medium")},
    **{f"{name}.en": f"Systran/faster-whisper-{name}.en" for name in ("tiny", "base", "small", "medium")},
    **{f"large-v{number}": f"Systran/faster-whisper-large-v{number}" for number in (1, 2, 3)},
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""Name → where its conversion lies on the hub, as faster-whisper 1.2.1 has it."""
FILES = ("config.json", "model.bin", "tokenizer.json")
"""Without the tokenizer the library would ask the network for one."""
SPECIAL = ("<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>", "<|transcribe|>", "<|startofprev|>")
WHERE = (
    "give `model: path/to/folder` of a converted model (model.bin, config.json, tokenizer.json, vocabulary.json; "
    "docs/models/whisper.md shows how to convert one), or a name of it and `download: true`"
)


def named(model: str, revision: str | None, *, download: bool) -> TransformersModel:
    """The model as files: its identity, and its folder where it is one. `model`: folder, published or hub name."""
    return TransformersModel(PUBLISHED.get(model, model), revision, download, WHERE, EXTRA)


def versions() -> str:
    """For an identity; nothing is imported. Raises `BackendError` where a library is absent."""
    return "/".join(f"{library}-{version_of(library, EXTRA)}" for library in ("faster-whisper", "ctranslate2"))


def place_of(device: str, compute_type: str) -> tuple[str, int]:
    """CTranslate2's kind and number of the device. Raises `BackendError` where it is not there or cannot compute so."""
    versions()
    try:
        import ctranslate2
        import faster_whisper  # noqa: F401 - what it lacks is told here, not when it is used
    except ImportError as error:
        raise BackendError(
            f"the library `faster-whisper` cannot be used: {error}", hint=f"pip install 'vidcap[{EXTRA}]'"
        ) from error
    matched = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", device)
    count = ctranslate2.get_cuda_device_count() if matched and matched[1] == "cuda" else 1
    if matched is None or int(matched[2] or 0) >= count:
        there = f"the number of GPUs seen is {count}" if matched else "faster-whisper knows `cpu` and `cuda:0`"
        raise BackendError(f"device `{device}` cannot be used: {there}", hint="`cpu`, or `cuda:0` where there is a GPU")
    kind, index = matched[1], int(matched[2] or 0)
    able = ctranslate2.get_supported_compute_types(kind, index)
    if compute_type not in ("default", "auto", *able):
        kinds = ", ".join(sorted(able))
        raise BackendError(f"`{device}` cannot compute in `{compute_type}`", hint=f"here it can: {kinds}")
    return kind, index


def folder_of(weights: TransformersModel, root: Path | None) -> Path:
    """The folder with all files. A name is looked for in `root`, by default the hub's own cache.

    The network is asked only with the model's `download`. Raises `BackendError` where something is absent.
    """
    folder = weights.folder
    if folder is None:
        from faster_whisper.utils import download_model

        cache = str(root.expanduser()) if root is not None else None
        try:
            found = download_model(
                weights.model, local_files_only=not weights.download, cache_dir=cache, revision=weights.revision
            )
        except Exception as error:  # the hub's client, and the network
            hint = WHERE if weights.download else f"`vidcap models fetch {weights.model}`, or {WHERE}"
            raise BackendError(f"the model `{weights.model}` is not there: {_first_line(error)}", hint=hint) from error
        folder = Path(found)
    absent = [name for name in FILES if not (folder / name).is_file()]
    if absent or not list(folder.glob("vocabulary.*")):
        raise BackendError(f"`{folder}` has no `{(absent or ['vocabulary.json'])[0]}`", hint=WHERE)
    return folder


def opened(folder: Path, place: tuple[str, int], compute_type: str, threads: int) -> Any:
    """A `faster_whisper.WhisperModel` whose files fit each other. Raises `BackendError` where they do not."""
    from faster_whisper import WhisperModel

    try:
        model = WhisperModel(
            str(folder),
            device=place[0],
            device_index=place[1],
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=1,
            local_files_only=True,
        )
    except Exception as error:  # a folder of any content
        if out_of_memory(error):
            raise
        raise BackendError(f"`{folder}` cannot be loaded: {_first_line(error)}", hint=WHERE) from error
    lacking = [token for token in SPECIAL if model.hf_tokenizer.token_to_id(token) is None]
    if lacking:
        raise BackendError(f"the tokenizer in `{folder}` has no `{lacking[0]}`", hint=WHERE)
    bands = len(model.feature_extractor.mel_filters)
    if bands != model.model.n_mels:
        raise BackendError(
            f"`{folder}`: the model hears {model.model.n_mels} bands, preprocessor_config.json has {bands}",
            hint="copy preprocessor_config.json beside the weights when converting (`--copy_files`)",
        )
    return model


def check_language(model: Any, name: str, wanted: str | None) -> None:
    """Raises `BackendError` where the model has no token for the language (ISO 639-1)."""
    code_of = model.hf_tokenizer.token_to_id
    known = [code for code in model.supported_languages if code_of(f"<|{code}|>") is not None] or ["en"]
    if wanted is not None and THEIRS.get(wanted, wanted) not in known:
        codes = ", ".join(sorted(OURS.get(code, code) for code in known))
        raise BackendError(f"`{name}` does not know the language `{wanted}`", hint=f"it knows: {codes}")


def out_of_memory(error: BaseException) -> bool:
    """CTranslate2 raises plain errors of a GPU, and `MemoryError` of the CPU."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
