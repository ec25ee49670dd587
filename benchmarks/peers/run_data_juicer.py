"""Data-Juicer in its own environment: `video_split_by_scene_mapper`, then export. `run_data_juicer.py OUT VIDEO…`.

Its operator's defaults: ContentDetector(27), minimum 15 frames; ffmpeg with `-movflags frag_keyframe+empty_moov` in
place of PySceneDetect's arguments, so libx264 at preset medium, crf 23. With `--claims` it prints, as JSON, the spans
that the same detector gives: the export does not name them.
"""

import json
import sys
from pathlib import Path

PROCESSES = 2


def claims(videos: list[str]) -> dict[str, list[list[int]]]:
    from scenedetect import ContentDetector, detect

    spans = {}
    for video in videos:
        found = detect(video, ContentDetector(27.0, 15), start_in_scene=True)
        spans[video] = [[start.frame_num, end.frame_num] for start, end in found]
    return spans


def main() -> None:
    if sys.argv[1] == "--claims":
        print(json.dumps(claims(sys.argv[2:])))
        return
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor

    out, *videos = sys.argv[1:]
    folder = Path(out)
    (folder / "clips").mkdir(parents=True)
    table = folder / "input.jsonl"
    table.write_text("".join(json.dumps({"videos": [v], "text": "<__dj__video>"}) + "\n" for v in videos))
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            {
                "project_name": "split",
                "dataset_path": str(table),
                "export_path": str(folder / "exported.jsonl"),
                "np": min(PROCESSES, len(videos)),
                "use_cache": False,
                "ds_cache_dir": str(folder / "cache"),
                "temp_dir": None,
                "process": [{"video_split_by_scene_mapper": {"save_dir": str(folder / "clips")}}],
            }
        )
    )
    DefaultExecutor(init_configs(["--config", str(recipe)])).run()


if __name__ == "__main__":
    main()
