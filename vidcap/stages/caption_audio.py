"""Asks an audio captioner what is to be heard in every clip that has something to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyarrow as pa

from vidcap.records import StageResult
from vidcap.stages.base import ClipStage, EvidenceOf, Row
from vidcap.stages.captioning import captions_by, captions_of


class CaptionAudio(ClipStage):
    """Clips without an audio track, and silent ones, get "". A clip the captioner fails on is quarantined."""

    name = "caption_audio"
    version = 2
    role = "audio_captioner"
    needs = frozenset({"key", "first_frame", "last_frame", "has_audio", "silent", "evidence"})
    gives: ClassVar[Mapping[str, pa.DataType]] = {"caption_a": pa.string(), "caption_a_by": pa.string()}

    def run(self, rows: Sequence[Row], evidence: EvidenceOf) -> StageResult:
        audible = [at for at, row in enumerate(rows) if row["has_audio"] and not row["silent"]]
        frames = getattr(self.context.backend, "frames_per_clip", 1)
        prompt = self.context.prompts.get("audio")
        found, failed = captions_of(self, [rows[at] for at in audible], evidence, frames, prompt)
        texts = [""] * len(rows)
        for at, text in zip(audible, found, strict=True):
            texts[at] = text
        by = captions_by(self.context.backend, prompt)
        columns = {"caption_a": texts, "caption_a_by": [by if text else "" for text in texts]}
        return StageResult(columns, {audible[position]: verdict for position, verdict in failed.items()})
