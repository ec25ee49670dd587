"""The command over a corpus: accounted for, repeatable, resumable, and the same bytes whoever works on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from command import PARTS, Command, all_gone, digests, wait_for


def test_every_source_and_clip_is_accounted_for(vidcap: Command, reference: Path, corpus: Path) -> None:
    report = vidcap.report(reference)
    assert report["sources"]["in"] == sum(1 for path in corpus.rglob("*") if path.is_file() and path.suffix != ".txt")
    assert report["sources"]["pending"] == report["sources"]["failed"] == 0
    assert report["clips"]["pending"] == 0
    assert report["clips"]["kept"] > 0
    assert report["parts"]["planned"] == report["parts"]["done"] > 1
    assert all(count == report["parts"]["planned"] for count in report["stages_run"].values())
    validated = vidcap("validate", reference, "--media", "--json")
    assert '"ok": true' in validated or '"ok":true' in validated


def test_a_second_identical_run_does_nothing(vidcap: Command, reference: Path, corpus: Path) -> None:
    before = digests(reference)
    report = vidcap.run(reference, corpus, "--runner", "inline")
    assert set(report["stages_run"].values()) == {0}
    assert digests(reference) == before


def test_a_changed_prompt_runs_fuse_score_select_and_pack(
    vidcap: Command, reference: Path, corpus: Path, repository: Path, tmp_path: Path
) -> None:
    output = reference
    text = (repository / "prompts" / "fuse_avs.md").read_text().replace("name: fuse_avs\n", "name: mine\n")
    (tmp_path / "mine.md").write_text(text.replace("\n---\n", "\n---\nPlease.\n", 1))
    change = ("--set", f"stages.fuse.prompts.avs={tmp_path / 'mine.md'}")
    report = vidcap.run(output, corpus, "--runner", "inline", *change)
    ran = {stage for stage, count in report["stages_run"].items() if count}
    assert ran == {"fuse", "score", "select", "pack"}
    assert report["clips"]["pending"] == 0


def test_a_changed_threshold_packs_only_parts_whose_selection_changed(
    vidcap: Command, reference: Path, corpus: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    output = reference
    before = digests(output)
    lists = sorted((output / "_vidcap" / "selections").glob("*/[0-9]*.parquet"))
    scores = sorted(score for path in lists for score in pq.read_table(path)["score"].to_pylist())
    lowest, next_one = scores[0], next(score for score in scores if score > scores[0])
    change = ("--set", f"stages.select.options.min={(lowest + next_one) / 2}")
    touched = sum(any(s < next_one for s in pq.read_table(path)["score"].to_pylist()) for path in lists)
    report = vidcap.run(output, corpus, "--runner", "inline", *change)
    assert {s: n for s, n in report["stages_run"].items() if n} == {
        "select": report["parts"]["planned"],
        "pack": touched,
    }
    assert report["reasons"]["select.below_min"] >= 1
    assert digests(output) != before
    back = vidcap.run(output, corpus, "--runner", "inline")
    assert back["stages_run"]["pack"] == touched
    assert digests(output) == before


def test_evidence_goes_after_packing_and_comes_back_when_needed(
    vidcap: Command, reference: Path, corpus: Path, tmp_path: Path
) -> None:
    output = reference
    assert not list((output / "_vidcap" / "parts").rglob("*.jpgs"))
    report = vidcap.run(
        output, corpus, "--runner", "inline", "--set", "stages.transcribe.options.min_word_confidence=0.61"
    )
    ran = {stage for stage, count in report["stages_run"].items() if count}
    assert {"decode", "transcribe", "translate", "fuse"} <= ran
    assert not ran & {"detect_shots", "trim", "caption_video", "caption_audio"}


def test_added_sources_append_parts(vidcap: Command, corpus: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    shutil.copyfile(corpus / "silent_film.mp4", small / "z.mp4")
    output = tmp_path / "run"
    vidcap.run(output, small, "--runner", "inline")
    before = digests(output)
    shutil.copyfile(corpus / "night" / "lantern.mp4", small / "a.mp4")
    report = vidcap.run(output, small, "--runner", "inline")
    assert report["parts"]["planned"] == 2
    assert report["stages_run"]["decode"] == 1
    after = digests(output)
    assert all(after[name] == digest for name, digest in before.items() if name.endswith(".tar"))


def test_evidence_comes_back_for_a_stage_on_another_pool(vidcap: Command, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    pools = ("--set", "stages.transcribe.pool=gpu", "--runner", "inline")
    first = vidcap.run(output, corpus, *pools)
    again = vidcap.run(output, corpus, *pools, "--set", "stages.transcribe.options.min_word_confidence=0.61")
    assert again["stages_run"]["decode"] == first["parts"]["planned"]
    assert again["stages_run"]["trim"] == 0
    assert again["clips"] == first["clips"]


@pytest.mark.cluster
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_number_of_workers_does_not_matter(
    vidcap: Command, reference: Path, corpus: Path, tmp_path: Path, workers: str
) -> None:
    vidcap.run(tmp_path / "run", corpus, "--workers", workers)
    assert digests(tmp_path / "run") == digests(reference)


def workers_of(process_id: int) -> list[psutil.Process]:
    """The worker processes of a run: children that hold a Dask worker, not the resource tracker."""
    try:
        children = psutil.Process(process_id).children(recursive=True)
        return [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.cluster
def test_a_killed_worker_and_a_killed_driver_change_nothing(
    vidcap: Command, reference: Path, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = ("run", "pipelines/demo.yaml", "--input", corpus, "--output", output, *PARTS, "--workers", "2")
    process = vidcap.start(*arguments)
    in_flight = wait_for(lambda: list((output / "_vidcap" / "parts").glob("*/inflight.json")))
    victims = wait_for(lambda: workers_of(process.pid))
    victims[0].kill()
    wait_for(lambda: list((output / "_vidcap" / "ledger").glob("*.score.json")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=300)
    wait_for(lambda: all_gone(victims))
    assert in_flight
    report = vidcap.run(output, corpus, "--workers", "2")
    assert report["sources"]["quarantined"] == vidcap.report(reference)["sources"]["quarantined"]
    assert digests(output) == digests(reference)


@pytest.mark.cluster
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stopped_run_continues(
    vidcap: Command, reference: Path, corpus: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    output = tmp_path / "run"
    arguments = ("run", "pipelines/demo.yaml", "--input", corpus, "--output", output, *PARTS, "--workers", "1")
    process = vidcap.start(*arguments)
    wait_for(lambda: list((output / "_vidcap" / "parts").glob("*/journal.jsonl")))
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert vidcap.report(output)["state"] == "interrupted"
    vidcap.run(output, corpus, "--workers", "1")
    assert digests(output) == digests(reference)


@pytest.mark.cluster
def test_a_cluster_that_runs_already_takes_the_work(
    vidcap: Command, reference: Path, corpus: Path, tmp_path: Path
) -> None:
    """A scheduler and a worker started by hand, in another folder; the worker offers no pools, so it takes `cpu`."""
    from distributed import Client

    address = tmp_path / "scheduler.json"
    common = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    at = ["--scheduler-file", str(address), "--no-dashboard"]
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0", *at], ["worker", "--nthreads", "2", *at]]
    started = []
    try:
        for command in commands:
            started.append(subprocess.Popen([*dask, *command], **common))
            wait_for(lambda: address.is_file() and address.read_text())
        scheduler = json.loads(address.read_text())["address"]
        with Client(scheduler, timeout=120) as client:
            client.wait_for_workers(1, timeout=120)
        vidcap.run(tmp_path / "run", corpus, "--scheduler", scheduler)
    finally:
        for process in started:
            process.terminate()
            process.wait(timeout=120)
    assert digests(tmp_path / "run") == digests(reference)


@pytest.mark.cluster
def test_a_pool_nobody_offers_is_refused_before_anything_runs(vidcap: Command, corpus: Path, tmp_path: Path) -> None:
    change = ("--set", "stages.caption_video.pool=gpu")
    vidcap("run", "pipelines/demo.yaml", "--input", corpus, "--output", tmp_path / "run", *change, code=2)
    assert "`gpu`" in vidcap.last_error
    assert "hint:" in vidcap.last_error
    assert not list((tmp_path / "run").rglob("sources.parquet"))


@pytest.mark.cluster
def test_pools_of_a_local_cluster_share_the_work(
    vidcap: Command, reference: Path, corpus: Path, tmp_path: Path
) -> None:
    change = ("--set", "stages.caption_video.pool=gpu", "--set", "stages.caption_audio.pool=gpu")
    vidcap.run(tmp_path / "run", corpus, "--workers", "1", "--set", "runner.pools.gpu=1", *change)
    assert digests(tmp_path / "run") == digests(reference)


def test_a_second_run_on_the_same_output_is_refused(vidcap: Command, corpus: Path, tmp_path: Path) -> None:
    from vidcap.pipeline.run_lock import RunLock

    with RunLock(tmp_path / "run"):
        vidcap(
            "run", "pipelines/demo.yaml", "--input", corpus, "--output", tmp_path / "run", "--runner", "inline", code=2
        )
    assert str(os.getpid()) in vidcap.last_error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "missing.yaml"), "missing.yaml"),
        (("run", "pipelines/demo.yaml", "--input", "missing"), "missing"),
        (("run", "pipelines/demo.yaml", "--set", "stages.fuse.backend=gpt9"), "gpt9"),
        (("run", "pipelines/demo.yaml", "--set", "stages.trim.options.min_second=1"), "min_seconds"),
        (("run", "pipelines/demo.yaml", "--set", "runner.scheduler=tcp://127.0.0.1:9"), "scheduler"),
        (("rum",), "run"),
        (("report", "missing"), "missing"),
        (("validate", "missing"), "missing"),
        (("inspect", "missing"), "missing"),
        (("backends", "captioner"), "video_captioner"),
    ],
)
def test_mistakes_end_with_exit_code_two(
    vidcap: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    more = ("--output", str(tmp_path / "run")) if arguments[0] == "run" else ()
    vidcap(*arguments, *more, code=2)
    assert message in vidcap.last_error
    assert "hint:" in vidcap.last_error


def test_plan_touches_nothing(vidcap: Command, corpus: Path, tmp_path: Path) -> None:
    out = vidcap("plan", "pipelines/demo.yaml", "--input", corpus, "--output", tmp_path / "run", *PARTS, "--json")
    facts = json.loads(out)
    assert facts["pools"] == ["cpu"]
    assert len(facts["parts"]) > 1
    assert not (tmp_path / "run").exists()


def test_sound_of_its_own_is_in_all_samples(vidcap: Command, reference: Path, corpus: Path) -> None:
    report = vidcap.run(reference, corpus, "--runner", "inline", "--set", "stages.pack.options.audio=flac")
    assert report["clips"]["kept"] > 0
    vidcap("validate", reference, "--media")
    vidcap.run(
        reference,
        corpus,
        "--runner",
        "inline",
        "--set",
        "stages.pack.options.audio=flac",
        "--set",
        "stages.pack.options.crf=23",
    )


def test_a_source_that_is_gone_becomes_a_row(vidcap: Command, reference: Path, corpus: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    manifest = tmp_path / "manifest.jsonl"
    names = sorted(path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file())
    manifest.write_text("".join(f'{{"uri": "{own / name}"}}\n' for name in names))
    (own / names[0]).unlink()
    report = vidcap.run(tmp_path / "run", manifest, "--runner", "inline")
    assert report["reasons"]["source.missing"] == 1
    assert report["sources"]["in"] == len(names)


def test_addresses_are_fetched_and_missing_ones_are_rows(vidcap: Command, corpus: Path, tmp_path: Path) -> None:
    name = next(path for path in sorted(corpus.rglob("*.mp4")) if "broken" not in path.name)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"uri\nfile://{name}\nfile://{tmp_path}/nothing.mp4\n")
    report = vidcap.run(tmp_path / "run", manifest, "--runner", "inline")
    assert report["sources"]["done"] == 1
    assert report["reasons"]["source.missing"] == 1
    assert not list((tmp_path / "run" / "_vidcap" / "parts").glob("*/scratch/*"))
