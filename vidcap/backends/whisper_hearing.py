"""What the Whisper backends share: their options, which stretches of sound are heard, and transcripts from segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from vidcap.backends import voice_activity
from vidcap.backends.roles import BackendConfig, Float32, Sound
from vidcap.errors import ItemError
from vidcap.records import Transcript, Word

RATE = voice_activity.SAMPLE_RATE
WINDOW_SECONDS = 30.0
"""What the model hears at once."""
MIN_SAMPLES = RATE // 10
"""Shorter sound holds no word; nobody is asked."""
TOKEN_SECONDS = 0.02
"""The model's clock: no word is shorter."""
FORGET_ABOVE = 0.5
"""Text sampled at a higher temperature is no context for what follows (as in openai-whisper)."""
OURS, THEIRS = {"jw": "jv"}, {"jv": "jw"}
"""Codes that differ between ISO 639-1 and Whisper."""


class HearingConfig(BackendConfig):
    language: str | None = Field(default=None, pattern=r"^[a-z]{2,3}$")
    """ISO 639-1; by default detected on the first 30 s of speech of every recording."""
    min_language_probability: float = Field(default=0.5, ge=0, le=1)
    """Below it what was detected is used, but not told as the language of the transcript."""
    vad: bool = True
    """Only stretches that may be speech are heard, neighbours together; without it, everything."""
    join_seconds: float = Field(default=2.0, ge=0, le=WINDOW_SECONDS)
    """With `vad`: stretches no further apart are heard as one, up to 30 s."""
    beam_size: int | None = Field(default=5, ge=1, le=32)
    """At temperature 0; null is greedy."""
    best_of: int | None = Field(default=None, ge=1, le=32)
    """Samples at higher temperatures, of which the likeliest counts."""
    temperatures: tuple[float, ...] = Field(default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    """Tried in turn until the two thresholds below are met."""
    compression_ratio_threshold: float | None = Field(default=2.4, gt=0)
    logprob_threshold: float | None = Field(default=-1.0, le=0)
    no_speech_threshold: float | None = Field(default=0.6, ge=0, le=1)
    """A window more probably without speech, and below `logprob_threshold`, is silence."""
    drop_repetitions: bool = True
    """Drop segments that exceed `compression_ratio_threshold` at the last temperature too."""
    condition_on_previous_text: bool = False
    """True keeps names and spelling over windows, and keeps loops going."""
    hallucination_silence_threshold: float | None = Field(default=None, ge=0)
    """Seconds: around improbable words longer silence is skipped, and they with it."""
    word_timestamps: bool = True
    """Without them only `scope: clip` of the stage works, and confidence is of tokens."""
    initial_prompt: str | None = None
    """Text to go before the first window: names and spelling to expect."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""

    @model_validator(mode="after")
    def _consistent(self) -> HearingConfig:
        if not all(0 <= value <= 2 for value in self.temperatures):
            raise ValueError("`temperatures` lie in [0, 2]")
        if self.hallucination_silence_threshold is not None and not self.word_timestamps:
            raise ValueError("`hallucination_silence_threshold` needs `word_timestamps`")
        return self

    def manner(self) -> list[str]:
        """For an identity: how is searched, what is heard, in which language if that is given."""
        search = f"beam-{self.beam_size}" if self.beam_size else "greedy"
        return [search, "vad" if self.vad else "whole", *([self.language] if self.language else [])]


def stretches(audio: Sound, config: HearingConfig) -> list[tuple[int, int]]:
    """Sample ranges to hear: all, or what may be speech; none where there is nothing but silence.

    Raises `ItemError` for sound that holds values that are no numbers.
    """
    blocks = (audio[first : first + RATE * 60] for first in range(0, len(audio), RATE * 60))
    if not all(np.isfinite(block).all() for block in blocks):
        raise ItemError("transcribe.failed", "the sound holds values that are no numbers")
    if len(audio) < MIN_SAMPLES or voice_activity.frame_levels(audio).max() <= voice_activity.QUIET_DB:
        return []
    if not config.vad:
        return [(0, len(audio))]
    pieces = voice_activity.pieces(audio, max_seconds=WINDOW_SECONDS)
    joined = join(pieces, longest=int(WINDOW_SECONDS * RATE), gap=round(config.join_seconds * RATE))
    return [chunk for chunk in joined if chunk[1] - chunk[0] >= MIN_SAMPLES]


def join(pieces: Sequence[tuple[int, int]], *, longest: int, gap: int) -> list[tuple[int, int]]:
    """Sample ranges with neighbours made one: no more than `gap` apart, together no longer than `longest`."""
    joined: list[tuple[int, int]] = []
    for first, end in pieces:
        if joined and first - joined[-1][1] <= gap and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined


def first_speech(audio: Sound, chunks: Sequence[tuple[int, int]]) -> Float32:
    """Up to the first 30 s of what is heard, in one: what the language is detected on."""
    longest = int(WINDOW_SECONDS * RATE)
    speech = np.zeros(0, np.float32)
    for first, end in chunks:
        if len(speech) < longest:
            speech = np.concatenate([speech, audio[first : min(end, first + longest - len(speech))]])
    return speech


def transcript(heard: Sequence[tuple[float, float, dict[str, Any]]], language: str) -> Transcript:
    """Segments with the stretch (seconds) that each was heard in. One with words has their times put in order.

    A segment is what the libraries give: `text`, `tokens`, `avg_logprob`, and `words` with `word`, `start`, `end`
    (seconds from the start of its stretch) and `probability`, or none.
    """
    texts, words, tokens = [], list[Word](), list[tuple[float, int]]()
    timed = any(segment.get("words") for _, _, segment in heard)
    latest = 0.0
    for start, end, segment in heard:
        spoken = [word for word in segment.get("words") or () if word["word"].strip()]
        if timed and not spoken:
            continue
        # A word over two segments stands in the first one's words, halved in their texts.
        texts.append("".join(word["word"] for word in spoken) if timed else segment["text"])
        tokens.append((segment["avg_logprob"], len(segment["tokens"])))
        for word in spoken:
            # Words of no length and words that begin before the last one do come up.
            latest = min(max(start + float(word["start"]), latest, start), end - TOKEN_SECONDS)
            till = min(max(start + float(word["end"]), latest + TOKEN_SECONDS), end)
            p = min(1.0, max(0.0, float(word["probability"])))
            words.append(Word(round(latest, 6), round(till, 6), word["word"].strip(), p))
    if not texts:
        return Transcript()
    if words:
        confidence = sum(word.p for word in words) / len(words)
    else:
        confidence = math.exp(min(0.0, sum(p * n for p, n in tokens) / sum(n for _, n in tokens)))
    return Transcript(" ".join("".join(texts).split()), tuple(words), confidence, language)
