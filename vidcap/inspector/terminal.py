"""Show samples in a terminal: captions by kind, transcript, scores, span, provenance. Data is never markup."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vidcap.records import CAPTION_KINDS
from vidcap.shards.reader import RawSample
from vidcap.shards.schema import MISSING, SampleJson
from vidcap.store import replacing

SHORT = 300
"""Characters of a caption or transcript that a listing shows; one sample by its key is shown in full."""


def printable(text: str) -> str:
    """`text` with everything that could steer a terminal or reorder the line spelled out (`\\x1b`, `\\u202e`).

    Control characters (line ends too), bidirectional overrides and other invisible format characters go; the joiners
    inside emoji and scripts stay.
    """
    return "".join(_shown(c) for c in text)


def _shown(char: str) -> str:
    if char in "\u200c\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return char
    return char.encode("unicode_escape").decode()


def make_console(*, width: int | None = None) -> Console:
    """A console on stdout that reads no markup, emoji codes or highlights out of data; honours NO_COLOR."""
    return Console(markup=False, emoji=False, highlight=False, width=width, soft_wrap=False)


def show(console: Console, sample: RawSample, record: SampleJson, *, full: bool = False) -> None:
    """Print one sample. `full` adds words, members and provenance, and shortens nothing."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), title=Text(record.key, style="bold"))
    table.title_justify = "left"
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value, style in _lines(sample, record, full):
        table.add_row(Text(label), Text(printable(value) if full else _shortened(printable(value)), style=style))
    console.print(table)
    console.print()


def _lines(sample: RawSample, record: SampleJson, full: bool) -> list[tuple[str, str, str]]:
    """Label, value and style of every line."""
    span, video, audio = record.span, record.video, record.audio
    rate = " (variable)" if video.vfr else ""
    sound = "none"
    if audio.present:
        sound = f"{audio.codec}, {audio.sample_rate} Hz, {audio.channels} ch" + (", silent" if audio.silent else "")
    lines = [
        ("source", record.source.uri, ""),
        (
            "span",
            f"{span.start:.3f}-{span.end:.3f} s ({record.seconds:.3f} s), "
            f"frames {span.first_frame}-{span.last_frame} of shot {span.shot_first}-{span.shot_last}",
            "",
        ),
        (
            "video",
            f"{video.width}x{video.height}, {video.codec}, {video.fps} fps{rate}, {video.frames} frames, "
            f"cut {video.cut} ({video.check})",
            "",
        ),
        ("audio", sound, ""),
    ]
    captions = record.captions.model_dump()
    captioned = any(captions.values())
    if not captioned:
        lines.append(("captions", "none", "dim"))
    for kind in CAPTION_KINDS if captioned else ():
        score = getattr(record.scores, f"similarity_{kind}")
        label = f"{kind}{' *' if kind == record.primary else ''}"
        scored = "" if score == MISSING else f"  [{score:.4f}]"
        style = "" if captions[kind] else "dim"
        lines.append((label, (captions[kind] or "-") + scored, "bold" if kind == record.primary else style))
    lines += _speech(record, full)
    motion = record.scores.motion
    lines.append(("motion", "not measured" if motion == MISSING else f"{motion:.3f}", ""))
    if full:
        lines += _origin(sample, record)
    elif record.provenance.embedded and captioned:
        lines.append(("note", "captions by embedded backends: measured, not understood", "dim"))
    return lines


def _speech(record: SampleJson, full: bool) -> list[tuple[str, str, str]]:
    speech = record.transcript
    if not speech.text:
        return [("speech", "-", "dim")]
    trust = "trusted" if speech.trusted else "not trusted"
    said = f"{speech.language or '?'} ({speech.confidence:.3f}), {trust}, route {speech.route}"
    lines = [("speech", said, ""), ("text", speech.text, "")]
    if speech.english and speech.english != speech.text:
        lines.append(("english", speech.english, ""))
    if full and speech.words:
        words = "  ".join(f"{w.start:.2f}-{w.end:.2f} {w.word} ({w.p:.2f})" for w in speech.words)
        lines.append(("words", words, "dim"))
    return lines


def _origin(sample: RawSample, record: SampleJson) -> list[tuple[str, str, str]]:
    source, made = record.source, record.provenance
    members = ", ".join(f".{suffix} {member.size} B" for suffix, member in sample.members.items())
    return [
        ("sha256", source.sha256, "dim"),
        ("license", source.license or "-", ""),
        ("meta", source.meta, "dim"),
        ("backends", made.backends, "dim"),
        ("prompts", made.prompts, "dim"),
        ("stages", made.stages, "dim"),
        ("embedded", "yes: measured, not understood" if made.embedded else "no", "dim"),
        ("shard", str(sample.path), "dim"),
        ("members", members, "dim"),
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def json_line(record: SampleJson) -> str:
    """The record on one line of plain ASCII, safe in a terminal and exact for a machine."""
    value: Any = record.model_dump(by_alias=True)
    return json.dumps(value, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")


def extract(sample: RawSample, folder: Path) -> list[Path]:
    """Write the sample's members as `{key}.{suffix}` into `folder`; whole files, replacing those of the same name."""
    written = []
    for suffix in sample.members:
        # Key and suffix have passed the reader's pattern: neither can hold a path.
        target = folder / f"{sample.key}.{suffix}"
        with replacing(target) as temporary, sample.open(suffix) as member, temporary.open("wb") as out:
            while block := member.read(1 << 20):
                out.write(block)
        written.append(target)
    return written
