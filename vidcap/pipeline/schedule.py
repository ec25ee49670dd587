"""What is due: for each part, the stages whose record does not match the plan, and the evidence they need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vidcap.media.evidence import Evidence
from vidcap.pipeline.columns import PartFolder
from vidcap.pipeline.embeddings import PartEmbeddings
from vidcap.pipeline.ledger import Ledger
from vidcap.pipeline.part import embedding_fingerprint
from vidcap.pipeline.plan import Part, Plan, Step

THUMBNAIL_STAGES = frozenset({"detect_shots", "trim"})


def due_of(plan: Plan, parts: Iterable[Part], output: Path) -> dict[int, tuple[Step, ...]]:
    """Part number → its steps that have something to do. Parts that are due alike share one sequence."""
    recorded = Ledger(output).parts()
    shared: dict[tuple[Step, ...], tuple[Step, ...]] = {}
    found = {}
    for part in parts:
        steps = plan.steps if part.number not in recorded else tuple(due_steps(plan, part, output))
        found[part.number] = shared.setdefault(steps, steps)
    return found


def due_steps(plan: Plan, part: Part, output: Path) -> list[Step]:
    """The steps of a part that have something to do, each with only its stages that are due."""
    ledger = Ledger(output)
    fingerprints = plan.fingerprints(part)
    stale = {name for name, fingerprint in fingerprints.items() if not ledger.holds(part.number, name, fingerprint)}
    if stale and "decode" not in stale and not _evidence_suffices(plan, part, output, stale, fingerprints):
        stale.add("decode")
    due = []
    for step in plan.steps:
        stages = tuple(name for name in step.stages if name in stale)
        if stages:
            due.append(Step(stages, step.pool))
    return due


def _evidence_suffices(plan: Plan, part: Part, output: Path, stale: set[str], fingerprints: dict[str, str]) -> bool:
    """Whether the stages that are due find on disk what they look at."""
    folder = PartFolder(output, part.number)
    done = [row["id"] for row in folder.sources() if not row["verdict"]]
    lookers = {name for name in stale if name == "detect_shots" or "evidence" in plan.classes[name].needs}
    if "score" in lookers:
        embeddings = PartEmbeddings(folder.path, embedding_fingerprint(plan, fingerprints))
        if all(embeddings.has(source_id) for source_id in done):
            lookers.discard("score")
    if not lookers:
        return True
    if lookers & THUMBNAIL_STAGES and plan.config.evidence.keep != "always":
        return False
    return all(Evidence(folder.evidence(source_id)).holds(plan.evidence) for source_id in done)
