"""Whisper's weights: where they are looked for, what is said where they lack, and which files are refused."""

from __future__ import annotations

import base64
import gzip
import importlib.metadata
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidcap.backends import registry
from vidcap.backends.weights import whisper_weights
from vidcap.errors import BackendError
from vidcap.store import sha256_of


def made(**options: Any) -> Any:
    return registry.create("transcriber", "whisper", options)


class TestAbsent:
    """What is said where weights lack needs no torch."""

    def test_absent_weights_name_the_file_and_where_it_comes_from(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError) as caught:
            whisper_weights.file_of("large-v2", tmp_path, download=False)
        assert f"`{tmp_path / 'large-v2.pt'}`" in caught.value.message
        assert "`model: path/to/large-v2.pt`" in caught.value.hint
        assert "`whisper --model large-v2 ANY.wav`" in caught.value.hint
        assert whisper_weights.PUBLISHED["large-v2"] in caught.value.hint

    def test_weights_lie_in_the_librarys_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(BackendError, match=str(tmp_path / "whisper" / "large-v3-turbo.pt")):
            whisper_weights.file_of("turbo", None, download=False)

    def test_a_published_name_with_other_bytes_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "tiny.pt").write_bytes(b"half a download")
        with pytest.raises(BackendError, match=r"is not the published file: its sha256 is [0-9a-f]{64}\nhint: remove"):
            whisper_weights.file_of("tiny", tmp_path, download=True)

    def test_a_model_that_is_neither_name_nor_file(self, tmp_path: Path) -> None:
        for call in (lambda: made(model=str(tmp_path / "no.pt")).languages, lambda: whisper_weights.named("large-v9")):
            with pytest.raises(BackendError, match=r"there is no Whisper model `.*\nhint: .*large-v2"):
                call()


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


@pytest.mark.full
class TestWeights:
    def test_our_table_is_the_librarys(self) -> None:
        whisper = pytest.importorskip("whisper")
        theirs = {name: url.split("/")[-2:] for name, url in whisper._MODELS.items()}
        ours = {name: [digest, f"{name}.pt"] for name, digest in whisper_weights.PUBLISHED.items()}
        ours |= {alias: ours[name] for alias, name in whisper_weights.ALIASES.items()}
        assert ours == theirs

    def test_the_identity_names_model_digest_choices_and_library(self, kite: Path, tmp_path: Path) -> None:
        versions = "/".join(f"{name}-{importlib.metadata.version(name)}" for name in ("openai-whisper", "torch"))
        assert made().identity() == f"large-v2@81f7c96c852e/auto-beam-5-vad/{versions}"
        digest = sha256_of(kite)[:12]
        options = {"precision": "fp32", "beam_size": None, "vad": False, "language": "en"}
        assert made(model=str(kite), **options).identity() == f"kite@{digest}/fp32-greedy-whole-en/{versions}"

    def test_a_file_with_a_published_digest_has_its_name_and_its_alignment_heads(
        self, kite: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whisper = pytest.importorskip("whisper")
        heads = np.array([[True, False]])
        dump = base64.b85encode(gzip.compress(heads.tobytes()))
        monkeypatch.setitem(whisper_weights.PUBLISHED, "small", sha256_of(kite))
        monkeypatch.setitem(whisper._ALIGNMENT_HEADS, "small", dump)
        assert made(model=str(kite)).identity().startswith("small@")
        assert whisper_weights.read(kite).alignment_heads.to_dense().tolist() == heads.tolist()

    def test_a_named_model_is_fetched_only_where_asked(
        self, kite: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        whisper = pytest.importorskip("whisper")
        digest = sha256_of(kite)
        source = tmp_path / digest / "base.pt"
        source.parent.mkdir()
        source.write_bytes(kite.read_bytes())
        monkeypatch.setitem(whisper_weights.PUBLISHED, "base", digest)
        monkeypatch.setitem(whisper._MODELS, "base", source.as_uri())
        monkeypatch.delitem(whisper._ALIGNMENT_HEADS, "base")
        monkeypatch.setitem(whisper._ALIGNMENT_HEADS, "base", None)
        root = tmp_path / "models"
        with pytest.raises(BackendError, match="the weights of `base` are not there"):
            made(model="base", download_root=str(root)).load("cpu")
        made(model="base", download_root=str(root), download=True).load("cpu")
        assert [path.name for path in root.iterdir()] == ["base.pt"]
        source.unlink()
        made(model="base", download_root=str(root)).load("cpu")
        (root / "base.pt").unlink()
        with pytest.raises(BackendError, match=r"`base\.pt` could not be fetched"):
            made(model="base", download_root=str(root), download=True).load("cpu")
        assert not list(root.iterdir())

    def test_other_files_are_refused_and_nothing_in_them_is_run(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        folder = tmp_path / "made by the file"
        text, tensors, evil, torch_evil = (tmp_path / f"{name}.pt" for name in ("text", "tensors", "evil", "torch"))
        text.write_text("no weights")
        torch.save({"net": torch.zeros(3)}, tensors)
        evil.write_bytes(pickle.dumps({"dims": {}, "model_state_dict": Payload(folder)}))
        torch.save({"dims": {}, "model_state_dict": Payload(folder)}, torch_evil)
        for path in (text, tensors, evil, torch_evil):
            with pytest.raises(BackendError, match=r"is no Whisper model: .*\nhint: give a file in openai-whisper's"):
                made(model=str(path)).load("cpu")
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda state, dims: state.pop("decoder.ln.bias"), "decoder.ln.bias"),
            (lambda state, dims: state.pop("encoder.conv1.weight"), "it lacks 'encoder.conv1.weight'"),
            (lambda state, dims: dims.update(n_audio_layer=9_000), "'n_audio_layer': 9000.*its tensors have"),
            (lambda state, dims: dims.update(n_text_head=5), "no Whisper model has the sizes"),
            (lambda state, dims: dims.update(extra=1), "its `dims` are"),
            (lambda state, dims: dims.pop("n_mels"), "its `dims` are"),
            (lambda state, dims: dims.pop("n_audio_head"), "it lacks 'n_audio_head'"),
            (lambda state, dims: state["encoder.conv2.bias"].fill_(float("nan")), "numbers that are not finite"),
        ],
    )
    def test_a_spoilt_model_is_refused(self, babble: Path, tmp_path: Path, spoil: Any, message: str) -> None:
        torch = pytest.importorskip("torch")
        found = torch.load(babble, weights_only=True)
        spoil(found["model_state_dict"], found["dims"])
        torch.save(found, tmp_path / "spoilt.pt")
        with pytest.raises(BackendError, match=message):
            whisper_weights.read(tmp_path / "spoilt.pt")
