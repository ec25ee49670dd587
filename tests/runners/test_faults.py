"""Items that kill, hang or break what works on them; backends that fail; each ends with a reason, the rest goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Command, wait_for

CAPTIONER = '''
import os
import time

from vidcap.backends.roles import BackendConfig
from vidcap.errors import ItemError, TransientError


class Backend:
    """Does to the clips of one source what its option says."""

    class Config(BackendConfig):
        does: str
        to: str
        once: str = ""

    embedded = True
    frames_per_clip = 2

    def __init__(self, config):
        self.config = config

    def identity(self):
        return "fault@1"

    def load(self, device):
        pass

    def caption(self, clips, *, prompt, seeds):
        return [self._one(clip) for clip in clips]

    def _one(self, clip):
        if not clip.key.startswith(self.config.to):
            return "A calm shot."
        if self.config.once:
            if os.path.exists(self.config.once):
                return "A calm shot."
            open(self.config.once, "w").close()
        if self.config.does == "die":
            os._exit(11)
        if self.config.does == "hang":
            time.sleep(600)
        if self.config.does == "raise":
            raise ValueError("a bug in a library")
        if self.config.does == "refuse":
            return ItemError("caption.failed", "this one is odd")
        if self.config.does == "passing":
            raise TransientError("the store is down")
        return ""
'''


@pytest.fixture
def faulty(vidcap: Command, tmp_path: Path) -> Command:
    """The command with a package beside it that offers the backend `fault` as an entry point."""
    site = tmp_path / "site"
    info = site / "vidcap_faults-1.dist-info"
    info.mkdir(parents=True)
    (site / "vidcap_faults.py").write_text(CAPTIONER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vidcap-faults\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[vidcap.backends]\nvideo_captioner.fault = vidcap_faults:Backend\n")
    vidcap.environment["PYTHONPATH"] = str(site)
    return vidcap


def victim_of(vidcap: Command, made_once: Path) -> tuple[str, int]:
    """A source with clips past trim, and how many."""
    import pyarrow.parquet as pq

    counts: dict[str, int] = {}
    for path in sorted((made_once / "_vidcap" / "parts").glob("*/trim.parquet")):
        shots = pq.read_table(path.with_name("detect_shots.parquet"))["source_id"].to_pylist()
        for source_id, verdict in zip(shots, pq.read_table(path)["verdict"].to_pylist(), strict=True):
            counts[source_id] = counts.get(source_id, 0) + (not verdict)
    return max(counts.items(), key=lambda pair: (pair[1], pair[0]))


def settings(does: str, to: str, *more: str) -> tuple[str, ...]:
    return (
        "--set",
        f"stages.caption_video.backend={{name: fault, does: {does}, to: {to}}}",
        "--set",
        "stages.select.options.min=-1",
        *more,
    )


@pytest.mark.cluster
@pytest.mark.parametrize(("does", "reason"), [("die", "worker_died"), ("hang", "worker_timeout")])
def test_a_poison_item_is_quarantined_and_the_rest_goes_on(
    faulty: Command, made_once: Path, corpus: Path, tmp_path: Path, does: str, reason: str
) -> None:
    source_id, _ = victim_of(faulty, made_once)
    before = faulty.report(made_once)
    more = ("--set", "runner.item_timeout=30") if does == "hang" else ()
    report = faulty.run(tmp_path / "run", corpus, "--workers", "1", *settings(does, source_id, *more))
    assert report["reasons"][reason] == 1
    assert report["sources"]["quarantined"] == before["sources"]["quarantined"] + 1
    assert report["parts"]["failed"] == 0
    stopped = [item for item in report["stopped_sources"] if item["reason"] == reason]
    assert [item["id"] for item in stopped] == [source_id]


@pytest.mark.parametrize(("does", "reason"), [("raise", "stage.error"), ("refuse", "caption.failed")])
def test_a_broken_clip_is_quarantined_alone(
    faulty: Command, made_once: Path, corpus: Path, tmp_path: Path, does: str, reason: str
) -> None:
    source_id, clips = victim_of(faulty, made_once)
    report = faulty.run(tmp_path / "run", corpus, "--runner", "inline", *settings(does, source_id))
    assert report["reasons"][reason] == clips == report["clips"]["quarantined"]


def test_no_caption_is_a_reason(faulty: Command, made_once: Path, corpus: Path, tmp_path: Path) -> None:
    source_id, clips = victim_of(faulty, made_once)
    report = faulty.run(tmp_path / "run", corpus, "--runner", "inline", *settings("nothing", source_id))
    assert report["reasons"]["caption.no_video_caption"] == clips


def test_a_failed_part_is_told_and_taken_up_on_request(
    faulty: Command, made_once: Path, corpus: Path, tmp_path: Path
) -> None:
    source_id, _ = victim_of(faulty, made_once)
    output = tmp_path / "run"
    change = settings("passing", source_id)
    report = faulty.run(output, corpus, "--runner", "inline", *change, code=3)
    assert report["parts"]["failed"] == 1
    assert report["sources"]["failed"] >= 1
    assert "the store is down" in faulty.report(output)["failed_parts"].popitem()[1]
    again = faulty.run(output, corpus, "--runner", "inline", *change, code=3)
    assert again["stages_run"]["decode"] == 0, "a failed part waits until somebody asks"
    well = settings("nothing_wrong", "nobody")
    report = faulty.run(output, corpus, "--runner", "inline", *well, "--retry-failed")
    assert report["parts"]["failed"] == report["sources"]["failed"] == report["sources"]["pending"] == 0


@pytest.mark.cluster
def test_a_worker_lost_once_costs_nothing(faulty: Command, made_once: Path, corpus: Path, tmp_path: Path) -> None:
    source_id, _ = victim_of(faulty, made_once)
    once = tmp_path / "died"
    backend = f"stages.caption_video.backend={{name: fault, does: die, to: {source_id}, once: {once}}}"
    change = ("--set", backend, "--set", "stages.select.options.min=-1")
    report = faulty.run(tmp_path / "run", corpus, "--workers", "1", *change)
    assert wait_for(once.exists, 1)
    assert "worker_died" not in report["reasons"]
    assert report["parts"]["failed"] == 0
