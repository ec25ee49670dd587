"""Lets the tests here use the shards' `shard_factory` (`--import-mode=importlib` adds no folder to the path)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "shards"))
