"""`vidcap backends`: which backends there are, by role."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("role", required=False)
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def backends(role: str | None, as_json: bool) -> None:
    """List the backends of ROLE, or of every role, and whether each can be imported here."""
    from vidcap.backends import registry
    from vidcap.errors import VidcapError

    rows = []
    for current in [role] if role else registry.ROLES:
        for name in registry.names(current):
            try:
                cls = registry.get(current, name)
                kind = "embedded" if cls.embedded else "model"
                about = (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""
            except (ImportError, VidcapError) as error:
                kind, about = "not here", str(error)
            rows.append({"role": current, "name": name, "kind": kind, "about": about})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("role", "name", "kind", "about", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(row[column]) for column in ("role", "name", "kind", "about")))
    Console().print(table)
