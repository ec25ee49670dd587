"""Where the time of a run goes: the accounts in its ledger, and a picture of several runs as SVG.

    python benchmarks/where_time_goes.py RUN [RUN …] --out picture.svg      # of finished runs

Each stage's seconds and CPU-seconds are what its ledger records say, over all parts. `end_to_end.py` draws the same of
its cases, where the CPU-seconds of the whole process tree are known too: what the stages did not use is the rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from measuring import RESULTS

RUNS = ("inline", "1 worker", "2 workers", "inline, two at once")
COLOURS = {
    "decode": "#2f6db5",
    "detect_shots": "#5b9bd5",
    "trim": "#9cc3e6",
    "transcribe": "#c55a11",
    "caption_video": "#548235",
    "caption_audio": "#8cbf6a",
    "score": "#bf9000",
    "pack": "#7a4fa3",
}
OTHER, STARTING, REST = "other stages", "starting", "the rest"
"""`starting`: driver, scheduler, workers. `the rest`: imports and models in workers, Dask, commits, cards."""
COLOURS |= {OTHER: "#6e6e6e", STARTING: "#404040", REST: "#b5b5b5"}
WIDTH, LEFT, BAR, GAP = 920, 170, 26, 12


@dataclass
class Account:
    """What one run cost, in seconds; `total_cpu` and `starting` are 0 where only the ledger is known."""

    cpu: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    clips: int = 0
    total_cpu: float = 0.0
    starting: float = 0.0

    @classmethod
    def of_runs(cls, outputs: Sequence[Path]) -> Account:
        """The sum over the ledgers of one run or several."""
        cpu: defaultdict[str, float] = defaultdict(float)
        seconds: defaultdict[str, float] = defaultdict(float)
        clips = 0
        for output in outputs:
            for path in sorted((output / "_vidcap" / "ledger").glob("*.json")):
                record = json.loads(path.read_text("utf-8"))
                cpu[record["stage"]] += record["cpu_seconds"]
                seconds[record["stage"]] += record["seconds"]
                clips += record["clips"]["found"] if record["stage"] == "detect_shots" else 0
        return cls(dict(cpu), dict(seconds), clips)

    @classmethod
    def median(cls, accounts: Sequence[Account]) -> Account:
        """The median of each figure on its own."""
        middle = statistics.median
        return cls(
            {stage: middle(a.cpu[stage] for a in accounts) for stage in accounts[0].cpu},
            {stage: middle(a.seconds[stage] for a in accounts) for stage in accounts[0].seconds},
            accounts[0].clips,
            middle(a.total_cpu for a in accounts),
            middle(a.starting for a in accounts),
        )

    def parts(self) -> dict[str, float]:
        """CPU-seconds by what the picture names, in its order."""
        parts = {name: self.cpu.get(name, 0.0) for name in COLOURS if name not in (OTHER, STARTING, REST)}
        parts[OTHER] = sum(self.cpu.values()) - sum(parts.values())
        parts[STARTING] = self.starting
        parts[REST] = max(0.0, self.total_cpu - self.starting - sum(self.cpu.values()))
        return parts


def draw(accounts: Mapping[str, Account], clips: int, path: Path = RESULTS / "where_time_goes.svg") -> Path:
    """Above, a bar per run: CPU-seconds by stage; below, the stages of one run, with the time they only waited."""
    chosen = "1 worker" if "1 worker" in accounts else next(iter(accounts))
    stages = [name for name, spent in accounts[chosen].parts().items() if spent >= 0.005 * _total(accounts[chosen])]
    lines, below = _runs(accounts, 46, clips), 46 + len(accounts) * (BAR + GAP) + 40
    legend, below = _legend([name for name in COLOURS if any(a.parts()[name] for a in accounts.values())], below)
    lines += [*legend, *_stages(accounts[chosen], stages, chosen, clips, below + 34)]
    height = below + 34 + len(stages) * (BAR + GAP) + 20
    style = (
        "text{font:13px sans-serif;fill:#222}.small{font-size:11px;fill:#555}.title{font-size:15px;font-weight:bold}"
        ".in{fill:#fff;font-size:11px}"
    )
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{style}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *lines,
        "</svg>",
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(svg) + "\n", "utf-8")
    return path


def _total(account: Account) -> float:
    return max(account.total_cpu, sum(account.cpu.values()), 1e-9)


def _runs(accounts: Mapping[str, Account], top: int, clips: int) -> list[str]:
    lines = [_text(16, 26, f"CPU-seconds of a run, {clips} clips", "title")]
    scale = (WIDTH - LEFT - 110) / max(_total(account) for account in accounts.values())
    for row, (name, account) in enumerate(accounts.items()):
        x, y = float(LEFT), top + row * (BAR + GAP)
        lines.append(_text(LEFT - 10, y + 18, name, anchor="end"))
        for part, spent in account.parts().items():
            lines.append(_bar(x, y, spent * scale, COLOURS[part], f"{name}, {part}: {spent:.2f} CPU-s"))
            if spent * scale > 34:
                lines.append(_text(x + spent * scale / 2, y + 17, f"{spent:.1f}", "in", "middle"))
            x += spent * scale
        lines.append(_text(x + 8, y + 18, f"{_total(account):.1f} s"))
    return lines


def _legend(names: Sequence[str], top: int) -> tuple[list[str], int]:
    """The legend, and where it ends."""
    lines, x, y = [], LEFT, top - 18
    for name in names:
        width = 34 + 7.2 * len(name)
        if x + width > WIDTH - 10:
            x, y = LEFT, y + 22
        lines += [_bar(x, y, 14, COLOURS[name], name, 14), _text(x + 20, y + 12, name, "small")]
        x += round(width)
    return lines, y + 22


def _stages(account: Account, names: Sequence[str], run: str, clips: int, top: int) -> list[str]:
    """One bar per stage: CPU, and paler behind it the time it waited: for the disk, or for its turn on the core."""
    title = f"{run}: where it goes, CPU-seconds; pale: seconds of waiting"
    lines = [_text(16, top - 12, title, "title")]
    spent = account.parts()
    whole = {name: max(account.seconds.get(name, 0.0), spent[name]) for name in names}
    scale = (WIDTH - LEFT - 250) / max(whole.values())
    for row, name in enumerate(sorted(names, key=lambda name: -spent[name])):
        y = top + row * (BAR + GAP)
        lines.append(_text(LEFT - 10, y + 18, name, anchor="end"))
        lines.append(_bar(LEFT, y, whole[name] * scale, "#e4e4e4", f"{name}: {whole[name]:.2f} s"))
        lines.append(_bar(LEFT, y, spent[name] * scale, COLOURS[name], f"{name}: {spent[name]:.2f} CPU-s"))
        share = 100 * spent[name] / _total(account)
        told = f"{spent[name]:.2f} s · {share:.0f} % · {1000 * spent[name] / max(clips, 1):.0f} ms a clip"
        lines.append(_text(LEFT + whole[name] * scale + 8, y + 18, told))
    return lines


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, colour: str, told: str, height: int = BAR) -> str:
    size = f'width="{max(width, 0):.1f}" height="{height}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"><title>{escape(told)}</title></rect>'


def main() -> None:
    parser = argparse.ArgumentParser(description="where the time of finished runs went")
    parser.add_argument("runs", type=Path, nargs="+", help="output folders")
    parser.add_argument("--out", type=Path, default=Path("where_time_goes.svg"))
    asked = parser.parse_args()
    accounts = {run.name: Account.of_runs([run]) for run in asked.runs}
    print(draw(accounts, next(iter(accounts.values())).clips, asked.out))


if __name__ == "__main__":
    main()
