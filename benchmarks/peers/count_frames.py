"""How many frames decord says each clip has, as JSON: number, or why it cannot say. `count_frames.py < PATHS`."""

import json
import sys

import decord

found = {}
for path in sys.stdin.read().splitlines():
    try:
        found[path] = len(decord.VideoReader(path, num_threads=1))
    except Exception as error:  # the reader's own classes
        found[path] = f"{type(error).__name__}: {error}"[:200]
print(json.dumps(found))
