"""The files that the CLIP backends read, and those they refuse."""

from __future__ import annotations

import importlib.metadata
import json
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_models import ARCHITECTURE, folders, random_state, save_open_clip
from clip_views import BLUE, RED, flicker, still

from vidcap.backends import registry
from vidcap.errors import BackendError

SENTENCE = "the red dog runs over the green grass and barks at two cats"


def made(name: str, **options: Any) -> Any:
    return registry.create(
        "similarity", name, {key: str(v) if isinstance(v, Path) else v for key, v in options.items()}
    )


def one(backend: Any, vector: Any, text: str) -> float:
    return float(backend.score([vector], [text], kinds=["v"])[0])


@pytest.fixture(scope="module", name="folders")
def _folders() -> dict[str, Path]:
    return folders()


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture
def tiny(folders: dict[str, Path], tmp_path: Path) -> str:
    """The tiny architecture under a name of its own, as open_clip's built-in ones have; known for this test only."""
    import open_clip.factory as factory

    path = tmp_path / "vidcap-tiny.json"
    path.write_text(json.dumps(ARCHITECTURE))
    factory.add_model_config(path)
    return path.stem


@pytest.mark.full
class TestOpenClipFiles:
    @pytest.mark.parametrize("kind", ["safetensors", "pt", "training", "old"])
    def test_every_form_of_a_checkpoint_is_read(
        self, kind: str, tiny: str, folders: dict[str, Path], tmp_path: Path
    ) -> None:
        import torch

        path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
        state = random_state()
        if kind == "safetensors":
            shutil.copyfile(folders["open_clip"] / "open_clip_model.safetensors", path)
        elif kind == "training":
            torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=kind == "pt")
        backend = made("open_clip", model=tiny, weights=path)
        folder = made("open_clip", model=f"local-dir:{folders['open_clip']}")
        backend.embed([still(BLUE)])
        (vector,) = folder.embed([still(RED)])
        assert one(backend, vector, SENTENCE) == pytest.approx(one(folder, vector, SENTENCE), abs=1e-6)
        assert backend.identity().startswith("vidcap-tiny@")

    def test_no_pickle_is_run(self, tiny: str, tmp_path: Path) -> None:
        sprung = tmp_path / "sprung"
        for name, content in (("w.pt", _Trap(sprung)), ("w.bin", {"state_dict": _Trap(sprung)})):
            path = tmp_path / name
            path.write_bytes(pickle.dumps(content))
            with pytest.raises(BackendError, match="cannot be read as weights"):
                made("open_clip", model=tiny, weights=path).load("cpu")
        folder = tmp_path / "folder"
        save_open_clip(folder)
        (folder / "open_clip_model.safetensors").unlink()
        shutil.copyfile(tmp_path / "w.pt", folder / "open_clip_pytorch_model.bin")
        with pytest.raises(BackendError, match="cannot be read as weights"):
            made("open_clip", model=f"local-dir:{folder}").load("cpu")
        assert not sprung.exists()

    def test_a_torchscript_archive_is_refused(self, tiny: str, tmp_path: Path) -> None:
        import warnings

        import torch

        path = tmp_path / "ViT-L-14.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated; the published file is one of its archives
            torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
        with pytest.raises(BackendError, match="TorchScript archive") as caught:
            made("open_clip", model=tiny, weights=path).load("cpu")
        assert "safetensors" in caught.value.hint

    def test_weights_of_another_model_are_refused_by_name(self, tiny: str, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        path = tmp_path / "w.safetensors"
        state = random_state()

        def refused(changed: dict[str, Any], said: str) -> None:
            save_file(changed, path)
            with pytest.raises(BackendError, match=said):
                made("open_clip", model=tiny, weights=path).load("cpu")

        refused({key: value for key, value in state.items() if key != "text_projection"}, "text_projection")
        refused(state | {"extra": state["text_projection"].clone()}, "extra")
        vision = ARCHITECTURE["vision_cfg"] | {"image_size": 96}
        larger = random_state(ARCHITECTURE | {"vision_cfg": vision})
        refused(larger, r"visual.positional_embedding is \(37, 64\), not \(17, 64\)")
        torch.save({"state_dict": {f"module.{key}": value for key, value in larger.items()}}, tmp_path / "w.pt")
        with pytest.raises(BackendError, match=r"visual.positional_embedding is \(37, 64\)"):
            made("open_clip", model=tiny, weights=tmp_path / "w.pt").load("cpu")
        refused(state | {"text_projection": state["text_projection"] * math.nan}, "not finite: text_projection")

    def test_the_tag_decides_pictures_and_activation(self, tiny: str, folders: Any, monkeypatch: Any) -> None:
        import open_clip.pretrained as pretrained

        weights = folders["open_clip"] / "open_clip_model.safetensors"
        tags = {
            "half": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "quick_gelu": True},
            "usual": {"mean": (0.48145466, 0.4578275, 0.40821073)},
        }
        monkeypatch.setitem(pretrained._PRETRAINED, tiny, tags)
        with pytest.raises(BackendError, match="published with different settings") as caught:
            made("open_clip", model=tiny, weights=weights).load("cpu")
        assert "half, usual; or `tag: own`" in caught.value.hint
        with pytest.raises(BackendError, match="no tag `openai`"):
            made("open_clip", model=tiny, weights=weights, tag="openai").load("cpu")
        found = {tag: made("open_clip", model=tiny, weights=weights, tag=tag) for tag in ("half", "usual", "own")}
        vectors = {tag: backend.embed([flicker()])[0] for tag, backend in found.items()}
        assert found["half"]._model.network.visual.preprocess_cfg["mean"] == (0.5,) * 3
        assert type(found["half"]._model.network.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
        assert type(found["own"]._model.network.transformer.resblocks[0].mlp.gelu).__name__ == "GELU"
        assert np.array_equal(vectors["usual"], vectors["own"]) and not np.allclose(vectors["half"], vectors["own"])
        assert len({backend.identity() for backend in found.values()}) == 3
        monkeypatch.setitem(pretrained._PRETRAINED, tiny, {"half": tags["half"]})
        agreed = made("open_clip", model=tiny, weights=weights)
        assert np.array_equal(agreed.embed([flicker()])[0], vectors["half"])

    def test_published_weights_are_fetched_only_when_asked(self, tiny: str, folders: Any, monkeypatch: Any) -> None:
        import open_clip.pretrained as pretrained

        weights = folders["open_clip"] / "open_clip_model.safetensors"
        asked = []
        monkeypatch.setitem(pretrained._PRETRAINED, tiny, {"usual": {"hf_hub": "a/b/"}})
        monkeypatch.setattr(pretrained, "download_pretrained", lambda published: asked.append(published) or weights)
        with pytest.raises(BackendError, match="has no weights"):
            made("open_clip", model=tiny, tag="usual").load("cpu")
        assert not asked
        fetched = made("open_clip", model=tiny, tag="usual", download=True)
        local = made("open_clip", model=tiny, weights=weights, tag="usual")
        assert np.array_equal(fetched.embed([flicker()])[0], local.embed([flicker()])[0])
        assert asked == [{"hf_hub": "a/b/"}]

        def down(published: Any) -> Any:
            raise OSError("no route to host")

        monkeypatch.setattr(pretrained, "download_pretrained", down)
        with pytest.raises(BackendError, match="cannot be fetched: no route to host"):
            made("open_clip", model=tiny, tag="usual", download=True).load("cpu")

    def test_the_identity_follows_what_changes_the_numbers(self, folders: dict[str, Path], tmp_path: Path) -> None:
        moved = shutil.copytree(folders["open_clip"], tmp_path / "elsewhere" / folders["open_clip"].name)
        identities = [made("open_clip", model=f"local-dir:{path}").identity() for path in (folders["open_clip"], moved)]
        assert identities[0] == identities[1]
        version = importlib.metadata.version("open_clip_torch")
        assert identities[0].endswith(f"/auto/pieces-1/open_clip_torch-{version}")
        configuration = json.loads((moved / "open_clip_config.json").read_text())
        configuration["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
        (moved / "open_clip_config.json").write_text(json.dumps(configuration))
        assert made("open_clip", model=f"local-dir:{moved}").identity() != identities[0]

    def test_a_folder_names_no_code_and_no_network(self, tmp_path: Path) -> None:
        text, vision = ARCHITECTURE["text_cfg"], ARCHITECTURE["vision_cfg"]
        for changed, said in (
            ({"text_cfg": text | {"tokenizer_kwargs": {"trust_remote_code": True}}}, "trust_remote_code"),
            ({"vision_cfg": vision | {"timm_model_name": "hf-hub:a/b"}}, "picture encoder elsewhere: `hf-hub:a/b`"),
            ({"text_cfg": {"hf_model_name": "a/b"}}, "text encoder `a/b`"),
            ({"text_cfg": text | {"hf_tokenizer_name": "a/b"}}, "tokenizer of .* is not here"),
            ({"vision_cfg": vision | {"patch_size": 0}}, "cannot build"),
        ):
            folder = save_open_clip(tmp_path / "model", model_cfg=ARCHITECTURE | changed)
            with pytest.raises(BackendError, match=said):
                made("open_clip", model=f"local-dir:{folder}").load("cpu")

    def test_two_files_of_weights_are_asked_about(self, folders: dict[str, Path], tmp_path: Path) -> None:
        folder = Path(shutil.copytree(folders["open_clip"], tmp_path / "model"))
        (folder / "open_clip_model.safetensors").rename(folder / "a.safetensors")
        made("open_clip", model=f"local-dir:{folder}").load("cpu")
        shutil.copyfile(folder / "a.safetensors", folder / "b.safetensors")
        with pytest.raises(BackendError, match=r"which weights are meant in .*: a\.safetensors, b\."):
            made("open_clip", model=f"local-dir:{folder}").load("cpu")

    def test_an_unknown_model_is_named(self, folders: dict[str, Path]) -> None:
        weights = folders["open_clip"] / "open_clip_model.safetensors"
        with pytest.raises(BackendError, match="knows no model `ViT-L-15`") as caught:
            made("open_clip", model="ViT-L-15", weights=weights).load("cpu")
        assert "ViT-L-14" in caught.value.hint


@pytest.mark.full
class TestTransformersFolders:
    @pytest.fixture
    def folder(self, folders: dict[str, Path], tmp_path: Path) -> Path:
        return Path(shutil.copytree(folders["siglip"], tmp_path / "model"))

    def changed(self, folder: Path, **values: Any) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def refused(self, folder: Path, said: str) -> None:
        with pytest.raises(BackendError, match=said):
            made("clip_transformers", model=folder).load("cpu")

    def test_code_in_a_folder_is_not_run(self, folder: Path, tmp_path: Path) -> None:
        (folder / "model.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Model: pass\n")
        self.changed(folder, model_type="own", auto_map={"AutoConfig": "model.Model", "AutoModel": "model.Model"})
        self.refused(folder, "cannot be loaded")
        assert not (tmp_path / "sprung").exists()

    def test_no_pickle_is_run(self, folder: Path, tmp_path: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
        self.refused(folder, "cannot be loaded")
        assert not (tmp_path / "sprung").exists()

    def test_weights_that_lack_are_not_drawn_at_random(self, folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        state.pop("text_model.head.weight")
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        self.refused(folder, r"lacks weights of its own model: text_model.head.weight \(1\)")

    def test_a_model_of_another_kind_is_refused(self, tmp_path: Path, folder: Path) -> None:
        from transformers import BertConfig, BertModel

        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        BertModel(BertConfig(vocab_size=300, **sizes)).save_pretrained(tmp_path / "bert")
        for file in folder.iterdir():
            if "token" in file.name or "processor" in file.name:
                shutil.copyfile(file, tmp_path / "bert" / file.name)
        self.refused(tmp_path / "bert", "a BertModel, which does not compare pictures with texts")

    def test_without_a_processor(self, folder: Path) -> None:
        for file in folder.glob("*processor*"):
            file.unlink()
        self.refused(folder, "cannot be loaded")

    def test_the_identity_follows_the_files(self, folder: Path) -> None:
        before = made("clip_transformers", model=folder).identity()
        assert before.endswith(f"/auto/pieces-1/transformers-{importlib.metadata.version('transformers')}")
        self.changed(folder, own="value")
        assert made("clip_transformers", model=folder).identity() != before
