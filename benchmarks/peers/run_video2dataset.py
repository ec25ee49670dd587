"""video2dataset in its environment: detect, clip, webdataset out. `run_video2dataset.py OUT low|exact VIDEO…`.

Its encoder is ffmpeg's default for .mp4 (libx264, preset medium, crf 23) where it encodes; `low` copies packets.
"""

import csv
import sys
from pathlib import Path

from video2dataset import video2dataset

PROCESSES = 2


def main() -> None:
    out, precision, *videos = sys.argv[1:]
    folder = Path(out)
    folder.mkdir(parents=True)
    table = folder / "input.csv"
    with table.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["url"])
        rows.writerows([[video] for video in videos])
    config = {
        "subsampling": {
            "CutDetectionSubsampler": {"cuts_are_clips": True, "args": {"cut_detection_mode": "all"}},
            "ClippingSubsampler": {"args": {"min_length": 2.0, "max_length": 30.0, "precision": precision}},
        },
        "reading": {
            "yt_args": {"download_size": 360, "download_audio_rate": 44100, "yt_metadata_args": None},
            "timeout": 60,
            "sampler": None,
        },
        "storage": {
            # A worker takes whole shards: so many that both have the same to do.
            "number_sample_per_shard": max(1, -(-len(videos) // PROCESSES)),
            "oom_shard_count": 5,
            "captions_are_subtitles": False,
        },
        "distribution": {
            "processes_count": min(PROCESSES, len(videos)),
            "thread_count": 1,
            "subjob_size": 1000,
            "distributor": "multiprocessing",
        },
    }
    (folder / "tmp").mkdir()
    video2dataset(
        url_list=str(table),
        output_folder=str(folder / "dataset"),
        output_format="webdataset",
        input_format="csv",
        encode_formats={"video": "mp4"},
        tmp_dir=str(folder / "tmp"),
        config=config,
    )


if __name__ == "__main__":
    main()
