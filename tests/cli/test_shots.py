"""`vidcap shots` as a user meets it: tables, JSON Lines, errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from vidcap.cli.main import main
from vidcap.cli.shots import shots
from vidcap.errors import BackendError


def picture(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Coloured tiles, 96×64."""
    tiles = np.random.default_rng(seed).integers(20, 236, (8, 12, 3))
    return np.repeat(np.repeat(tiles, 8, 0), 8, 1).astype(np.uint8)


def write_video(path: Path, lengths: list[int], fps: int = 25) -> Path:
    """One still picture per length, joined by cuts; intra-coded, so that a cut stays where it is put."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        stream.time_base = Fraction(1, fps)
        at = 0
        for seed, length in enumerate(lengths):
            for _ in range(length):
                frame = av.VideoFrame.from_ndarray(picture(seed), format="rgb24").reformat(format="yuvj420p")
                frame.pts, frame.time_base = at, Fraction(1, fps)
                container.mux(stream.encode(frame))
                at += 1
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("shots") / "three.mkv", [30, 41, 25])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(shots, [str(a) for a in arguments], catch_exceptions=False)


def test_json_has_one_record_per_file_with_inclusive_frames(video: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "one.mkv", [20], fps=10)
    result = run(video, other, "--json")
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"file": str(video), "fps": 25.0, "frames": 96, "shots": [[0, 29], [30, 70], [71, 95]]},
        {"file": str(other), "fps": 10.0, "frames": 20, "shots": [[0, 19]]},
    ]
    assert result.stderr == ""


def test_the_table_gives_frames_and_times(video: Path) -> None:
    lines = run(video).stdout.splitlines()
    assert lines[0].endswith("three.mkv: 3 shots, 96 frames, 25.000 frames/s")
    assert lines[1].split() == ["shot", "first", "last", "start", "end", "seconds"]
    assert lines[3].split() == ["2", "30", "70", "0:00:01.200", "0:00:02.840", "1.640"]


def test_an_unreadable_file_is_named_and_the_others_go_on(video: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video" * 100)
    result = run(bad, tmp_path / "absent.mp4", video, "--json")
    assert result.exit_code == 3
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(video)]
    errors = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in errors] == ["error", "hint", "error", "hint"]
    assert "bad.mp4`" in errors[0] and "media." in errors[0]
    assert "absent.mp4`" in errors[2]
    assert len(errors[1]) > len("hint: ")


def test_an_unknown_backend_is_an_error_of_use(video: Path) -> None:
    with pytest.raises(BackendError, match="adaptive"):
        run(video, "--backend", "adaptve")


def test_the_verb_is_there_and_returns_its_exit_code(
    video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["shots", str(video), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["frames"] == 96
    assert main(["shots", str(tmp_path / "none.mkv")]) == 3
    assert main(["shots"]) == 2
    assert main(["shots", str(video), "--backend", "nothing"]) == 2


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    result = run(tmp_path / "a\x1b[31mb.mp4")
    assert result.exit_code == 3
    assert "\x1b" not in result.stderr


def test_help_loads_no_heavy_library() -> None:
    code = "import sys, vidcap.cli.shots; print([m for m in ('av', 'cv2', 'numpy', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.data
def test_a_real_video_with_known_cuts(real_videos: Path) -> None:
    """A rendered reference of the corpus: its hard cuts are found at the exact frame."""
    name = "gt_dev_b_30fps.mp4"
    rows = [json.loads(line) for line in (real_videos / "manifest.jsonl").read_text("utf-8").splitlines()]
    (truth,) = [row["shots"] for row in rows if row["file"] == name]
    row = json.loads(run(real_videos / name, "--json").stdout)
    starts = {first for first, _ in row["shots"]}
    assert len(starts & set(truth["cuts"])) >= 0.9 * len(truth["cuts"])


def test_options_of_the_detector_are_given_and_checked(video: Path) -> None:
    def found(*arguments: str) -> int:
        return len(json.loads(run(video, "--json", *arguments).stdout)["shots"])

    assert found("--backend", "adaptive", "--set", "cut_threshold=1000", "--set", "gradual_threshold=1000") == 1
    assert found("--set", "threshold=0.6", "--threads", "1") == 3
    with pytest.raises(BackendError, match="treshold"):
        run(video, "--set", "treshold=0.6")
    for wrong in ("threshold", "=3", "threshold=[1"):
        assert run(video, "--set", wrong).exit_code == 2
