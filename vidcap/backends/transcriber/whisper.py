"""Recognises speech in some hundred languages with a Whisper model, through openai-whisper, with a time per word."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from vidcap.backends.roles import Float32, Outcome, Sound
from vidcap.backends.weights import whisper_weights
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
from vidcap.errors import BackendError, ItemError, TransientError
from vidcap.records import Transcript
from vidcap.torch_device import checked_device, cpu_threads, out_of_memory

_LOG = logging.getLogger(__name__)
_BENIGN = (
    "Performing inference on CPU when CUDA is available",
    "Failed to launch Triton kernels",
    "unclosed file .*tiktoken",
    "__array_wrap__ must accept context",
)
"""Warnings of the library about itself: how it begins each."""


class Backend:
    """Whisper, large-v2 unless told: any language, a time and a probability per word; weights are yours to fetch.

    One recording at a time: openai-whisper takes no batch. Where memory runs out, that window is decoded again with
    half the beams, at last greedily; the next one has all beams again, so that a result does not depend on what was
    asked before. Loaded on the CPU where it is not loaded.
    """

    class Config(HearingConfig):
        incidental: ClassVar[frozenset[str]] = frozenset({"model", "download_root", "download", "threads"})

        model: str = Field(default="large-v2", min_length=1)
        """A published name, or the path of a `.pt` file."""
        download_root: Path | None = None
        """Where files of published names lie; by default where openai-whisper keeps them."""
        download: bool = False
        """Fetch an absent file of a published name when loading."""
        precision: Literal["auto", "fp16", "fp32"] = "auto"
        """`auto`: fp16 on a GPU, fp32 on a CPU."""

    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "whisper"
    in_windows: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._model: Any = None
        self._half = False
        self._windows_left = 0

    @property
    def languages(self) -> frozenset[str]:
        """English for a model of English only; else empty: any."""
        english = self._name.endswith(".en") or (self._model is not None and not self._model.is_multilingual)
        return frozenset({"en"}) if english else frozenset()

    def identity(self) -> str:
        """Of a published name no file is needed. Precision is named as it was asked for, whatever the device."""
        chosen = [self.config.precision, *self.config.manner()]
        versions = f"openai-whisper-{whisper_weights.library_version()}/torch-{importlib.metadata.version('torch')}"
        return f"{self._name}@{self._digest[:12]}/{'-'.join(chosen)}/{versions}"

    def load(self, device: str) -> None:
        """Reads the weights, 3 GB for large-v2, and puts the model on `device`. A second call reads anew."""
        whisper_weights.library_version()
        place = checked_device(device)
        if self.config.precision == "fp16" and place.type == "cpu":
            raise BackendError("`precision: fp16` needs a GPU", hint="`precision: auto` is fp32 on a CPU")
        c = self.config
        model = whisper_weights.read(whisper_weights.file_of(c.model, c.download_root, download=c.download))
        self._check_language(model)
        self._half = place.type != "cpu" and self.config.precision != "fp32"
        if self._half:
            halve(model)
        model.decode = self._decode
        self._model = model.to(place)

    def transcribe(self, audios: Sequence[Sound], *, seeds: Sequence[int]) -> list[Outcome[Transcript]]:
        """As the role says; a seed counts where a temperature above 0 is reached.

        Raises `TransientError` where not even greedy decoding fits into the memory that is free.
        """
        if self._model is None:
            self.load("cpu")
        found: list[Outcome[Transcript]] = []
        for audio, seed in zip(audios, seeds, strict=True):
            try:
                found.append(self._transcribe(audio, seed))
            except ItemError as error:
                found.append(error)
        return found

    def _transcribe(self, audio: Sound, seed: int) -> Transcript:
        chunks = stretches(audio, self.config)
        if not chunks:
            return Transcript()
        heard: list[tuple[float, float, dict[str, Any]]] = []
        with self._undisturbed(seed):
            language, probability = self._language(audio, chunks)
            context = self.config.initial_prompt
            for first, end in chunks:
                # The library wants an array that can be written to; evidence may be read-only.
                segments = self._recognise(np.array(audio[first:end], np.float32), language, context)
                sure = bool(segments) and segments[-1]["temperature"] <= FORGET_ABOVE
                goes_on = self.config.condition_on_previous_text and sure
                context = "".join(segment["text"] for segment in segments) if goes_on else None
                heard += [(first / RATE, end / RATE, segment) for segment in segments]
        known = probability >= self.config.min_language_probability
        return transcript(heard, OURS.get(language, language) if known else "")

    def _language(self, audio: Sound, chunks: Sequence[tuple[int, int]]) -> tuple[str, float]:
        """Whisper's code and its probability: as asked for, or detected on the first 30 s of speech."""
        if self.config.language is not None:
            return THEIRS.get(self.config.language, self.config.language), 1.0
        if not self._model.is_multilingual:
            return "en", 1.0
        import torch
        from whisper.audio import N_FRAMES, N_SAMPLES, log_mel_spectrogram, pad_or_trim

        spectrum = log_mel_spectrogram(first_speech(audio, chunks), self._model.dims.n_mels, padding=N_SAMPLES)
        wanted = pad_or_trim(spectrum, N_FRAMES).to(self._model.device, torch.float16 if self._half else torch.float32)
        _, probabilities = self._model.detect_language(wanted)
        best = max(probabilities, key=probabilities.get)
        if not math.isfinite(probabilities[best]):
            raise ItemError("transcribe.failed", "the model gives probabilities that are no numbers")
        return best, float(probabilities[best])

    def _recognise(self, sound: Float32, language: str, context: str | None) -> list[dict[str, Any]]:
        """openai-whisper's segments of one stretch of sound: those with text, and no loops."""
        c = self.config
        self._windows_left = 10 + round(len(sound) / RATE)
        answer = self._model.transcribe(
            sound,
            verbose=None,
            language=language,
            task="transcribe",
            fp16=self._half,
            beam_size=c.beam_size,
            best_of=c.best_of,
            temperature=c.temperatures,
            compression_ratio_threshold=c.compression_ratio_threshold,
            logprob_threshold=c.logprob_threshold,
            no_speech_threshold=c.no_speech_threshold,
            condition_on_previous_text=c.condition_on_previous_text,
            initial_prompt=context,
            word_timestamps=c.word_timestamps,
            hallucination_silence_threshold=c.hallucination_silence_threshold,
        )
        segments = [segment for segment in answer["segments"] if segment["text"].strip() and self._is_kept(segment)]
        if not all(math.isfinite(segment["avg_logprob"]) for segment in segments):
            raise ItemError("transcribe.failed", "the model gives probabilities that are no numbers")
        return segments

    def _decode(self, spectrum: Any, options: Any) -> Any:
        """In place of the model's own `decode`, for one window: bounded in number, and with fewer beams if need be."""
        from whisper.decoding import decode

        if options.temperature == self.config.temperatures[0]:
            self._windows_left -= 1
            if self._windows_left < 0:
                # Times of 20 ms per window, as a model out of its depth gives them, would take hours.
                raise ItemError("transcribe.failed", "the model does not get on: more windows than seconds")
        while True:
            try:
                return decode(self._model, spectrum, options)
            except RuntimeError as error:
                beams = options.beam_size or options.best_of or 1
                if beams == 1 or not out_of_memory(error):
                    raise
            fewer = beams // 2 if beams > 3 else None
            _LOG.warning("out of memory with %d beams; this window is decoded with %d", beams, fewer or 1)
            kind = "beam_size" if options.beam_size else "best_of"
            options = replace(options, **{kind: fewer})
            self._free()

    def _is_kept(self, segment: dict[str, Any]) -> bool:
        bound = self.config.compression_ratio_threshold
        return not self.config.drop_repetitions or bound is None or segment["compression_ratio"] <= bound

    @contextmanager
    def _undisturbed(self, seed: int) -> Iterator[None]:
        """Inside: seeded, a fixed number of threads, known warnings quiet. Afterwards all settings are as before."""
        import torch
        from whisper.timing import numba  # word times are found by compiled code with threads of its own

        place = self._model.device
        threads = numba.get_num_threads()
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[place] if place.type == "cuda" else []))
            stack.enter_context(cpu_threads(self.config.threads))
            stack.callback(numba.set_num_threads, threads)
            numba.set_num_threads(min(self.config.threads, numba.config.NUMBA_NUM_THREADS))
            stack.enter_context(warnings.catch_warnings())
            for message in _BENIGN:
                warnings.filterwarnings("ignore", message=message)
            torch.default_generator.manual_seed(seed)
            if place.type == "cuda":
                with torch.cuda.device(place):
                    torch.cuda.manual_seed(seed)
            try:
                yield
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                for block in self._model.decoder.blocks:  # what the library leaves behind when it fails here
                    block.cross_attn._forward_hooks.clear()
                self._free()
                raise TransientError(
                    f"`{place}` has no memory left for a single window of {WINDOW_SECONDS:g} s",
                    hint="free the device, take a smaller model, or give the stage `device: cpu`",
                ) from error

    def _free(self) -> None:
        import torch

        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _check_language(self, model: Any) -> None:
        from whisper.tokenizer import LANGUAGES

        known = list(LANGUAGES)[: model.num_languages] if model.is_multilingual else ["en"]
        wanted = self.config.language
        if wanted is not None and THEIRS.get(wanted, wanted) not in known:
            codes = ", ".join(sorted(OURS.get(code, code) for code in known))
            raise BackendError(f"`{self._name}` does not know the language `{wanted}`", hint=f"it knows: {codes}")

    @cached_property
    def _named(self) -> tuple[str, str]:
        return whisper_weights.named(self.config.model)

    @property
    def _name(self) -> str:
        return self._named[0]

    @property
    def _digest(self) -> str:
        return self._named[1]


def halve(model: Any) -> None:
    """Store in fp16 what the library casts to fp16 at every use: half the memory, the same numbers."""
    from whisper.model import Conv1d, Linear

    for module in model.modules():
        if isinstance(module, (Conv1d, Linear)):
            module.half()
