"""Recognises speech in some hundred languages with a Whisper model, through faster-whisper: in batches, no torch."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from vidcap.backends.roles import Float32, Outcome
from vidcap.backends.weights import converted_whisper
from vidcap.backends.weights.converted_whisper import EXTRA, out_of_memory
from vidcap.backends.weights.transformers_folder import TransformersModel
from vidcap.backends.whisper_hearing import (
    FORGET_ABOVE,
    OURS,
    RATE,
    THEIRS,
    WINDOW_SECONDS,
    HearingConfig,
    first_speech,
    stretches,
    transcript,
)
from vidcap.errors import ItemError, TransientError
from vidcap.records import Transcript

FRAME = RATE // 100
"""Samples of a frame of the library's spectrum."""

_LOG = logging.getLogger(__name__)


class Backend:
    """Whisper by CTranslate2, large-v2 unless told: the same models in batches and, where wanted, in 8 bits; no torch.

    The stretches of a recording are heard in one batch, so that what else is asked changes nothing. Where memory runs
    out, batch and beams are halved for that recording. Loaded on the CPU where it is not loaded.
    """

    class Config(HearingConfig):
        incidental: ClassVar[frozenset[str]] = frozenset(
            {"model", "revision", "download_root", "download", "threads", "batch_size"}
        )

        model: str = Field(default="large-v2", min_length=1)
        """A folder with a converted model, a published name, or a name on the hub."""
        revision: str | None = None
        """Of a name: a commit or tag."""
        download_root: Path | None = None
        """Where files of names lie; by default in the hub's own cache."""
        download: bool = False
        """Fetch absent files of a name when loading."""
        compute_type: Literal[
            "default", "auto", "float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16",
            "int8_bfloat16",
        ] = "default"  # fmt: skip
        """CTranslate2's: `default` computes as the weights were saved, or as near as the device can (fp32 for fp16 on a
        CPU); `auto` takes the fastest kind the device has, 8 bits included."""
        batched: bool = True
        """Hear the stretches that `vad` found side by side, each as a whole; false: window after window."""
        batch_size: int = Field(default=8, ge=1, le=256)
        """Stretches of one recording at a time. Their text does not depend on it."""
        temperatures: tuple[float, ...] = Field(default=(0.0,), min_length=1)
        """Tried in turn until the two thresholds below are met. Those above 0 draw lots, and that reads the weights
        anew for every recording that gets so far: CTranslate2 takes a seed only at the start."""

        @model_validator(mode="after")
        def _batched_hears_what_vad_found(self) -> Backend.Config:
            if self.batched and not self.vad:
                raise ValueError("`vad: false` needs `batched: false`")
            for name in ("condition_on_previous_text", "hallucination_silence_threshold"):
                if self.batched and getattr(self, name):
                    raise ValueError(f"`{name}` needs `batched: false`: no window is before another")
            return self

    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = EXTRA

    def __init__(self, config: Config) -> None:
        self.config = config
        self._fresh: Callable[[], Any] | None = None
        self._model: Any = None
        self._windows_left = 0

    @property
    def languages(self) -> frozenset[str]:
        """English for a model of English only; else empty: any."""
        english = self.config.model.endswith(".en")
        if self._model is not None:
            english = not self._model.model.is_multilingual
        return frozenset({"en"}) if english else frozenset()

    def identity(self) -> str:
        """Of a name no file is needed. Precision is named as it was asked for, whatever the device."""
        chosen = [self.config.compute_type, *self.config.manner(), "batched" if self.config.batched else "windows"]
        return f"{self._weights.identity()}/{'-'.join(chosen)}/{converted_whisper.versions()}"

    def load(self, device: str) -> None:
        """Reads the weights, 3 GB for large-v2, onto `device`. A second call reads anew."""
        c = self.config
        place = converted_whisper.place_of(device, c.compute_type)
        folder = converted_whisper.folder_of(self._weights, c.download_root)

        def fresh() -> Any:
            model = converted_whisper.opened(folder, place, c.compute_type, c.threads)
            model.generate_with_fallback = partial(self._decode, model.generate_with_fallback)
            return model

        model = fresh()
        converted_whisper.check_language(model, c.model, c.language)
        self._model, self._fresh = model, fresh

    def transcribe(self, audios: Sequence[Float32], *, seeds: Sequence[int]) -> list[Outcome[Transcript]]:
        """As the role says; a seed counts where a temperature above 0 is reached.

        Raises `TransientError` where not even a single stretch fits into the memory that is free.
        """
        if self._model is None:
            self.load("cpu")
        found: list[Outcome[Transcript]] = []
        for audio, seed in zip(audios, seeds, strict=True):
            try:
                found.append(self._transcribe(audio, seed))
            except ItemError as error:
                found.append(error)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise TransientError(
                    f"there is no memory left for a single window of {WINDOW_SECONDS:g} s",
                    hint="free the device, give `compute_type: int8` or a smaller model, or the stage `device: cpu`",
                ) from error
        return found

    def _transcribe(self, audio: Float32, seed: int) -> Transcript:
        chunks = stretches(audio, self.config)
        if not chunks:
            return Transcript()
        language, probability = self._language(audio, chunks)
        heard = self._heard(np.array(audio, np.float32), chunks, language, seed)
        known = probability >= self.config.min_language_probability
        return transcript(heard, OURS.get(language, language) if known else "")

    def _heard(
        self, audio: Float32, chunks: Sequence[tuple[int, int]], language: str, seed: int
    ) -> list[tuple[float, float, dict[str, Any]]]:
        """Segments with their stretch, in seconds; those of a stretch that sounds doubtful from another try."""
        c = self.config
        surely = c.temperatures[:1] if c.temperatures[0] == 0 else ()
        drawn = c.temperatures[len(surely) :]
        batched = self._side_by_side(audio, chunks, language) if surely and c.batched else {}
        sampler: Any = None
        context = c.initial_prompt
        heard: list[tuple[float, float, dict[str, Any]]] = []
        for at, (first, end) in enumerate(chunks):
            sound = audio[first:end]
            segments = batched.get(at)
            if segments is None and surely:
                segments = self._in_windows(self._model, sound, language, context, surely)
            if segments is None or (drawn and any(map(self._is_doubtful, segments))):
                if sampler is None:
                    sampler = self._sampler(seed)
                segments = self._in_windows(sampler, sound, language, context, drawn)
            segments = [segment for segment in segments if segment["text"].strip() and self._is_kept(segment)]
            goes_on = c.condition_on_previous_text and segments and segments[-1]["temperature"] <= FORGET_ABOVE
            context = "".join(segment["text"] for segment in segments) if goes_on else None
            if c.batched:
                context = c.initial_prompt
            heard += [(first / RATE, end / RATE, segment) for segment in segments]
        if not all(math.isfinite(segment["avg_logprob"]) for _, _, segment in heard):
            raise ItemError("transcribe.failed", "the model gives probabilities that are no numbers")
        return heard

    def _language(self, audio: Float32, chunks: Sequence[tuple[int, int]]) -> tuple[str, float]:
        """Whisper's code and its probability: as asked for, or detected on the first 30 s of speech."""
        if self.config.language is not None:
            return THEIRS.get(self.config.language, self.config.language), 1.0
        if not self._model.model.is_multilingual:
            return "en", 1.0
        code, probability, _ = self._model.detect_language(first_speech(audio, chunks))
        if not math.isfinite(probability):
            raise ItemError("transcribe.failed", "the model gives probabilities that are no numbers")
        return str(code), float(probability)

    def _side_by_side(
        self, audio: Float32, chunks: Sequence[tuple[int, int]], language: str
    ) -> dict[int, list[dict[str, Any]]]:
        """Segments per number of the stretch, silent ones left out; times from the start of the stretch."""
        from faster_whisper import BatchedInferencePipeline

        # The library rounds both down, seconds to samples and samples to frames: it must not land one below.
        clips = [{"start": (first + 1.5) / RATE, "end": (end + 0.5) / RATE} for first, end in chunks]
        place_of = {first // FRAME: at for at, (first, _) in enumerate(chunks)}
        size = self.config.batch_size
        while True:
            found: dict[int, list[dict[str, Any]]] = {at: [] for at in range(len(chunks))}
            try:
                # A new one each time: after an error it would carry over when the last word ended.
                segments, _ = BatchedInferencePipeline(self._model).transcribe(
                    audio,
                    clip_timestamps=clips,
                    batch_size=size,
                    without_timestamps=True,  # with them it would drop what follows the last one
                    vad_filter=False,
                    **self._asking(language, (0.0,), self.config.initial_prompt),
                )
                for segment in map(dataclasses.asdict, segments):
                    at = place_of[segment["seek"]]
                    start = chunks[at][0] / RATE
                    for word in segment["words"] or ():
                        word["start"], word["end"] = word["start"] - start, word["end"] - start
                    if not self._is_silence(segment):
                        found[at].append(segment)
                return found
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
            size //= 2
            _LOG.warning("out of memory: this recording is heard in batches of %d", size)

    def _in_windows(
        self, model: Any, sound: Float32, language: str, context: str | None, temperatures: Sequence[float]
    ) -> list[dict[str, Any]]:
        self._windows_left = 10 + round(len(sound) / RATE)
        segments, _ = model.transcribe(
            sound,
            condition_on_previous_text=self.config.condition_on_previous_text,
            hallucination_silence_threshold=self.config.hallucination_silence_threshold,
            **self._asking(language, temperatures, context),
        )
        return [dataclasses.asdict(segment) for segment in segments]

    def _asking(self, language: str, temperatures: Sequence[float], context: str | None) -> dict[str, Any]:
        c = self.config
        return {
            "language": language,
            "task": "transcribe",
            "beam_size": c.beam_size or 1,
            "best_of": c.best_of or 1,
            "temperature": list(temperatures),
            "compression_ratio_threshold": c.compression_ratio_threshold,
            "log_prob_threshold": c.logprob_threshold,
            "no_speech_threshold": c.no_speech_threshold,
            "initial_prompt": context,
            "word_timestamps": c.word_timestamps,
        }

    def _decode(self, decode: Callable[..., Any], encoded: Any, prompt: Any, tokenizer: Any, options: Any) -> Any:
        """In place of the library's own, for one window: bounded in number, and with fewer beams if need be."""
        self._windows_left -= 1
        if self._windows_left < 0:
            raise ItemError("transcribe.failed", "the model does not get on: more windows than seconds")
        while True:
            try:
                return decode(encoded, prompt, tokenizer, options)
            except (RuntimeError, MemoryError) as error:
                if options.beam_size == options.best_of == 1 or not out_of_memory(error):
                    raise
            fewer = {name: max(1, getattr(options, name) // 2) for name in ("beam_size", "best_of")}
            _LOG.warning("out of memory with %d beams; this window is decoded with fewer", options.beam_size)
            options = dataclasses.replace(options, **fewer)

    def _sampler(self, seed: int) -> Any:
        """The model anew, with a thread that has drawn no lots yet: only such a one looks at the seed."""
        import ctranslate2

        assert self._fresh is not None
        ctranslate2.set_random_seed(seed % (2**32 - 1))  # the largest number would mean: any
        return self._fresh()

    def _is_silence(self, segment: dict[str, Any]) -> bool:
        silent, sure = self.config.no_speech_threshold, self.config.logprob_threshold
        spoken = sure is not None and segment["avg_logprob"] > sure
        return silent is not None and segment["no_speech_prob"] > silent and not spoken

    def _is_doubtful(self, segment: dict[str, Any]) -> bool:
        sure = self.config.logprob_threshold
        return self._is_loop(segment) or (sure is not None and segment["avg_logprob"] < sure)

    def _is_loop(self, segment: dict[str, Any]) -> bool:
        bound = self.config.compression_ratio_threshold
        return bound is not None and segment["compression_ratio"] > bound

    def _is_kept(self, segment: dict[str, Any]) -> bool:
        return not self.config.drop_repetitions or not self._is_loop(segment)

    @cached_property
    def _weights(self) -> TransformersModel:
        c = self.config
        return converted_whisper.named(c.model, c.revision, download=c.download)
