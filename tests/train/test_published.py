"""Published stage-2 files, BERTs and BEATs fill a model: all of it or nothing, and nothing in a file is run."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models.beats import make_beats
from tiny_models.beats import state_of as beats_state
from tiny_models.stage2 import SPECIAL, TEXT, batch_of, make_stage2, model_of

from vidcap.errors import BackendError

pytestmark = pytest.mark.full
LISTINGS = Path(__file__).resolve().parent.parent / "models"
"""Of the vision encoder and of BEATs, as published: keys and shapes, of some layers."""
DECODER = "text_encoder.cls.predictions.decoder.weight"
SECOND_TABLE = "audio_encoder.encoder.layers.1.self_attn.relative_attention_bias.weight"
SOUND = {"encoder_embed_dim": 48, "encoder_ffn_embed_dim": 96, "encoder_attention_heads": 4, "embed_dim": 32}
SOUND |= {"conv_pos": 16, "conv_pos_groups": 4}
"""Sizes of `tiny_models.beats`."""


@pytest.fixture(scope="module", autouse=True)
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def shapes_of(torch: Any, **config: Any) -> dict[str, tuple[int, ...]]:
    from vidcap.train.model import ModelConfig, Stage2Model

    with torch.device("meta"):
        model = Stage2Model(ModelConfig(**config))
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def listed(name: str) -> dict[str, tuple[int, ...]]:
    lines = (line.split(" ", 1) for line in (LISTINGS / name).read_text().splitlines())
    return {key: tuple(int(each) for each in shape.strip("()").split(",") if each.strip()) for key, shape in lines}


def bert(width: int, looks_at: int, layers: int, fusion_layer: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The published names of a text encoder, written out."""
    shapes: dict[str, tuple[int, ...]] = {"bert.embeddings.position_ids": (1, 512)}

    def linear(name: str, outer: int, inner: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outer, inner), (outer,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    for name, rows in (("word", 30522), ("position", 512), ("token_type", 2)):
        shapes[f"bert.embeddings.{name}_embeddings.weight"] = (rows, width)
    norm("bert.embeddings.LayerNorm")
    for at in range(layers):
        layer = f"bert.encoder.layer.{at}"
        for attention, inner in (("attention", width), ("crossattention", looks_at)):
            if attention == "attention" or at >= fusion_layer:
                for name in ("query", "key", "value"):
                    linear(f"{layer}.{attention}.self.{name}", width, width if name == "query" else inner)
                linear(f"{layer}.{attention}.output.dense", width, width)
                norm(f"{layer}.{attention}.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", hidden, width)
        linear(f"{layer}.output.dense", width, hidden)
        norm(f"{layer}.output.LayerNorm")
    linear("cls.predictions.transform.dense", width, width)
    norm("cls.predictions.transform.LayerNorm")
    linear("cls.predictions.decoder", 30522, width)
    shapes["cls.predictions.bias"] = (30522,)
    return shapes


def under(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{key}": shape for key, shape in shapes.items()}


def repeated(shapes: dict[str, tuple[int, ...]], first: str, copies: int) -> dict[str, tuple[int, ...]]:
    """Entries of layer 0 again for all layers."""
    again = {
        key.replace(f"{first}.0.", f"{first}.{at}."): shape
        for key, shape in shapes.items()
        for at in range(copies)
        if key.startswith(f"{first}.0.")
    }
    return shapes | again


def test_the_layout_of_the_1b_model(torch: Any) -> None:
    vision = repeated(repeated(listed("vision_tensors.txt"), "blocks", 40), "clip_decoder", 6)
    expected = under("vision_encoder", vision) | under("text_encoder", bert(1024, 1408, 24, 19, 4096))
    expected |= {"temp": (), "vision_proj.weight": (512, 768), "vision_proj.bias": (512,)}
    expected |= {"text_proj.weight": (512, 1024), "text_proj.bias": (512,)}
    expected |= {"itm_head.weight": (2, 1024), "itm_head.bias": (2,)}
    assert shapes_of(torch, size="1B", fuse_audio=False) == expected


def test_the_layout_of_the_6b_model(torch: Any) -> None:
    one = {key: shape for key, shape in listed("vision_tensors.txt").items() if "img_pos" not in key}
    sizes = {1408: 3200, 4224: 9600, 6144: 12800}
    wide = {key: tuple(sizes.get(each, each) for each in shape) for key, shape in one.items()}
    vision = repeated(repeated(wide, "blocks", 48), "clip_decoder", 6)
    sound = listed("beats_tensors.txt")
    second = {key: shape for key, shape in sound.items() if ".layers.1." in key}
    for at in range(2, 12):
        sound |= {key.replace(".layers.1.", f".layers.{at}."): shape for key, shape in second.items()}
    assert len(sound) == 250
    expected = under("vision_encoder", vision) | under("text_encoder", bert(1024, 768, 24, 19, 4096))
    expected |= under("audio_encoder", sound) | {"temp": ()}
    for name, inner, outer in (
        ("vision_proj", 768, 768),
        ("text_proj", 1024, 768),
        ("audio_proj", 768, 768),
        ("av_concat_vision_proj.0", 3200, 768),
        ("av_concat_audio_proj.0", 768, 768),
        ("av_fusion", 1536, 768),
        ("itm_head", 1024, 2),
        ("avtm_head", 1024, 2),
    ):
        expected |= {f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)}
    for name in ("av_concat_vision_proj.1", "av_concat_audio_proj.1"):
        expected |= {f"{name}.weight": (768,), f"{name}.bias": (768,)}
    assert shapes_of(torch, size="6B", fuse_audio=True) == expected


def test_the_sizes_of_tab_17_and_tokens_of_sound(torch: Any) -> None:
    from vidcap.train.model import ModelConfig, Stage2Model

    with torch.device("meta"):
        model = Stage2Model(ModelConfig(size="B"))
    text = model.text_encoder.shape
    assert (text.layers, text.fusion_layer, text.width, text.encoder_width) == (12, 9, 768, 768)
    assert model.audio_encoder(torch.zeros(2, 998, 64, device="meta")).shape == (2, 248, 768)


class TestStage2Files:
    def test_a_file_in_the_published_layout_fills_the_model(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.train.published import load_stage2

        theirs = make_stage2(tmp_path)
        state = theirs.state_dict()
        torch.save(state, tmp_path / "bare.pt")
        torch.save({"model": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 1}, tmp_path / "model.pt")
        newer = {
            key.replace("pos_conv.0.weight_g", "pos_conv.0.parametrizations.weight.original0").replace(
                "pos_conv.0.weight_v", "pos_conv.0.parametrizations.weight.original1"
            ): value
            for key, value in state.items()
        }
        assert set(newer) != set(state)
        torch.save({"module": newer}, tmp_path / "newer.pt")
        for name in ("stage2.pt", "bare.pt", "model.pt", "newer.pt"):
            ours = model_of(seed=1)
            assert not torch.equal(ours.vision_proj.weight, theirs.vision_proj.weight)
            load_stage2(ours, tmp_path / name)
            assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())

    def test_objects_of_the_training_framework_become_nothing(
        self, torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from vidcap.train.published import load_stage2

        ran: list[Any] = []
        scalers = types.ModuleType("deepspeed.runtime.fp16.loss_scaler")
        settings = types.ModuleType("utils.easydict")

        class LossScaler:
            def __init__(self) -> None:
                self.scale = 1

            def __setstate__(self, state: Any) -> None:
                ran.append(state)

        class EasyDict(dict):  # type: ignore[type-arg]
            pass

        for module, kind in ((scalers, LossScaler), (settings, EasyDict)):
            kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
            setattr(module, kind.__name__, kind)
        for module in (scalers, settings):
            names = module.__name__.split(".")
            for at in range(1, len(names)):
                package = ".".join(names[:at])
                monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
            monkeypatch.setitem(sys.modules, module.__name__, module)
        model = model_of()
        config = EasyDict(model=EasyDict(name="1B"))
        config.lr = 5e-5
        held = {"module": model.state_dict(), "config": config, "scaler": LossScaler(), "names": {"a", "b"}}
        torch.save(held, tmp_path / "deepspeed.pt")
        ours = model_of(seed=1)
        load_stage2(ours, tmp_path / "deepspeed.pt")
        assert torch.equal(ours.vision_proj.weight, model.vision_proj.weight) and ran == []

    def test_a_file_that_would_run_something_is_refused(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.train.published import load_stage2

        class Runs:
            def __reduce__(self) -> Any:
                return (Path.touch, (tmp_path / "ran",))

        model = model_of()
        torch.save({"module": model.state_dict(), "config": Runs()}, tmp_path / "bad.pt")
        with pytest.raises(BackendError, match=r"bad\.pt` cannot be read as weights"):
            load_stage2(model, tmp_path / "bad.pt")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("temp"), "missing: temp"),
            (lambda s: s.update(atm_head=s["temp"]), "unexpected: atm_head"),
            (lambda s: s.update(temp=s["vision_proj.bias"]), r"shape: temp is \(12,\), not \(\)"),
            (lambda s: s.update(temp=s["temp"] * float("nan")), "not finite: temp"),
            (lambda s: s.update({DECODER: s["itm_head.weight"]}), "which are one"),
            (lambda s: s.update({SECOND_TABLE: s["temp"]}), "which are one"),
            (lambda s: s.update({"vision_encoder.pos_embed": s["vision_proj.weight"]}), "square frames"),
            (lambda s: s.update(more=[1]), "more than tensors: more"),
        ],
    )
    def test_anything_else_is_refused_and_changes_nothing(
        self, torch: Any, tmp_path: Path, change: Any, message: str
    ) -> None:
        from vidcap.train.published import load_stage2

        state = dict(model_of(seed=1).state_dict())
        change(state)
        torch.save({"module": state}, tmp_path / "odd.pt")
        model = model_of()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(BackendError, match=message) as caught:
            load_stage2(model, tmp_path / "odd.pt")
        assert caught.value.hint
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_the_other_layout_is_named(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.train.published import load_stage2

        make_stage2(tmp_path, fuse_audio=False)
        with pytest.raises(BackendError, match=r"missing: .*audio_encoder") as caught:
            load_stage2(model_of(), tmp_path / "stage2.pt")
        assert "fuse_audio" in caught.value.hint

    def test_positions_are_stretched_to_other_frames_and_sizes(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.models.positions import stretched
        from vidcap.train.published import load_stage2

        heads = {"teacher_layers": 1, "teacher_width": 10, "teacher_pooled": 6, "image_positions": True}
        theirs = make_stage2(tmp_path, vision=heads)
        ours = model_of(seed=1, vision=heads, frames=5, image_size=16)
        load_stage2(ours, tmp_path / "stage2.pt", file_frames=3)
        for name in ("pos_embed", "clip_pos_embed", "img_pos_embed", "clip_img_pos_embed"):
            frames = (1, 1) if "img" in name else (3, 5)
            table = stretched(getattr(theirs.vision_encoder, name), (frames[0], 3), (frames[1], 4))
            assert torch.equal(getattr(ours.vision_encoder, name), table)
        assert torch.equal(ours.vision_encoder.cls_token, theirs.vision_encoder.cls_token)
        with pytest.raises(BackendError, match="not of 4 square frames"):
            load_stage2(ours, tmp_path / "stage2.pt")


class TestBert:
    def library(self, torch: Any, name: str, folder: Path) -> Any:
        transformers = pytest.importorskip("transformers")
        config = transformers.BertConfig(
            vocab_size=SPECIAL["vocab_size"], hidden_size=TEXT["width"], num_hidden_layers=TEXT["layers"],
            num_attention_heads=TEXT["heads"], intermediate_size=TEXT["feed_forward"],
            max_position_embeddings=TEXT["positions"],
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model = getattr(transformers, name)(config).eval()
        model.save_pretrained(folder)
        return model

    @pytest.mark.parametrize("name", ["BertForMaskedLM", "BertModel", "BertForPreTraining"])
    def test_a_bert_fills_all_but_the_looking(self, torch: Any, tmp_path: Path, name: str) -> None:
        from vidcap.train.published import load_bert

        theirs = self.library(torch, name, tmp_path)
        ours = model_of()
        before = {key: value.clone() for key, value in ours.text_encoder.state_dict().items()}
        kept = load_bert(ours.text_encoder, tmp_path)
        expected = {key for key in before if "crossattention" in key}
        if name == "BertModel":
            expected |= {key for key in before if key.startswith("cls.") and "decoder.weight" not in key}
        assert set(kept) == expected
        assert all(torch.equal(ours.text_encoder.state_dict()[key], before[key]) for key in kept)
        own = ours.text_encoder.state_dict()
        body = {
            key if key.startswith(("bert.", "cls.")) else f"bert.{key}": v for key, v in theirs.state_dict().items()
        }
        shared = [key for key in body if key in own]
        assert len(shared) > 50 and all(torch.equal(own[key], body[key]) for key in shared)
        # Layers of text alone compute what the library's first layers do.
        batch = batch_of(3)
        ids, mask = batch.texts["v"], batch.text_masks["v"]
        with torch.no_grad():
            states = theirs(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
            found = ours.text_encoder(ids, mask)
        assert torch.allclose(found[mask], states[TEXT["fusion_layer"]][mask], atol=1e-5)

    def test_old_names_and_pickled_files(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.train.published import load_bert

        theirs = self.library(torch, "BertForMaskedLM", tmp_path / "new").state_dict()
        old = {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for key, value in theirs.items()
            if ".decoder." not in key
        }
        old["bert.pooler.dense.weight"] = old["cls.seq_relationship.bias"] = torch.zeros(2)
        (tmp_path / "old").mkdir()
        torch.save(old, tmp_path / "old" / "pytorch_model.bin")
        ours = model_of()
        load_bert(ours.text_encoder, tmp_path / "old")
        own = ours.text_encoder.state_dict()
        assert all(torch.equal(own[key], value) for key, value in theirs.items())

    def test_another_bert_is_refused(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.train.published import load_bert

        self.library(torch, "BertForMaskedLM", tmp_path)
        with pytest.raises(BackendError, match=r"missing: bert\.encoder\.layer\.3"):
            load_bert(model_of(text={"layers": 4, "fusion_layer": 3}).text_encoder, tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(BackendError, match=r"no weights .*model\.safetensors"):
            load_bert(model_of().text_encoder, tmp_path / "empty")


class TestBeats:
    def test_a_published_file_fills_the_audio_encoder(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.train.published import load_audio

        make_beats(tmp_path, classes=5)
        model = model_of(audio=SOUND)
        load_audio(model, tmp_path / "beats.pt")
        own = model.audio_encoder.state_dict()
        assert all(torch.equal(own[key], value) for key, value in beats_state().items())

    def test_another_size_or_no_ear_is_refused(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.train.published import load_audio

        make_beats(tmp_path)
        with pytest.raises(BackendError, match="does not hold the weights of Beats"):
            load_audio(model_of(), tmp_path / "beats.pt")
        with pytest.raises(BackendError, match="does not hear"):
            load_audio(model_of(fuse_audio=False), tmp_path / "beats.pt")
