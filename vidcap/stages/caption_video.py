"""Asks a video captioner what is to be seen in every clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyarrow as pa

from vidcap.records import StageResult, Verdict
from vidcap.stages.base import ClipStage, EvidenceOf, Row
from vidcap.stages.captioning import captions_by, captions_of


class CaptionVideo(ClipStage):
    """A clip the captioner fails on, or has no words for, is quarantined: every sample has a video caption."""

    name = "caption_video"
    version = 2
    role = "video_captioner"
    prompt_slots: ClassVar[Mapping[str, str]] = {"video": "video"}
    needs = frozenset({"key", "first_frame", "last_frame", "evidence"})
    gives: ClassVar[Mapping[str, pa.DataType]] = {"caption_v": pa.string(), "caption_v_by": pa.string()}

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        prompt = self.context.prompts.get("video")
        frames = self.context.backend.frames_per_clip
        texts, verdicts = captions_of(self, rows, evidence, frames, prompt)
        for position, text in enumerate(texts):
            if not text:
                verdicts.setdefault(position, Verdict("quarantined", "caption.no_video_caption"))
        by = captions_by(self.context.backend, prompt)
        return StageResult({"caption_v": texts, "caption_v_by": [by if text else "" for text in texts]}, verdicts)
