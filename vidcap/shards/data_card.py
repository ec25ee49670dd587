"""The DATA_CARD.md of a shards folder: what the samples are, what made them, under which licences, and their limits."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidcap import __version__
from vidcap.records import CAPTION_KINDS
from vidcap.shards.bias_terms import TERMS
from vidcap.shards.licences import limits_of
from vidcap.shards.model_licences import UsedModel, used_models
from vidcap.shards.schema import CAPTIONER
from vidcap.shards.statistics import Statistics, Tally

MOST = 20
"""Rows of a table whose length the data decide."""
MOST_LETTERS = 160
"""Of a text of others in such a table; samples carry it whole."""

KIND_NAMES = {
    "v": "what is seen",
    "a": "what is heard",
    "s": "what is said, in English",
    "av": "fused from v and a",
    "avs": "fused from v, a and s",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How samples were made. Nothing in it may depend on workers, paths or the clock: it goes beside the shards."""

    backends: Mapping[str, str] = field(default_factory=dict)
    """Stage → identity of its backend, as in a sample's provenance."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """`stage.slot` → `name@digest`."""
    stages: Mapping[str, int] = field(default_factory=dict)
    """Stage → version, in order."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Stage → the options that its YAML names."""
    seed: int | None = None
    embedded: bool = False
    """Whether every backend is one that VidCap carries."""

    @property
    def captioned(self) -> bool:
        """Whether a stage wrote captions; of shards whose making nobody knows it is taken for granted."""
        return not self.stages or CAPTIONER in self.stages


def data_card(name: str, statistics: Statistics, *, shards: int, flac: bool, recipe: Recipe) -> str:
    """The text of the card. The same input, the same text."""
    models = used_models(recipe.backends)
    parts = [
        f"# Data card: {name}\n",
        _restrictions(models),
        _composition(statistics, shards=shards, flac=flac, captioned=recipe.captioned),
        _captions(statistics) if recipe.captioned else _NO_CAPTIONS,
        _making(recipe),
        _licences(statistics, models),
        _terms(statistics, embedded=recipe.embedded),
        _limits(recipe),
        _integrity(),
        _citing(name),
    ]
    return "\n".join(part for part in parts if part)


def plain(text: str) -> str:
    """Text of others inside a table of Markdown: one line, nothing of it is markup."""
    one_line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    one_line = one_line if len(one_line) <= MOST_LETTERS else f"{one_line[: MOST_LETTERS - 1]}…"
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|~!$])", r"\\\1", escaped)


def code(text: str) -> str:
    """The same as code: what Markdown shows as it is, but for what ends it."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "\\|").split()) + "`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: int = 1) -> str:
    """A Markdown table; columns from `right` on are numbers."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' if i < right else '---:' for i in range(len(head)))}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _counted(counts: Counter[str], *, name: str = "") -> list[tuple[str, str]]:
    """The most frequent first, ties by name; what is over `MOST` in one row."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = [(plain(value) if value else name, str(times)) for value, times in ordered[:MOST]]
    rest = ordered[MOST:]
    return [*rows, (f"{len(rest)} more", str(sum(times for _, times in rest)))] if rest else rows


def _figure(value: float, digits: int = 1) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _spread(tally: Tally, digits: int = 1) -> list[str]:
    return [_figure(tally.quantile(share), digits) for share in (0.05, 0.5, 0.95)]


def _restrictions(models: Sequence[UsedModel]) -> str:
    limiting = {m.licence.model: m for m in models if m.licence.noncommercial}
    unknown = sorted({_short(m) for m in models if m.licence.licence == "unknown"})
    lines = [
        f"> **Not for commercial use as it stands:** the stage `{m.stage}` used {m.licence.model}, whose licence "
        f"({m.licence.licence}) excludes commercial use. Captions that depend on it inherit this limit.\n"
        for m in limiting.values()
    ]
    if unknown:
        names = ", ".join(code(identity) for identity in unknown)
        lines.append(f"> **Licence not known here:** {names}. Read the model's own card before you use its captions.\n")
    return "\n".join(lines)


def _composition(statistics: Statistics, *, shards: int, flac: bool, captioned: bool) -> str:
    counts, seconds = statistics.counts, statistics.tally("seconds")
    samples = counts["samples"]["all"]
    rows = [
        ("clips", str(samples)),
        ("sources they come from", str(counts["sources"]["all"])),
        ("shards", str(shards)),
        ("hours of video", f"{seconds.sum / 3600:.2f}"),
        (f"seconds a clip {_SPREAD}", " / ".join(_spread(seconds))),
        (f"frames a second {_SPREAD}", " / ".join(_spread(statistics.tally("fps")))),
        ("clips with sound / a silent track / no track", _of(counts["sound"], "sound", "silent", "none")),
        ("cut by copying / in part / re-encoded / by edit list", _of(counts["cut"], *_CUTS)),
    ]
    spoken_of, text_is = (", with captions in English", "the primary caption") if captioned else ("", "empty")
    text = f"""## Composition

Every sample is one clip: an uninterrupted stretch of one shot of a source video{spoken_of}. Members:
`.mp4`, `.txt` ({text_is}), `.json` (everything else){", `.flac` (16 kHz mono)" if flac else ""}.

{_table(("", ""), rows)}"""
    if samples:
        pictures = _counted(counts["pictures"])
        text += f"\nPicture sizes, in clips:\n\n{_table(('size', 'clips'), pictures)}"
    if counts["speech languages"]:
        spoken = _counted(counts["speech languages"], name="not identified")
        text += f"\nLanguages spoken, in clips with a trusted transcript:\n\n{_table(('language', 'clips'), spoken)}"
    return text


_SPREAD = "(5 %, median, 95 %)"
_CUTS = ("copy", "hybrid", "reencode", "edit_list")


def _of(counts: Counter[str], *names: str) -> str:
    return " / ".join(str(counts[name]) for name in names)


_NO_CAPTIONS = """## Captions

None: the pipeline has no stage that writes them. The fields are there and empty, so that shards with captions and
shards without load alike.
"""


def _captions(statistics: Statistics) -> str:
    rows = []
    for kind in CAPTION_KINDS:
        words, similarity = statistics.tally(f"words|{kind}"), statistics.tally(f"similarity|{kind}")
        row = (f"`{kind}`", KIND_NAMES[kind], str(statistics.counts["captions"][kind]))
        chosen = str(statistics.counts["primary"][kind])
        rows.append((*row, chosen, " / ".join(_spread(words, 0)), " / ".join(_spread(similarity, 2))))
    head = (
        "kind",
        "says",
        "clips with one",
        "primary in",
        f"words {_SPREAD}",
        f"similarity {_SPREAD}",
    )
    return f"""## Captions

A caption that does not apply is empty. The primary caption is the first of `avs`, `av`, `v` that is not; it is the
`.txt`. All captions were written by machines; none was checked by a person.

{_table(head, rows, right=2)}"""


def _making(recipe: Recipe) -> str:
    if not recipe.stages:
        return ""
    rows = []
    for stage, version in recipe.stages.items():
        prompts = [code(value) for slot, value in recipe.prompts.items() if slot.startswith(f"{stage}.")]
        backend = code(recipe.backends[stage]) if stage in recipe.backends else ""
        options = recipe.options.get(stage)
        told = code(json.dumps(options, sort_keys=True, ensure_ascii=False)) if options else ""
        rows.append((stage, str(version), backend, ", ".join(prompts), told))
    seed = "" if recipe.seed is None else f" with seed {recipe.seed}"
    return f"""## How it was made

By VidCap {__version__}{seed}, in these stages. A prompt is named with the digest of its text; options are those that
the pipeline names, the others are that version's defaults.

{_table(("stage", "version", "backend", "prompts", "options"), rows, right=5)}"""


def _licences(statistics: Statistics, models: Sequence[UsedModel]) -> str:
    counts = statistics.counts
    rows = []
    for licence, sources in sorted(counts["source licences"].items(), key=lambda pair: (-pair[1], pair[0]))[:MOST]:
        rows.append((plain(licence) or "not stated", str(sources), str(counts["sample licences"][licence])))
    left = len(counts["source licences"]) - len(rows)
    text = f"""## Licences

Of the sources, as their manifest states them; every sample carries its own in `source.license`. VidCap checks none.

{_table(("licence", "sources", "clips"), rows)}"""
    if left > 0:
        text += f"\n{left} more are in the samples.\n"
    if counts["source licences"][""]:
        text += "\nWhere none is stated, assume that all rights are reserved.\n"
    limits: Counter[str] = Counter()
    for licence, sources in counts["source licences"].items():
        limits.update(dict.fromkeys(limits_of(licence), sources))
    for limit, sources in sorted(limits.items()):
        text += f"\n**By its name the licence of {sources} of these sources excludes {limit}.**\n"
    if models:
        table = [(m.stage, code(_short(m)), m.licence.model, m.licence.licence, _remark(m)) for m in models]
        text += f"""
Of the models and rules that worked on the samples:

{_table(("stage", "backend", "model", "licence", ""), table, right=5)}"""
    return text


def _short(model: UsedModel) -> str:
    """The identity without its options."""
    return model.identity.partition(" {")[0]


def _remark(model: UsedModel) -> str:
    limit = "**non-commercial**" if model.licence.noncommercial else ""
    return "; ".join(part for part in (limit, model.licence.note) if part)


def _terms(statistics: Statistics, *, embedded: bool) -> str:
    kinds = [kind for kind in CAPTION_KINDS if statistics.counts["captions"][kind]]
    if not kinds:
        return ""
    rows = []
    for axis, groups in TERMS.items():
        for group in groups:
            counts = [str(statistics.counts[f"groups|{kind}"][f"{axis}|{group}"]) for kind in kinds]
            rows.append((axis, group, *counts))
    said = (
        "\nThe embedded captioners have no such word in their vocabulary: what is counted was recognised in speech.\n"
        if embedded
        else ""
    )
    return f"""## Words for people

Captions that name an age, a gender or a race, by kind of caption; counted by whole word, from the lists of VidCap's
`bias_terms`. It shows what captions speak of, not who is in the pictures.
{said}
{_table(("axis", "group", *(f"`{kind}`" for kind in kinds)), rows, right=2)}"""


def _limits(recipe: Recipe) -> str:
    measured = """- Embedded captions state what was measured: motion, light, colours, kinds of sound. They name no
  object and no action, and the embedded similarity knows only such claims."""
    modelled = """- Captions come from models that may name what is not there. Similarity between picture and text
  keeps the worst away, not all of it."""
    selected = "- Selection keeps what scores best against its caption: what the scorer knows badly is missing."
    about_captions = [
        measured if recipe.embedded else modelled,
        "- Speech is recognised by machine; a transcript that is not trusted gives no `s` caption.",
    ]
    lines = [
        *(about_captions if recipe.captioned else []),
        "- Clips may show or name people. Nothing is anonymised; ask whether your use is lawful where you are.",
        *([selected] if "select" in recipe.stages else []),
    ]
    return "## Known limits\n\n" + "\n".join(lines) + "\n"


def _integrity() -> str:
    return """## Integrity

`sizes.json` names the shards that count, with their samples; a tar that it does not name is left over. `source.sha256`
is the digest of the file that a clip was cut from. `vidcap validate DIR --media` checks tars, records, order, counts
and every clip. With embedded backends the same sources give the same bytes again.
"""


def _citing(name: str) -> str:
    return f"""## How to cite

Cite the sources as their licences ask, and this collection by its name and the digests of its shards:

```bibtex
@misc{{{name},
  title = {{{name}: captioned video clips}},
  note  = {{made with VidCap {__version__}}}
}}
```
"""
