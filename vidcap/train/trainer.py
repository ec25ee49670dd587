"""The training loop, to be read from top to bottom: everything a run is lies in one `Trainer`.

A step is a function of the weights, the optimiser's state and the step's number: data, masks, negatives and dropout are
drawn from seeds made of it. So a checkpoint holds no generators, and a resumed run equals one that was never stopped.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidcap.errors import InterruptedRunError, UsageError, VidcapError
from vidcap.seeds import digest_of, seed_of
from vidcap.torch_device import checked_device
from vidcap.train import assembly, checkpoint, flops, optimiser
from vidcap.train.checkpoint import Checkpoints
from vidcap.train.config import TrainConfig
from vidcap.train.distributed import gathered_objects, rank, summed, wait_for_all, world_size
from vidcap.train.metrics import Log, Meter
from vidcap.train.order import Measure, Plan, Position
from vidcap.train.retrieval import Evaluation, evaluate
from vidcap.train.stream import Fetched, Fetcher, Loader, View
from vidcap.train.text import WordPieceTokens

Listener = Callable[[str, Mapping[str, Any]], None]
"""Hears `start`, `step`, `log`, `skipped`, `checkpoint` and `evaluation` with their values."""


def _unheard(event: str, values: Mapping[str, Any]) -> None:
    del event, values


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to: steps done, the losses of its first and last logged step, samples passed over by reason."""

    steps: int
    first: Mapping[str, float]
    last: Mapping[str, float]
    skipped: Mapping[str, int]
    checkpoint: Path
    evaluation: Mapping[str, Any] | None


class Trainer:
    """A run of one process (of those torchrun started, or the only one)."""

    def __init__(self, config: TrainConfig, device: str, *, resume: bool = False, listen: Listener = _unheard) -> None:
        """Build all parts; with `resume` go on from the latest checkpoint of the output folder, if there is one.

        Raises `UsageError` where the folder holds checkpoints and `resume` is not asked for, or they are of other data.
        """
        self.config, self.listen = config, listen
        self.device = checked_device(device)
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)
        self.output = Path(config.output.path)
        self.checkpoints = Checkpoints(self.output, config.output.keep)
        latest = self.checkpoints.latest()
        if latest is not None and not resume:
            raise UsageError(
                f"`{self.output}` holds checkpoints of an earlier run",
                hint="add --resume to go on with it, or choose another output.path",
            )

        self.sources = assembly.sources_of(config.sources, self.output)
        self.tokens = (
            WordPieceTokens.read(latest / checkpoint.TOKENIZER)
            if latest is not None
            else assembly.tokens_of(config.tokenizer, self.sources, self.output / checkpoint.TOKENIZER)
        )
        self.plan = Plan(
            [
                Measure(source.media_type, tuple(source.counts), given.weight)
                for source, given in zip(self.sources, config.sources, strict=True)
            ],
            seed=config.seed,
            batch=config.run.batch,
            accumulation=config.run.accumulation,
            rank=rank(),
            world=world_size(),
            window=config.data.shuffle_shards,
        )
        self.steps = config.run.steps or max(1, round((config.run.epochs or 0) * self.plan.steps_per_epoch))
        given_warm_up = config.optimiser.warm_up_steps
        self.warm_up = (
            round(config.optimiser.warm_up_epochs * self.plan.steps_per_epoch)
            if given_warm_up is None
            else given_warm_up
        )

        self.model = assembly.model_of(config, self.tokens)
        self.learner: nn.Module = assembly.placed(self.model, config, self.device)
        if not any(value.requires_grad for value in self.model.parameters()):
            raise UsageError("nothing learns: every part is frozen", hint="take a part out of `step.freeze`")
        self.optimiser = optimiser.made(self.model, config.optimiser, fused=self.device.type == "cuda")
        self.done = 0
        self.position = Position()
        self.skipped: Counter[str] = Counter()
        self.stopping = False
        """Set from outside (a signal): the run ends after its step, with a checkpoint."""
        if latest is not None:
            self._restore(latest)
        self.peak = (config.run.peak_tflops or 0) * 1e12 or self._known_peak()
        self.meter = Meter()
        self._since_log: dict[str, tuple[Any, int]] = {}
        self._costs: dict[Any, flops.Cost] = {}

    def run(self) -> Summary:
        """Train to the end. Raises `InterruptedRunError` where asked to stop, `VidcapError` where the loss diverges."""
        config = self.config
        log = Log(self.output, step=self.done, tensorboard=config.output.tensorboard) if rank() == 0 else None
        loader = self._loader()
        first: dict[str, float] = {}
        last: dict[str, float] = {}
        judged: dict[str, Any] | None = None
        every = config.output.checkpoint_steps or self.plan.steps_per_epoch
        self._start()
        try:
            batches = iter(loader)
            self.model.train()
            while self.done < self.steps:
                values = self._step(batches)
                self.listen("step", {"step": self.done, "steps": self.steps})
                ending = self.done == self.steps
                if self.done % config.output.log_steps == 0 or ending or not first:
                    last = self._logged(log, values)
                    first = first or last
                stop = self._asked_to_stop()
                if self.done % every == 0 or ending or stop:
                    self._save()
                if ending or (config.output.evaluate_steps and self.done % config.output.evaluate_steps == 0):
                    judged = self._evaluate(log)
                if stop and not ending:
                    raise InterruptedRunError(
                        f"stopped after step {self.done} of {self.steps}", hint="the same command with --resume goes on"
                    )
        finally:
            loader.close()
            if log is not None:
                log.close()
        latest = self.checkpoints.latest() or self.output
        return Summary(self.done, first, last, self._all_skipped(), latest, judged)

    def _step(self, batches: Iterator[Fetched]) -> dict[str, Any]:
        """One step of the optimiser; what is to be said of it by itself."""
        config, device = self.config, self.device
        share = optimiser.rate(self.done, self.steps, self.warm_up, config.optimiser.floor)
        optimiser.set_rate(self.optimiser, config.optimiser.learning_rate * share)
        media_type = ""
        for micro in range(config.run.accumulation):
            asked = time.perf_counter()
            fetched = next(batches)
            self.meter.waited += time.perf_counter() - asked
            self._note_faults(fetched)
            batch = fetched.batch.to(device, non_blocking=True)
            media_type = batch.media_type
            last = micro == config.run.accumulation - 1
            with self._drawing(micro), self._alone(unless=last):
                with torch.autocast(device.type, torch.bfloat16, enabled=config.run.precision == "bf16"):
                    total, losses = self.learner(batch, self._seed(micro))
                if total is not None:
                    (total / config.run.accumulation).backward()
            self._count(fetched, losses)
        learning = [value for value in self.model.parameters() if value.requires_grad]
        norm = optimiser.clip(learning, config.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.meter.steps += 1
        self.done += 1
        epoch = self.position.epoch
        self.position = self.plan.after(self.position)
        return {
            "epoch": epoch,
            "media_type": media_type,
            "learning_rate": config.optimiser.learning_rate * share,
            "gradient_norm": norm,
        }

    def _seed(self, micro: int) -> int:
        return seed_of(self.config.seed, f"{self.done} {micro} {rank()}", "step") >> 1

    @contextlib.contextmanager
    def _drawing(self, micro: int) -> Iterator[None]:
        """What draws from torch's own state (dropout, paths left out) draws the same in this step of any run."""
        devices = [self.device.index or 0] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._seed(micro))
            yield

    def _alone(self, *, unless: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients stay in this process until the last forward pass of a step."""
        if unless or self.config.run.parallel == "none":
            return contextlib.nullcontext()
        if self.config.run.parallel == "ddp":
            return self.learner.no_sync()
        return _unsynced(self.model)

    def _note_faults(self, fetched: Fetched) -> None:
        for fault in fetched.faults:
            self.skipped[fault.reason] += 1
            self.listen("skipped", {"reason": fault.reason, "detail": fault.detail, "key": fault.key})

    def _count(self, fetched: Fetched, losses: Mapping[str, Any]) -> None:
        for name, loss in losses.items():
            total, count = self._since_log.get(name, (0.0, 0))
            self._since_log[name] = (total + loss, count + 1)
        batch = fetched.batch
        shape = (batch.media_type, *(tuple(part.shape) for part in (batch.frames, batch.fbank) if part is not None))
        if shape not in self._costs:
            frozen = self.config.step.freeze if not self.config.step.unfreeze else ()
            self._costs[shape] = flops.cost(self.model.config, batch, self.config.losses, self.config.step.mask, frozen)
        self.meter.samples += len(batch.keys) - len(fetched.faults)
        self.meter.tokens += self._costs[shape].tokens
        self.meter.flops += self._costs[shape].flops

    def _logged(self, log: Log | None, values: Mapping[str, Any]) -> dict[str, float]:
        """Means of the losses since the last line, over all processes; with the speed, to the log and the listener."""
        means = {name: float(total) / count for name, (total, count) in self._since_log.items()}
        means = {name: value / world_size() for name, value in summed(means, self.device).items()}
        self._since_log = {}
        weights = self.config.losses.weights
        means["loss"] = sum(weights[name] * value for name, value in means.items())
        norm = values["gradient_norm"]
        if not math.isfinite(means["loss"]) or not math.isfinite(norm):
            raise VidcapError(
                f"the loss or its gradient is not finite in step {self.done}",
                hint="lower optimiser.learning_rate, or go on from an earlier checkpoint",
            )
        line = {
            **{name: values[name] for name in ("epoch", "media_type", "learning_rate")},
            **{name: round(value, 6) for name, value in sorted(means.items())},
            "temperature": round(float(self.model.temp.detach()), 6),
            "gradient_norm": round(norm, 6),
            **self.meter.rates(processes=world_size(), peak=self.peak),
            "skipped": self._all_skipped(),
        }
        if log is not None:
            log.write(self.done, line)
        self.listen("log", {"step": self.done, **line})
        return means

    def _all_skipped(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for each in gathered_objects(dict(self.skipped)):
            total.update(each)
        return dict(sorted(total.items()))

    def _evaluate(self, log: Log | None) -> dict[str, Any] | None:
        asked = self.config.evaluation
        if asked is None:
            return None
        sources = assembly.sources_of(asked.sources, self.output)
        options = Evaluation(caption=asked.caption, batch=asked.batch, k_test=asked.k_test, workers=0)
        found = evaluate(self.model, sources, self.tokens, options, self.device).metrics
        self.model.train()
        if log is not None:
            groups = found["retrieval"].items()
            flat = {f"{group}_{name}": value for group, values in groups for name, value in values.items()}
            log.write(self.done, {"evaluation": found, **flat})
        self.listen("evaluation", found)
        return found

    def _start(self) -> None:
        faults = {source.name: dict(source.faults) for source in self.sources if source.faults}
        learning = sum(value.numel() for value in self.model.parameters() if value.requires_grad)
        self.listen(
            "start",
            {
                "step": self.done,
                "steps": self.steps,
                "samples": {source.name: sum(source.counts) for source in self.sources},
                "steps_per_epoch": dict(self.plan.steps),
                "parameters": sum(value.numel() for value in self.model.parameters()),
                "learning": learning,
                "shard_faults": faults,
            },
        )

    def _loader(self) -> Loader:
        config = self.config
        shape = self.model.config
        view = View(shape.frames, shape.vision_shape.size, shape.max_text, config.kinds, hear=shape.fuse_audio)
        return Loader(
            Fetcher(self.sources, self.tokens, view, config.seed),
            self.plan.work(self.position),
            workers=config.data.workers,
            ahead=config.data.ahead,
            start=config.data.start,
            pinned=self.device.type == "cuda",
        )

    def _save(self) -> None:
        state = {
            "step": self.done,
            "epoch": self.position.epoch,
            "epoch_step": self.position.step,
            "skipped": self._all_skipped(),
            "data": self._data(),
        }
        files = {
            checkpoint.CONFIG: checkpoint.as_json(self.config.plain()),
            checkpoint.TOKENIZER: self.tokens.to_json(),
        }
        path = self.checkpoints.save(
            self.done, self.model, self.optimiser, state, files, sharded=self.config.run.parallel == "fsdp2"
        )
        self.listen("checkpoint", {"path": str(path)})

    def _restore(self, folder: Path) -> None:
        sharded = self.config.run.parallel == "fsdp2"
        if checkpoint.read_state(folder).get("data") != self._data():
            raise UsageError(
                f"the sources, batch or seed are not those of `{folder}`: it cannot be gone on with exactly",
                hint="name another output.path, and the checkpoint as initial.weights",
            )
        state = self.checkpoints.restore(folder, self.model, self.optimiser, sharded=sharded)
        self.done = int(state["step"])
        self.position = Position(int(state["epoch"]), int(state["epoch_step"]))
        if rank() == 0:
            self.skipped = Counter({str(reason): int(count) for reason, count in state["skipped"].items()})
        wait_for_all()

    def _data(self) -> str:
        """What the order of samples depends on."""
        plan = self.plan
        told = [
            [source.media_type, list(source.counts), given.weight]
            for source, given in zip(self.sources, self.config.sources, strict=True)
        ]
        rest = [plan.seed, plan.samples_per_step, plan.accumulation, self.config.data.shuffle_shards]
        return digest_of(json.dumps([told, rest]))

    def _asked_to_stop(self) -> bool:
        if world_size() == 1:
            return self.stopping
        if self.done % self.config.output.log_steps:
            return False  # the processes are asked rarely: asking makes them wait for each other
        return bool(summed({"stop": float(self.stopping)}, self.device)["stop"])

    def _known_peak(self) -> float | None:
        if self.device.type != "cuda" or self.config.run.precision != "bf16":
            return None
        return flops.peak_of(torch.cuda.get_device_name(self.device))


@contextlib.contextmanager
def _unsynced(model: Any) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
