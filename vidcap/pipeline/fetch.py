"""A source that is named by an address is copied to this machine for as long as somebody works on it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vidcap.errors import MediaError, TransientError
from vidcap.records import Source


@contextlib.contextmanager
def fetched(source: Source, scratch: Path) -> Iterator[Source]:
    """The source with a path that media libraries may open; a local file is itself, an fsspec URL a temporary copy.

    Media libraries are never given an address: what they would follow from there is out of our hands. Raises
    `MediaError("source.missing")` where nothing is there, `TransientError` where the store does not answer.
    """
    if "://" not in source.path:
        yield source
        return
    import fsspec

    scratch.mkdir(parents=True, exist_ok=True)
    copy = scratch / source.id
    try:
        try:
            with fsspec.open(source.path, "rb") as remote, copy.open("wb") as local:
                shutil.copyfileobj(remote, local, 1 << 20)
        except FileNotFoundError as error:
            raise MediaError("source.missing", "nothing is at its address") from error
        except (OSError, ValueError, ImportError) as error:
            hint = "check the address, and that fsspec's package for it is installed"
            # The error's own words may repeat the address with its signature.
            reason = str(error).replace(source.path, source.uri)
            raise TransientError(f"cannot fetch `{source.uri}`: {reason}", hint=hint) from error
        yield replace(source, path=str(copy))
    finally:
        copy.unlink(missing_ok=True)
