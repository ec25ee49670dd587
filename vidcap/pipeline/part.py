"""Runs one step of one part: source by source, journalled, then committed as column files and ledger records."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidcap.errors import InterruptedRunError, InvariantError, ItemError
from vidcap.media.evidence import Evidence
from vidcap.pipeline.columns import (
    KEY_COLUMNS,
    PartFolder,
    Row,
    absorb,
    count_clips,
    effective,
    key_of,
    scatter,
    verdict_columns,
    write_rows,
)
from vidcap.pipeline.embeddings import PartEmbeddings
from vidcap.pipeline.faults import guarded, verdict_of
from vidcap.pipeline.fetch import fetched
from vidcap.pipeline.inflight import Alive, InFlight
from vidcap.pipeline.journal import Entry, Journal, Work
from vidcap.pipeline.ledger import Ledger, Record
from vidcap.pipeline.part_lock import alone_in
from vidcap.pipeline.plan import ROW_COLUMNS, Part, Plan
from vidcap.pipeline.resident import plan_of, ready_stage
from vidcap.pipeline.run_lock import is_held_by
from vidcap.records import VERDICT_COLUMNS, Shot, Source, StageResult, Verdict, clip_key
from vidcap.seeds import digest_of
from vidcap.store import replacing_all, sweep, writing

_one_at_a_time = threading.Lock()
"""Backends are not safe to share between threads: a worker process runs one step at a time."""


@dataclass(frozen=True, slots=True)
class Task:
    """What travels to a worker: small values only."""

    output: str
    config: str
    prompt_folders: tuple[str, ...]
    part: Part
    stages: tuple[str, ...]
    """The stages to run, in order: those whose record does not match, and `decode` where its evidence is gone."""
    fingerprints: dict[str, str]
    token: str
    attempt: int = 1
    blame: str = ""
    item_timeout: float | None = None
    run: str = ""
    """The id in the lock of the run it belongs to; "" asks nothing of the lock."""


@dataclass(slots=True)
class Outcome:
    """What comes back."""

    part: int
    stages: tuple[str, ...]
    clips: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_step(task: Task) -> Outcome:
    """Run the task's stages over its part and commit them. Raises `TransientError` where another try may help."""
    output = Path(task.output)
    folder = PartFolder(output, task.part.number).path
    with _one_at_a_time, writing(output), alone_in(folder, meanwhile=lambda: check_stop(output, task.run)):
        sweep(folder)
        if task.stages == ("pack",):
            from vidcap.pipeline.packing import pack_part

            return pack_part(task)
        return _StepRun(task).run()


def stop_file(output: Path) -> Path:
    """Present while the driver asks its workers to stop after the source at hand."""
    return output / "_vidcap" / "stop"


def check_stop(output: Path, run: str = "") -> None:
    """Raises `InterruptedRunError` where the driver asks to stop, or is gone and another run has the folder."""
    if stop_file(output).exists() or (run and not is_held_by(output, run)):
        raise InterruptedRunError("asked to stop", hint="run the same command again to continue")


def embedding_fingerprint(plan: Plan, fingerprints: Mapping[str, str]) -> str:
    """What embeddings were made from: the similarity backend, the spans, the decoded evidence."""
    config = plan.config.stage("score")
    backend = config.backend.model_dump_json() if config and config.backend else ""
    return digest_of("embeddings", backend, fingerprints["decode"], fingerprints["trim"])


_NOTHING = (0.0, 0.0)


@contextmanager
def _timed(work: Work, stage: str) -> Iterator[None]:
    """Book the seconds and CPU-seconds of what runs inside, also where it leaves early."""
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        work[stage] = (time.perf_counter() - started, time.process_time() - cpu_started)


class _StepRun:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.output = Path(task.output)
        self.plan = plan_of(task.config, task.prompt_folders)
        self.folder = PartFolder(self.output, task.part.number)
        self.embeddings = PartEmbeddings(self.folder.path, embedding_fingerprint(self.plan, task.fingerprints))
        self.stages = {name: self._ready(name) for name in task.stages}
        self.earlier = self._earlier()

    def _ready(self, name: str) -> Any:
        return ready_stage(self.plan, name, embeddings=self.embeddings if name == "score" else None)

    def _row_stages(self) -> list[str]:
        """All stages of the pipeline up to this step that give clip columns, and are or will be on disk."""
        last = max(self.plan.order.index(name) for name in self.task.stages)
        return [name for name in self.plan.order[: last + 1] if name != "decode"]

    def _earlier(self) -> list[str]:
        """Stages whose columns are on disk and wanted here: those before the step, and `trim` for evidence alone."""
        wanted = self._row_stages()
        if "detect_shots" not in self.task.stages:
            wanted += [name for name in ("detect_shots", "trim") if name not in wanted]
        return [n for n in wanted if n not in self.task.stages and self.folder.stage_file(n).is_file()]

    def run(self) -> Outcome:
        fingerprints = {name: self.task.fingerprints[name] for name in self.task.stages}
        # Evidence that an earlier attempt made for fewer stages does not do for these.
        made_for = {"evidence": ",".join(sorted(self.plan.evidence))} if "decode" in self.task.stages else {}
        journal = Journal(self.folder.path / "journal.jsonl", fingerprints | made_for)
        done = journal.entries()
        flight = InFlight(self.folder.path, self.task.token, blame=self.task.blame)
        rows_before = self._rows_before()
        with self._asking_ahead(rows_before, done, flight.deaths):
            for source in self.task.part.sources:
                check_stop(self.output, self.task.run)
                if source.id in done:
                    continue
                poison = flight.verdict(source.id)
                with flight.working_on(source.id, timeout=self.task.item_timeout) as alive:
                    if poison is None:
                        entry = self._worked(source, rows_before, alive)
                    else:
                        entry = self._poisoned(source, rows_before, poison)
                journal.append(entry)
                done[source.id] = entry
        outcome = self._commit(done)
        journal.clear()
        flight.clear()
        return outcome

    def _asking_ahead(
        self, rows_before: Mapping[str, list[Row]] | None, done: Mapping[str, Entry], deaths: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """Lets the step's first stage see the rows of all sources that are left, where it can work ahead on them.

        Not after a death, of this attempt or an earlier one: what happens then must be the doing of the source at hand.
        """
        name = self.task.stages[0]
        if rows_before is None or self.task.blame or deaths or not hasattr(self.stages[name], "ahead"):
            return nullcontext()
        rows = [row for source in self.task.part.sources if source.id not in done for row in rows_before[source.id]]
        # Rows come source by source: more than one's tables are never held.
        evidence = lru_cache(maxsize=1)(lambda source_id: Evidence(self.folder.evidence(source_id)))
        ahead: AbstractContextManager[None] = self.stages[name].ahead(self._visible(name, rows)[1], evidence)
        return ahead

    def _rows_before(self) -> dict[str, list[Row]] | None:
        """Rows of earlier steps by source, or None where this step makes the rows itself."""
        if "detect_shots" in self.task.stages:
            return None
        found: dict[str, list[Row]] = {source.id: [] for source in self.task.part.sources}
        for row in self.folder.rows(self.earlier):
            found[row["source_id"]].append(row)
        return found

    def _worked(self, source: Source, rows_before: dict[str, list[Row]] | None, alive: Alive) -> Entry:
        work: Work = {}
        return replace(self._source(source, rows_before, work, alive), work=work)

    def _source(self, source: Source, rows_before: dict[str, list[Row]] | None, work: Work, alive: Alive) -> Entry:
        evidence = Evidence(self.folder.evidence(source.id))
        source_row: Row | None = None
        added: dict[str, list[Row]] = {}
        rows = rows_before[source.id] if rows_before is not None else []
        for name in self.task.stages:
            alive()
            with _timed(work, name):
                if name == "decode":
                    source_row = self._decode(source, alive)
                    if source_row["verdict"]:
                        return self._stopped(source, rows_before, source_row)
                    evidence = Evidence(self.folder.evidence(source.id))
                    if "trim" in self.earlier:
                        self._compact(evidence, rows)  # only the evidence was asked for again
                elif name == "detect_shots":
                    try:
                        shots = self.stages[name].run(evidence)
                    except ItemError as error:
                        source_row = {**(source_row or {}), **verdict_columns(verdict_of(name, error))}
                        return self._stopped(source, None, source_row)
                    rows = [self._row(source, shot) for shot in shots]
                    added[name] = [{**row, **verdict_columns(None)} for row in rows]
                    for row in rows:
                        row["verdicts"] = {}
                else:
                    added[name] = self._clip_stage(name, rows, evidence, alive)
                    for row, values in zip(rows, added[name], strict=True):
                        absorb(row, name, values)
                    if name == "trim":
                        for row in rows:
                            row["key"] = key_of(row)
                        self._compact(evidence, rows)
        return Entry(source.id, source_row, added)

    def _decode(self, source: Source, alive: Alive) -> Row:
        try:
            with fetched(source, self.folder.path / "scratch") as local:
                row: Row = self.stages["decode"].run(local, self.folder.evidence(source.id), lambda frames: alive())
            return {**row, **verdict_columns(None)}
        except Exception as error:  # one source's bytes may break any library; it must not take the part along
            return {**_source_columns(source), **verdict_columns(verdict_of("decode", error))}

    def _row(self, source: Source, shot: Shot) -> Row:
        key = clip_key(source.id, shot.first, shot.last)
        return {
            "source_id": source.id,
            "part": self.task.part.number,
            "shot_first": shot.first,
            "shot_last": shot.last,
            "shot_key": key,
        }

    def _visible(self, name: str, rows: Sequence[Row]) -> tuple[list[int], list[Row]]:
        """The positions of the rows that none of a stage's ancestors stopped, and what it sees of them."""
        ancestors = [stage for stage in self.plan.order if stage in self.plan.ancestors(name)]
        alive = [index for index, row in enumerate(rows) if effective(row, ancestors) is None]
        # Only what the stage declares: a column it read in silence would escape its fingerprint.
        seen = ROW_COLUMNS | self.plan.classes[name].needs | self.plan.classes[name].uses
        return alive, [{column: value for column, value in rows[index].items() if column in seen} for index in alive]

    def _clip_stage(self, name: str, rows: list[Row], evidence: Evidence, alive: Alive) -> list[Row]:
        """Run a stage over the rows that none of its ancestors stopped."""
        left, visible = self._visible(name, rows)
        result = guarded(self.stages[name], visible, lambda _: evidence, alive)
        if name == "score" and rows:
            self.embeddings.flush(rows[0]["source_id"])
            self.embeddings.forget(rows[0]["source_id"])
        return scatter(name, rows, left, result)

    def _compact(self, evidence: Evidence, rows: Sequence[Row]) -> None:
        """After trim only what kept spans need remains, unless the YAML keeps evidence for good."""
        if self.plan.config.evidence.keep == "always":
            return
        spans = [(row["first_frame"], row["last_frame"]) for row in rows if "trim" not in row["verdicts"]]
        evidence.keep_spans(spans)
        evidence.drop_thumbnails()

    def _poisoned(self, source: Source, rows_before: dict[str, list[Row]] | None, verdict: Verdict) -> Entry:
        """The entry of a source that killed its worker."""
        return self._stopped(source, rows_before, {**_source_columns(source), **verdict_columns(verdict)})

    def _stopped(self, source: Source, rows_before: dict[str, list[Row]] | None, source_row: Row) -> Entry:
        """The entry of a source that cannot go on.

        Where its clips are known from an earlier step the source stays done, and each of them is quarantined in the
        first stage that runs now.
        """
        stages = [name for name in self.task.stages if name != "decode"]
        if rows_before is None:
            return Entry(source.id, source_row, {name: [] for name in stages})
        rows = rows_before[source.id]
        added = {
            name: scatter(name, rows, [], StageResult({column: [] for column in self.plan.classes[name].gives}))
            for name in stages
        }
        for values in added[stages[0]] if stages else []:
            values.update({name: source_row[name] for name in VERDICT_COLUMNS})
        before = {row["id"]: row for row in self.folder.sources()}
        return Entry(source.id, before[source.id] if "decode" in self.task.stages else None, added)

    def _commit(self, done: Mapping[str, Entry]) -> Outcome:
        part, ledger = self.task.part, Ledger(self.output)
        entries = [done[source.id] for source in part.sources]
        ledger.forget(part.number, *self.task.stages)
        seconds = {n: sum(entry.work.get(n, _NOTHING)[0] for entry in entries) for n in self.task.stages}
        cpu_seconds = {n: sum(entry.work.get(n, _NOTHING)[1] for entry in entries) for n in self.task.stages}
        digests: dict[str, dict[str, str]] = {}
        given: dict[str, list[Row]] = {}
        with replacing_all(self.folder.path) as temporary_of:
            for name in self.task.stages:
                if name == "decode":
                    rows = [entry.source_row or {} for entry in entries]
                    if [row.get("id") for row in rows] != [source.id for source in part.sources]:
                        raise InvariantError(f"part {part.number}: sources went in that did not come out")
                else:
                    rows = [row for entry in entries for row in entry.added[name]]
                given[name] = rows
                path = self.folder.stage_file(name)
                digests[name] = {self.folder.relative(path): write_rows(temporary_of(path), name, rows)}
        on_disk = [name for name in self._row_stages() if self.folder.stage_file(name).is_file()]
        rows = self.folder.rows(on_disk, known=given, only=KEY_COLUMNS)
        sources = count_sources(given["decode"] if "decode" in given else self.folder.sources())
        if sources["in"] != len(part.sources) or len({row["key"] for row in rows}) != len(rows):
            raise InvariantError(f"part {part.number}: {sources} of {len(part.sources)} sources, or a key twice")
        records = []
        for name in self.task.stages:
            upto = on_disk[: on_disk.index(name) + 1] if name in on_disk else []
            clips = count_clips(rows, upto)
            if clips["found"] != clips["rejected"] + clips["quarantined"] + clips["pending"]:
                raise InvariantError(f"part {part.number}: clips do not add up after `{name}`: {clips}")
            records.append(
                Record(
                    part=part.number,
                    stage=name,
                    version=self.plan.classes[name].version,
                    fingerprint=self.task.fingerprints[name],
                    upstream={above: self.task.fingerprints[above] for above in self.plan.upstream[name]},
                    outputs=digests[name],
                    sources=sources,
                    clips=clips,
                    attempt=self.task.attempt,
                    seconds=round(seconds[name], 3),
                    cpu_seconds=round(cpu_seconds[name], 3),
                )
            )
        ledger.commit(*records)
        return Outcome(part.number, self.task.stages, count_clips(rows, on_disk), seconds)


def count_sources(rows: Sequence[Row]) -> dict[str, int]:
    counts = {"in": len(rows), "done": 0, "rejected": 0, "quarantined": 0}
    for row in rows:
        counts[row["verdict"] or "done"] += 1
    return counts


def _source_columns(source: Source) -> Row:
    """The source row of one that gave no facts."""
    return {
        "id": source.id,
        "row": source.row,
        "uri": source.uri,
        "bytes": source.bytes,
        "license": source.license,
        "meta": source.meta,
    }
