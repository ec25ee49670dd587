"""`vidcap manifest`: what it lists, what it takes along, and that a run reads what it wrote."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "media"))
from command import Command
from media_factory import render

from vidcap.cli.main import main
from vidcap.cli.manifest import manifest
from vidcap.errors import ManifestError
from vidcap.media.cues import Cue, parse_vtt
from vidcap.pipeline.manifest import read_manifest

FORMS = ("jsonl", "csv", "parquet")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    render(folder / "talk.mp4", frames=50, size=(96, 64), audio="sine")
    render(folder / "mute.mkv", frames=25, size=(64, 48))
    return folder


@pytest.fixture
def folder(media: Path, tmp_path: Path) -> Path:
    """Two videos (one under a name that says nothing), what stands beside them, and what is no video."""
    top = tmp_path / "corpus"
    (top / "b").mkdir(parents=True)
    shutil.copy(media / "talk.mp4", top / "talk.mp4")
    shutil.copy(media / "mute.mkv", top / "b" / "no suffix")
    (top / "talk.en.vtt").write_text(
        "WEBVTT\n\n00:00.500 --> 00:01.000\n<i>Good</i> day\n\n00:02.000 --> 00:01.000\nx\n"
    )
    (top / "talk.de.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nGuten Tag\n")
    (top / "talk.info.json").write_text(
        '{"title": "A talk", "license": "CC-BY-4.0", "webpage_url": "https://example.org"}'
    )
    (top / "b" / "no suffix.license").write_text("CC0-1.0\n")
    (top / "broken.mp4").write_bytes(b"no video at all" * 99)
    (top / "notes.bin").write_bytes(b"no video at all" * 99)
    (top / "readme.txt").write_text("words")
    (top / ".hidden.mp4").write_bytes(b"x")
    return top


def run(folder: Path, output: Path, *more: str) -> Result:
    return CliRunner().invoke(manifest, [str(folder), "-o", str(output), *more], catch_exceptions=False)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="") as handle:
            return list(csv.DictReader(handle))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_and_what_stands_beside_them(folder: Path) -> None:
    result = run(folder, folder / "m.jsonl", "--json")
    assert result.exit_code == 0
    rows = {row["uri"]: row for row in read(folder / "m.jsonl")}
    assert list(rows) == ["b/no suffix", "broken.mp4", "talk.mp4"]
    talk = rows["talk.mp4"]
    assert (talk["seconds"], talk["fps"], talk["width"], talk["height"]) == (2.0, 25.0, 96, 64)
    assert (talk["video_codec"], talk["audio_codec"], talk["has_audio"], talk["error"]) == ("h264", "aac", True, "")
    assert talk["bytes"] == (folder / "talk.mp4").stat().st_size
    assert parse_vtt(talk["transcript"]).cues == [Cue(0.5, 1.0, "Good day")]
    assert (talk["transcript_language"], talk["license"]) == ("en", "CC-BY-4.0")
    meta = json.loads(talk["meta"])
    assert meta["title"] == "A talk" and meta["webpage_url"] == "https://example.org"
    assert [given["language"] for given in meta["transcripts"]] == ["en", "de"]
    mute = rows["b/no suffix"]
    assert (mute["seconds"], mute["has_audio"], mute["license"], mute["transcript"]) == (1.0, False, "CC0-1.0", "")
    assert rows["broken.mp4"]["error"].startswith("media.unrecognised")
    summary = json.loads(result.stdout)
    assert (summary["media"], summary["transcripts"], summary["licenses"], summary["described"]) == (3, 1, 2, 1)
    assert summary["skipped"] == {
        "hidden": 1, "a file beside a video": 4, "not media, by the name": 1, "not media, by the content": 1,
    }  # fmt: skip
    assert summary["files"] == summary["media"] + sum(summary["skipped"].values()) - 1, "every file is accounted for"
    assert [(fault["file"], fault["line"]) for fault in summary["faults"]] == [("talk.en.vtt", 6)]
    assert "talk.en.vtt:6" in result.stderr and "broken.mp4: media.unrecognised" in result.stderr
    assert max(map(len, result.stderr.splitlines()[:8])) <= 80


def test_every_form_is_read_alike(folder: Path, tmp_path: Path) -> None:
    captions = "WEBVTT\n\n" + "".join(
        f"{n // 60 % 60:02d}:{n % 60:02d}.000 --> 01:00:00.000\nwords {n}\n\n" for n in range(3600)
    )
    (folder / "talk.en.vtt").write_text(captions)
    (folder / "a\r,\"b'.mp4").symlink_to(folder / "talk.mp4")
    for form in FORMS:
        assert run(folder, tmp_path / "lists" / f"m.{form}", "--sha256").exit_code == 0
    forms = [read_manifest(str(tmp_path / "lists" / f"m.{form}")).sources for form in FORMS]
    assert forms[0] == forms[1] == forms[2]
    assert len(forms[0]) == 4
    assert all(Path(source.path).samefile(folder / Path(source.uri).relative_to("../corpus")) for source in forms[0])
    talk = next(source for source in forms[0] if source.uri.endswith("talk.mp4"))
    assert len(talk.transcript) > 131_072, "longer than a field of the csv module, unless it is told"
    assert talk.license == "CC-BY-4.0"
    digests = {row["sha256"] for row in read(tmp_path / "lists" / "m.parquet")}
    assert hashlib.sha256((folder / "talk.mp4").read_bytes()).hexdigest() in digests


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name, threads in (("one.jsonl", "1"), ("two.jsonl", "7")):
        run(folder, tmp_path / name, "--threads", threads)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_absolute_paths_hold_anywhere(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "m.jsonl", "--absolute")
    moved = shutil.move(tmp_path / "m.jsonl", tmp_path / "corpus" / "b" / "m.jsonl")
    assert Path(read_manifest(str(moved)).sources[-1].path).samefile(folder / "talk.mp4")


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path, media: Path) -> None:
    (folder / "out.mp4").symlink_to(media / "talk.mp4")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "inside.mp4").symlink_to(folder / "talk.mp4")
    (tmp_path / "secret.license").write_text("secret")
    (folder / "inside.license").symlink_to(tmp_path / "secret.license")
    with open(os.fsencode(folder) + b"/latin1_\xe9.mp4", "wb") as handle:
        handle.write(b"x")
    os.mkfifo(folder / "pipe")
    result = run(folder, tmp_path / "m.jsonl", "--json")
    skipped = json.loads(result.stdout)["skipped"]
    assert skipped["a link that leaves the folder"] == 2
    assert skipped["a link to a folder"] == 1
    assert skipped["a name that is not UTF-8"] == 1
    assert skipped["not media, by the content"] == 2
    rows = {Path(row["uri"]).name: row for row in read(tmp_path / "m.jsonl")}
    assert set(rows) == {"no suffix", "broken.mp4", "talk.mp4", "inside.mp4"}
    assert rows["inside.mp4"]["license"] == ""


def test_nothing_is_left_behind_where_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.csv").write_text("kept")
    for folder, output in ((tmp_path / "empty", "m.csv"), (tmp_path / "absent", "m.csv"), (tmp_path, "m.txt")):
        with pytest.raises(ManifestError) as caught:
            run(folder, tmp_path / output)
        assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "m.csv"]
    assert (tmp_path / "m.csv").read_text() == "kept"
    assert main(["manifest", str(tmp_path / "empty"), "-o", str(tmp_path / "m.jsonl")]) == 2


def test_names_cannot_steer_the_terminal(folder: Path, tmp_path: Path) -> None:
    (folder / "a\x1b[31mb.mp4").write_bytes(b"no video")
    assert "\x1b" not in run(folder, tmp_path / "m.jsonl").stderr


def test_a_picture_without_a_suffix_is_no_video(folder: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    ok, data = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))
    assert ok
    (folder / "photo").write_bytes(data.tobytes())
    run(folder, tmp_path / "m.jsonl")
    assert "photo" not in {Path(row["uri"]).name for row in read(tmp_path / "m.jsonl")}


@pytest.mark.slow
def test_a_run_reads_it(repository: Path, corpus: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for name in ("silent_film.mp4", "broken.mp4"):
        shutil.copy(corpus / name, media / name)
    (media / "silent_film.license").write_text("CC0-1.0")
    (media / "silent_film.info.json").write_text('{"title": "Silence"}')
    (media / "silent_film.en.vtt").write_text("WEBVTT\n\n00:00.500 --> 00:01.000\n[silence]\n")
    command = Command(repository)
    command("manifest", media, "-o", tmp_path / "m.csv")
    output = tmp_path / "out"
    command("run", "pipelines/demo.yaml", "--input", tmp_path / "m.csv", "--output", output, "--runner", "inline")
    report = command.report(output)
    assert report["sources"]["in"] == 2 and report["sources"]["quarantined"] == 1
    (record,) = [json.loads(line) for line in command("inspect", output, "-n", "1", "--json").splitlines()]
    assert record["source"]["license"] == "CC0-1.0"
    assert json.loads(record["source"]["meta"])["title"] == "Silence"


@pytest.mark.data
def test_real_videos(real_videos: Path, tmp_path: Path) -> None:
    assert run(real_videos, tmp_path / "m.jsonl").exit_code == 0
    known = {row["file"]: row for row in map(json.loads, (real_videos / "manifest.jsonl").read_text().splitlines())}
    rows = {Path(row["uri"]).name: row for row in read(tmp_path / "m.jsonl")}
    assert set(known) <= set(rows)
    for name, row in known.items():
        if row["probe"]["video_streams"] == 1:  # of several, the reference took the first
            assert (rows[name]["width"], rows[name]["height"]) == (row["width"], row["height"]), name
        assert rows[name]["has_audio"] == (row["acodec"] is not None), name
        assert rows[name]["seconds"] > 0, name
