"""One fault each: the same command again, and the shards are those of a run that nothing happened to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from chaos_harness import Chaos, same
from repertoire import TRANSPARENT

QUICK = ("killed between a shard's table and its tar", "disk full at a journal line")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in TRANSPARENT]
)
def test_a_transparent_fault_leaves_no_trace(
    name: str, chaos: Chaos, undisturbed: dict[str, str], tell: Callable[..., None]
) -> None:
    runner, faults = TRANSPARENT[name]
    chaos.schedule(faults)
    found = chaos.survive(runner)
    assert all(count >= fault.nth for count, fault in zip(chaos.fired(), faults, strict=True) if fault.at != "clock")
    same(found.digests, undisturbed)
    assert found.report["sources"]["done"] == 4
    tell(name, "transparent", codes=found.codes)
