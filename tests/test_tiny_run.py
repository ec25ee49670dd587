"""`pipelines/internvid2.yaml`, whole, on two videos, with tiny models in every role, through the real libraries."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import Command

pytestmark = [pytest.mark.full, pytest.mark.slow]


def test_two_videos_get_all_five_captions(repository: Path, demo_media: Path, tmp_path: Path) -> None:
    for library in ("whisper", "open_clip", "transformers"):
        pytest.importorskip(library)
    models, videos, output = tmp_path / "models", tmp_path / "videos", tmp_path / "run"
    made = subprocess.run(
        [sys.executable, "tests/tiny_models", str(models)], cwd=repository, capture_output=True, text=True, timeout=900
    )
    assert made.returncode == 0, made.stderr
    videos.mkdir()
    real = repository.parent / "shared" / "data"
    chosen = [real / name for name in ("speech_en_jfk.mp4", "mdn_friday.mp4")]
    for path in chosen if all(map(Path.is_file, chosen)) else [demo_media / "balloon.mp4", demo_media / "wall.mkv"]:
        shutil.copy(path, videos)
    vidcap = Command(repository)
    pipeline = models / "internvid2.yaml"
    vidcap("run", pipeline, "--input", videos, "--output", output, "--runner", "inline", "--quiet")
    report = vidcap.report(output)
    assert report["sources"]["done"] == 2
    assert report["clips"]["kept"] >= 2
    from vidcap.shards.reader import iter_samples

    records = [sample.record() for sample in iter_samples([output / "shards"])]
    assert len({record.source.id for record in records}) == 2
    routes = set()
    for record in records:
        captions = record.captions
        assert all(getattr(captions, kind) for kind in ("v", "a", "s", "av", "avs")), captions
        routes.add(record.transcript.route)
    assert routes == {"translate"}, "SeamlessM4T brought the speech into English"
    vidcap("validate", output, "--media")
    by = json.dumps(json.loads((output / "_vidcap" / "run.json").read_text())["config"]["stages"])
    for name in ("autoshot", "whisper", "internvid", "transformers_audio", "fasttext", "seamless", "open_clip"):
        assert name in by
