"""`vidcap doctor`: what this machine has, what each backend lacks, and the line that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

NOT_READY = 2
"""Exit code where the pipeline needs what is not there."""


@click.command("doctor")
@click.argument("pipeline", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@click.pass_context
def doctor(context: click.Context, pipeline: Path | None, as_json: bool) -> None:
    """Say what is installed, and whether PIPELINE (default: the demo) can run here; exit code 2 where it cannot.

    Servers that PIPELINE names are asked for their models, without a key. Nothing is installed or changed.
    """
    facts = examine(pipeline)
    if as_json:
        import json

        click.echo(json.dumps(facts, indent=1))
    else:
        from rich.console import Console

        show(Console(markup=False, emoji=False, highlight=False), facts)
    if not facts["ok"]:
        context.exit(NOT_READY)


def examine(pipeline: Path | None) -> dict[str, Any]:
    """All that `vidcap doctor` says, as plain values."""
    import platform
    from dataclasses import asdict

    from vidcap import __version__
    from vidcap.backends import needs
    from vidcap.doctor import machine
    from vidcap.doctor.pipeline import Need, check

    media = machine.media()
    gpus = machine.gpus(_installed("torch"))
    found = machine.facts()
    path = pipeline if pipeline is not None else default_pipeline()
    libraries = [
        {**asdict(library), "ok": library.fits, "mend": "" if library.fits else needs.mend([library.name])}
        for library in needs.core_libraries()
    ]
    # `path` is None in an installation that lost its own files; the libraries are the need then.
    wanted = [Need("pipeline", False, "the demo's YAML is not there", "name a PIPELINE")]
    if path is not None:
        from vidcap.cli.run import find_pipeline

        wanted = check(find_pipeline(path), gpus, media["encoders"])
    return {
        "ok": all(library["ok"] for library in libraries) and all(need.ok for need in wanted),
        "vidcap": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libraries": libraries,
        "extras": {
            name: all(library.installed for library in brought)
            for name, brought in needs.extras().items()
            if name not in needs.NOT_FOR_USERS
        },
        "backends": [_backend(role, name) for role, name in _all_backends()],
        "machine": found,
        "warnings": [{"what": what, "mend": mend} for what, mend in machine.warnings(found)],
        "gpus": [asdict(gpu) for gpu in gpus.found],
        "gpus_usable": gpus.usable,
        "gpus_note": gpus.note,
        "media": media,
        "pipeline": {"path": str(path or ""), "needs": [asdict(need) for need in wanted]},
    }


def default_pipeline() -> Path | None:
    """The demo's YAML: where the reader stands, in the installed package, or beside the package's folder."""
    from vidcap.cli.run import find_pipeline

    name = Path("pipelines/demo.yaml")
    beside = Path(__file__).resolve().parents[2] / name
    return next((path for path in (find_pipeline(name), beside) if path.is_file()), None)


def show(console: Console, facts: dict[str, Any]) -> None:
    """For people: a heading per subject, words instead of colours, the mending line below what it mends."""
    _heading(console, f"VidCap {facts['vidcap']}, Python {facts['python']}, {facts['platform']}")
    unfit = [library for library in facts["libraries"] if not library["ok"]]
    if facts["libraries"] and not unfit:
        _line(console, f"its {len(facts['libraries'])} libraries are here")
    elif not facts["libraries"]:
        _line(console, "not installed as a package: the versions of its libraries are not known")
    for library in unfit:
        have = library["installed"] or "nothing"
        _finding(console, "no", f"{library['name']}: {have} where {library['wanted']} is wanted", library["mend"])
    for present, word in ((True, "here"), (False, "not here")):
        names = [name for name, there in facts["extras"].items() if there is present]
        if names:
            _line(console, f"extras {word}: {', '.join(names)}")

    _heading(console, "Backends")
    role = ""
    for row in facts["backends"]:
        if row["role"] != role:
            role = row["role"]
            _line(console, f"{role}:")
        detail = row["note"] if row["ready"] else f"lacks {', '.join(row['lacks'])}" if row["lacks"] else row["note"]
        text = f"{row['name']}: {detail}" if detail else row["name"]
        _finding(console, "ok" if row["ready"] else "no", text, row["mend"], 4)

    _heading(console, "Machine")
    found = facts["machine"]
    _line(
        console,
        f"{found['cores']:g} cores, {_gigabytes(found['memory'])} memory ({_gigabytes(found['memory_free'])} free)",
    )
    _line(console, f"{_gigabytes(found['disk_free'])} free here, {_gigabytes(found['temp_free'])} in {found['temp']}")
    limit = "any number of" if found["open_files"] < 0 else found["open_files"]
    _line(console, f"{limit} open files")
    for card in facts["gpus"]:
        driver = f", driver {card['driver']}" if card["driver"] else ""
        _line(console, f"GPU {card['name']}, {_gigabytes(card['memory'])}{driver}")
    if not facts["gpus"]:
        _line(console, "GPU: none")
    if facts["gpus_note"]:
        _line(console, facts["gpus_note"])
    for warning in facts["warnings"]:
        _finding(console, "scarce", warning["what"], warning["mend"])

    _heading(console, "Media")
    media = facts["media"]
    _line(console, f"PyAV {media['pyav'] or 'is not here'}")
    for kind in ("encoders", "decoders"):
        there = [name for name, has in media[kind].items() if has]
        absent = [name for name, has in media[kind].items() if not has]
        _line(console, f"{kind}: {', '.join(there) or 'none'}{f'; without {chr(44).join(absent)}' if absent else ''}")
    _line(console, f"ffmpeg program: {media['ffmpeg_program'] or 'none (nothing here needs it)'}")

    _heading(console, f"Pipeline {facts['pipeline']['path']}")
    for need in facts["pipeline"]["needs"]:
        detail = f": {need['detail']}" if need["detail"] else ""
        _finding(console, "ok" if need["ok"] else "no", f"{need['what']}{detail}", need["mend"])
    missing = sum(not need["ok"] for need in facts["pipeline"]["needs"]) + len(unfit)
    console.print()
    _line(console, "it can run here" if facts["ok"] else f"it cannot run here: {missing} of its needs are not met", 0)


def _all_backends() -> list[tuple[str, str]]:
    from vidcap.backends import registry

    return [(role, name) for role in registry.ROLES for name in registry.names(role)]


def _backend(role: str, name: str) -> dict[str, Any]:
    """Whether a backend has its libraries, and with its default options what else it asks for."""
    from pydantic import ValidationError

    from vidcap.backends import needs, registry
    from vidcap.errors import BackendError

    row: dict[str, Any] = {"role": role, "name": name, "ready": False, "lacks": [], "note": "", "mend": ""}
    try:
        lack = needs.lacking(role, name)
        if lack is not None:
            return row | {"lacks": list(lack.names), "mend": lack.mend}
        cls = registry.get(role, name)
        row["embedded"] = bool(getattr(cls, "embedded", False))
        cls(cls.Config()).identity()
    except ValidationError as error:
        missing = [str(fault["loc"][0]) for fault in error.errors() if fault["type"] == "missing"]
        return row | {"ready": bool(missing), "note": f"asks for {', '.join(missing) or 'other options'}"}
    except BackendError as error:
        return row | {"note": error.message, "mend": error.hint}
    except Exception as error:  # a backend of somebody else may fail in any way; that too is a finding
        return row | {"note": f"{type(error).__name__}: {error}"[:200]}
    return row | {"ready": True}


def _installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 0 else "unknown"


def _heading(console: Console, text: str) -> None:
    console.print()
    _line(console, text, 0)


def _finding(console: Console, state: str, text: str, mend: str, indent: int = 2) -> None:
    _line(console, f"{state:<3} {text}", indent, hang=4)
    if mend and state != "ok":
        _line(console, f"→ {mend}", indent + 4, hang=2)


def _line(console: Console, text: str, indent: int = 2, hang: int = 0) -> None:
    """One line, folded at the console's width below where its text begins; nothing in it steers the terminal."""
    import textwrap

    from vidcap.inspector.terminal import printable

    lead = " " * indent
    width = max(40, console.width)
    folded: Sequence[str] = textwrap.wrap(
        printable(text), width, initial_indent=lead, subsequent_indent=lead + " " * hang, break_on_hyphens=False
    )
    for line in folded or [""]:
        console.print(line, soft_wrap=True)
