"""Coverage-guided fuzzing, outside the test run: `pip install atheris`, then

    python tests/fuzz/guided.py TARGET FOLDER -max_total_time=300

FOLDER keeps the inputs that reached something new, and the one that failed. More options: libFuzzer's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

with atheris.instrument_imports(include=["vidcap"]):
    import targets

    import vidcap.media.decode
    import vidcap.media.sidecars
    import vidcap.media.sniff
    import vidcap.pipeline.config
    import vidcap.pipeline.manifest
    import vidcap.prompts
    import vidcap.shards.reader
    import vidcap.shards.validate  # noqa: F401


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(targets.seeds(name, ROOT)):
        (folder / f"seed-{number}").write_bytes(data)
    arguments = [sys.argv[0], str(folder), "-max_len=80000", f"-artifact_prefix={folder}/failed-", *sys.argv[3:]]
    atheris.Setup(arguments, targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
