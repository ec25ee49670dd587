"""Packs one part: its chosen clips become shards, and a record says so."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq

from vidcap.backends import registry
from vidcap.media.evidence import Evidence
from vidcap.pipeline.columns import PartFolder, Row, count_clips, effective, file_digest, scatter, write_stage
from vidcap.pipeline.fetch import fetched
from vidcap.pipeline.ledger import Ledger, Record
from vidcap.pipeline.part import Outcome, Task, check_stop, count_sources
from vidcap.pipeline.plan import Plan, load_parts
from vidcap.pipeline.resident import plan_of, ready_stage
from vidcap.shards.card import write_readme
from vidcap.shards.writer import ShardInfo, remove_stale, write_sizes
from vidcap.stages.pack import Pack, Provenance


def shards_folder(output: Path) -> Path:
    return output / "shards"


def pack_part(task: Task) -> Outcome:
    """Run `pack` over one part and commit it. Killed half-way, it starts over: no shard is visible before all are."""
    started = time.perf_counter()
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
            local=lambda source: fetched(source, scratch),
            check_stop=lambda: check_stop(output),
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
    everything = folder.rows([*stages, "pack"])
    clips = count_clips(everything, [*stages, "pack"])
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
            sources=count_sources(folder.sources()),
            clips=clips,
            attempt=task.attempt,
            seconds=round(seconds, 3),
        )
    )
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


def _has_flac(plan: Plan) -> bool:
    pack = plan.config.stage("pack")
    return pack is not None and pack.options.get("audio") == "flac"


def _drop_evidence(plan: Plan, folder: PartFolder, sources: list[Row]) -> None:
    if plan.config.evidence.keep == "always":
        return
    sound = _has_flac(plan)
    for row in sources:
        if folder.evidence(row["id"]).is_dir():
            Evidence(folder.evidence(row["id"])).drop_all_but_tables(keep_sound=sound)


def finish_shards(plan: Plan, output: Path) -> None:
    """Name the shards that count (`sizes.json`) and write the folder's README once every part is packed."""
    ledger = Ledger(output)
    shards: list[ShardInfo] = []
    for part in load_parts(output):
        record = ledger.get(part.number, "pack")
        for name, digest in record.outputs.items() if record else ():
            if name.endswith(".tar"):
                tar = output / name
                samples = pq.read_metadata(tar.with_suffix(".parquet")).num_rows
                shards.append(ShardInfo(tar.name, samples, tar.stat().st_size, digest))
    folder = shards_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    write_sizes(folder, {shard.name: shard.samples for shard in shards})
    write_readme(folder, plan.config.name, shards, flac=_has_flac(plan))
