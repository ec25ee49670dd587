"""Renders the report as one HTML page that needs nothing else: no script, no address, plots as inline SVG.

The page has no clock in it: the same run gives the same bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidcap import __version__
from vidcap.inspector.document import source_digest
from vidcap.languages import english_name
from vidcap.records import CAPTION_KINDS
from vidcap.report import plots, sections
from vidcap.report.gather import Facts, gather
from vidcap.shards.data_card import KIND_NAMES
from vidcap.store import PosixStore

FOLDER = Path(__file__).parent / "page"
STOPPED_SHOWN = 200
"""Stopped sources listed one by one; the rest is counted, and all are in `vidcap report --json`."""


def write_page(output: Path, html: Path) -> None:
    """Write the report of the run in `output` to `html`. Raises `UsageError` where there is no run."""
    text = render(gather(output))
    PosixStore(html.parent).write(html.name, text.encode())


def render(facts: Facts) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"count": count, "length": length, "figure": figure, "percent": percent, "size": size}
    environment.filters["ticks"] = ticks
    style = (FOLDER / "style.css").read_text()
    # Only this very style sheet applies, and nothing is fetched or run: what stands in a caption stays text.
    policy = f"default-src 'none'; style-src 'sha256-{source_digest(style)}'; base-uri 'none'; form-action 'none'"
    return environment.get_template("report.html.j2").render(
        policy=policy,
        style=Markup(style),  # the package's own file, not data
        **context(facts),
    )


def context(facts: Facts) -> dict[str, Any]:
    """What the template shows."""
    clips = facts.clips.counts
    used = sections.models(facts)
    select = next((s["options"] for s in facts.run["config"]["stages"] if s["stage"] == "select"), None)
    return {
        "version": __version__,
        "run": facts.run,
        "report": facts.report,
        "facts": facts,
        "kept_seconds": facts.clips.tally("seconds|kept").sum,
        "source_seconds": facts.sources.counts["seconds"]["all"] / 1000,
        "funnel": sections.funnel(facts),
        "clip_panels": sections.clip_panels(facts),
        "pictures": _heights(clips["pictures"]),
        "rates": plots.bars(clips["rates"], most=6, other="other rates"),
        "select": select,
        "similarity_panels": sections.similarity_panels(facts),
        "word_panels": sections.word_panels(facts),
        "kinds": [(kind, KIND_NAMES[kind], clips["captions"][kind]) for kind in CAPTION_KINDS],
        "captioned": clips["captioned"]["all"],
        "languages": plots.bars(Counter({english_name(k): v for k, v in clips["languages"].items()}), most=8),
        "routes": plots.bars(clips["routes"], most=8),
        "people": sections.people(facts),
        "embedded": sections.captioners_are_embedded(facts),
        "caption_kinds": CAPTION_KINDS,
        "work": sections.work(facts),
        "models": used,
        "limiting": [model for model in used if model.licence.noncommercial],
        "source_licences": plots.bars(_stated(facts.sources.counts["licences"]), most=12),
        "sample_licences": plots.bars(_stated(facts.packed.counts["sample licences"]), most=12, kind="kept"),
        "cuts": plots.bars(facts.packed.counts["cut"], kind="kept"),
        "checks": plots.bars(facts.packed.counts["check"], kind="kept"),
        "stopped": facts.report["stopped_sources"][:STOPPED_SHOWN],
        "stopped_more": max(0, len(facts.report["stopped_sources"]) - STOPPED_SHOWN),
    }


def _heights(pictures: Counter[str]) -> list[plots.Bar]:
    """Clips by the shorter side of their picture, as people speak of it, small ones first."""
    limits = (0, 144, 240, 360, 480, 720, 1080, 2160)
    found = [0] * len(limits)
    for name, times in pictures.items():
        short = min(map(int, name.split("x")))
        found[sum(limit <= short for limit in limits) - 1] += times
    most = max(found) or 1
    labels = ["under 144", *(f"{low}–{high - 1}" for low, high in pairwise(limits[1:])), "2160 and more"]
    return [
        plots.Bar(label, times, round(100 * times / most, 2))
        for label, times in zip(labels, found, strict=True)
        if times
    ]


def _stated(licences: Counter[str]) -> Counter[str]:
    return Counter({name or "not stated": times for name, times in licences.items()})


def ticks(text: str) -> Any:
    """Text with what stands between backticks as code; escaped like all else."""
    from markupsafe import Markup, escape

    pieces = [escape(piece) for piece in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if at % 2 else piece for at, piece in enumerate(pieces)
    )


def count(value: float) -> str:
    """1,234,567"""
    return f"{value:,.0f}"


def length(seconds: float) -> str:
    """Playing time: `48 s`, `12.4 min`, `3.1 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5940 else f"{seconds / 3600:,.1f} h"


def figure(value: float) -> str:
    """Three digits of a rate; a dash where there is none."""
    if not value or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def size(value: float) -> str:
    """Bytes in decimal units."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f} bytes"
