"""The version of a library that a backend wraps, or the line that installs it."""

from __future__ import annotations

import importlib.metadata

from vidcap.errors import BackendError


def version_of(distribution: str, extra: str) -> str:
    """The version for an identity; nothing is imported. Raises `BackendError` naming the extra that brings it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise BackendError(
            f"the library `{distribution}` is not installed", hint=f"pip install 'vidcap[{extra}]'"
        ) from error
