"""Counts what became of every source and clip, from the ledger and the column files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidcap.errors import InvariantError
from vidcap.pipeline.columns import PartFolder, effective
from vidcap.pipeline.ledger import Ledger
from vidcap.pipeline.plan import Part, load_parts
from vidcap.pipeline.run_folder import RunFolder
from vidcap.pipeline.selection import duplicates_of
from vidcap.runners.failures import Failures

STAGES_WITHOUT_ROWS = ("decode",)


def collect(output: Path) -> dict[str, Any]:
    """The report: sources, clips, parts, reasons, stages_run (formats.md); `items` lists each stopped source."""
    run = RunFolder(output).read()
    failed = Failures(output).parts()
    sources: Counter[str] = Counter(dict.fromkeys(("in", "done", "rejected", "quarantined", "failed", "pending"), 0))
    clips: Counter[str] = Counter(dict.fromkeys(("found", "kept", "rejected", "quarantined", "pending"), 0))
    reasons: Counter[str] = Counter()
    items: list[dict[str, str]] = []
    parts_done = 0
    parts = load_parts(output)
    for part in parts:
        rows = _part(output, part, run["stages"], number_failed=part.number in failed, items=items)
        sources.update(rows["sources"])
        clips.update(rows["clips"])
        reasons.update(rows["reasons"])
        parts_done += rows["done"]
    report = {
        "sources": dict(sources),
        "clips": dict(clips),
        "parts": {"planned": len(parts), "done": parts_done, "failed": sum(p.number in failed for p in parts)},
        "reasons": dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        "stages_run": run["latest"]["stages_run"],
        "state": run["latest"]["state"],
        "skipped": run["skipped"],
        "stopped_sources": items,
        "failed_parts": {str(number): failed[number] for number in sorted(failed)},
    }
    check_invariant(report)
    return report


def check_invariant(report: dict[str, Any]) -> None:
    """In = kept + rejected + quarantined (+ failed + pending). Raises `InvariantError`."""
    sources, clips = report["sources"], report["clips"]
    if sources["in"] != sum(sources[kind] for kind in ("done", "rejected", "quarantined", "failed", "pending")):
        raise InvariantError(f"sources do not add up: {sources}", hint="this is a bug: report it with the run folder")
    if clips["found"] != sum(clips[kind] for kind in ("kept", "rejected", "quarantined", "pending")):
        raise InvariantError(f"clips do not add up: {clips}", hint="this is a bug: report it with the run folder")


def _part(
    output: Path, part: Part, stages: Sequence[str], *, number_failed: bool, items: list[dict[str, str]]
) -> dict[str, Any]:
    folder, ledger = PartFolder(output, part.number), Ledger(output)
    sources: Counter[str] = Counter({"in": len(part.sources)})
    clips: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    if ledger.get(part.number, "decode") is None:
        sources["failed" if number_failed else "pending"] += len(part.sources)
        return {"sources": sources, "clips": clips, "reasons": reasons, "done": 0}
    duplicates = duplicates_of(folder)
    open_kind = "failed" if number_failed else "done"
    done: set[str] = set()
    for row in folder.sources():
        kind, reason, detail = row["verdict"], row["reason"], row["detail"]
        if not kind and row["id"] in duplicates:
            kind, reason, detail = "rejected", "source.duplicate", f"same bytes as `{duplicates[row['id']]}`"
        if kind:
            sources[kind] += 1
            reasons[reason] += 1
            items.append({"uri": row["uri"], "id": row["id"], "verdict": kind, "reason": reason, "detail": detail})
        else:
            sources[open_kind] += 1
            done |= {row["id"]} if open_kind == "done" else set()
    row_stages = [s for s in stages if s not in STAGES_WITHOUT_ROWS and ledger.get(part.number, s) is not None]
    if "detect_shots" not in row_stages:
        return {"sources": sources, "clips": clips, "reasons": reasons, "done": 0}
    complete = row_stages == [s for s in stages if s not in STAGES_WITHOUT_ROWS]
    for row in folder.rows(row_stages):
        if row["source_id"] not in done:
            continue
        clips["found"] += 1
        stopped = effective(row, row_stages)
        if stopped:
            clips[stopped[1].kind] += 1
            reasons[stopped[1].reason] += 1
        else:
            clips["kept" if complete else "pending"] += 1
    return {"sources": sources, "clips": clips, "reasons": reasons, "done": int(complete and not number_failed)}
