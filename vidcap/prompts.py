"""Load, check, render and fingerprint a prompt: a Markdown file with front matter and `{slot}` placeholders.

    ---
    name: fuse_av                     as the file is called
    task: av                          what the stage asks for
    version: 1
    max_words: 60                     of an answer; 0 means no limit
    slots: {video: what is seen, audio: what is heard}
    ---
    The body. `{video}` stands for the slot's value; braces around anything else are text.

A value is inserted as it is and never looked through again, so that braces in a caption stay braces.
"""

from __future__ import annotations

import importlib.resources
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vidcap.errors import PromptError
from vidcap.seeds import digest_of

MAX_BYTES = 64_000
"""A prompt is a page of text; more is another file given by mistake."""
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FRONT = re.compile(r"---\n(.*?)\n---\n(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Direction overrides and tag characters are invisible to a reader of the file but not to a model.
_HIDDEN = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, *range(0xE0000, 0xE0080)}


class _Front(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    task: str = Field(min_length=1)
    version: int = Field(default=1, ge=1)
    max_words: int = Field(default=0, ge=0)
    slots: dict[str, str] = Field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A checked prompt. `digest` covers the whole file (line ends and trailing blanks aside)."""

    name: str
    body: str
    slots: tuple[str, ...]
    digest: str
    task: str = ""
    version: int = 1
    max_words: int = 0
    meanings: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def lead_in(self) -> str:
        """The last line of the body, which the model continues."""
        return self.body.rstrip().rpartition("\n")[2].strip()

    def check(self, given: Iterable[str]) -> None:
        """Raise `PromptError` unless the prompt asks for exactly the slots `given` by the stage."""
        offered = set(given)
        unknown = sorted(set(self.slots) - offered)
        missing = sorted(offered - set(self.slots))
        if unknown:
            hint = f"the stage fills: {', '.join(sorted(offered)) or 'none'}"
            raise PromptError(f"prompt `{self.name}` has a slot `{unknown[0]}` that nothing fills", hint=hint)
        if missing:
            hint = f"write {{{missing[0]}}} into its body and describe it under `slots`"
            raise PromptError(f"prompt `{self.name}` has no slot `{missing[0]}`", hint=hint)

    def render(self, slots: Mapping[str, str]) -> str:
        """The text to send. Values lose control characters, and line breaks become spaces.

        Raises `PromptError` for a missing or unknown slot.
        """
        self.check(slots)
        values = {name: plain(value) for name, value in slots.items()}
        return PLACEHOLDER.sub(lambda match: values[match[1]], self.body)


def plain(value: str) -> str:
    """One line: white space folded to single spaces; control, surrogate and invisible steering characters removed."""
    folded = " ".join(value.split())
    if folded.isascii() and folded.isprintable():
        return folded
    kept = (c for c in folded if unicodedata.category(c) not in {"Cc", "Cs"} and ord(c) not in _HIDDEN)
    return " ".join("".join(kept).split())


def load(name_or_path: str, *, search: Sequence[Path] = ()) -> Prompt:
    """A prompt by name (`fuse_av`) or path (`my/fuse.md`).

    Searched in this order: an existing path that ends in `.md`; the folders of `search`; `./prompts`; the repository's
    `prompts/`; the copy inside the package. Raises `PromptError`.
    """
    if name_or_path.endswith(".md"):
        for path in (Path(name_or_path), *(folder / name_or_path for folder in search)):
            if path.is_file():
                return _read(path)
        raise PromptError(f"there is no prompt file `{name_or_path}`", hint="give an existing path, or a prompt's name")
    if not _NAME.fullmatch(name_or_path):
        hint = "a name has letters, digits, `_` and `-`; a path ends in .md"
        raise PromptError(f"`{name_or_path}` is no name of a prompt", hint=hint)
    for folder in _folders(search):
        if (path := folder / f"{name_or_path}.md").is_file():
            return _read(path)
    packaged = importlib.resources.files("vidcap") / "_data" / "prompts" / f"{name_or_path}.md"
    if packaged.is_file():
        return parse(packaged.read_bytes(), name=name_or_path, where=f"vidcap/_data/prompts/{name_or_path}.md")
    known = names(search=search)
    near = get_close_matches(name_or_path, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known) or 'none'}"
    raise PromptError(f"there is no prompt `{name_or_path}`", hint=hint)


def names(*, search: Sequence[Path] = ()) -> list[str]:
    """The names `load` finds, sorted."""
    found = {path.stem for folder in _folders(search) for path in folder.glob("*.md")}
    packaged = importlib.resources.files("vidcap") / "_data" / "prompts"
    if packaged.is_dir():
        found |= {item.name.removesuffix(".md") for item in packaged.iterdir() if item.name.endswith(".md")}
    return sorted(name for name in found if name != "README" and _NAME.fullmatch(name))


def parse(data: bytes, *, name: str, where: str) -> Prompt:
    """A prompt from the bytes of its file. `name` is the file's stem, `where` goes into errors."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{where}: not UTF-8 text", hint="save the file as UTF-8") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    text = "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"
    match = _FRONT.fullmatch(text)
    if match is None:
        raise PromptError(f"{where}: no front matter", hint="begin with `---`, keys, `---`; see prompts/README.md")
    front = _front(match[1], where)
    body = match[2].strip("\n")
    if not body.strip():
        raise PromptError(f"{where}: the body is empty", hint="write the prompt below the second `---`")
    if front.name != name:
        hint = f"write `name: {name}`, or rename the file"
        raise PromptError(f"{where}: its name is `{front.name}` but the file is `{name}.md`", hint=hint)
    used = set(PLACEHOLDER.findall(body))
    for slot in sorted(used - set(front.slots)):
        near = get_close_matches(slot, front.slots, n=1)
        hint = f"did you mean {{{near[0]}}}?" if near else "describe it under `slots`"
        raise PromptError(f"{where}: the body has {{{slot}}}, which is no slot", hint=hint)
    for slot in front.slots:
        if slot not in used:
            raise PromptError(f"{where}: slot `{slot}` does not stand in the body", hint=f"use {{{slot}}}, or drop it")
    return Prompt(
        name=name,
        body=body,
        slots=tuple(front.slots),
        digest=digest_of(text),
        task=front.task,
        version=front.version,
        max_words=front.max_words,
        meanings=dict(front.slots),
    )


def _folders(search: Sequence[Path]) -> list[Path]:
    folders = [*search, Path("prompts")]
    repository = Path(__file__).resolve().parent.parent
    # In an installed package this is site-packages, where a folder `prompts` belongs to somebody else.
    if (repository / "pyproject.toml").is_file():
        folders.append(repository / "prompts")
    return folders


def _read(path: Path) -> Prompt:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PromptError(f"cannot read `{path}`: {error.strerror}", hint="check its permissions") from error
    if len(data) > MAX_BYTES:
        raise PromptError(f"`{path}` is larger than {MAX_BYTES} bytes", hint="this is not a prompt")
    return parse(data, name=path.stem, where=str(path))


def _front(text: str, where: str) -> _Front:
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise PromptError(f"{where}: the front matter uses YAML aliases", hint="write the value out")
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), where)
        value: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PromptError(f"{where}: the front matter is not valid YAML", hint="see prompts/README.md") from error
    try:
        return _Front.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        hint = f"keys are: {', '.join(_Front.model_fields)}"
        raise PromptError(f"{where}: `{key}`: {first['msg'].lower()}", hint=hint) from error


def _refuse_repeated_keys(node: yaml.Node | None, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise PromptError(f"{where}: key `{name}` appears twice", hint="keep one")
            seen.add(name)
            _refuse_repeated_keys(value, where)
