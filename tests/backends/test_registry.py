"""Backends by role and name: files of the package, entry points of others."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

import pytest

from vidcap.backends import registry
from vidcap.backends.translator.passthrough import Backend as Passthrough
from vidcap.errors import BackendError

OUTSIDE = (
    importlib.metadata.EntryPoint("translator.elsewhere", "vidcap.backends.llm.template:Backend", "vidcap.backends"),
    importlib.metadata.EntryPoint("translator.passthrough", "nowhere:Backend", "vidcap.backends"),
    importlib.metadata.EntryPoint("llm.elsewhere", "nowhere:Backend", "vidcap.backends"),
)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Grows by one whenever all that is installed is looked through."""
    done: list[str] = []

    def entry_points(*, group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
        done.append(group)
        return OUTSIDE

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry._outside.cache_clear()
    yield done
    registry._outside.cache_clear()


def test_own_backends_are_found_without_looking_through_what_is_installed(searches: list[str]) -> None:
    assert registry.get("translator", "passthrough") is Passthrough
    registry.create("shot_detector", "fast")
    assert not searches


def test_others_are_looked_for_once(searches: list[str]) -> None:
    found: Any = registry.get("translator", "elsewhere")
    assert found is registry.get("translator", "elsewhere") and found.__module__ == "vidcap.backends.llm.template"
    assert "elsewhere" in registry.names("translator") and registry.names("translator").count("passthrough") == 1
    assert searches == ["vidcap.backends"]


@pytest.mark.usefixtures("searches")
def test_a_name_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(BackendError, match="no translator backend is called `pasthrough`") as caught:
        registry.get("translator", "pasthrough")
    assert caught.value.hint is not None and "`passthrough`" in caught.value.hint and "elsewhere" in caught.value.hint
    with pytest.raises(BackendError, match="no role is called `cook`"):
        registry.get("cook", "passthrough")
