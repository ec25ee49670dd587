"""The CLIP backends on tiny models: what they compute, and what they say where something lacks."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_models import folders
from clip_views import BLUE, GREEN, RED, bands, clip, flicker, still

from vidcap.backends import registry
from vidcap.backends.full_batches import Batches, Line
from vidcap.errors import BackendError, ItemError, TransientError

SENTENCE = "the red dog runs over the green grass and barks at two cats"


def made(name: str, **options: Any) -> Any:
    return registry.create(
        "similarity", name, {key: str(v) if isinstance(v, Path) else v for key, v in options.items()}
    )


def one(backend: Any, vector: Any, text: str) -> float:
    return float(backend.score([vector], [text], kinds=["v"])[0])


class TestWithoutLibraries:
    """What is said where something lacks needs nothing."""

    def test_weights_that_are_not_there(self, tmp_path: Path) -> None:
        for options, said in (
            ({}, "`open_clip` has no weights"),
            ({"download": True}, "`open_clip` has no weights"),
            ({"weights": tmp_path / "none.pt"}, "there are no weights `.*none.pt`"),
            ({"model": f"local-dir:{tmp_path}"}, "there is no `open_clip_config.json`"),
        ):
            with pytest.raises(BackendError, match=said) as caught:
                made("open_clip", **options).identity()
            assert "vit_large_patch14_clip_224.openai" in caught.value.hint
        for model in (tmp_path, tmp_path / "none"):
            with pytest.raises(BackendError, match=r"there is no (folder|`config\.json`)") as caught:
                made("clip_transformers", model=model).identity()
            assert "model.safetensors" in caught.value.hint

    def test_a_missing_library_names_the_extra(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def absent(package: str) -> str:
            raise importlib.metadata.PackageNotFoundError(package)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "w.safetensors").write_bytes(b"any")
        for backend in (
            made("open_clip", weights=tmp_path / "w.safetensors"),
            made("clip_transformers", model=tmp_path),
        ):
            for call in (backend.identity, lambda backend=backend: backend.load("cpu")):
                with pytest.raises(BackendError, match=r"is not installed\nhint: pip install 'vidcap\[clip\]'"):
                    call()

    @pytest.mark.parametrize(
        ("name", "options", "said"),
        [
            ("open_clip", {"frames_per_clip": 0}, "option `frames_per_clip`"),
            ("open_clip", {"precision": "fp8"}, "option `precision`"),
            ("open_clip", {"pretrained": "openai"}, "option `pretrained`"),
            ("open_clip", {"model": "local-dir:/x", "tag": "openai"}, "brings its own weights"),
            ("open_clip", {"model": "hf-hub:a/b"}, "give it as `local-dir:folder`"),
            ("clip_transformers", {}, "option `model`"),
            ("clip_transformers", {"model": "x", "images_per_batch": 0}, "option `images_per_batch`"),
        ],
    )
    def test_wrong_options_are_named(self, name: str, options: dict[str, Any], said: str) -> None:
        with pytest.raises(BackendError, match=said):
            made(name, **options)

    def test_what_is_still_to_be_fetched_has_an_identity(self) -> None:
        torch_free = made("open_clip", tag="openai", download=True)
        try:
            version = importlib.metadata.version("open_clip_torch")
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("open_clip_torch is not installed")
        expected = f"ViT-L-14@published:openai/auto/pieces-1/open_clip_torch-{version}"
        assert torch_free.identity() == expected


@pytest.fixture(scope="module", name="folders")
def _folders() -> dict[str, Path]:
    return folders()


@pytest.fixture
def open_clip_backend(folders: dict[str, Path]) -> Callable[..., Any]:
    return lambda **options: made("open_clip", model=f"local-dir:{folders['open_clip']}", **options)


@pytest.mark.full
class TestNumbers:
    def test_a_clip_is_the_mean_of_its_frames(self, folders: dict[str, Path], open_clip_backend: Any) -> None:
        """Beside the bare library: its transform, its encoder, its normalisation."""
        import open_clip
        import torch
        from PIL import Image

        name = f"local-dir:{folders['open_clip']}"
        network, _, transform = open_clip.create_model_and_transforms(name)
        network.eval()
        frames = [bands(BLUE), bands(RED, GREEN), flicker(1).frames[0]]
        with torch.no_grad():
            pictures = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
            each = network.encode_image(pictures, normalize=True)
            text = network.encode_text(open_clip.get_tokenizer(name)([SENTENCE]), normalize=True)[0]
        mean = each.mean(0) / each.mean(0).norm()
        backend = open_clip_backend()
        (vector,) = backend.embed([clip(frames)])
        assert vector.dtype == np.float32
        assert np.allclose(vector, mean.numpy(), atol=1e-5)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        assert one(backend, vector, SENTENCE) == pytest.approx(float(mean @ text), abs=1e-5)

    @pytest.mark.parametrize("family", ["siglip", "clip"])
    def test_transformers_features_are_the_bare_librarys(self, folders: dict[str, Path], family: str) -> None:
        import torch
        from PIL import Image
        from transformers import AutoModel, AutoProcessor

        network = AutoModel.from_pretrained(folders[family]).eval()
        processor = AutoProcessor.from_pretrained(folders[family])
        frames = [bands(BLUE), bands(RED, GREEN)]
        context = 64 if family == "siglip" else 77
        given = processor(
            images=[Image.fromarray(f) for f in frames],
            text=["the red dog runs"],
            padding="max_length",
            max_length=context,
            return_tensors="pt",
        )
        if family == "siglip":
            given.pop("attention_mask", None)
        with torch.no_grad():
            out = network(**given)
        mean = out.image_embeds.mean(0) / out.image_embeds.mean(0).norm()
        backend = made("clip_transformers", model=folders[family])
        (vector,) = backend.embed([clip(frames)])
        assert np.allclose(vector, mean.numpy(), atol=1e-5)
        expected = float(mean @ out.text_embeds[0])
        assert one(backend, vector, "the red dog runs") == pytest.approx(expected, abs=1e-5)
        assert backend._model.context == context

    def test_a_long_text_is_the_mean_of_its_sentences(self, any_clip: Any) -> None:
        (vector,) = any_clip.embed([still(BLUE, GREEN)])
        texts = [f"{word} dog runs over the green grass." for word in ("One", "No", "My", "Our", "His", "Her")] * 2
        alone = any_clip.score([vector] * 12, texts, kinds=["avs"] * 12)
        assert len(set(alone)) == 6
        whole = " ".join(texts)
        assert any_clip._model.tokens_of(whole) > any_clip._model.context
        assert one(any_clip, vector, whole) == pytest.approx(np.mean(alone), abs=1e-6)

    def test_what_stands_at_the_end_of_a_long_text_counts(self, any_clip: Any) -> None:
        (vector,) = any_clip.embed([still(BLUE)])
        begin = f"{SENTENCE}. " * 12
        assert abs(one(any_clip, vector, f"{begin}A cat.") - one(any_clip, vector, f"{begin}Zoo.")) > 1e-6

    def test_a_caption_cannot_hide_its_end_behind_a_mark(self, open_clip_backend: Any) -> None:
        backend = open_clip_backend()
        (vector,) = backend.embed([still(BLUE)])
        for mark in ("<end_of_text>", "&lt;end_of_text&gt;"):
            scores = [one(backend, vector, f"a dog {mark} {end}") for end in ("a cat", "the moon")]
            assert abs(scores[0] - scores[1]) > 1e-6

    def test_batches_change_no_score(self, folders: dict[str, Path], open_clip_backend: Any) -> None:
        views = [still(BLUE), flicker(), still(GREEN, count=3), clip([bands(RED)])]
        texts = [SENTENCE, "a cat", "the moon " * 60, ""]
        whole = open_clip_backend(images_per_batch=32, texts_per_batch=16)
        expected = whole.embed(views)
        scores = whole.score(expected, texts, kinds=["v"] * 4)
        assert math.isnan(scores[3])
        for size in (1, 3, 8):
            backend = open_clip_backend(images_per_batch=size, texts_per_batch=size)
            for found, vector in zip(backend.embed(views), expected, strict=True):
                assert np.allclose(found, vector, atol=2e-6)
            assert np.allclose(backend.score(expected, texts, kinds=["v"] * 4)[:3], scores[:3], atol=2e-6)
        assert one(whole, expected[1], "a cat") == scores[1]
        assert np.array_equal(whole.embed([views[2]])[0], expected[2])

    def test_bf16_stays_near_fp32(self, folders: dict[str, Path], open_clip_backend: Any) -> None:
        for make in (open_clip_backend, lambda **o: made("clip_transformers", model=folders["siglip"], **o)):
            full, half = make(precision="fp32"), make(precision="bf16")
            views = [still(BLUE), flicker()]
            cosines = [a @ b for a, b in zip(full.embed(views), half.embed(views), strict=True)]
            assert min(cosines) > 0.999
            assert any(not np.array_equal(a, b) for a, b in zip(full.embed(views), half.embed(views), strict=True))
            (vector, _) = full.embed(views)
            assert one(half, vector, SENTENCE) == pytest.approx(one(full, vector, SENTENCE), abs=0.02)
        with pytest.raises(BackendError, match="fp16` needs a GPU"):
            open_clip_backend(precision="fp16").load("cpu")
        with pytest.raises(BackendError, match="device `cuda:99` cannot be used"):
            open_clip_backend().load("cuda:99")

    @pytest.mark.parametrize("any_clip", ["open_clip", "siglip"], indirect=True)
    def test_a_compiled_model_gives_the_same(self, any_clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Through dynamo, without its slow code generator."""
        import torch

        real, asked = torch.compile, []

        def compiled(function: Any, **options: Any) -> Any:
            asked.append(options)
            return real(function, backend="eager", **options)

        monkeypatch.setattr(torch, "compile", compiled)
        backend = type(any_clip)(any_clip.config.model_copy(update={"compile": True}))
        backend.load("cpu")
        assert asked == [{"dynamic": False}] * 2
        (vector,) = any_clip.embed([still(BLUE)])
        assert np.allclose(backend.embed([still(BLUE)])[0], vector, atol=1e-5)
        assert one(backend, vector, SENTENCE) == pytest.approx(one(any_clip, vector, SENTENCE), abs=1e-5)

    def test_bad_frames_and_numbers_are_the_items_error(self, any_clip: Any) -> None:
        odd = [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
        found = any_clip.embed([*(clip([frame]) for frame in odd), still(BLUE)])
        assert [isinstance(outcome, ItemError) for outcome in found] == [True, True, True, False]
        real = any_clip._pictures.function
        try:
            any_clip._pictures.function = lambda **inputs: real(**inputs) * np.nan
            (outcome,) = any_clip.embed([still(BLUE)])
        finally:
            any_clip._pictures.function = real
        assert isinstance(outcome, ItemError) and "not finite" in outcome.detail


@pytest.fixture(params=["open_clip", "siglip", "clip"])
def any_clip(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Any:
    if request.param == "open_clip":
        return made("open_clip", model=f"local-dir:{folders['open_clip']}")
    return made("clip_transformers", model=folders[request.param])


@pytest.mark.full
class TestMemory:
    @pytest.fixture
    def torch(self) -> Any:
        return pytest.importorskip("torch")

    def batches(self, torch: Any, size: int, room: int) -> tuple[Batches, list[int]]:
        """An encoder that doubles, with memory for `room` rows."""
        asked: list[int] = []

        def double(rows: Any) -> Any:
            asked.append(len(rows))
            if len(rows) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return 2 * rows

        return Batches(double, torch.device("cpu"), torch.float32, size, "picture"), asked

    def through(self, batches: Batches, torch: Any) -> None:
        line = Line(batches, lambda some: {"rows": torch.tensor(some)[:, None]})
        line.add(1.0)
        line.rest()

    def test_a_batch_that_does_not_fit_is_halved_for_good(self, torch: Any) -> None:
        batches, asked = self.batches(torch, 8, room=2)
        items = list(range(7))
        for _ in range(2):
            line = Line(batches, lambda some: {"rows": torch.tensor(some, dtype=torch.float32)[:, None]})
            found = [vector for item in items for vector in line.add(item)] + line.rest()
            assert [vector.tolist() for vector in found] == [[2.0 * item] for item in items]
        assert asked == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
        assert batches.size == 2

    def test_one_that_does_not_fit_alone_is_worth_another_try(self, torch: Any) -> None:
        batches, _ = self.batches(torch, 4, room=0)
        with pytest.raises(TransientError, match="no memory left for a single picture"):
            self.through(batches, torch)

    def test_other_errors_are_not_taken_for_it(self, torch: Any) -> None:
        def wrong(rows: Any) -> Any:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        batches = Batches(wrong, torch.device("cpu"), torch.float32, 4, "text")
        with pytest.raises(RuntimeError, match="shapes"):
            self.through(batches, torch)

    def test_torch_and_logging_are_left_as_they_were(
        self, folders: dict[str, Path], torch: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import logging

        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # open_clip's first message would add one

        def settings() -> tuple[Any, ...]:
            return (
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.benchmark,
                torch.backends.cudnn.deterministic,
                torch.get_float32_matmul_precision(),
                torch.get_num_threads(),
                torch.is_grad_enabled(),
                torch.get_default_dtype(),
                torch.get_rng_state().tolist(),
                logging.getLogger().handlers[:],
                logging.root.manager.disable,
            )

        before = settings()
        for name, model in (
            ("open_clip", f"local-dir:{folders['open_clip']}"),
            ("clip_transformers", folders["siglip"]),
        ):
            backend = made(name, model=model)
            backend.score(backend.embed([still(BLUE)]), [SENTENCE], kinds=["v"])
            assert settings() == before
