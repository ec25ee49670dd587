"""Faults that cost an item: it is told with its reason, and the shards are those of a manifest without it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_harness import INLINE, ONE_WORKER, Chaos, Fault, in_stage, same

LAST = "z.mp4"


def id_of(corpus: Path, name: str = LAST) -> str:
    from vidcap.pipeline.manifest import read_manifest

    return next(source.id for source in read_manifest(str(corpus)).sources if source.uri.endswith(name))


@pytest.fixture
def own(chaos: Chaos, tmp_path: Path) -> Chaos:
    """The command over a copy of the corpus that may be spoiled."""
    chaos.corpus = Path(shutil.copytree(chaos.corpus, tmp_path / "corpus"))
    return chaos


POISON = {
    "kills its worker in decode": ("decode", "kill", "worker_died"),
    "kills its worker in trim": ("trim", "kill", "worker_died"),
    "kills its worker in score": ("score", "kill", "worker_died"),
    "hangs in fuse": ("fuse", "hang", "worker_timeout"),
    "eats the memory of its worker": ("caption_video", "bloat", "worker_died"),
}


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("name", POISON)
def test_poison_is_quarantined_and_the_rest_goes_on(
    name: str, chaos: Chaos, without_last: dict[str, str], tell: Callable[..., None]
) -> None:
    stage, does, reason = POISON[name]
    victim = id_of(chaos.corpus)
    chaos.schedule([in_stage(stage, does, match=victim, times=99)])
    chaos.settings |= {"runner.item_timeout": "30"} if does == "hang" else {"runner.memory_limit": "900MB"}
    found = chaos.survive(ONE_WORKER)
    assert found.codes == [0]
    assert [(item["id"], item["reason"]) for item in found.report["stopped_sources"]] == [(victim, reason)]
    same(found.digests, without_last)
    tell(f"source that {name}", f"visible, `{reason}`", codes=found.codes)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_source_that_kills_its_worker_in_pack(
    chaos: Chaos, without_last: dict[str, str], tell: Callable[..., None]
) -> None:
    chaos.schedule([Fault("call", "kill", LAST, times=99, target="vidcap.media.cut:Cutter.__init__")])
    found = chaos.survive(ONE_WORKER)
    assert found.report["reasons"] == {"worker_died": found.report["clips"]["quarantined"]}
    same(found.digests, without_last)
    tell("source that kills its worker in pack", "visible, `worker_died`", codes=found.codes)


@pytest.mark.parametrize("stage", ["caption_video", "pack"])
def test_memory_that_an_item_never_gets(
    stage: str, chaos: Chaos, without_last: dict[str, str], tell: Callable[..., None]
) -> None:
    victim = id_of(chaos.corpus)
    fault = in_stage(stage, "memory", match=victim, times=99)
    if stage == "pack":
        fault = Fault("call", "memory", LAST, times=99, target="vidcap.media.cut:Cutter.__init__")
    chaos.schedule([fault])
    found = chaos.survive(INLINE)
    assert list(found.report["reasons"]) == ["worker_died"]
    same(found.digests, without_last)
    tell(f"source without memory in {stage}", "visible, `worker_died`", codes=found.codes)


SPOILT = {
    "vanished before it was decoded": ("replace", r"plan\.jsonl", "source.missing"),
    "vanished between decode and pack": ("replace", r"selection\.json", "source.missing"),
    "truncated between decode and pack": ("replace", r"selection\.json", "source.changed"),
    "overwritten with noise between decode and pack": ("replace", r"selection\.json", "media.unrecognised"),
    "replaced by a film of the same size between decode and pack": ("replace", r"selection\.json", "source.changed"),
}


def padded(film: bytes, size: int = 40_000) -> bytes:
    """The MP4 with a box behind it that players pass over."""
    return film + (size - len(film)).to_bytes(4, "big") + b"free" + bytes(size - len(film) - 8)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if "between" in n else []) for n in SPOILT])
def test_a_source_that_is_not_what_it_was(
    name: str, own: Chaos, tmp_path: Path, without_last: dict[str, str], tell: Callable[..., None]
) -> None:
    point, match, reason = SPOILT[name]
    path = own.corpus / LAST
    other = tmp_path / "other"
    data = path.read_bytes()
    contents = {"truncated": data[: len(data) // 2], "overwritten": bytes(byte ^ 85 for byte in data)}
    if "film" in name:
        path.write_bytes(padded(data))
        contents["film"] = padded((own.corpus / "b.mp4").read_bytes())
    other.write_bytes(next((content for word, content in contents.items() if word in name), b""))
    does, value = ("remove", str(path)) if "vanished" in name else ("swap", [str(other), str(path)])
    own.schedule([Fault(point, does, match, value=value)])  # type: ignore[arg-type]
    found = own.survive(INLINE)
    assert list(found.report["reasons"]) == [reason], found.report["reasons"]
    same(found.digests, without_last)
    tell(f"source {name}", f"visible, `{reason}`", codes=found.codes)


@pytest.mark.slow
def test_a_source_written_to_while_it_is_decoded(
    own: Chaos, tmp_path: Path, without_last: dict[str, str], tell: Callable[..., None]
) -> None:
    """It is longer when the pass ends than when it began."""
    path = own.corpus / LAST
    longer = tmp_path / "longer"
    longer.write_bytes(path.read_bytes() + hashlib.sha256(b"more").digest())
    own.schedule(
        [
            Fault(
                "open",
                "swap",
                rf"{id_of(own.corpus)}.*candidates\.npz|{id_of(own.corpus)}.*audio",
                value=[str(longer), str(path)],
            )
        ]
    )
    found = own.survive(INLINE)
    assert list(found.report["reasons"]) == ["source.changed"]
    same(found.digests, without_last)
    tell("source written to while it is decoded", "visible, `source.changed`", codes=found.codes)
