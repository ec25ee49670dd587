"""The two captioning stages: who is asked what, and what becomes of failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from clip_rows import FakeEvidence, row

from vidcap.backends import registry
from vidcap.backends.roles import ClipView, Outcome
from vidcap.errors import ItemError
from vidcap.prompts import Prompt
from vidcap.reasons import REASONS
from vidcap.seeds import seed_of
from vidcap.stages.base import Context
from vidcap.stages.caption_audio import CaptionAudio
from vidcap.stages.caption_video import CaptionVideo
from vidcap.stages.captioning import CLIPS_PER_BATCH

PROMPT = Prompt(name="video", body="Describe what is to be seen.", slots=(), digest="0123456789abcdef" * 2)


class Captioner:
    """Answers with what it was told to say of a key, else with the key and seed."""

    embedded = False
    frames_per_clip = 6

    def __init__(self, answers: dict[str, Outcome[str]] | None = None) -> None:
        self.answers = answers or {}
        self.calls: list[tuple[list[str], str, list[int]]] = []

    def identity(self) -> str:
        return "fake@1"

    def caption(self, clips: Sequence[ClipView], *, prompt: str, seeds: Sequence[int]) -> list[Outcome[str]]:
        self.calls.append(([clip.key for clip in clips], prompt, list(seeds)))
        return [self.answers.get(c.key, f"{c.key} {seed}") for c, seed in zip(clips, seeds, strict=True)]


def video(backend: Any, prompt: Prompt | None = PROMPT, seed: int = 9) -> CaptionVideo:
    prompts = {"video": prompt} if prompt else {}
    return CaptionVideo(CaptionVideo.Options(), Context(seed=seed, backend=backend, prompts=prompts))


def audio(backend: Any) -> CaptionAudio:
    return CaptionAudio(CaptionAudio.Options(), Context(seed=9, backend=backend))


def test_every_clip_gets_a_caption_and_who_wrote_it() -> None:
    backend, evidence = Captioner(), FakeEvidence()
    rows = [row(i) for i in range(CLIPS_PER_BATCH + 3)]
    result = video(backend).run(rows, evidence)
    assert result.verdicts == {}
    assert result.columns["caption_v"] == [f"{r['key']} {seed_of(9, r['key'], 'caption_video')}" for r in rows]
    assert set(result.columns["caption_v_by"]) == {"fake@1+video@0123456789ab"}
    assert evidence.asked == [(r["key"], 6) for r in rows]
    assert [len(keys) for keys, *_ in backend.calls] == [CLIPS_PER_BATCH, 3]
    assert {prompt for _, prompt, _ in backend.calls} == {PROMPT.body}


def test_without_a_prompt_the_backend_alone_wrote_it() -> None:
    result = video(Captioner(), prompt=None).run([row(0)], FakeEvidence())
    assert result.columns["caption_v_by"] == ["fake@1"]


def test_no_words_and_failures_quarantine_the_clip_alone() -> None:
    rows = [row(i) for i in range(5)]
    keys = [r["key"] for r in rows]
    backend = Captioner({keys[1]: " \n", keys[2]: ItemError("caption.failed", "no memory left")})
    views: dict[str, Any] = {key: FakeEvidence().clip_view(key, 0, 9, 1) for key in keys}
    views[keys[3]] = ItemError("clip.no_frames", "none inside")
    result = video(backend).run(rows, FakeEvidence(views))
    assert {at: v.reason for at, v in result.verdicts.items()} == {
        1: "caption.no_video_caption",
        2: "caption.failed",
        3: "clip.no_frames",
    }
    assert result.verdicts[2].detail == "no memory left"
    assert all(v.kind == "quarantined" == REASONS[v.reason].kind for v in result.verdicts.values())
    assert [bool(text) for text in result.columns["caption_v"]] == [True, False, False, False, True]
    assert [bool(by) for by in result.columns["caption_v_by"]] == [True, False, False, False, True]


def test_an_unknown_reason_becomes_a_failure_of_the_captioner() -> None:
    backend = Captioner({row(0)["key"]: ItemError("model.hiccup")})
    result = video(backend).run([row(0)], FakeEvidence())
    assert (result.verdicts[0].reason, result.verdicts[0].detail) == ("caption.failed", "model.hiccup")


def test_a_caption_is_one_line() -> None:
    backend = Captioner({row(0)["key"]: "  A boat.\n\nIt is \x07 red.\u202e "})
    assert video(backend).run([row(0)], FakeEvidence()).columns["caption_v"] == ["A boat. It is red."]


def test_a_row_does_not_depend_on_the_others() -> None:
    rows = [row(i) for i in range(12)]
    together = video(Captioner()).run(rows, FakeEvidence()).columns["caption_v"]
    back = video(Captioner()).run(rows[::-1], FakeEvidence()).columns["caption_v"]
    alone = [video(Captioner()).run([r], FakeEvidence()).columns["caption_v"][0] for r in rows]
    assert together == back[::-1] == alone
    assert together != video(Captioner(), seed=10).run(rows, FakeEvidence()).columns["caption_v"]


def test_only_audible_clips_are_listened_to() -> None:
    rows = [row(0, has_audio=False), row(1), row(2, silent=True), row(3)]
    backend, evidence = Captioner({row(3)["key"]: ItemError("caption.failed", "x")}), FakeEvidence()
    result = audio(backend).run(rows, evidence)
    assert [key for key, _ in evidence.asked] == [rows[1]["key"], rows[3]["key"]]
    assert [bool(text) for text in result.columns["caption_a"]] == [False, True, False, False]
    assert result.columns["caption_a_by"] == ["", "fake@1", "", ""]
    assert {at: v.reason for at, v in result.verdicts.items()} == {3: "caption.failed"}


def test_nothing_to_say_about_a_sound_is_no_failure() -> None:
    result = audio(Captioner({row(0)["key"]: ""})).run([row(0)], FakeEvidence())
    assert result.columns == {"caption_a": [""], "caption_a_by": [""]} and result.verdicts == {}


def test_no_rows() -> None:
    for stage in (video(Captioner()), audio(Captioner())):
        result = stage.run([], FakeEvidence())
        assert set(result.columns) == set(stage.gives)
        assert all(values == [] for values in result.columns.values())


EMBEDDED = [name for name in registry.names("video_captioner") if registry.get("video_captioner", name).embedded]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_captioners_read_no_prompt(name: str) -> None:
    backend = registry.create("video_captioner", name)
    result = video(backend).run([row(0), row(1)], FakeEvidence())
    assert result.columns["caption_v_by"] == [backend.identity()] * 2


def test_golden_captions_of_the_embedded_backends() -> None:
    """The words for a fixed clip; when they change on purpose, raise VERSION in the descriptor."""
    frame = np.zeros((90, 160, 3), np.uint8)
    frame[:45] = (30, 80, 220)
    frame[45:] = (30, 150, 40)
    sound = (0.1 * np.random.default_rng(0).normal(size=64_000)).astype(np.float32)
    key = row(0)["key"]
    view = ClipView(key, [frame] * 8, [0.5 * i for i in range(8)], sound, True, 4.0)
    evidence = FakeEvidence({key: view})
    seen = video(registry.create("video_captioner", "descriptor")).run([row(0)], evidence)
    heard = audio(registry.create("audio_captioner", "descriptor")).run([row(0)], evidence)
    assert seen.columns["caption_v_by"] == heard.columns["caption_a_by"] == ["descriptor@2"]
    assert (seen.columns["caption_v"], heard.columns["caption_a"]) == (
        ["A still, colourful, low-contrast view with blue at the top and green at the bottom."],
        ["A steady noise is heard."],
    )
