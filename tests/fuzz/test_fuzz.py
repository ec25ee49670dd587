"""Damaged copies of good files, always the same, meet every reader of strangers' bytes; `guided.py` tries others."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import targets

COPIES = {
    "shard": 4000, "record": 80_000, "manifest": 3000, "config": 2000, "prompt": 5000, "boxes": 120_000,
    "sidecar": 1500, "media": 3000,
}  # fmt: skip
"""Target → how many are tried: 2 to 8 processor seconds each."""
SLOWEST = 20.0
"""Processor seconds that no input of this size may take, on the slowest machine."""
TOKENS = (
    *(
        b"\0",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"-1",
        b"1e999",
        b"nan",
        b"null",
        b'"',
        b"{",
        b"[" * 60,
        b"\r\n",
    ),
    *(b"../", b"/etc/", b"\xed\xa0\x80", b"&a ", b"*a", b"!!python/object", b"moov", b"moof", b"ustar", b"-->"),
    *(b"\x1a\x45\xdf\xa3", b"\r\n"),
)


def damaged(good: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled, or replaced by what readers stumble over."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.random()
        if kind < 0.35 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind < 0.5:
            del data[at : at + rng.randint(1, 64)]
        elif kind < 0.65:
            data[at:at] = data[at : at + rng.randint(1, 256)]
        elif kind < 0.9:
            token = rng.choice(TOKENS)
            data[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damage_never_gets_past_our_own_errors(name: str, repository: Path, tmp_path: Path) -> None:
    target, good = targets.TARGETS[name], targets.seeds(name, repository)
    assert good
    for data in good:
        target(data)
    rng = random.Random(f"vidcap {name}")
    for tried in range(COPIES[name]):
        data = damaged(rng.choice(good), rng)
        begin = time.process_time()
        try:
            target(data)
        except Exception as error:
            (tmp_path / "failed").write_bytes(data)
            raise AssertionError(f"`{name}` fails on `{tmp_path / 'failed'}`") from error
        assert time.process_time() - begin < SLOWEST, f"example {tried} of `{name}`"
