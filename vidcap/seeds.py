"""One seed per (run seed, key, stage), from content: independent of worker, order, batch and retry."""

from __future__ import annotations

import hashlib


def seed_of(run_seed: int, key: str, stage: str) -> int:
    """BLAKE2b-64 of ``run_seed \\0 key \\0 stage`` as an unsigned 64-bit integer."""
    text = f"{run_seed}\0{key}\0{stage}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def digest_of(*parts: str | bytes, size: int = 16) -> str:
    """BLAKE2b of the parts, each preceded by its length, as hex of `size` bytes."""
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()
