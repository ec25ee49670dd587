"""Runs random fault schedules for as long as asked: `python tests/chaos/soak.py --seeds 0:500 --minutes 30`.

One line a seed, a summary at the end; exit 1 at the first violation, with its seed and schedule.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "chaos"), str(ROOT / "tests")]

from chaos_harness import Chaos  # noqa: E402  # found through the path set above
from random_schedules import schedule_of, survive_seed  # noqa: E402
from tiny_sources import make_sources  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:100", metavar="FROM:TO")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--keep-going", action="store_true", help="Count violations instead of stopping at the first.")
    asked = parser.parse_args()
    first, last = (int(number) for number in asked.seeds.split(":"))
    end = time.monotonic() + 60 * asked.minutes
    done = fired = violations = 0
    with tempfile.TemporaryDirectory(prefix="vidcap-soak-") as name:
        base = Path(name)
        make_sources(base / "corpus")
        undisturbed = Chaos(ROOT, base / "undisturbed", base / "corpus").survive().digests
        for seed in range(first, last):
            if time.monotonic() > end:
                break
            started = time.monotonic()
            runner, faults = schedule_of(seed)
            try:
                found, struck = survive_seed(seed, ROOT, base / str(seed), base / "corpus", undisturbed)
            except AssertionError as error:
                violations += 1
                print(f"seed {seed}: VIOLATION: {error}\nrunner {runner}")
                print("\n".join(map(str, faults)), flush=True)
                if not asked.keep_going:
                    break
                struck = []
            else:
                seconds = time.monotonic() - started
                print(
                    f"seed {seed}: {len(struck)} of {len(faults)} struck, exit {found.codes}, {seconds:.0f} s",
                    flush=True,
                )
            done, fired = done + 1, fired + len(struck)
            shutil.rmtree(base / str(seed), ignore_errors=True)
    print(f"{done} schedules (seeds {first} to {first + done - 1}), {fired} faults struck, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
