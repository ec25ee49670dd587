"""Lets the tests here use each other's helpers and the shards' `shard_factory`.

`--import-mode=importlib` adds no folder to the path.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "shards")]
