"""What stands in each section of the page: the funnel, the work by stage, words for people, models and licences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vidcap.reasons import REASONS
from vidcap.records import CAPTION_KINDS
from vidcap.report.gather import FATES, Facts, StageFacts, options_of
from vidcap.report.plots import Bar, Panel, histogram, linear_axis, log_axis
from vidcap.shards.bias_terms import TERMS
from vidcap.shards.model_licences import UsedModel, used_models
from vidcap.shards.statistics import Tally

TITLES = {
    "trim": "Trimmed to clips",
    "transcribe": "Transcribed",
    "caption_video": "Captioned",
    "caption_audio": "Captioned",
    "identify_language": "Language identified",
    "translate": "Translated",
    "fuse": "Captions fused",
    "score": "Scored",
    "select": "Selected",
    "pack": "Cut and packed",
}
THIN = 0.6
"""A loss is drawn at least so wide (of 100), so that one clip of thousands can be seen."""


@dataclass(frozen=True, slots=True)
class Loss:
    verdict: str
    reason: str
    count: int
    meaning: str
    mend: str


@dataclass(frozen=True, slots=True)
class Band:
    x: float
    width: float
    verdict: str


@dataclass(slots=True)
class FunnelStep:
    """`items` come in, `left` go on. Widths are of 100, the first step of the same unit."""

    title: str
    told: str
    items: int
    left: int
    unit: str
    seconds: float
    losses: list[Loss] = field(default_factory=list)
    width: float = 100.0
    bands: list[Band] = field(default_factory=list)


def funnel(facts: Facts) -> list[FunnelStep]:
    """From sources to packed clips. Stages that stop nothing stand together."""
    sources = facts.report["sources"]
    stopped = Counter((item["verdict"], item["reason"]) for item in facts.report["stopped_sources"])
    for verdict in ("failed", "pending"):
        if sources[verdict]:
            stopped[verdict, "source.failed" if verdict == "failed" else ""] += sources[verdict]
    seconds = facts.sources.counts["seconds"]["all"] / 1000
    first = FunnelStep("Sources", "decoded once", sources["in"], sources["done"], "sources", seconds)
    first.losses = _losses(stopped)
    steps = [first]
    found = facts.report["clips"]["found"]
    steps.append(FunnelStep("Shots found", _by(facts.stage("detect_shots")), found, found, "shots", 0.0))
    left = found
    quiet: list[StageFacts] = []
    for stage in facts.stages:
        if stage.stage in ("decode", "detect_shots"):
            continue
        if not stage.losses and stage.stage not in ("trim", "select", "pack"):
            quiet.append(stage)
            continue
        if quiet:
            steps.append(_together(quiet, left))
            quiet = []
        lost = sum(stage.losses.values())
        unit = "shots" if stage.stage == "trim" else "clips"
        step = FunnelStep(TITLES[stage.stage], _by(stage), stage.items, stage.items - lost, unit, stage.item_seconds)
        step.losses = _losses(stage.losses)
        left = step.left
        steps.append(step)
    if quiet:
        steps.append(_together(quiet, left))
    _measure(steps, found)
    return steps


def _by(stage: StageFacts | None) -> str:
    return f"by {stage.backend}" if stage is not None and stage.backend else ""


def _together(stages: Sequence[StageFacts], left: int) -> FunnelStep:
    names = ", ".join(stage.stage.replace("_", " ") for stage in stages)
    title = "Captioned and scored" if len(stages) > 1 else TITLES[stages[0].stage]
    return FunnelStep(title, names, stages[-1].items, left, "clips", stages[-1].item_seconds)


def _losses(counts: Counter[tuple[str, str]]) -> list[Loss]:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    found = []
    for (verdict, reason), count in ordered:
        known = REASONS.get(reason)
        told = (known.meaning, known.mend) if known else ("not reached yet" if verdict == "pending" else "", "")
        found.append(Loss(verdict, reason or verdict, count, *told))
    return found


def _measure(steps: Sequence[FunnelStep], found: int) -> None:
    for step in steps:
        whole = step.items if step.unit == "sources" else found
        step.width = round(100 * step.left / whole, 2) if whole else 0.0
        x = step.width
        by_verdict: Counter[str] = Counter()
        for loss in step.losses:
            by_verdict[loss.verdict] += loss.count
        for verdict in ("rejected", "quarantined", "failed", "pending"):
            if by_verdict[verdict]:
                width = max(THIN, round(100 * by_verdict[verdict] / whole, 2))
                step.bands.append(Band(round(x, 2), width, verdict))
                x += width


@dataclass(frozen=True, slots=True)
class Work:
    stage: str
    backend: str
    items: int
    seconds: float
    cpu_seconds: float
    rate: float
    realtime: float
    share: float
    """Of the busiest stage, 0 to 100."""
    part: float
    """Of all seconds, 0 to 1."""


def work(facts: Facts) -> list[Work]:
    """Per stage what went through it and how long it took. Rates are 0 where no time was recorded."""
    total = sum(stage.seconds for stage in facts.stages) or 1.0
    longest = max((stage.seconds for stage in facts.stages), default=0.0) or 1.0
    return [
        Work(
            stage.stage,
            stage.backend,
            stage.items,
            stage.seconds,
            stage.cpu_seconds,
            stage.items / stage.seconds if stage.seconds else 0.0,
            stage.item_seconds / stage.seconds if stage.seconds else 0.0,
            round(100 * stage.seconds / longest, 2),
            stage.seconds / total,
        )
        for stage in facts.stages
    ]


def _by_fate(facts: Facts, name: str) -> list[tuple[str, Tally]]:
    return [(fate, facts.clips.tally(f"{name}|{fate}")) for fate in FATES]


def _ends(series: Sequence[tuple[str, Tally]]) -> tuple[float, float] | None:
    places = [(t.quantile(0), t.quantile(1)) for _, t in series if t.counts]
    return (min(low for low, _ in places), max(high for _, high in places)) if places else None


def clip_panels(facts: Facts) -> list[Panel]:
    """Length and motion of all clips, with the limits of `trim`."""
    panels = []
    trim = options_of(facts.run, "trim")
    seconds = _by_fate(facts, "seconds")
    ends = _ends(seconds)
    if ends is not None:
        limits = [(trim.min_seconds, f"over {trim.min_seconds:g} s")] if trim else []
        axis = linear_axis(0.0, ends[1], least_step=0.5)
        panels.append(histogram("Duration", seconds, axis, unit="s", things="shots", lines=limits))
    motion = _by_fate(facts, "motion")
    if _ends(motion) is not None:
        limits = [(trim.motion.low, "still"), (trim.motion.high, "extreme")] if trim else []
        axis = log_axis(0.05, 256.0, (0.1, 1, 10, 100))
        panels.append(histogram("Motion", motion, axis, unit="grey levels a second", things="shots", lines=limits))
    return panels


def similarity_panels(facts: Facts) -> list[Panel]:
    """Scores by kind; the first panel is what selection went by, the threshold stands in all it applies to."""
    select = options_of(facts.run, "select")
    by = select.by if select else "primary"
    lines: list[tuple[float, str]] = []
    if select is not None and select.min is not None:
        lines.append((select.min, f"min {select.min:g}"))
    if select is not None and facts.cutoff is not None:
        how = f"top {select.top:,}" if select.top is not None else f"best {select.fraction:.3g}"
        lines.append((facts.cutoff, f"{how}: {facts.cutoff:.3f}"))
    kinds = {"judged": f"Selected by: {by}", **{kind: f"Caption {kind}" for kind in CAPTION_KINDS}}
    series = {kind: _by_fate(facts, f"similarity|{kind}") for kind in kinds}
    ends = [found for found in map(_ends, series.values()) if found is not None]
    if not ends:
        return []
    axis = linear_axis(min(min(low for low, _ in ends), 0.0), max(high for _, high in ends), least_step=0.05)
    panels = []
    for kind, title in kinds.items():
        if _ends(series[kind]) is None:
            continue
        applies = kind == "judged" or kind == by or (by == "primary" and kind in ("v", "av", "avs"))
        panels.append(histogram(title, series[kind], axis, unit="similarity", digits=2, lines=lines if applies else ()))
    return panels


def word_panels(facts: Facts) -> list[Panel]:
    """Words per caption, by kind."""
    tallies = {kind: facts.clips.tally(f"words|{kind}") for kind in CAPTION_KINDS}
    longest = max((tally.quantile(1) for tally in tallies.values() if tally.counts), default=1.0)
    axis = linear_axis(0.0, longest, least_step=1.0)
    return [
        histogram(f"Caption {kind}", [("all", tally)], axis, unit="words", things="captions", digits=0)
        for kind, tally in tallies.items()
        if tally.counts
    ]


@dataclass(slots=True)
class People:
    """One axis of the words for people: a bar per group, and how often each word was met."""

    axis: str
    bars: list[Bar]
    by_kind: dict[str, list[int]]
    terms: list[tuple[str, int]]


def people(facts: Facts) -> list[People]:
    """Captions of all clips by the groups that they name."""
    found = []
    for axis, groups in TERMS.items():
        by_kind = {
            group: [facts.clips.counts[f"groups|{kind}"][f"{axis}|{group}"] for kind in CAPTION_KINDS]
            for group in groups
        }
        longest = max(map(sum, by_kind.values())) or 1
        rows = [Bar(group, sum(counts), round(100 * sum(counts) / longest, 2)) for group, counts in by_kind.items()]
        terms: Counter[str] = Counter()
        for kind in CAPTION_KINDS:
            for name, times in facts.clips.counts[f"terms|{kind}"].items():
                if name.startswith(f"{axis}|"):
                    terms[name.rpartition("|")[2]] += times
        ordered = sorted(terms.items(), key=lambda pair: (-pair[1], pair[0]))
        found.append(People(axis, rows, by_kind, ordered[:12]))
    return found


def models(facts: Facts) -> list[UsedModel]:
    """The backends that worked on what is packed; of a run without shards, those its YAML names."""
    told: set[tuple[str, str]] = set()
    for backends in facts.packed.counts["backends"]:
        told |= set(json.loads(backends).items())
    if not told:
        told = {(stage.stage, stage.backend) for stage in facts.stages if stage.backend}
    order = [stage.stage for stage in facts.stages]
    place = {name: at for at, name in enumerate(order)}
    pairs = sorted(told, key=lambda pair: (place.get(pair[0], len(place)), pair))
    return [model for stage, identity in pairs for model in used_models({stage: identity})]


def captioners_are_embedded(facts: Facts) -> bool:
    """Whether the words of V and A come from VidCap's own vocabulary."""
    used = {s["stage"]: s["backend"]["name"] for s in facts.run["config"]["stages"] if s["backend"]}
    return all(used.get(stage, "descriptor") == "descriptor" for stage in ("caption_video", "caption_audio"))
