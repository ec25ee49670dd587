"""A tiny corpus, what undisturbed runs over it give, and the table of faults."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from chaos_harness import Chaos
from command import digests, only_one
from tiny_sources import make_sources


@pytest.fixture(scope="session")
def tiny_corpus(shared_folder: Path) -> Path:
    with only_one(shared_folder, "tiny_corpus") as folder:
        if not folder.exists():
            make_sources(folder)
    return folder


def _undisturbed(repository: Path, folder: Path, corpus: Path) -> dict[str, str]:
    with only_one(folder.parent, folder.name) as made:
        if not (made / "run" / "shards" / "sizes.json").is_file():
            chaos = Chaos(repository, made, corpus)
            chaos.survive()
    return digests(made / "run")


@pytest.fixture(scope="session")
def undisturbed(repository: Path, shared_folder: Path, tiny_corpus: Path) -> dict[str, str]:
    """The shards of a run that nothing happened to."""
    return _undisturbed(repository, shared_folder / "undisturbed", tiny_corpus)


@pytest.fixture(scope="session")
def without_last(repository: Path, shared_folder: Path, tiny_corpus: Path) -> dict[str, str]:
    """The shards of a run whose manifest lacks `z.mp4`."""
    with only_one(shared_folder, "corpus_without_last") as corpus:
        if not corpus.exists():
            shutil.copytree(tiny_corpus, corpus, ignore=shutil.ignore_patterns("z.mp4"))
    return _undisturbed(repository, shared_folder / "without_last", corpus)


@pytest.fixture
def chaos(repository: Path, tmp_path: Path, tiny_corpus: Path) -> Iterator[Chaos]:
    made = Chaos(repository, tmp_path, tiny_corpus)
    yield made
    made.close()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Adds a line to the table of faults: on stdout, and to the file that `CHAOS_TABLE` names."""

    def row(name: str, kind: str, *, codes: list[int]) -> None:
        line = f"| {name} | {kind} | exit {', '.join(map(str, codes))} | yes | yes | yes |"
        print(line)
        if path := os.environ.get("CHAOS_TABLE"):
            with open(path, "a", encoding="utf-8") as table:
                table.write(line + "\n")

    yield row
