"""A YAML file whose every value knows its line, so that an error can name it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from vidcap.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
At = tuple[str | int, ...]
KEYS = "pipelines/README.md"
MAX_BYTES = 4_000_000
"""A pipeline is a page of text; more is a mistake, or an attempt to exhaust memory with anchors."""


class YamlFile:
    """The parsed value, and the line of every path in it."""

    def __init__(self, path: Path, value: Any, lines: dict[At, int]) -> None:
        self.path = path
        self.value = value
        self.lines = lines

    @classmethod
    def read(cls, path: Path) -> YamlFile:
        """Parse safely: plain values only, no aliases (they can grow without bound), no duplicate keys."""
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ConfigError(f"`{path}` is larger than {MAX_BYTES} bytes", hint="this is not a pipeline YAML")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ConfigError(f"there is no file `{path}`", hint="give the path of a pipeline YAML") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read `{path}`: {error}", hint="give the path of a pipeline YAML") from error
        try:
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
                raise ConfigError(f"`{path}` uses YAML aliases", hint="write the value out")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            lines: dict[At, int] = {}
            value = _build(node, (), lines, path) if node is not None else None
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = getattr(error, "problem", error)
            raise ConfigError(f"{where}: not valid YAML: {problem}", hint="mend that line") from error
        if not isinstance(value, dict):
            raise ConfigError(f"`{path}` holds no mapping", hint="start from pipelines/demo.yaml")
        return cls(path, value, lines)

    def override(self, text: str) -> None:
        """Apply `key=value`; the value is YAML; `stages.NAME` selects a stage by its name, `sources.0` by its place."""
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"`--set {text}` is not key=value", hint="for example --set seed=3")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise ConfigError(f"`--set {text}`: the value is not valid YAML", hint="quote it") from error
        target: Any = self.value
        steps = key.split(".")
        for position, step in enumerate(steps):
            last = position == len(steps) - 1
            if isinstance(target, list):
                target = self._item(target, step, text)
                if last:
                    raise ConfigError(f"`--set {text}` names a whole stage", hint=f"name a key of it: {key}.options.…")
            elif not isinstance(target, dict):
                raise ConfigError(f"`--set {text}`: `{'.'.join(steps[:position])}` is a value", hint="shorten the path")
            elif last:
                target[step] = value
            else:
                target = target.setdefault(step, {})
                if target is None:
                    raise ConfigError(f"`--set {text}`: `{step}` is empty in the file", hint="give it a value there")

    def validate(self, model: type[Model], *, at: At = (), value: Any = None, keys: str = KEYS) -> Model:
        """`value` (or the whole file) as `model`; errors carry the line below the path `at` and name `keys` to read."""
        try:
            return model.model_validate(copy.deepcopy(self.value if value is None else value))
        except ValidationError as error:
            first = error.errors()[0]
            path = at + tuple(first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                key = str(path[-1])
                known = _fields(model, tuple(first["loc"][:-1]))
                near = get_close_matches(key, known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
                raise self.error(f"unknown key `{key}`", at=path, hint=hint) from error
            name = ".".join(str(part) for part in path)
            message = f"`{name}`: {message[:1].lower()}{message[1:]}"
            raise self.error(message, at=path, hint=f"{keys} lists every key") from error

    def error(self, message: str, *, at: At, hint: str) -> ConfigError:
        line = next((self.lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in self.lines), None)
        return ConfigError(f"{self.path}:{line}: {message}" if line else f"{self.path}: {message}", hint=hint)

    def _item(self, stages: Sequence[Any], name: str, text: str) -> Any:
        if name.isdecimal():
            if int(name) >= len(stages):
                raise ConfigError(f"`--set {text}`: there are {len(stages)} items", hint="they are counted from 0")
            return stages[int(name)]
        names = [str(item.get("stage")) for item in stages if isinstance(item, dict)]
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"its stages are: {', '.join(names)}"
            raise ConfigError(f"`--set {text}`: the pipeline has no stage `{name}`", hint=hint)
        return stages[names.index(name)]


def _build(node: yaml.Node, at: At, lines: dict[At, int], path: Path) -> Any:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in found:
                line = key_node.start_mark.line + 1
                what = f"key `{key}` appears twice" if key is not None else "a key is not plain text"
                raise ConfigError(f"{path}:{line}: {what}", hint="keep one")
            found[key] = _build(value_node, (*at, key), lines, path)
            lines[(*at, key)] = key_node.start_mark.line + 1
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*at, index), lines, path) for index, item in enumerate(node.value)]
    constructor = yaml.SafeLoader("")
    return constructor.construct_object(node)


def _fields(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys known at a location inside a model."""
    current: Any = model
    for step in loc:
        if isinstance(step, int):
            continue
        field = current.model_fields.get(step) if hasattr(current, "model_fields") else None
        if field is None:
            return []
        current = field.annotation
        for inner in (*getattr(current, "__args__", ()), current):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                current = inner
                break
    return sorted(getattr(current, "model_fields", {}))
