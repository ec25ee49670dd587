"""Packs one part: its chosen clips become shards, and a record says so."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from vidcap.backends import registry
from vidcap.errors import ItemError
from vidcap.media.evidence import Evidence
from vidcap.pipeline.columns import PartFolder, Row, absorb, count_clips, effective, file_digest, scatter, write_stage
from vidcap.pipeline.fetch import fetched
from vidcap.pipeline.inflight import Alive, InFlight
from vidcap.pipeline.journal import Journal
from vidcap.pipeline.ledger import Ledger, Record
from vidcap.pipeline.part import Outcome, Task, check_stop, count_sources
from vidcap.pipeline.plan import Plan, load_parts
from vidcap.pipeline.resident import plan_of, ready_stage
from vidcap.records import Source
from vidcap.shards.card import write_cards
from vidcap.shards.data_card import Recipe
from vidcap.shards.statistics import Statistics, statistics_of
from vidcap.shards.writer import ShardInfo, remove_stale, write_sizes
from vidcap.stages.pack import Pack, Provenance
from vidcap.store import PosixStore, sweep

STATISTICS = "statistics.json"
"""What the samples of a part hold, in its folder: the cards of a run are sums of these."""


def shards_folder(output: Path) -> Path:
    return output / "shards"


def pack_part(task: Task) -> Outcome:
    """Run `pack` over one part and commit it. Killed half-way, it starts over: no shard is visible before all are."""
    started, cpu_started = time.perf_counter(), time.process_time()
    output = Path(task.output)
    plan = plan_of(task.config, task.prompt_folders)
    folder = PartFolder(output, task.part.number)
    stages = [name for name in plan.order if name not in ("decode", "pack")]
    rows = folder.rows(stages)
    chosen = sorted((i for i, row in enumerate(rows) if effective(row, stages) is None), key=lambda i: rows[i]["key"])
    source_rows = {row["id"]: row for row in folder.sources()}
    stage: Pack = ready_stage(plan, "pack")
    ledger = Ledger(output)
    ledger.forget(task.part.number, "pack")
    scratch = folder.path / "scratch"
    flight = InFlight(folder.path, task.token, blame=task.blame)
    alive: Alive = lambda: None  # noqa: E731 - the item's own takes its place

    @contextlib.contextmanager
    def local(source: Source) -> Iterator[Source]:
        """The source where it can be cut, unless workers have died on it."""
        poison = flight.verdict(source.id)
        if poison is not None:
            raise ItemError(poison.reason, poison.detail)
        nonlocal alive
        with flight.working_on(source.id, timeout=task.item_timeout) as alive, fetched(source, scratch) as here:
            yield here

    try:
        packed = stage.run(
            [rows[index] for index in chosen],
            {source.id: (source, source_rows[source.id]) for source in task.part.sources},
            lambda source_id: Evidence(folder.evidence(source_id)),
            folder=shards_folder(output),
            scratch=scratch,
            name=plan.config.name,
            part=task.part.number,
            provenance=provenance(plan),
            local=local,
            check_stop=lambda: check_stop(output, task.run),
            on_clip=lambda: alive(),
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    remove_stale(shards_folder(output), plan.config.name, task.part.number, [shard.name for shard in packed.shards])
    added = scatter("pack", rows, chosen, packed.result)
    path = folder.stage_file("pack")
    outputs = {folder.relative(path): write_stage(path, "pack", added)}
    for shard in packed.shards:
        tar = shards_folder(output) / shard.name
        outputs[folder.relative(tar)] = shard.sha256
        outputs[folder.relative(tar.with_suffix(".parquet"))] = file_digest(tar.with_suffix(".parquet"))
    counted = statistics_of(
        [shards_folder(output) / Path(shard.name).with_suffix(".parquet") for shard in packed.shards]
    )
    PosixStore(folder.path).write(STATISTICS, counted.to_bytes())
    outputs[folder.relative(folder.path / STATISTICS)] = file_digest(folder.path / STATISTICS)
    for row, values in zip(rows, added, strict=True):
        absorb(row, "pack", values)
    clips = count_clips(rows, [*stages, "pack"])
    clips["kept"] = clips.pop("pending")
    seconds = time.perf_counter() - started
    ledger.commit(
        Record(
            part=task.part.number,
            stage="pack",
            version=stage.version,
            fingerprint=task.fingerprints["pack"],
            upstream={name: print_ for name, print_ in task.fingerprints.items() if name != "pack"},
            outputs=outputs,
            sources=count_sources(list(source_rows.values())),
            clips=clips,
            attempt=task.attempt,
            seconds=round(seconds, 3),
            cpu_seconds=round(time.process_time() - cpu_started, 3),
        )
    )
    flight.clear()
    _drop_evidence(plan, folder, list(source_rows.values()))
    return Outcome(task.part.number, ("pack",), clips, {"pack": seconds})


def provenance(plan: Plan) -> Provenance:
    """What stands in every sample: the stages, backends and prompts that made it; the selection only chose it."""
    stages = {name: plan.classes[name].version for name in plan.order if name != "select"}
    prompts: dict[str, str] = {}
    embedded = True
    for config in plan.config.stages:
        for slot, prompt in plan.prompts_of(config).items():
            prompts[f"{config.stage}.{slot}"] = f"{prompt.name}@{prompt.digest}"
        for role, ref in ((getattr(plan.classes[config.stage], "role", None), config.backend), ("llm", config.llm)):
            if role and ref:
                embedded = embedded and bool(registry.get(role, ref.name).embedded)
    return Provenance(plan.identities(), prompts, stages, embedded)


def recipe(plan: Plan) -> Recipe:
    """What the data card says of how the samples were made: as in the samples, and the selection with its options."""
    made = provenance(plan)
    return Recipe(
        backends=made.backends,
        prompts=made.prompts,
        stages={name: plan.classes[name].version for name in plan.order},
        options={stage.stage: stage.options for stage in plan.config.stages},
        seed=plan.config.seed,
        embedded=made.embedded,
    )


def part_statistics(folder: PartFolder, shards: Sequence[Path]) -> Statistics:
    """What the samples of a part hold; counted from the tables beside its shards where the part has no such file."""
    path = folder.path / STATISTICS
    if path.is_file():
        return Statistics.from_bytes(path.read_bytes())
    return statistics_of([shard.with_suffix(".parquet") for shard in shards])


def packed_shards(output: Path, record: Record) -> list[Path]:
    """The tars that a record of `pack` names."""
    return [output / name for name in record.outputs if name.endswith(".tar")]


def _has_flac(plan: Plan) -> bool:
    pack = plan.config.stage("pack")
    return pack is not None and pack.options.get("audio") == "flac"


def _drop_evidence(plan: Plan, folder: PartFolder, sources: list[Row]) -> None:
    if plan.config.evidence.keep == "always":
        return
    Journal(folder.path / "journal.jsonl", {}).clear()  # one left by a crash speaks of evidence that goes now
    sound = _has_flac(plan)
    for row in sources:
        if folder.evidence(row["id"]).is_dir():
            Evidence(folder.evidence(row["id"])).drop_all_but_tables(keep_sound=sound)


def finish_shards(plan: Plan, output: Path) -> None:
    """Name the shards that count (`sizes.json`) and write the folder's cards once every part is packed."""
    ledger = Ledger(output)
    shards: list[ShardInfo] = []
    statistics = Statistics()
    for part in load_parts(output):
        record = ledger.get(part.number, "pack")
        if record is None:
            continue
        tars = packed_shards(output, record)
        for tar in tars:
            samples = pq.read_metadata(tar.with_suffix(".parquet")).num_rows
            digest = record.outputs[tar.relative_to(output).as_posix()]
            shards.append(ShardInfo(tar.name, samples, tar.stat().st_size, digest))
        statistics.merge(part_statistics(PartFolder(output, part.number), tars))
    folder = shards_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    write_sizes(folder, {shard.name: shard.samples for shard in shards})
    write_cards(folder, plan.config.name, shards, flac=_has_flac(plan), recipe=recipe(plan), statistics=statistics)
