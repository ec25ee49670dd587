"""Reads a run for the page: the funnel with its losses, distributions of clips, work by stage, what was packed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vidcap.pipeline.columns import PartFolder, Row, effective
from vidcap.pipeline.ledger import Ledger
from vidcap.pipeline.packing import packed_shards, part_statistics
from vidcap.pipeline.plan import load_parts
from vidcap.pipeline.run_folder import RunFolder
from vidcap.pipeline.selection import duplicates_of
from vidcap.records import CAPTION_KINDS, primary_kind
from vidcap.report.collect import STAGES_WITHOUT_ROWS, collect
from vidcap.shards.statistics import Statistics
from vidcap.stages.registry import STAGES, stage_class

FATES = ("kept", "rejected", "quarantined", "pending")
"""What becomes of a clip; distributions are counted by it."""


@dataclass(slots=True)
class StageFacts:
    """What went into a stage and what it stopped, over all parts; its work as the ledger has it."""

    stage: str
    items: int = 0
    """Clips that no earlier stage had stopped; sources for `decode` and `detect_shots`."""
    item_seconds: float = 0.0
    """Playing time of these."""
    losses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(verdict, reason) → items stopped here."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    backend: str = ""


@dataclass(slots=True)
class Facts:
    """All that the page shows, as numbers."""

    run: dict[str, Any]
    report: dict[str, Any]
    stages: list[StageFacts]
    clips: Statistics
    """Over all clips with a span, by fate: `seconds|kept`, `similarity|avs|kept`, `words|v` and so on."""
    packed: Statistics
    sources: Statistics
    shards: int = 0
    shard_bytes: int = 0
    cutoff: float | None = None
    """The lowest score that was selected, where the selection took a share or the best."""

    def stage(self, name: str) -> StageFacts | None:
        return next((facts for facts in self.stages if facts.stage == name), None)


def options_of(run: dict[str, Any], stage: str) -> Any:
    """The options of a stage as it took them; None where the run has no such stage or wrote others than it knows."""
    given = next((s["options"] for s in run["config"]["stages"] if s["stage"] == stage), None)
    if given is None or stage not in STAGES:
        return None
    try:
        return stage_class(stage).Options.model_validate(given)
    except ValidationError:
        return None


def gather(output: Path) -> Facts:
    """Read the run in `output`, part by part. Raises `UsageError` where it is none."""
    report = collect(output)
    run = RunFolder(output).read()
    stages = [StageFacts(s["stage"], backend=_backend(s)) for s in run["config"]["stages"]]
    facts = Facts(run, report, stages, Statistics(), Statistics(), Statistics())
    select = options_of(run, "select")
    for part in load_parts(output):
        _Part(output, part.number, facts, by=select.by if select else "primary").add()
    if select is None or (select.fraction is None and select.top is None):
        facts.cutoff = None
    return facts


def _backend(stage: dict[str, Any]) -> str:
    return " + ".join(stage[slot]["name"] for slot in ("backend", "llm") if stage.get(slot))


class _Part:
    """Adds one part to the facts."""

    def __init__(self, output: Path, number: int, facts: Facts, *, by: str) -> None:
        self.folder = PartFolder(output, number)
        self.output = output
        self.facts = facts
        self.by = by
        ledger = Ledger(output)
        self.records = {s.stage: ledger.get(number, s.stage) for s in facts.stages}

    def add(self) -> None:
        if self.records.get("decode") is None:
            return
        for stage in self.facts.stages:
            record = self.records[stage.stage]
            if record is not None:
                stage.seconds += record.seconds
                stage.cpu_seconds += record.cpu_seconds
        there = self._sources()
        row_stages = [n for n, record in self.records.items() if record and n not in STAGES_WITHOUT_ROWS]
        if "detect_shots" in row_stages:
            self._clips(row_stages, there)
        packed = self.records.get("pack")
        if packed is not None:
            tars = packed_shards(self.output, packed)
            self.facts.shards += len(tars)
            self.facts.shard_bytes += sum(tar.stat().st_size for tar in tars)
            self.facts.packed.merge(part_statistics(self.folder, tars))

    def _sources(self) -> set[str]:
        """Ids of the sources that are done."""
        duplicates = duplicates_of(self.folder)
        counts, done = self.facts.sources.counts, set()
        decode, shots = self.facts.stage("decode"), self.facts.stage("detect_shots")
        for row in self.folder.sources():
            seconds = row.get("seconds") or 0.0
            seconds = seconds if math.isfinite(seconds) else 0.0
            for stage in (decode, shots) if not row["verdict"] else (decode,):
                if stage is not None:
                    stage.items += 1
                    stage.item_seconds += seconds
            if row["verdict"] or row["id"] in duplicates:
                continue
            done.add(row["id"])
            counts["licences"][row["license"] or ""] += 1
            counts["codecs"][row["video_codec"] or "unknown"] += 1
            counts["seconds"]["all"] += round(seconds * 1000)
            counts["sound"]["with sound" if row["has_audio"] else "without"] += 1
        return done

    def _clips(self, stages: Sequence[str], there: set[str]) -> None:
        for row in self.folder.rows(stages):
            if row["source_id"] not in there:
                continue
            stopped = effective(row, stages)
            fate = stopped[1].kind if stopped else "kept" if self._complete() else "pending"
            self._walk(row, stages, stopped[0] if stopped else None)
            self._measure(row, fate)
            if stopped:
                facts = self.facts.stage(stopped[0])
                if facts is not None:
                    facts.losses[stopped[1].kind, stopped[1].reason] += 1

    def _complete(self) -> bool:
        return all(self.records.values())

    def _walk(self, row: Row, stages: Sequence[str], last: str | None) -> None:
        """Book the clip in every stage that it reached."""
        seconds = _length(row)
        for stage in stages:
            facts = self.facts.stage(stage)
            if facts is not None and stage != "detect_shots":
                facts.items += 1
                facts.item_seconds += seconds
            if stage == last:
                return

    def _measure(self, row: Row, fate: str) -> None:
        clips = self.facts.clips
        clips.tally(f"seconds|{fate}").add(_length(row) or None)
        clips.tally(f"motion|{fate}").add(row.get("motion_mean"))
        if row.get("height"):
            clips.counts["pictures"][f"{row['width']}x{row['height']}"] += 1
            clips.counts["rates"][_rate(row["fps"])] += 1
        if row.get("language"):
            clips.counts["languages"][row["language"]] += 1
        if row.get("speech_route"):
            clips.counts["routes"][row["speech_route"]] += 1
        captions = {kind: row.get(f"caption_{kind}") or "" for kind in CAPTION_KINDS}
        if not captions["v"]:
            return
        clips.counts["captioned"]["all"] += 1
        for kind, caption in captions.items():
            if caption:
                clips.counts["captions"][kind] += 1
                clips.tally(f"words|{kind}").add(len(caption.split()))
                clips.count_terms(kind, caption)
                clips.tally(f"similarity|{kind}|{fate}").add(row.get(f"similarity_{kind}"))
        judged = primary_kind(captions) if self.by == "primary" else self.by
        score = row.get(f"similarity_{judged}") if captions[judged] else None
        clips.tally(f"similarity|judged|{fate}").add(score)
        if fate == "kept" and score is not None and not math.isnan(score):
            self.facts.cutoff = score if self.facts.cutoff is None else min(self.facts.cutoff, score)


def _length(row: Row) -> float:
    """Seconds of a clip; 0 for a shot that never got a span."""
    start, end = row.get("start"), row.get("end")
    found = end - start if start is not None and end is not None else 0.0
    return found if math.isfinite(found) else 0.0


def _rate(fps: str) -> str:
    """Frames a second, rounded to what people call it."""
    numerator, _, denominator = fps.partition("/")
    return f"{float(numerator) / float(denominator or 1):.4g}"
