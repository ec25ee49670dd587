"""Recognises English speech with PocketSphinx and the model its package carries: small, fast, and unsure of itself."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from vidcap.backends import voice_activity
from vidcap.backends.roles import BackendConfig, Float32, Outcome, Sound
from vidcap.errors import BackendError
from vidcap.records import Transcript, Word

VERSION = 1
"""In the identity: raise it whenever the same sound gives other words."""
FRAMES_PER_SECOND = 100
# The search's own bounds are loose: dense non-English speech took 0.78 of its own length, with such bounds 0.32-0.42,
# and clean English kept its word error rate (10 sentences by flite's slt at 8 shifts: 0.077).
SEARCH = {"maxhmmpf": 4000, "maxwpf": 20}
# Music comes back as a few words stretched over seconds: 1.5-2.6 letters a second; speech, pauses taken out, has 7-17.
MIN_LETTERS_PER_SECOND = 4.0
_ALTERNATE = re.compile(r"\(\d+\)$")


class Backend:
    """English only. On other languages it returns English words, with low posteriors: use `min_word_confidence`.

    Mean word posterior: 0.65-0.97 on clear synthesised English, 0.16-0.69 on real recordings of English, 0.11-0.45 on
    French, Spanish, Chinese, Japanese and Russian.
    """

    class Config(BackendConfig):
        max_piece_seconds: float = Field(default=20.0, ge=5.0, le=30.0)
        """Sound without a pause is cut to pieces of this length at its quietest points."""
        passes: Literal[1, 2] = 2
        """1: no second search over the words that the first has found. A third less CPU time and some more errors: 0.03
        instead of 0.00 of the words of ten synthesised sentences are wrong."""

    embedded: ClassVar[bool] = True
    in_windows: ClassVar[bool] = True
    languages: ClassVar[frozenset[str]] = frozenset({"en"})

    def __init__(self, config: Config) -> None:
        self.config = config
        self._decoder: Any = None

    def identity(self) -> str:
        return f"en-us@{VERSION}/pocketsphinx-{importlib.metadata.version('pocketsphinx')}"

    def load(self, device: str) -> None:
        """Half a second on the CPU, whatever the device."""
        if self._decoder is not None:
            return
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise BackendError("the recogniser `pocketsphinx` is not installed", hint="install pocketsphinx") from error
        settings = {**SEARCH, "fwdflat": self.config.passes == 2}
        try:
            # Means over the whole piece ("batch") instead of a running estimate that remembers what came before.
            self._decoder = Decoder(samprate=voice_activity.SAMPLE_RATE, cmn="batch", loglevel="FATAL", **settings)
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"pocketsphinx: `{error}`", hint="reinstall it, its model may be missing") from error

    def transcribe(self, audios: Sequence[Sound], *, seeds: Sequence[int]) -> list[Outcome[Transcript]]:
        """As the role says; the seeds are not used."""
        self.load("cpu")
        return [self._transcribe(audio) for audio in audios]

    def _transcribe(self, audio: Sound) -> Transcript:
        words: list[Word] = []
        for first, end in voice_activity.pieces(audio, max_seconds=self.config.max_piece_seconds):
            words += self._recognise(audio[first:end], first / voice_activity.SAMPLE_RATE)
        if not words:
            return Transcript()
        confidence = sum(word.p for word in words) / len(words)
        return Transcript(" ".join(word.word for word in words), tuple(words), confidence, "en")

    def _recognise(self, piece: Float32, offset: float) -> list[Word]:
        """The words of one piece that begins `offset` seconds into the sound."""
        decoder = self._decoder
        # The feature computation remembers earlier pieces even so; made anew (0.1 ms) it does not: words and
        # posteriors are then those of a fresh decoder.
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(_pcm(piece).tobytes(), full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return []
        seconds = len(piece) / voice_activity.SAMPLE_RATE
        found = []
        for segment in decoder.seg():
            if segment.word.startswith(("<", "[", "++")):  # silence and noise
                continue
            start = segment.start_frame / FRAMES_PER_SECOND
            end = min((segment.end_frame + 1) / FRAMES_PER_SECOND, seconds)
            found.append(
                Word(
                    round(offset + start, 6),
                    round(offset + end, 6),
                    _ALTERNATE.sub("", segment.word),  # `the(2)`: another pronunciation of the same word
                    min(1.0, max(0.0, float(segment.prob))),
                )
            )
        letters = sum(len(word.word) for word in found)
        return found if letters >= MIN_LETTERS_PER_SECOND * seconds else []


def _pcm(audio: Float32) -> npt.NDArray[np.int16]:
    return np.clip(np.round(audio * np.float32(32768)), -32768, 32767).astype("<i2")
