"""Fixes the weights and thresholds of the adaptive shot detector on rendered transitions, and measures it.

    python benchmarks/shots/fit_adaptive.py --pieces FOLDER                    # fit, then report on the held-out half
    python benchmarks/shots/fit_adaptive.py --pieces FOLDER --check            # report with the shipped weights only
    python benchmarks/shots/fit_adaptive.py --annotated FOLDER                 # score annotated videos, change nothing

The fit sees rendered clips of the fitting half alone. It prints the constants for `adaptive.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from render_transitions import Frames, Gap, Piece, Rendered, halves, load_pieces, render_all

from vidcap.backends.embedded import shot_signals
from vidcap.backends.shot_detector import adaptive

CLIPS = 600
FIT_SEED, HELD_OUT_SEED = 11, 12
GRID = np.round(np.arange(-2, 4.01, 0.25), 2)


@dataclass
class Measured:
    """A rendered clip with its candidates and their features: what does not depend on weights."""

    clip: Rendered
    signals: shot_signals.Signals
    cuts: list[int]
    cut_features: npt.NDArray[np.float64]
    windows: list[tuple[int, int]]
    window_features: npt.NDArray[np.float64]


def measure(clip: Rendered) -> Measured:
    signals = shot_signals.measured(clip.frames)
    cuts, windows = adaptive.cut_candidates(signals), adaptive.change_candidates(signals)
    return Measured(
        clip,
        signals,
        cuts,
        adaptive.cut_features(clip.frames, signals, cuts),
        windows,
        adaptive.change_features(clip.frames, signals, windows),
    )


def cut_label(t: int, gaps: Sequence[Gap]) -> int | None:
    """1 for the first frame after a cut, 0 far from every gap, None beside or inside one."""
    if any(b == t and b - a == 1 for a, b in gaps):
        return 1
    return None if any(a - 2 <= t <= b + 2 for a, b in gaps) else 0


def window_label(window: int, s: int, gaps: Sequence[Gap]) -> int | None:
    """1 where the window and a gradual gap share two fifths of their union, 0 where it touches none."""
    touched = [(a, b) for a, b in gaps if s <= b and a <= s + window]
    if not touched:
        return 0
    for a, b in touched:
        shared = min(b, s + window) - max(a, s)
        if b - a > 2 and shared / (max(b, s + window) - min(a, s)) >= 0.4:
            return 1
    return None


def logistic(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], ridge: float = 1.0) -> npt.NDArray[np.float64]:
    """Weights of a logistic regression with a ridge on standardised features (the first column is the constant)."""
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    mean[0], scale[0] = 0, 1
    z = (x - mean) / scale
    w = np.zeros(x.shape[1])
    penalty = np.full(len(w), ridge)
    penalty[0] = 0
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -30, 30)))
        step = np.linalg.solve(
            (z * (p * (1 - p))[:, None]).T @ z + np.diag(penalty + 1e-9), z.T @ (y - p) - penalty * w
        )
        w += step
        if np.abs(step).max() < 1e-9:
            break
    raw = w / scale
    raw[0] = w[0] - (w[1:] * mean[1:] / scale[1:]).sum()
    return raw


def detected(m: Measured, cut_odds: Sequence[float], odds: Sequence[float], cut_thr: float, thr: float) -> list[Gap]:
    """The gaps the detector reports for a measured clip."""
    return adaptive.gaps_of(m.clip.frames, m.signals, (m.cuts, cut_odds, cut_thr), (m.windows, odds, thr))


def matched(truth: Sequence[Gap], found: Sequence[Gap]) -> list[int | None]:
    """Per true gap the number of the found gap that overlaps it (each widened by half a frame), one to one in order."""
    pairs: list[int | None] = [None] * len(truth)
    i = j = 0
    while i < len(truth) and j < len(found):
        if min(truth[i][1], found[j][1]) + 0.5 - max(truth[i][0], found[j][0]) + 0.5 > 0:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif truth[i][1] < found[j][1]:
            i += 1
        else:
            j += 1
    return pairs


def rates(hits: int, found: int, truth: int) -> tuple[float, float, float]:
    p, r = hits / found if found else 1.0, hits / truth if truth else 1.0
    return p, r, 2 * p * r / (p + r) if p + r else 0.0


def fit(measured: list[Measured]) -> tuple[float, float]:
    """Set and print the weights that suit the fitting half best; returns the thresholds (cuts, gradual changes)."""
    cut_weights = logistic(*_labelled(measured, "cut"))
    window_weights = logistic(*_labelled(measured, "window"))
    for name, weights in ("CUT_WEIGHTS", cut_weights), ("CHANGE_WEIGHTS", window_weights):
        fitted = dict(zip(getattr(adaptive, name), [round(float(w), 3) for w in weights], strict=True))
        setattr(adaptive, name, fitted)
        print(f"{name} =", fitted)
    best = (0.0, 0.0, 0.0)
    cut_threshold = 0.0
    for name in ("gradual", "cut", "gradual"):
        for value in GRID:
            pair = (cut_threshold, float(value)) if name == "gradual" else (float(value), best[2])
            score = evaluate(measured, *pair)[2]
            if score > best[0]:
                best = (score, *pair)
        cut_threshold = best[1]
    print(f"cut_threshold {best[1]:g} gradual_threshold {best[2]:g}: F1 {best[0]:.4f} on the fitting half")
    return best[1:]


def _labelled(measured: list[Measured], kind: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = [], []
    differs = list(adaptive.CUT_WEIGHTS if kind == "cut" else adaptive.CHANGE_WEIGHTS).index("differs")
    for m in measured:
        rows = m.cut_features if kind == "cut" else m.window_features
        labels = (
            [cut_label(t, m.clip.gaps) for t in m.cuts]
            if kind == "cut"
            else [window_label(w, s, m.clip.gaps) for w, s in m.windows]
        )
        for row, label in zip(rows, labels, strict=True):
            if label is not None and row[differs] >= adaptive.SAME:
                x.append(row)
                y.append(float(label))
    print(f"{kind}: {len(y)} candidates, {int(sum(y))} true")
    return np.array(x), np.array(y)


def evaluate(measured: list[Measured], cut_thr: float, thr: float, report: bool = False) -> tuple[float, float, float]:
    hits = found = truth = 0
    by_kind: Counter[tuple[str, bool]] = Counter()
    false_in: Counter[str] = Counter()
    for m in measured:
        cut_odds = adaptive.odds_of(m.cut_features, adaptive.CUT_WEIGHTS)
        odds = adaptive.odds_of(m.window_features, adaptive.CHANGE_WEIGHTS)
        gaps = detected(m, cut_odds, odds, cut_thr, thr)
        pairs = matched(m.clip.gaps, gaps)
        hits += sum(p is not None for p in pairs)
        found, truth = found + len(gaps), truth + len(m.clip.gaps)
        for kind, pair in zip(m.clip.kinds, pairs, strict=True):
            by_kind[kind, pair is not None] += 1
        for number, (a, _) in enumerate(gaps):
            if number not in pairs:
                false_in[m.clip.negatives[sum(a >= end for _, end in m.clip.gaps)]] += 1
    result = rates(hits, found, truth)
    if report:
        print("precision {:.4f} recall {:.4f} F1 {:.4f}".format(*result), f"({hits} of {truth}, {found} found)")
        for kind in sorted({k for k, _ in by_kind}):
            print(f"  {kind:12s} {by_kind[kind, True]} of {by_kind[kind, True] + by_kind[kind, False]}")
        print("  false, by what the shot does:", dict(false_in.most_common()))
    return result


def thumbnails_of(path: Path) -> tuple[Frames, npt.NDArray[np.float64]]:
    """Every presented frame of a video as the pipeline's decode pass sees it."""
    from vidcap.media.decode import DecodeOptions, decode_source
    from vidcap.media.evidence import Evidence

    with tempfile.TemporaryDirectory() as folder:
        decode_source(path, Path(folder), DecodeOptions())
        evidence = Evidence(Path(folder))
        return np.array(evidence.thumbnails), np.array(evidence.times)


def score_annotated(folder: Path, predictions: Path | None) -> None:
    """Score the videos of `folder/manifest.jsonl` that have annotated shots; bootstrap over files."""
    from vidcap.errors import VidcapError

    backend = adaptive.Backend(adaptive.AdaptiveConfig())
    rows, counts, kinds, lines = [], [], Counter[tuple[str, bool]](), []
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        if isinstance(row.get("shots"), dict) and row["shots"].get("count") is not None:
            rows.append(row)
    for row in rows:
        gradual = [(g["start"] - 1, g["end"] + 1) for g in row["shots"].get("gradual", [])]
        truth = sorted([(c - 1, c) for c in row["shots"].get("cuts", [])] + gradual)
        try:
            shots = backend.detect(*thumbnails_of(folder / row["file"]))
        except VidcapError as error:
            print(f"{row['file']}: {error}", file=sys.stderr)
            shots = []
        lines.append(json.dumps({"file": row["file"], "shots": [[s.first, s.last] for s in shots]}))
        found = [(a.last, b.first) for a, b in pairwise(shots)]
        pairs = matched(truth, found)
        counts.append((sum(p is not None for p in pairs), len(found), len(truth)))
        for gap, pair in zip(truth, pairs, strict=True):
            kinds["gradual" if gap in gradual else "cut", pair is not None] += 1
    if predictions:
        predictions.write_text("\n".join(lines) + "\n")
    table = np.array(counts)
    print("precision {:.4f} recall {:.4f} F1 {:.4f}".format(*rates(*table.sum(0))), table.sum(0).tolist())
    for kind in ("cut", "gradual"):
        print(f"  {kind:8s} {kinds[kind, True]} of {kinds[kind, True] + kinds[kind, False]}")
    rng = np.random.default_rng(0)
    draws = [rates(*table[rng.integers(len(table), size=len(table))].sum(0))[2] for _ in range(1000)]
    print("F1, 95 % of 1,000 resamples of the files: {:.3f} to {:.3f}".format(*np.quantile(draws, [0.025, 0.975])))


def measured_half(pieces: list[Piece], seed: int, clips: int) -> list[Measured]:
    return [measure(clip) for clip in render_all(pieces, seed, clips)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=Path, help="folder with pieces.mkv and index.json")
    parser.add_argument("--annotated", type=Path, help="folder with manifest.jsonl and the videos it names")
    parser.add_argument("--predictions", type=Path, help="write the shots of the annotated videos here")
    parser.add_argument("--clips", type=int, default=CLIPS, help="rendered clips per half")
    parser.add_argument("--check", action="store_true", help="do not fit: measure the shipped weights")
    args = parser.parse_args()
    if args.pieces:
        fitting, held_out = halves(load_pieces(args.pieces))
        shipped = adaptive.AdaptiveConfig()
        thresholds = (shipped.cut_threshold, shipped.gradual_threshold)
        if not args.check:
            thresholds = fit(measured_half(fitting, FIT_SEED, args.clips))
        evaluate(measured_half(held_out, HELD_OUT_SEED, args.clips), *thresholds, report=True)
    if args.annotated:
        score_annotated(args.annotated, args.predictions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
