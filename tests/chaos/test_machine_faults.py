"""Real limits instead of injected errors: a small disk, file sizes, address space, a read-only mount."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_harness import INLINE, ONE_WORKER, Chaos, Fault, in_stage, same

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory, which a test may fill; skips where nothing can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.mark.parametrize("kilobytes", [16, 96, 176, 256, 384, 512])
def test_a_disk_that_fills_up(
    kilobytes: int, chaos: Chaos, small_disk: Path, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    chaos.output = small_disk / "run"
    remount(small_disk, f"size={kilobytes}k")
    first = chaos.attempt(INLINE)
    assert first.code == 2
    assert "no space left on device" in first.error and f"disk at `{small_disk}`" in first.error
    assert "run the same command again" in first.error
    remount(small_disk, "size=64m")
    found = chaos.survive(INLINE, before=[first])
    assert found.codes == [2, 0], "no part was given up"
    same(found.digests, undisturbed)
    tell(f"disk of {kilobytes} kB fills up", "transparent", codes=found.codes)


@pytest.mark.parametrize("left", [0, 4096, 12_288])
def test_a_disk_that_fills_up_while_clips_are_cut(
    left: int, chaos: Chaos, small_disk: Path, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    """What the cutter cannot write says nothing about the clip."""
    chaos.output = small_disk / "run"
    filler = small_disk / "filler"
    target = "vidcap.media.cut:Cutter.cut"
    chaos.schedule([Fault("call", "fill", nth=2, target=target, value=[str(filler), left])])
    first = chaos.attempt(INLINE)
    assert first.code == 2 and "no space left on device" in first.error
    filler.unlink()
    found = chaos.survive(INLINE, before=[first])
    assert found.report["clips"]["quarantined"] == 0, found.report["reasons"]
    same(found.digests, undisturbed)
    tell(f"disk fills up in the middle of cutting, {left} bytes left", "transparent", codes=found.codes)


@pytest.mark.parametrize("left", [0, 4096])
def test_a_disk_that_is_full_for_one_clip(
    left: int, chaos: Chaos, small_disk: Path, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    """Then there is space again: the part is packed again at once, and nobody has to do anything."""
    chaos.output = small_disk / "run"
    filler = str(small_disk / "filler")
    again = 4  # two parts up to selection, the first to pack, and the same once more: a clip is cut in memory
    chaos.schedule(
        [
            Fault("call", "fill", nth=2, target="vidcap.media.cut:Cutter.cut", value=[filler, left]),
            Fault("call", "remove", nth=again, target="vidcap.runners.inline:InlineRunner.submit", value=filler),
        ]
    )
    found = chaos.survive(INLINE)
    assert "no space left on device" in found.said
    assert found.report["clips"]["quarantined"] == 0, found.report["reasons"]
    assert found.codes == [0]
    same(found.digests, undisturbed)
    tell(f"disk full for one clip, {left} bytes left", "transparent", codes=found.codes)


def test_an_output_that_is_read_only(
    chaos: Chaos, small_disk: Path, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    chaos.output = small_disk / "run"
    remount(small_disk, "ro")
    first = chaos.attempt(INLINE)
    assert first.code == 2 and "read-only" in first.error.lower()
    remount(small_disk, "rw")
    found = chaos.survive(INLINE, before=[first])
    same(found.digests, undisturbed)
    tell("output on a read-only mount", "transparent", codes=found.codes)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit here")
@pytest.mark.parametrize("limit", [1_000, 8_000, 24_000, 40_000])
def test_files_may_not_grow(limit: int, chaos: Chaos, undisturbed: dict[str, str], tell: Callable[..., None]) -> None:
    first = chaos.attempt(INLINE, prefix=["prlimit", f"--fsize={limit}"])
    assert first.code == 2 and "file too large" in first.error
    found = chaos.survive(INLINE, before=[first])
    assert found.codes == [2, 0]
    same(found.digests, undisturbed)
    tell(f"no file above {limit} bytes (RLIMIT_FSIZE)", "transparent", codes=found.codes)


@pytest.mark.cluster
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit here")
def test_address_space_that_one_source_exhausts(
    chaos: Chaos, without_last: dict[str, str], tell: Callable[..., None]
) -> None:
    from test_visible_faults import id_of

    victim = id_of(chaos.corpus)
    chaos.schedule([in_stage("caption_video", "bloat", match=victim, times=99)])
    first = chaos.attempt(ONE_WORKER, prefix=["prlimit", f"--as={4 << 30}"])
    found = chaos.look([first])
    assert [(item["id"], item["reason"]) for item in found.report["stopped_sources"]] == [(victim, "worker_died")]
    same(found.digests, without_last)
    tell("source that exhausts the address space (RLIMIT_AS)", "visible, `worker_died`", codes=found.codes)
