"""Fetches a model from the Hugging Face hub through its own client: only files that are read, each digest checked."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from vidcap.backends.weights import hub_cache
from vidcap.errors import BackendError, TransientError, UsageError
from vidcap.shards.model_licences import ModelLicence, licence_of
from vidcap.store import sha256_of

TEXTS = (".json", ".model", ".txt", ".jinja", ".spm", ".tiktoken")
"""Settings and tokenizers. No code: `.py` is never fetched."""
WEIGHTS = ((".safetensors",), (".bin", ".ftz"), (".pt", ".pth", ".ckpt"), (".onnx",))
"""The first kind that a model has is fetched, the others, which hold the same or may hold code, are not."""
FOLDERS = ("additional_chat_templates",)
"""Folders that are read beside the top one."""
TRAINING = ("training_args*", "optimizer*", "scheduler*", "rng_state*", "trainer_state*", "tf_model*", "flax_model*")
RESTRICTED = ("-nc", "llama", "gemma", "other", "rail", "research")
"""Parts of the hub's licence identifiers that forbid commercial use, or name terms of their own."""
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Announced:
    """What the hub says of a model: `commit` is the revision's; `sizes` and `digests` by file (sha256, or git's hash).

    `licence` is what its card says, "" where it says nothing.
    """

    name: str
    commit: str
    licence: str
    sizes: dict[str, int]
    digests: dict[str, str]

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def announced(name: str, revision: str | None = None, *, files: Sequence[str] = ()) -> Announced:
    """Ask the hub; nothing is fetched. `files`: patterns that narrow what is wanted.

    Raises `UsageError` where there is no such model or revision, or its terms were not accepted; `TransientError` where
    the hub cannot be reached; `BackendError` where its client is not installed.
    """
    hub = _client()
    try:
        info = hub.HfApi(endpoint=_endpoint()).model_info(
            name, revision=revision, files_metadata=True, timeout=_SECONDS
        )
    except Exception as error:  # the client has many, and those of the libraries below it
        raise _told(hub, error, name, revision) from error
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    chosen = [siblings[file] for file in wanted(siblings, files)]
    if not chosen:
        raise UsageError(f"`{name}` has no weights of a kind that is read here", hint=f"see {_page(name)}")
    card = getattr(info, "card_data", None)
    licence = card.get("license") if card is not None else ""
    return Announced(
        name,
        str(info.sha),
        ", ".join(licence) if isinstance(licence, list) else str(licence or ""),
        {file.rfilename: int(file.size or 0) for file in chosen},
        {file.rfilename: file.lfs.sha256 if file.lfs else str(file.blob_id or "") for file in chosen},
    )


def wanted(files: Iterable[str], patterns: Sequence[str] = ()) -> list[str]:
    """Of all files of a model those to fetch, sorted; empty where no weights are among them."""
    near = [file for file in files if _is_near(file) and (not patterns or _matches(file, patterns))]
    near = [file for file in near if not _matches(file, TRAINING)]
    for kinds in WEIGHTS:
        weights = [file for file in near if file.endswith(kinds)]
        if weights:
            return sorted([*weights, *(file for file in near if file.endswith(TEXTS))])
    return []


def must_accept(name: str, card: str) -> ModelLicence | None:
    """The licence, where it has to be accepted by name before the model is fetched: by our table, or by its card."""
    known = licence_of(name)
    if known.accept:
        return known
    if any(part in card.lower() for part in RESTRICTED):
        return ModelLicence(name, card, card.lower(), "-nc" in card.lower(), "its card says so")
    return None


def fetch(what: Announced, revision: str | None = None, *, to: Path | None = None) -> Path:
    """Bring its files into the hub's cache, or into the folder `to`; returns the folder they lie in.

    Every file's size and digest is compared with what the hub announced; one that differs is removed, and `UsageError`
    names it. Raises as `announced` does.
    """
    hub = _client()
    try:
        folder = Path(
            hub.snapshot_download(
                what.name,
                revision=revision,
                endpoint=_endpoint(),
                cache_dir=None if to else hub_cache.root(),
                local_dir=to,
                allow_patterns=[glob.escape(file) for file in what.sizes],
                etag_timeout=_SECONDS,
            )
        )
    except Exception as error:
        raise _told(hub, error, what.name, revision) from error
    if to is None and folder.name != what.commit:
        raise TransientError(
            f"`{what.name}` changed while it was fetched: {what.commit[:12]} became {folder.name[:12]}", hint="again"
        )
    different = [file for file in what.sizes if not _is_as_announced(folder / file, file, what)]
    for file in different:
        with suppress(OSError):
            (folder / file).resolve().unlink(missing_ok=True)
            (folder / file).unlink(missing_ok=True)
    if different:
        raise UsageError(
            f"`{what.name}`: what came is not what the hub announced: {', '.join(different[:5])}; removed",
            hint="fetch it again; if it stays so, a proxy or mirror changes files on the way",
        )
    return folder


def _is_as_announced(path: Path, file: str, what: Announced) -> bool:
    wanted_digest = what.digests[file]
    if not path.is_file() or path.stat().st_size != what.sizes[file]:
        return False
    return wanted_digest == (sha256_of(path) if len(wanted_digest) == 64 else hub_cache.git_hash(path))


def _is_near(file: str) -> bool:
    folders = PurePosixPath(file).parts[:-1]
    return not folders or (len(folders) == 1 and folders[0] in FOLDERS)


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(PurePosixPath(file).name, pattern) for pattern in patterns)


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise BackendError(
            "fetching from the hub needs the library `huggingface-hub`", hint="pip install 'vidcap[hub]'"
        ) from error
    return huggingface_hub


def _endpoint() -> str | None:
    """Read now, not when the client was imported."""
    return os.environ.get("HF_ENDPOINT") or None


def _page(name: str) -> str:
    return f"{_endpoint() or 'https://huggingface.co'}/{name}"


def _told(hub: Any, error: Exception, name: str, revision: str | None) -> Exception:
    """The client's error in our words. No token is in them: the client's texts are cut out, only its kinds are used."""
    errors = hub.errors
    if isinstance(error, errors.GatedRepoError):
        return UsageError(
            f"`{name}` is given out to those who accepted its terms",
            hint=f"accept them on {_page(name)}, then `hf auth login`, or set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"`{name}` has no revision `{revision}`", hint=f"see {_page(name)}/commits/main")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UsageError(
            f"the hub has no model `{name}`, or does not show it to you",
            hint="check the name; for a private one `hf auth login`, or set HF_TOKEN",
        )
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"`{name}` is no name of the hub", hint="it looks like ORG/NAME")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return UsageError("HF_HUB_OFFLINE forbids to ask the hub", hint="unset it, or copy the model's folder here")
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind = f"it answers with HTTP {status}" if status else type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        kind = f"{type(error).__name__}: {error.strerror}"
    return TransientError(
        f"`{name}` could not be fetched: {kind}",
        hint="is there a network? else fetch it elsewhere with `--to FOLDER`, copy the folder, and give its path",
    )
