"""Makes `trainable` importable by the tests beside it (`--import-mode=importlib` adds no folder to the path)."""

import sys
from pathlib import Path

for folder in (Path(__file__).resolve().parent, Path(__file__).resolve().parent.parent / "shards"):
    sys.path.insert(0, str(folder))
