"""The plan: manifest → numbered parts × steps, checked as a whole before anything runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vidcap import prompts
from vidcap.errors import ConfigError
from vidcap.media.evidence import PARTS
from vidcap.pipeline.config import PipelineConfig, StageConfig
from vidcap.records import Source
from vidcap.seeds import digest_of
from vidcap.stages.registry import GLOBAL_STAGES, STAGES, stage_class
from vidcap.store import replacing

ROW_COLUMNS = frozenset({"key", "source_id", "part", "shot_first", "shot_last", "shot_key"})
"""Every clip row has these from `detect_shots` on."""
SEEDLESS = ("decode", "detect_shots")


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Neighbouring stages on one pool: the unit of scheduling."""

    stages: tuple[str, ...]
    pool: str


class Plan:
    """What a configuration means: its stages with their dependencies, fingerprints and steps."""

    def __init__(self, config: PipelineConfig, *, prompt_folders: Sequence[Path] = ()) -> None:
        self.config = config
        self.prompt_folders = tuple(prompt_folders)
        self._prompts: dict[str, dict[str, prompts.Prompt]] = {}
        self.classes = {stage.stage: stage_class(stage.stage) for stage in config.stages}
        self.order = [stage.stage for stage in config.stages]
        self._check_order()
        self.upstream = {name: self._upstream(name) for name in self.order}
        self._check_evidence()

    def _check_order(self) -> None:
        expected = [name for name in STAGES if name in self.classes]
        for name in ("decode", "detect_shots", "trim"):
            if name not in self.classes:
                raise ConfigError(
                    f"the pipeline has no stage `{name}`", hint="every pipeline starts: decode, detect_shots, trim"
                )
        late = [name for name in self.order if name in (*GLOBAL_STAGES, "pack")]
        at_the_end = self.order[len(self.order) - len(late) :] == late
        if self.order[:3] != expected[:3] or not at_the_end or late != sorted(late, reverse=True):
            raise ConfigError(
                f"the stages stand in the order {', '.join(self.order)}",
                hint=f"the order that works: {', '.join(expected)}",
            )
        have = set(ROW_COLUMNS)
        for name in self.order:
            needs = set(getattr(self.classes[name], "needs", ())) - {"evidence", "thumbnails"}
            missing = sorted(needs - have)
            if missing:
                giver = self._giver(missing[0])
                hint = f"put `{giver}` before it" if giver else "no stage gives it"
                raise ConfigError(f"stage `{name}` needs `{missing[0]}`, which no stage before it gives", hint=hint)
            have |= set(getattr(self.classes[name], "gives", ()))

    @staticmethod
    def _giver(column: str) -> str | None:
        return next((name for name in STAGES if column in getattr(stage_class(name), "gives", ())), None)

    def _upstream(self, name: str) -> tuple[str, ...]:
        """The stages this one's result depends on directly: the givers of its columns, and what makes its rows.

        `pack` writes everything into the samples, so it depends on every stage but the selection, which reaches it as
        the keep-list of its part.
        """
        before = self.order[: self.order.index(name)]
        if name == "decode":
            return ()
        if name == "detect_shots":
            return ("decode",)
        if name in ("pack", *GLOBAL_STAGES):
            return tuple(stage for stage in before if stage not in GLOBAL_STAGES)
        needs = set(self.classes[name].needs)
        reads = needs | set(self.classes[name].uses)
        direct = {stage for stage in before if reads & set(getattr(self.classes[stage], "gives", ()))}
        direct |= {"detect_shots"} if name == "trim" else {"trim"}
        if "evidence" in needs:
            direct.add("decode")
        return tuple(stage for stage in before if stage in direct)

    def ancestors(self, name: str) -> frozenset[str]:
        found: set[str] = set()
        todo = list(self.upstream[name])
        while todo:
            stage = todo.pop()
            if stage not in found:
                found.add(stage)
                todo.extend(self.upstream[stage])
        return frozenset(found)

    @cached_property
    def evidence(self) -> frozenset[str]:
        """What `decode` makes beside tables and thumbnails: what a stage sees or samples carry, and what YAML asks."""
        asked = self.config.stage("decode")
        named = asked.options if asked else {}
        return frozenset(part for part in PARTS if named.get(part) or (named.get(part) is None and self._seen_by(part)))

    def _seen_by(self, part: str) -> str | None:
        """The first stage that cannot do without this part of the evidence."""
        pack = self.config.stage("pack")
        carried = part == "sound" and pack is not None and pack.options.get("audio") == "flac"
        for name, cls in self.classes.items():
            if "evidence" in cls.needs and part in getattr(cls, "sees", ()):
                return name
        return "pack" if carried else None

    def _check_evidence(self) -> None:
        for part in sorted(PARTS - self.evidence):
            looker = self._seen_by(part)
            if looker:
                raise ConfigError(
                    f"stage `{looker}` needs what `decode` is told not to make: {part}",
                    hint=f"remove `{part}: false` from the options of `decode`",
                )

    def options_of(self, stage: StageConfig) -> Any:
        """A stage's options, checked; those of `decode` say which evidence it makes."""
        options = self.classes[stage.stage].Options.model_validate(stage.options)
        if stage.stage != "decode":
            return options
        return options.model_copy(update={part: part in self.evidence for part in PARTS})

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The steps before selection, in order; packing is a step of its own after it."""
        steps: list[Step] = []
        for stage in self.config.stages:
            if stage.stage in (*GLOBAL_STAGES, "pack"):
                continue
            if steps and steps[-1].pool == stage.pool:
                steps[-1] = Step((*steps[-1].stages, stage.stage), stage.pool)
            else:
                steps.append(Step((stage.stage,), stage.pool))
        return tuple(steps)

    @cached_property
    def pack_step(self) -> Step | None:
        stage = self.config.stage("pack")
        return Step(("pack",), stage.pool) if stage else None

    def prompts_of(self, stage: StageConfig) -> dict[str, prompts.Prompt]:
        """Read once: a file that changes while a run goes on changes the next run."""
        if stage.stage not in self._prompts:
            slots = {**getattr(self.classes[stage.stage], "prompt_slots", {}), **stage.prompts}
            self._prompts[stage.stage] = {
                slot: prompts.load(name, search=self.prompt_folders) for slot, name in slots.items()
            }
        return self._prompts[stage.stage]

    @cached_property
    def _own(self) -> dict[str, str]:
        """What of a stage's fingerprint is the same for every part."""
        found = {}
        for stage in self.config.stages:
            cls = self.classes[stage.stage]
            options = self.options_of(stage)
            made_by = {
                "version": getattr(cls, "version", 1),
                # What evidence there is changes no row of `decode`: where some is missing it is made again.
                "options": options.model_dump(mode="json", exclude=PARTS if stage.stage == "decode" else None),
                "backend": stage.backend.identity(cls.role) if stage.backend else None,
                "llm": stage.llm.identity("llm") if stage.llm else None,
                "prompts": {slot: prompt.digest for slot, prompt in sorted(self.prompts_of(stage).items())},
                "seed": None if stage.stage in SEEDLESS else self.config.seed,
                # These two read and write media themselves: another decoder or encoder may give other bytes.
                "media": cls.libraries(options) if stage.stage in ("decode", "pack") else None,
                "name": self.config.name if stage.stage == "pack" else None,
            }
            if stage.stage == "trim" and "sound" not in self.evidence:
                made_by["heard"] = False  # it cannot say which clips are silent
            found[stage.stage] = json.dumps(made_by, sort_keys=True)
        return found

    def identities(self) -> dict[str, str]:
        """Stage → its backend's identity (and its language model's), for people and provenance."""
        found = {}
        for stage in self.config.stages:
            own = json.loads(self._own[stage.stage])
            both = [name for name in (own["backend"], own["llm"]) if name]
            if both:
                found[stage.stage] = " + ".join(both)
        return found

    def fingerprints(self, part: Part) -> dict[str, str]:
        """Stage → fingerprint for this part: of everything before selection, chained through what each depends on."""
        sources = json.dumps([_source_content(source) for source in part.sources], sort_keys=True)
        found: dict[str, str] = {}
        for name in self.order:
            if name in (*GLOBAL_STAGES, "pack"):
                continue
            above = [found[stage] for stage in self.upstream[name]]
            found[name] = digest_of(name, self._own[name], sources if name == "decode" else "", *above)
        return found

    def selection_fingerprint(self, scored: Sequence[dict[str, str]]) -> str:
        """Of the selection over all parts: its options, and the fingerprints of all they were scored with."""
        return digest_of("select", self._own.get("select", ""), json.dumps(list(scored), sort_keys=True))

    def pack_fingerprint(self, fingerprints: dict[str, str], keep_digest: str) -> str:
        """Of packing one part: all columns of its samples, and which clips are kept."""
        return digest_of("pack", self._own["pack"], json.dumps(fingerprints, sort_keys=True), keep_digest)


def _source_content(source: Source) -> dict[str, Any]:
    content = asdict(source)
    del content["path"]  # where the corpus is mounted does not matter
    return content


def cut_parts(sources: Sequence[Source], *, part_bytes: int, sources_per_part: int, first: int = 0) -> list[Part]:
    """Parts in manifest order: a part ends where the next source would exceed the bytes, or at the count."""
    parts: list[Part] = []
    current: list[Source] = []
    held = 0
    for source in sources:
        if current and (held + source.bytes > part_bytes or len(current) >= sources_per_part):
            parts.append(Part(first + len(parts), tuple(current)))
            current, held = [], 0
        current.append(source)
        held += source.bytes
    if current:
        parts.append(Part(first + len(parts), tuple(current)))
    return parts


def load_parts(output: Path) -> list[Part]:
    """The parts of an existing run."""
    parts = []
    with contextlib.suppress(FileNotFoundError), (output / "_vidcap" / "plan.jsonl").open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                row = json.loads(line)
                parts.append(Part(row["part"], tuple(Source(**source) for source in row["sources"])))
    return parts


def extend_parts(known: Sequence[Part], sources: Sequence[Source], *, part_bytes: int, per_part: int) -> list[Part]:
    """Known parts keep their number and members; sources they do not hold are appended as new parts.

    A known source's row is refreshed (its size may have changed, the corpus may have moved). Its manifest row number
    stays, so that a duplicate's winner does not change when the manifest grows.
    """
    current = {source.id: source for source in sources}
    held = {source.id for part in known for source in part.sources}
    old = []
    for part in known:
        members = []
        for source in part.sources:
            now = current.get(source.id, source)
            members.append(now if now.row == source.row else replace(now, row=source.row))
        old.append(Part(part.number, tuple(members)))
    rows = 1 + max((source.row for part in known for source in part.sources), default=-1)
    new = [replace(s, row=rows + i) for i, s in enumerate(s for s in sources if s.id not in held)]
    first = max((part.number for part in known), default=-1) + 1
    return old + cut_parts(new, part_bytes=part_bytes, sources_per_part=per_part, first=first)


def _without_secrets(source: Source) -> dict[str, Any]:
    """As it may lie on a disk: the manifest is read again by every run, so an address needs no signature here."""
    return asdict(replace(source, path=source.uri) if "://" in source.path else source)


def save_parts(output: Path, parts: Sequence[Part]) -> None:
    """Part by part: a plan of 100,000 parts is not held as text."""
    with replacing(output / "_vidcap" / "plan.jsonl") as temporary, temporary.open("w", encoding="ascii") as file:
        for part in parts:
            row = {"part": part.number, "sources": [_without_secrets(source) for source in part.sources]}
            file.write(json.dumps(row, ensure_ascii=True) + "\n")
