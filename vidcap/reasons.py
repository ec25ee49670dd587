"""The reason codes: why a source or clip is rejected (policy), quarantined (poison) or failed (worth a retry)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["rejected", "quarantined", "failed", "note"]


@dataclass(frozen=True, slots=True)
class Reason:
    kind: Kind
    meaning: str
    mend: str


REASONS: dict[str, Reason] = {
    # sources
    "source.duplicate": Reason(
        "rejected",
        "an earlier source of the manifest has the same bytes",
        "none needed; the first one is kept",
    ),
    "source.changed": Reason(
        "quarantined", "the file changed between decoding and packing", "run again once the file is stable"
    ),
    "source.missing": Reason("quarantined", "the file is not there", "check `input.root` and the manifest"),
    "source.failed": Reason("failed", "reading the source failed for a passing reason", "run with --retry-failed"),
    "media.empty": Reason("quarantined", "the file has no bytes", "fetch the file again"),
    "media.not_a_file": Reason("quarantined", "a folder, pipe or device stands where a file should", "remove it"),
    "media.unreadable": Reason("quarantined", "the file cannot be opened for reading", "check its permissions"),
    "media.unrecognised": Reason(
        "quarantined", "no known container or codec", "convert it, or drop it from the manifest"
    ),
    "media.forbidden_protocol": Reason(
        "quarantined", "a playlist or script that names other files or addresses", "list the media itself"
    ),
    "media.no_video": Reason("quarantined", "no video stream", "drop it from the manifest"),
    "media.no_frames": Reason("quarantined", "not a single frame could be decoded", "fetch the file again"),
    "media.truncated": Reason("quarantined", "the file ends before its index or its data", "fetch the file again"),
    "media.too_large": Reason(
        "quarantined", "over a counted limit (pixels, frames, bytes)", "raise the limit in the decode options"
    ),
    "media.too_small": Reason(
        "quarantined", "the picture is smaller than 16 pixels a side", "drop it from the manifest"
    ),
    "media.bad_timestamps": Reason("quarantined", "frames have no usable presentation times", "remux the file"),
    "shots.bad_answer": Reason(
        "quarantined", "the shot detector's answer is no list of shots of the source", "report the backend"
    ),
    "worker_died": Reason("quarantined", "the worker died twice on this item", "try the file alone, report it"),
    "worker_timeout": Reason(
        "quarantined", "the item exceeded the watchdog on every attempt", "raise `runner.item_timeout`"
    ),
    # clips: policy
    "trim.too_short": Reason("rejected", "not longer than `min_seconds`", "lower `min_seconds`"),
    "trim.still": Reason("rejected", "motion below `motion.low`", "lower `motion.low`"),
    "trim.extreme_motion": Reason("rejected", "motion above `motion.high`", "raise `motion.high`"),
    "trim.too_long": Reason(
        "rejected", "longer than `max_seconds` and `long_shots: reject`", "use `long_shots: window`"
    ),
    "trim.corrupt_frames": Reason("rejected", "too many corrupt frames", "raise `max_corrupt_ratio`"),
    "select.no_score": Reason(
        "rejected", "the clip has no score of the asked kind", "select `by: v` or score more kinds"
    ),
    "select.below_min": Reason("rejected", "score below `min`", "lower `min`"),
    "select.source_cap": Reason("rejected", "beyond `max_per_source`", "raise `max_per_source`"),
    "select.below_fraction": Reason("rejected", "outside the asked fraction", "raise `fraction`"),
    "select.below_top": Reason("rejected", "outside the global top-k", "raise `top`"),
    # clips: poison
    "stage.error": Reason(
        "quarantined", "a stage raised an unexpected error on this item", "report it with the detail"
    ),
    "clip.no_frames": Reason(
        "quarantined", "no candidate frame lies inside the clip", "raise `frames_per_second` of decode"
    ),
    "caption.no_video_caption": Reason("quarantined", "the video captioner gave no text", "see the detail"),
    "caption.failed": Reason("quarantined", "a captioner failed on this clip", "see the detail"),
    "transcribe.failed": Reason("quarantined", "the recogniser failed on this clip", "see the detail"),
    "translate.failed": Reason("quarantined", "the translator failed on this clip", "see the detail"),
    "fuse.bad_answer": Reason("rejected", "no usable fused caption after the retries", "try another model or prompt"),
    "fuse.failed": Reason("quarantined", "the language model failed on this clip", "see the detail"),
    "llm.unknown_task": Reason(
        "quarantined", "the language model backend cannot do this task", "name another llm backend"
    ),
    "llm.failed": Reason(
        "quarantined", "the language model gave no whole answer: refused, empty, cut off, malformed", "see the detail"
    ),
    "score.failed": Reason("quarantined", "the similarity backend failed on this clip", "see the detail"),
    "pack.cut_mismatch": Reason("quarantined", "the cut clip differs from the frame table", "report the file"),
    "pack.cut_failed": Reason("quarantined", "the clip could not be cut from its source", "see the detail"),
    "pack.bad_sample": Reason("quarantined", "the sample would break the shard format", "see the detail, report it"),
    # samples that a trainer cannot use
    "sample.record": Reason(
        "quarantined", "the sample's record or a member is missing or malformed", "run `vidcap validate` on the shards"
    ),
    "sample.undecodable": Reason(
        "quarantined", "the sample's picture or sound cannot be decoded", "run `vidcap validate --media` on the shards"
    ),
    "sample.no_sound": Reason(
        "quarantined", "a sample of sound has none", "give such samples the media type `video` or `audio_video`"
    ),
    # notes: they explain an empty caption, not a verdict
    "speech.uncertain": Reason(
        "note",
        "the recogniser is not sure enough, or does not speak this language",
        "use a stronger recogniser",
    ),
    "speech.none": Reason("note", "no words were recognised", "none needed"),
    "speech.few_words": Reason("note", "fewer words than `min_words` were recognised", "lower `min_words`"),
    "speech.untranslated": Reason(
        "note", "not surely English, and nothing here translates it", "name a translator or an `llm` under `translate`"
    ),
}

KINDS: dict[Kind, str] = {
    "rejected": "Policy: the item is sound, and an option of the pipeline leaves it out.",
    "quarantined": "The item cannot be used; the rest goes on without it.",
    "failed": "A passing fault; the same command tries again.",
    "note": "Explains an empty column; nothing is lost.",
}


def page() -> str:
    """docs/reasons.md. `python -m vidcap.reasons` prints it."""
    lines = [
        "# Reason codes",
        "",
        "Every source and clip that a run does not keep has one of these codes, in the report and in its row of the",
        "tables under `_vidcap/`. `python -m vidcap.reasons > docs/reasons.md` makes this page.",
    ]
    for kind, about in KINDS.items():
        lines += ["", f"## {kind}", "", about, "", "| code | meaning | what to do |", "|---|---|---|"]
        lines += [f"| `{c}` | {r.meaning} | {r.mend} |" for c, r in sorted(REASONS.items()) if r.kind == kind]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
