"""Image-text-to-text models: every family from its files to a caption, alone and in company, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from caption_models import REST, folder_of
from clip_views import BLUE, GREEN, RED, bands, clip, flicker, still
from tiny_models.speaking import COLOURS, plain

from vidcap.backends import registry
from vidcap.backends.frame_pictures import smaller
from vidcap.backends.sentences import whole_sentences
from vidcap.errors import BackendError, ItemError, TransientError

pytestmark = pytest.mark.full
FAMILIES = ("qwen25_vl", "qwen3_vl", "internvl", "llava_onevision", "llava_next_video")
PROMPT = "Describe the clip in one sentence."


def made(family: str | Path = "qwen25_vl", **options: Any) -> Any:
    model = folder_of(family) if isinstance(family, str) else family
    backend = registry.create("video_captioner", "transformers_vlm", {"model": str(model), **options})
    backend.load("cpu")
    return backend


def copy_of(family: str, folder: Path) -> Path:
    return Path(shutil.copytree(folder_of(family), folder / family))


def texts(outcomes: list[Any]) -> list[str]:
    """Errors as text, so that they compare."""
    return [str(outcome) for outcome in outcomes]


@pytest.mark.parametrize("way", ["video", "images"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_says_what_it_is_shown(family: str, way: str) -> None:
    backend = made(family, frames_as=way, clips_per_batch=2)
    views = [clip([plain(colour)] * count) for colour, count in zip(COLOURS.values(), (4, 4, 3, 4, 1), strict=True)]
    seeds = list(range(5))
    together = backend.caption(views, prompt=PROMPT, seeds=seeds)
    assert together[:2] == [f"Red{REST}", f"Green{REST}"]
    assert {text.partition(" ")[0] for text in together[2:]} <= set(COLOURS)
    alone = [backend.caption([view], prompt=PROMPT, seeds=[seed])[0] for view, seed in zip(views, seeds, strict=True)]
    assert together == alone


def test_auto_is_a_video_where_the_model_takes_one() -> None:
    view = clip([plain(COLOURS["Red"])] * 4)
    asked = {way: made(frames_as=way)._question(view, PROMPT, 0).inputs for way in ("auto", "video", "images")}
    assert sorted(asked["auto"]) == sorted(asked["video"])
    assert "pixel_values_videos" in asked["video"] and "pixel_values" in asked["images"]


def test_seeds_decide_above_temperature_zero_alone_and_in_company() -> None:
    import torch

    backend = made(temperature=2.0, top_p=0.95, clips_per_batch=3, max_new_tokens=24)
    views = [still(BLUE), still(RED, GREEN), flicker(), clip([bands(RED)]), still(BLUE)]
    seeds = [5, 2**64 - 1, 7, 8, 9]
    state = torch.get_rng_state()
    together = texts(backend.caption(views, prompt=PROMPT, seeds=seeds))
    assert torch.equal(state, torch.get_rng_state())
    alone = texts([backend.caption([v], prompt=PROMPT, seeds=[s])[0] for v, s in zip(views, seeds, strict=True)])
    back = texts(backend.caption(views[::-1], prompt=PROMPT, seeds=seeds[::-1])[::-1])
    assert together == alone == back
    many = texts(backend.caption([still(BLUE)] * 12, prompt=PROMPT, seeds=range(12)))
    assert len(set(many)) > 3
    cold = texts(made(max_new_tokens=24).caption([still(BLUE)] * 4, prompt=PROMPT, seeds=range(4)))
    assert len(set(cold)) == 1


def test_frames_keep_their_times() -> None:
    view = clip([plain(COLOURS["Red"])] * 5, gap=0.75)
    asked = made("qwen3_vl")
    text = asked._processor.tokenizer.decode(asked._question(view, PROMPT, 0).inputs["input_ids"][0])
    # Frames are seen in pairs at 0 and 0.75, 1.5 and 2.25, 3 and 3.
    assert [piece.split(" seconds>")[0] for piece in text.split("<") if " seconds>" in piece] == ["0.4", "1.9", "3.0"]
    inputs = made("qwen25_vl")._question(view, PROMPT, 0).inputs
    assert float(inputs["second_per_grid_ts"][0]) == pytest.approx(2 * 0.75)


def test_frames_are_made_smaller_and_never_larger() -> None:
    frame = np.zeros((90, 160, 3), np.uint8)
    assert smaller(frame, height=45).shape == (45, 80, 3)
    assert smaller(frame, height=200) is frame
    assert smaller(frame, pixels=3600).shape == (45, 80, 3)
    assert smaller(frame, height=45, pixels=400).shape[0] * smaller(frame, height=45, pixels=400).shape[1] <= 400
    assert smaller(np.zeros((2, 4000, 3), np.uint8), pixels=256).shape[0] == 1
    whole, less = (made(frames_as="images", image_height=height) for height in (None, 30))
    tokens = [each._question(clip([frame]), PROMPT, 0).inputs["input_ids"].shape[1] for each in (whole, less)]
    assert tokens[1] < tokens[0]


def test_no_more_frames_than_asked_for_and_of_one_size() -> None:
    view = clip([bands(RED, height=64, width=96)] * 3 + [bands(BLUE, height=40, width=40)] * 3)
    (text,) = made(frames_per_clip=4).caption([view], prompt=PROMPT, seeds=[0])
    assert text.endswith(REST)
    inputs = made(frames_per_clip=4)._question(view, PROMPT, 0).inputs
    assert inputs["video_grid_thw"].tolist()[0][0] == 2


def test_bad_clips_are_errors_in_their_place() -> None:
    good = clip([plain(COLOURS["Red"])] * 2)
    bad = [
        clip([]),
        clip([np.zeros((4, 4), np.uint8)]),
        clip([np.zeros((4, 4, 3), np.float32)]),  # type: ignore[list-item]  # a wrong kind on purpose
        clip([np.zeros((1, 4000, 3), np.uint8)]),
    ]
    found = made(clips_per_batch=4).caption([good, *bad, good], prompt=PROMPT, seeds=range(6))
    assert found[0] == found[5] == f"Red{REST}"
    assert all(isinstance(error, ItemError) and error.reason == "caption.failed" for error in found[1:5])
    assert "aspect ratio" in found[4].detail
    assert pickle.loads(pickle.dumps(found[4])).detail == found[4].detail


def test_what_does_not_fit_the_context_is_an_error_with_its_mend() -> None:
    (found,) = made().caption([clip([plain(COLOURS["Red"])])], prompt="x" * 5000, seeds=[0])
    assert isinstance(found, ItemError) and "too many for the model's 4096" in found.detail


def test_a_text_that_is_cut_off_ends_with_its_last_whole_sentence(tmp_path: Path) -> None:
    view = clip([plain(COLOURS["Red"])] * 2)
    (found,) = made(max_new_tokens=6).caption([view], prompt=PROMPT, seeds=[0])
    assert isinstance(found, ItemError) and found.detail == "the text is cut off after 6 tokens"
    folder = copy_of("qwen25_vl", tmp_path)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 5}))  # it never comes
    (found,) = made(folder, max_new_tokens=len(REST.split()) + 3).caption([view], prompt=PROMPT, seeds=[0])
    assert found == f"Red{REST}"
    assert whole_sentences(" A dog runs. It ba") == "A dog runs."
    assert whole_sentences("A dog runs") == "" == whole_sentences("")
    assert whole_sentences("Dr. No runs. He") == "Dr. No runs."


def test_settings_beside_the_weights_change_nothing(tmp_path: Path) -> None:
    folder = copy_of("qwen25_vl", tmp_path)
    settings = json.loads((folder / "generation_config.json").read_text())
    wild = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 9.0, "max_new_tokens": 2}
    (folder / "generation_config.json").write_text(json.dumps(settings | wild))
    assert made(folder).caption([clip([plain(COLOURS["Red"])])], prompt=PROMPT, seeds=[0]) == [f"Red{REST}"]


def test_thoughts_and_empty_texts() -> None:
    from vidcap.backends.generated_text import Writer

    writer: Any = object.__new__(Writer)
    said: dict[int, str] = {1: "<think>A dog? A cat.</think> A dog runs.", 2: "<think>A dog?", 3: " \ufffd ", 4: "Ok."}
    writer._tokenizer = SimpleNamespace(decode=lambda tokens, skip_special_tokens: said[tokens[0]])
    writer._ends, writer._most, writer._reason, writer._cut_off = {0}, 9, "caption.failed", True
    found = [writer._text([number, 0]) for number in said]
    assert (found[0], found[3]) == ("A dog runs.", "Ok.")
    assert all(isinstance(error, ItemError) and "no words" in error.detail for error in found[1:3])


def test_numbers_that_are_not_finite_are_no_caption() -> None:
    backend = made()
    backend._writer._network.lm_head.weight.data.fill_(3e38)
    (found,) = backend.caption([still(BLUE)], prompt=PROMPT, seeds=[0])
    assert isinstance(found, ItemError) and "not finite" in found.detail


def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    backend = made(clips_per_batch=4)
    network = backend._writer._network
    views, sizes, limit, generate = [clip([plain(c)]) for c in COLOURS.values()], [], [1], network.generate

    def narrow(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > limit[0]:
            raise torch.OutOfMemoryError("no")
        return generate(**given)

    monkeypatch.setattr(network, "generate", narrow)
    found = backend.caption(views, prompt=PROMPT, seeds=range(5))
    assert [text.partition(" ")[0] for text in found] == list(COLOURS)
    assert sizes[:3] == [4, 2, 1]
    limit[0] = 0
    with pytest.raises(TransientError, match="no memory left for a single clip"):
        backend.caption(views, prompt=PROMPT, seeds=range(5))


def test_precision_is_that_of_the_network() -> None:
    import torch

    backend = made(precision="bf16")
    assert {parameter.dtype for parameter in backend._writer._network.parameters()} == {torch.bfloat16}
    (text,) = backend.caption([clip([plain(COLOURS["Red"])] * 2)], prompt=PROMPT, seeds=[0])
    assert isinstance(text, str) and text
    with pytest.raises(BackendError, match="fp16"):
        made(precision="fp16")


def identity(**options: Any) -> str:
    found: str = registry.create("video_captioner", "transformers_vlm", {"model": "a/b", **options}).identity()
    return found


def test_the_identity_names_all_that_shapes_answers() -> None:
    plainly = identity()
    assert plainly.startswith("a/b@main/auto/auto-16/hp/n160t0p1r1/vlm@1/transformers-")
    same = {"clips_per_batch": 3, "threads": 2, "download": True}
    assert {identity(**{name: value}) for name, value in same.items()} == {plainly}
    shaping: dict[str, Any] = {
        "revision": "abc", "frames_per_clip": 4, "frames_as": "images", "image_height": 200, "max_pixels": 9999,
        "max_new_tokens": 9, "temperature": 0.5, "top_p": 0.5, "repetition_penalty": 1.1, "precision": "bf16",
    }  # fmt: skip
    assert len({identity(**{name: value}) for name, value in shaping.items()} | {plainly}) == len(shaping) + 1
    before = identity(model=str(folder_of("qwen25_vl")))
    assert before.startswith("tiny-qwen25_vl@") and before == identity(model=f"{folder_of('qwen25_vl')}/")


def test_models_that_will_not_do_are_refused_with_the_mend(tmp_path: Path) -> None:
    import safetensors.torch

    with pytest.raises(BackendError, match="no folder"):
        made(tmp_path / "absent")
    with pytest.raises(BackendError) as caught:
        registry.create("video_captioner", "transformers_vlm", {"model": "no-such/model"}).load("cpu")
    assert "vidcap models fetch" in caught.value.hint
    with pytest.raises(BackendError, match="no chat template") as caught:
        made("blip2")
    assert "internvid" in caught.value.hint
    folder = copy_of("qwen25_vl", tmp_path)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight")
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackendError, match=r"lacks weights of its own model: lm_head.weight"):
        made(folder)
    with pytest.raises(BackendError, match="cannot be used"):
        registry.create("video_captioner", "transformers_vlm", {"model": str(folder)}).load("cuda:99")


def test_a_template_that_takes_no_frames_is_told_before_the_first_clip(tmp_path: Path) -> None:
    folder = copy_of("qwen25_vl", tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'][0]['text'] + 1 }}")
    with pytest.raises(BackendError, match="takes no frames as video") as caught:
        made(folder)
    assert "frames_as" in caught.value.hint


def test_nothing_beside_the_weights_is_run(tmp_path: Path) -> None:
    folder = copy_of("qwen25_vl", tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {
        "model_type": "mine",
        "auto_map": {"AutoModelForImageTextToText": "evil.Model", "AutoConfig": "evil.C"},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BackendError):
        made(folder)
    assert not (tmp_path / "ran").exists()
