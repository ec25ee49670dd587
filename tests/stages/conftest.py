"""Makes `clip_rows` importable by the tests beside it (`--import-mode=importlib` adds no folder to the path)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
