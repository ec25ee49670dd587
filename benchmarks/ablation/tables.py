"""From ranks to recalls with intervals, differences between arms, tables in Markdown, and the plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

QUERIES = ("visual", "audio", "speech", "all")
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""97.5 % points of Student's t by degrees of freedom."""
RESAMPLED = 2000
CAPTIONS_AND_SHOTS = (
    ("classical V", "classical (PySceneDetect)", "V"),
    ("classical AV", "classical (PySceneDetect)", "AV"),
    ("classical AVS", "classical (PySceneDetect)", "AVS"),
    ("learned V", "learned (`fast`)", "V"),
    ("learned AV", "learned (`fast`)", "AV"),
    ("learned AVS", "learned (`fast`)", "AVS"),
)
ENCODERS = (
    ("V-T", "video-text"),
    ("V-T, A-T", "+ audio encoder, audio-text apart"),
    ("learned AVS", "+ audio encoder, video-audio-text"),
    ("VS-T", "+ speech encoder, video-speech-text"),
    ("VAS-T", "+ both, video-audio-speech-text"),
)
COMPARED = (
    ("classical AV", "classical V"),
    ("classical AVS", "classical AV"),
    ("classical AVS", "classical V"),
    ("learned AV", "learned V"),
    ("learned AVS", "learned AV"),
    ("learned AVS", "learned V"),
    ("learned V", "classical V"),
    ("learned AV", "classical AV"),
    ("learned AVS", "classical AVS"),
    ("V-T, A-T", "V-T"),
    ("learned AVS", "V-T"),
    ("VS-T", "V-T"),
    ("VAS-T", "learned AVS"),
)
"""Pairs whose difference is judged, fixed beforehand: the first should be the better one by the paper, but `V-T, A-T`
and `VAS-T`, which it found a little worse."""


def recall(ranks: Sequence[int], at: int) -> float:
    """Percent of ranks (from 0) below `at`."""
    return 100 * float(np.mean(np.asarray(ranks) < at))


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean, and half the width of its 95 % interval by Student's t; 0 of a single value."""
    count = len(values)
    half = T_95[count - 1] * float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 2), "half": round(half, 2)}


def difference(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> dict[str, float]:
    """Mean difference of R@1 of two arms, ranks seeds×queries each, with a 95 % interval.

    Bootstrap of seeds (in pairs) and queries together, 2000 draws.
    """
    gain = 100 * ((np.asarray(first) < 1).astype(float) - (np.asarray(second) < 1))
    draw = np.random.default_rng(0)
    seeds, queries = gain.shape
    means = [
        gain[draw.integers(0, seeds, seeds)][:, draw.integers(0, queries, queries)].mean() for _ in range(RESAMPLED)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": round(float(gain.mean()), 2), "low": round(float(low), 2), "high": round(float(high), 2)}


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Recalls of every arm by type of query, and the differences of `COMPARED`."""
    ranks: dict[str, list[Mapping[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        ranks.setdefault(run["arm"], []).append(run["ranks"])
    arms = {
        arm: {
            query: {f"r{at}": over_seeds([recall(each[query], at) for each in found]) for at in (1, 5)}
            for query in QUERIES
        }
        for arm, found in ranks.items()
    }
    differences = [
        {
            "arm": one,
            "beside": other,
            "r1": {q: difference([e[q] for e in ranks[one]], [e[q] for e in ranks[other]]) for q in QUERIES},
        }
        for one, other in COMPARED
        if one in ranks and other in ranks
    ]
    return {"arms": arms, "differences": differences}


def _cells(values: Mapping[str, Any]) -> str:
    shown = [f"{values[q]['r1']['mean']:.1f} ± {values[q]['r1']['half']:.1f}" for q in QUERIES]
    shown.append(f"{values['all']['r5']['mean']:.1f} ± {values['all']['r5']['half']:.1f}")
    return " | ".join(shown)


def markdown(found: Mapping[str, Any]) -> str:
    """The two tables and the differences."""
    head = "visual only | audio only | speech only | all | all, R@5 |"
    arms = found["arms"]
    lines = [f"| segmentation | captions | {head}", "|---" * 7 + "|"]
    lines += [f"| {how} | {what} | {_cells(arms[arm])} |" for arm, how, what in CAPTIONS_AND_SHOTS if arm in arms]
    lines += ["", f"| encoders | {head}", "|---" * 6 + "|"]
    lines += [f"| {what} | {_cells(arms[arm])} |" for arm, what in ENCODERS if arm in arms]
    lines += ["", "| R@1 of | minus R@1 of | visual only | audio only | speech only | all |", "|---" * 6 + "|"]
    for row in found["differences"]:
        cells = []
        for query in QUERIES:
            value = row["r1"][query]
            cell = f"{value['mean']:+.1f} ({value['low']:+.1f} to {value['high']:+.1f})"
            cells.append(f"**{cell}**" if value["low"] > 0 or value["high"] < 0 else cell)
        lines.append(f"| {_named(row['arm'])} | {_named(row['beside'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _named(arm: str) -> str:
    return "learned AVS = VA-T" if arm == "learned AVS" else arm


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Both tables as bars with their intervals; the dotted line is chance."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = ("#4c72b0", "#dd8452", "#55a868", "#333333")
    chance = 100 / found["about"]["candidates"]
    figure, panels = pyplot.subplots(2, 1, figsize=(10, 8), sharey=True)
    groups = (
        (
            "Shots and captions (shape of Tab. 18)",
            [(arm, arm.replace(" ", "\n", 1)) for arm, _, _ in CAPTIONS_AND_SHOTS],
        ),
        (
            "Encoders, learned shots, AVS captions (shape of Tab. 17)",
            [(arm, what.replace(", ", "\n")) for arm, what in ENCODERS],
        ),
    )
    for panel, (title, shown) in zip(panels, groups, strict=True):
        shown = [(arm, label) for arm, label in shown if arm in found["arms"]]
        for at, (query, colour) in enumerate(zip(QUERIES, colours, strict=True)):
            values = [found["arms"][arm][query]["r1"] for arm, _ in shown]
            means, halves = ([value[key] for value in values] for key in ("mean", "half"))
            places = np.arange(len(shown)) + (at - 1.5) * 0.2
            label = query if query == "all" else f"{query} only"
            # An interval of a few seeds may reach beyond what a recall can be; what is drawn may not.
            reach = [np.minimum(halves, means), np.minimum(halves, 100 - np.asarray(means))]
            panel.bar(places, means, 0.18, yerr=reach, color=colour, label=label, capsize=2, error_kw={"lw": 0.8})
        panel.axhline(chance, color="grey", linestyle=":", linewidth=1)
        panel.set_xticks(np.arange(len(shown)), [label for _, label in shown], fontsize=9)
        panel.set_ylabel(f"R@1 of {found['about']['candidates']}, %")
        panel.set_title(title, fontsize=11, loc="left", pad=22)
        panel.set_ylim(0, 105)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(ncols=4, fontsize=9, loc="lower left", bbox_to_anchor=(0, 0.99), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    pyplot.close(figure)
