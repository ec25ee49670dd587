# What follows the check for torch needs torch.
# ruff: noqa: E402
"""The loop: it learns, resumes bit for bit, leaves frozen parts alone, and several processes are as one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.full

import torch
import trainable
from command import free_port
from safetensors.torch import load_file

from vidcap.errors import ConfigError, InterruptedRunError, UsageError
from vidcap.train import checkpoint, optimiser
from vidcap.train.config import OptimiserConfig, load_config
from vidcap.train.metrics import Log
from vidcap.train.trainer import Trainer


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainable.write_shards(tmp_path_factory.mktemp("shards"), 10, per_shard=4, silent=(6,))


def trainer_of(
    tmp_path: Path, shards: Path, name: str, *, resume: bool = False, heard: Any = None, **changes: Any
) -> Trainer:
    path = trainable.write_config(tmp_path / f"{name}.yaml", shards, tmp_path / name, **changes)
    return Trainer(load_config(path), "cpu", resume=resume, **({"listen": heard} if heard else {}))


def stopped(trainer: Trainer, step: int) -> None:
    """Run and ask to stop after `step` steps."""

    def hear(event: str, values: Mapping[str, Any]) -> None:
        trainer.stopping |= event == "step" and values["step"] == step

    trainer.listen = hear
    with pytest.raises(InterruptedRunError, match=f"after step {step} of"):
        trainer.run()


def weights(tmp_path: Path, name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    folder = checkpoint.found(tmp_path / name)
    state = json.loads((folder / "state.json").read_text())
    return load_file(folder / "model.safetensors"), load_file(folder / "optimiser.safetensors"), state


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


SOUND_AND_PICTURE: dict[str, Any] = {
    "model": {
        "fuse_audio": True,
        "audio": {"encoder_layers": 1, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 32, "embed_dim": 16},
    },
    "losses": {"pairs": [{"media": "v", "text": "v"}, {"media": "av", "text": "avs"}]},
}


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(shards: Path, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch of two media types, with accumulation; gone on with, with loader processes."""
    sources = [{"shards": str(shards), "media_type": kind} for kind in ("video", "audio_video")]
    changes = {**SOUND_AND_PICTURE, "sources": sources, "run": {"batch": 2, "accumulation": 2, "steps": 5}}
    trainer_of(tmp_path, shards, "whole", **changes).run()
    stopped(trainer_of(tmp_path, shards, "broken", **changes), 3)
    assert checkpoint.found(tmp_path / "broken").name == "step-00000003"
    more = {**changes, "data": {"workers": 2}}
    resumed = trainer_of(tmp_path, shards, "broken", resume=True, **more)
    assert resumed.done == 3 and 0 < resumed.position.step < resumed.plan.steps_per_epoch
    resumed.run()
    one, other = weights(tmp_path, "whole"), weights(tmp_path, "broken")
    assert_equal(one[0], other[0])
    assert_equal(one[1], other[1])
    assert one[2] == other[2]


def test_a_resumed_run_without_sound(shards: Path, tmp_path: Path) -> None:
    trainer_of(tmp_path, shards, "whole").run()
    stopped(trainer_of(tmp_path, shards, "broken"), 3)
    trainer_of(tmp_path, shards, "broken", resume=True).run()
    one, other = weights(tmp_path, "whole"), weights(tmp_path, "broken")
    assert_equal(one[0], other[0])
    assert_equal(one[1], other[1])
    assert one[2] == other[2]
    lines = [json.loads(line) for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})


def test_the_loss_falls_and_the_log_tells_it(shards: Path, tmp_path: Path) -> None:
    changes = {"run": {"steps": 30, "batch": 5}, "optimiser": {"learning_rate": 0.003}, "step": {"mask": None}}
    summary = trainer_of(tmp_path, shards, "falling", **changes).run()
    assert summary.last["loss"] < 0.75 * summary.first["loss"]
    lines = [json.loads(line) for line in (tmp_path / "falling" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 1 and lines[-1]["step"] == 30
    last = lines[-1]
    assert last["loss"] == pytest.approx(last["vtc"] + last["vtm"] + last["mlm"], abs=1e-4)
    assert 0 < last["data_wait"] < 1 and last["tokens_per_second"] > 0 and last["tflops"] > 0
    assert "flops_utilisation" not in last  # the peak of this processor is not known


def test_frozen_parts_stay_bit_identical(shards: Path, tmp_path: Path) -> None:
    changes = {"step": {"freeze": ["vision"], "unfreeze": ["vision_encoder.clip_projector"]}, "run": {"steps": 3}}
    trainer = trainer_of(tmp_path, shards, "frozen", **changes)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    seen = {key for key in before if key.startswith("vision_encoder.")}
    assert moved & seen and all(key.startswith("vision_encoder.clip_projector.") for key in moved & seen)
    assert "text_proj.weight" in moved and "temp" in moved
    saved = weights(tmp_path, "frozen")[1]
    assert not any(key.startswith("vision_encoder.blocks") for key in saved)
    with pytest.raises(UsageError, match="no part `sight`"):
        trainer_of(tmp_path, shards, "wrong", step={"freeze": ["sight"]})


def test_corrupt_samples_are_counted_in_log_and_checkpoint(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    key = trainable.damage(copy, 2)
    heard: list[tuple[str, Mapping[str, Any]]] = []
    trainer = trainer_of(
        tmp_path, copy, "corrupt", heard=lambda *told: heard.append(told), run={"batch": 5, "steps": 4}
    )
    summary = trainer.run()
    assert summary.skipped == {"media.unrecognised": 2}  # 2 epochs
    assert {values["key"] for event, values in heard if event == "skipped"} == {key}
    assert weights(tmp_path, "corrupt")[2]["skipped"] == {"media.unrecognised": 2}
    assert json.loads((tmp_path / "corrupt" / "metrics.jsonl").read_text().splitlines()[-1])["skipped"] == {
        "media.unrecognised": 2
    }


def test_old_checkpoints_go_and_other_data_is_refused(shards: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"output": {"checkpoint_steps": 1, "keep": 2}, "run": {"steps": 3}}
    trainer_of(tmp_path, shards, "kept", **changes).run()
    names = sorted(path.name for path in (tmp_path / "kept" / "checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000003"]
    with pytest.raises(UsageError, match="holds checkpoints of an earlier run"):
        trainer_of(tmp_path, shards, "kept", **changes)
    with pytest.raises(UsageError, match="sources, batch or seed are not those"):
        trainer_of(tmp_path, shards, "kept", resume=True, **changes, seed=6)
    trainer = trainer_of(tmp_path, shards, "next", initial={"weights": str(tmp_path / "kept")})
    assert_equal(dict(trainer.model.state_dict()), weights(tmp_path, "kept")[0])


def test_a_diverging_run_ends_with_a_sentence(shards: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, shards, "diverging", run={"steps": 2})
    with torch.no_grad():
        trainer.model.text_proj.weight.fill_(float("nan"))
    with pytest.raises(Exception, match="not finite in step 1"):
        trainer.run()


def test_the_rate_rises_and_falls() -> None:
    rates = [optimiser.rate(step, 110, 10, 0.01) for step in range(111)]
    assert rates[0] == 0.01 and rates[5] == 0.5 and rates[10] == 1.0
    assert rates[60] == pytest.approx(0.01 + 0.99 * 0.5) and rates[110] == pytest.approx(0.01)
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_what_does_not_decay(shards: Path, tmp_path: Path) -> None:
    model = trainer_of(tmp_path, shards, "decay").model
    decayed, spared, single = optimiser.made(model, OptimiserConfig(), fused=False).param_groups
    names = {id(value): name for name, value in model.named_parameters()}
    bare = {names[id(value)] for value in spared["params"]}
    assert [names[id(value)] for value in single["params"]] == ["temp"] and single["weight_decay"] == 0
    assert {"vision_encoder.pos_embed", "vision_encoder.cls_token", "text_proj.bias"} <= bare
    assert spared["weight_decay"] == 0 and decayed["weight_decay"] == 0.05
    assert all(value.ndim > 1 for value in decayed["params"]) and "text_proj.weight" not in bare


def test_lines_after_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    log = Log(tmp_path, tensorboard=False)
    for step in (1, 2, 3):
        log.write(step, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    Log(tmp_path, step=2, tensorboard=False).write(3, {"loss": 2.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 2.0}]


def test_a_hostile_description_of_shards_is_not_unpickled(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harm"),)

    (tmp_path / ".metadata").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UsageError, match=r"it names `posix\.mkdir`"):
        checkpoint.check_plain(tmp_path / ".metadata")
    assert not (tmp_path / "harm").exists()


def together(processes: int, config: Path, *more: str) -> list[subprocess.CompletedProcess[str]]:
    """`vidcap train` in several processes as torchrun starts them."""
    port = free_port()
    command = [sys.executable, "-m", "vidcap", "train", str(config), "--quiet", *more]
    started = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(processes)
    ]
    found = []
    for process in started:
        out, err = process.communicate(timeout=400)
        found.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    assert [each.returncode for each in found] == [0] * processes, "\n".join(each.stderr for each in found)
    return found


def certain(parallel: str, batch: int) -> dict[str, Any]:
    """Nothing is drawn in a process of its own, and a step is smooth in the gradient, so that processes compare."""
    return {
        "model": {"vision": {"drop_path": 0.0, "width": 48, "depth": 2, "heads": 4, "mlp_hidden": 96, "pooled": 32}}
        | {"text": {"width": 32, "layers": 2, "fusion_layer": 1, "heads": 4, "feed_forward": 64, "dropout": 0.0}},
        "losses": {"losses": {"contrastive": 1.0, "matching": 0.0, "mlm": 0.0}},
        "step": {"mask": None},
        "optimiser": {"epsilon": 1.0, "learning_rate": 0.1, "clip_norm": None},
        "run": {"batch": batch, "steps": 3, "parallel": parallel},
    }


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_are_as_one_with_twice_the_batch(shards: Path, tmp_path: Path, parallel: str) -> None:
    trainer_of(tmp_path, shards, "one", **certain("none", 4)).run()
    config = trainable.write_config(tmp_path / "two.yaml", shards, tmp_path / "two", **certain(parallel, 2))
    together(2, config)
    one = weights(tmp_path, "one")[0]
    two = load_file(checkpoint.found(tmp_path / "two") / "model.safetensors")
    assert one.keys() == two.keys()
    drift = max(float((one[key] - two[key]).abs().max()) for key in one)
    assert drift < 1e-6


@pytest.mark.slow
def test_shards_of_parameters_resume(shards: Path, tmp_path: Path) -> None:
    config = trainable.write_config(
        tmp_path / "two.yaml",
        shards,
        tmp_path / "two",
        run={"batch": 2, "steps": 4, "parallel": "fsdp2"},
        evaluation={"sources": [{"shards": str(shards), "media_type": "video"}], "k_test": 2},
    )
    together(2, config)
    judged = json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[-1])
    assert judged["evaluation"]["candidates"] == 10 and "match_t2v_r1" in judged
    whole = load_file(checkpoint.found(tmp_path / "two") / "model.safetensors")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-00000004")
    together(2, config, "--resume")
    assert_equal(whole, load_file(checkpoint.found(tmp_path / "two") / "model.safetensors"))


def test_several_processes_must_be_asked_for(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`run\.parallel: ddp` needs processes"):
        trainer_of(tmp_path, shards, "alone", run={"parallel": "ddp"})
    with pytest.raises(ConfigError, match="do not fill a step of 64"):
        trainer_of(tmp_path, shards, "large", run={"batch": 64})
