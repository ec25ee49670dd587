"""PySceneDetect in its environment: detect, `split_video_ffmpeg`. `run_scenedetect.py OUT adaptive|content VIDEO…`.

One process. Its ffmpeg arguments are its default: libx264, preset veryfast, crf 22. The spans go to OUT/claims.json.
"""

import json
import sys
from pathlib import Path

from scenedetect import AdaptiveDetector, ContentDetector, detect, split_video_ffmpeg

DETECTORS = {"adaptive": AdaptiveDetector, "content": ContentDetector}


def main() -> None:
    out, detector, *videos = sys.argv[1:]
    folder = Path(out)
    folder.mkdir(parents=True)
    claims = {}
    for number, video in enumerate(videos):
        scenes = detect(video, DETECTORS[detector](), start_in_scene=True)
        claims[video] = [[start.frame_num, end.frame_num] for start, end in scenes]
        status = split_video_ffmpeg(
            video, scenes, output_dir=folder, output_file_template=f"{number:03d}-$SCENE_NUMBER.mp4"
        )
        if status:
            raise SystemExit(f"ffmpeg ended with {status}")
    (folder / "claims.json").write_text(json.dumps(claims))


if __name__ == "__main__":
    main()
