"""Sources for the tests of cutting: rendered by kind, and decoded, so that tables and facts are at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from media_factory import render

from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.facts import SourceFacts
from vidcap.media.frames import SourceTables

SIZE = (192, 108)

Known = tuple[Path, SourceTables, SourceFacts]


def decoded(path: Path) -> Known:
    found = decode_source(str(path), path.with_name(f"{path.name}.evidence"), DecodeOptions())
    return path, found.tables, found.facts


def by_kind(folder: Path, kinds: Mapping[str, Mapping[str, Any]], frames: int) -> Callable[[str], Known]:
    """Renders and decodes a source of one of the kinds, once each; a kind is arguments for `render`."""

    @cache
    def make(kind: str) -> Known:
        return decoded(render(folder / kind, **{"frames": frames, "size": SIZE, "container": "mp4", **kinds[kind]}))

    return make
