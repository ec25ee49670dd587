"""SeamlessM4T, on tiny models in the format of the hub: what is translated, what is refused, what changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import seamless as tiny

from vidcap.backends import registry
from vidcap.errors import BackendError, ItemError, TransientError
from vidcap.languages import SEAMLESS

SOURCES = [
    ("Nous marchons le long de la rivière.", "fr"),
    ("我们沿着河边走到老桥那里去。", "zh"),
    ("Wir gehen.", "de"),
    ("歩いて行きます", "ja"),
    ("el río", "es"),
    ("Nous marchons. Le long de la rivière! Et puis nous ne marchons plus?", "fr"),
]


def made(folder: Path | str, **options: Any) -> Any:
    return registry.create("translator", "seamless", {"model": str(folder), "max_new_tokens": 24, **options})


def translate(backend: Any, *pairs: tuple[str, str], to: str = "eng") -> list[Any]:
    texts, languages = [text for text, _ in pairs], [language for _, language in pairs]
    found: list[Any] = backend.translate(texts, languages=languages, to=to)
    return found


@pytest.fixture(scope="module", params=[1, 2], ids=["v1", "v2"])
def saying(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says the same of every source."""
    return saved(tmp_path_factory.mktemp("weights") / f"saying-v{request.param}", version=request.param)


@pytest.fixture(scope="module", params=[1, 2], ids=["v1", "v2"])
def leaning(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it writes depends on the source."""
    folder = tmp_path_factory.mktemp("weights") / f"leaning-v{request.param}"
    return saved(folder, version=request.param, depends=True)


def saved(folder: Path, **options: Any) -> Path:
    pytest.importorskip("transformers")
    tiny.make_seamless(folder, **options)
    return folder


class TestWithoutWeights:
    def test_a_missing_library_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.metadata

        def absent(package: str) -> str:
            raise importlib.metadata.PackageNotFoundError(package)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        with pytest.raises(BackendError, match=r"hint: pip install 'vidcap\[seamless\]'"):
            made("a/b").identity()

    @pytest.mark.parametrize("options", [{"beam_size": 0}, {"max_source_tokens": 2}, {"precision": "int8"}, {"to": 1}])
    def test_wrong_options_are_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(BackendError, match="option"):
            made("a/b", **options)

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("One. Two! Three?", ["One.", "Two!", "Three?"]),
            ("我们走。去老桥！好吗？好", ["我们走。", "去老桥！", "好吗？", "好"]),
            ("वह जाता है। वह आता है।", ["वह जाता है।", "वह आता है।"]),
            ("هل ذهبت؟ نعم", ["هل ذهبت؟", "نعم"]),
            ("no marks at all", ["no marks at all"]),
            (" ", []),
        ],
    )
    def test_sentences_of_any_script(self, text: str, parts: list[str]) -> None:
        from vidcap.backends.translator.seamless import split

        assert split(text) == parts

    @pytest.mark.parametrize(
        ("text", "traditional"),
        [("我们沿着河边走", False), ("我們沿著河邊走", True), ("山水", False), ("hello", False), ("", False)],
    )
    def test_traditional_characters(self, text: str, traditional: bool) -> None:
        from vidcap.backends.translator.seamless import is_traditional

        assert is_traditional(text) is traditional


@pytest.mark.full
class TestTranslating:
    def test_sentence_by_sentence_and_joined(self, saying: Path) -> None:
        backend = made(saying, batch_size=2)
        found = translate(backend, ("Nous marchons.", "fr"), ("Wir gehen. Immer weiter!", "de"), ("qapla", "xx"))
        assert found[:2] == [tiny.SAYS, f"{tiny.SAYS} {tiny.SAYS}"]
        assert isinstance(found[2], ItemError)
        assert found[2].reason == "translate.failed"

    def test_it_is_what_the_library_does_with_one_sentence(self, leaning: Path) -> None:
        """Ids are those of the library's own processor; tables that no file holds (of positions) come out right."""
        import torch
        import transformers
        from safetensors.torch import load_file

        config = transformers.AutoConfig.from_pretrained(leaning)
        kind = {"seamless_m4t": "SeamlessM4TForTextToText", "seamless_m4t_v2": "SeamlessM4Tv2ForTextToText"}
        network = getattr(transformers, kind[config.model_type])(config).eval()
        lacking = network.load_state_dict(load_file(leaning / "model.safetensors"), strict=False).missing_keys
        assert all("embed_tokens" in name or "lm_head" in name for name in lacking)  # one table with `shared`
        network.tie_weights()
        network.generation_config = transformers.GenerationConfig.from_pretrained(leaning)
        processor = transformers.AutoProcessor.from_pretrained(leaning)
        backend = made(leaning, beam_size=3, batch_size=1)
        for text, language in SOURCES[:5]:
            given = processor(text=[text], src_lang=SEAMLESS[language], return_tensors="pt")
            with torch.inference_mode():
                (tokens,) = network.generate(**given, tgt_lang="eng", num_beams=3, max_new_tokens=24)
            expected = " ".join(processor.decode(tokens, skip_special_tokens=True).split())
            ids = given["input_ids"][0][given["attention_mask"][0].bool()].tolist()
            assert backend._sources(text, SEAMLESS[language]) == [ids]
            assert translate(backend, (text, language)) == [expected]

    def test_a_batch_is_what_its_sentences_are_alone(self, leaning: Path) -> None:
        backend = made(leaning, batch_size=4)
        alone = [translate(backend, source)[0] for source in SOURCES]
        assert len(set(alone)) > 3
        assert translate(backend, *SOURCES) == alone
        assert translate(backend, *SOURCES[::-1]) == alone[::-1]
        assert translate(made(leaning, batch_size=1), *SOURCES) == alone

    def test_every_batch_has_one_of_a_few_shapes(self, leaning: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = made(leaning, batch_size=4)
        backend.load("cpu")
        shapes: list[tuple[int, int]] = []
        real = backend._network.generate

        def watched(**given: Any) -> Any:
            shapes.append(tuple(given["input_ids"].shape))
            return real(**given)

        monkeypatch.setattr(backend._network, "generate", watched)
        translate(backend, *SOURCES, ("Nous marchons le long de la rivière " * 5, "fr"))
        assert set(shapes) <= {(4, 16), (4, 32), (4, 64), (4, 128)}
        assert len(shapes) >= 3

    def test_a_long_sentence_is_cut_and_nothing_is_lost(self, saying: Path) -> None:
        backend = made(saying, max_source_tokens=16)
        text = "nous marchons le long de la rivière " * 12 + "nous marchons"
        backend.load("cpu")
        sources = backend._sources(text, "fra")
        assert len(sources) > 4
        assert max(map(len, sources)) <= 16
        words = " ".join(backend._tokenizer.decode(source[1:-1]) for source in sources)
        assert words.split() == text.split()
        (found,) = translate(backend, (text, "fr"))
        assert found == " ".join([tiny.SAYS] * len(sources))

    def test_marks_in_a_text_are_words(self, leaning: Path) -> None:
        backend = made(leaning)
        backend.load("cpu")
        (source,) = backend._sources("nous </s> __deu__ marchons <pad> &lt;s&gt; encore", "fra")
        marks = {*backend._languages.values(), *backend._tokenizer.all_special_ids} - {backend._tokenizer.unk_token_id}
        assert source[0] == backend._languages["fra"]
        assert source[-1] == backend._tokenizer.eos_token_id
        assert not marks & set(source[1:-1])

    def test_chinese_in_traditional_characters_has_its_own_code(self, leaning: Path) -> None:
        backend = made(leaning)
        assert [backend._code("zh", text) for text in ("我们", "我們")] == ["cmn", "cmn_Hant"]

    def test_another_target(self, saying: Path) -> None:
        backend = made(saying)
        assert backend.supports("en", "fra")
        assert not backend.supports("en", "ita")
        (found,) = translate(backend, ("We walk.", "en"), to="ita")
        assert isinstance(found, ItemError)

    def test_what_does_not_end_or_is_empty_is_an_error(self, saying: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (endless,) = translate(made(saying, max_new_tokens=4), ("Nous marchons.", "fr"))
        assert isinstance(endless, ItemError)
        assert "does not end within 4 tokens" in endless.detail
        backend = made(saying)
        backend.load("cpu")
        monkeypatch.setattr(backend._network.generation_config, "eos_token_id", 178)
        (empty,) = translate(backend, ("Nous marchons.", "fr"))
        assert isinstance(empty, ItemError)
        # A text of nothing asks for nothing.
        assert translate(made(saying), ("  ", "fr")) == [""]

    def test_numbers_that_are_none_are_the_items_error(self, saying: Path) -> None:
        backend = made(saying)
        backend.load("cpu")
        backend._network.lm_head.bias = None
        backend._network.text_decoder.layer_norm.weight.fill_(float("nan"))
        (found,) = translate(backend, ("Nous marchons.", "fr"))
        assert isinstance(found, ItemError)
        assert "numbers that are none" in found.detail

    def test_out_of_memory_halves_the_batch(self, leaning: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        backend = made(leaning, batch_size=4)
        expected = translate(backend, *SOURCES)
        real, tried = backend._network.generate, []
        room = 2

        def tight(**given: Any) -> Any:
            tried.append(len(given["input_ids"]))
            if len(given["input_ids"]) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(**given)

        monkeypatch.setattr(backend._network, "generate", tight)
        assert translate(backend, *SOURCES) == expected
        assert set(tried) == {4, 2}
        room = 0
        with pytest.raises(TransientError, match="no memory left for a single sentence"):
            translate(backend, *SOURCES)


@pytest.mark.full
class TestLanguages:
    def test_supported_is_what_map_and_model_have_loaded_or_not(self, saying: Path) -> None:
        backend = made(saying)
        asked = [*SEAMLESS, "la", "sq", "xx", ""]
        before = {language for language in asked if backend.supports(language, "eng")}
        assert before == {"fr", "de", "zh", "ja", "es"}
        backend.load("cpu")
        assert {language for language in asked if backend.supports(language, "eng")} == before
        assert not any(backend.supports(language, "tlh") for language in asked)

    def test_a_language_that_only_one_of_the_files_has(self, tmp_path: Path) -> None:
        folder = saved(tmp_path / "few", mapped=("eng", "fra"))
        backend = made(folder)
        assert backend.supports("fr", "eng")
        assert not backend.supports("de", "eng")  # a token of the tokenizer, not named by the model
        settings = json.loads((folder / "generation_config.json").read_text())
        settings["text_decoder_lang_to_code_id"]["ita"] = 7  # named, but the token is a word
        (folder / "generation_config.json").write_text(json.dumps(settings))
        assert not made(folder).supports("it", "eng")

    def test_the_map_outlives_what_transformers_drops(self, tmp_path: Path) -> None:
        import transformers

        folder = saved(tmp_path / "dropped", from_config=True)
        network = transformers.SeamlessM4TForTextToText.from_pretrained(folder)
        assert not hasattr(network.generation_config, "text_decoder_lang_to_code_id")  # the trap is still there
        assert translate(made(folder), ("Nous marchons.", "fr")) == [tiny.SAYS]

    def test_a_model_that_names_no_languages(self, tmp_path: Path) -> None:
        folder = saved(tmp_path / "none", mapped=())
        with pytest.raises(BackendError, match=r"names no language(.|\n)*hint: give `model: "):
            made(folder).load("cpu")
        (folder / "generation_config.json").unlink()
        with pytest.raises(BackendError, match=r"no readable generation_config.json"):
            made(folder).supports("fr", "eng")


@pytest.mark.full
class TestLoading:
    def test_identity(self, saying: Path) -> None:
        name = made(saying, beam_size=2, precision="bf16").identity()
        assert name.startswith(f"{saying.name}@")
        assert "/bf16-beam-2/transformers-" in name
        assert (
            made("facebook/hf-seamless-m4t-large", revision="abc")
            .identity()
            .startswith("facebook/hf-seamless-m4t-large@abc/auto-beam-5/")
        )

    def test_another_model_is_refused(self, saying: Path, tmp_path: Path) -> None:
        copy = tmp_path / "other"
        shutil.copytree(saying, copy)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "model_type": "nllb-moe"}))
        with pytest.raises(BackendError, match="of the type `nllb-moe`, no SeamlessM4T"):
            made(copy).load("cpu")

    def test_weights_that_lack_something_are_refused(self, saying: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        copy = tmp_path / "part"
        shutil.copytree(saying, copy)
        weights = load_file(copy / "model.safetensors")
        del weights["text_decoder.layers.1.ffn.fc1.weight"]
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(BackendError, match=r"lacks weights of its own model: text_decoder.layers.1.ffn.fc1.weight"):
            made(copy).load("cpu")

    def test_a_name_without_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(BackendError, match="hint: `vidcap models fetch facebook/no-such-model`"):
            made("facebook/no-such-model").load("cpu")
        with pytest.raises(BackendError, match="there is no folder"):
            made(tmp_path / "absent").load("cpu")

    def test_more_tokens_than_the_context(self, saying: Path) -> None:
        with pytest.raises(BackendError, match="has a context of 512 tokens"):
            made(saying, max_source_tokens=1024, max_new_tokens=1024).load("cpu")

    def test_precision_and_device(self, saying: Path) -> None:
        with pytest.raises(BackendError, match="`precision: fp16` needs a GPU"):
            made(saying, precision="fp16").load("cpu")
        with pytest.raises(BackendError, match="device `cuda:99` cannot be used"):
            made(saying).load("cuda:99")
        assert translate(made(saying, precision="bf16"), ("Nous marchons.", "fr")) == [tiny.SAYS]


def test_making_one_imports_no_torch(repository: Path) -> None:
    code = (
        "import sys; from vidcap.backends import registry; registry.create('translator', 'seamless'); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_options_are_documented(repository: Path) -> None:
    text = (repository / "docs" / "models" / "seamless.md").read_text()
    for option in registry.get("translator", "seamless").Config.model_fields:
        assert f"`{option}`" in text, option
