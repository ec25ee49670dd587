"""`vidcap report --html`: one page that says what the report says, and in which nothing of the data is markup."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vidcap.cli.main import main
from vidcap.report import sections
from vidcap.report.gather import Facts, gather
from vidcap.report.render import figure, length, render, ticks, write_page

EVIL = '<script>document.title="broken"</script><img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def facts(made_once: Path) -> Facts:
    return gather(made_once)


@pytest.fixture
def hostile(facts: Facts) -> Facts:
    """The same run with script in everything that comes from outside."""
    changed = deepcopy(facts)
    changed.run["config"]["name"] = EVIL
    changed.run["versions"][EVIL] = EVIL
    changed.report["stopped_sources"] = [
        {"uri": f"{EVIL}.mp4", "id": "x", "verdict": "quarantined", "reason": EVIL, "detail": EVIL}
    ]
    changed.report["failed_parts"] = {"7": EVIL}
    changed.clips.counts["languages"][EVIL] = 3
    changed.clips.counts["terms|v"][f"age|children|{EVIL}"] = 1
    changed.sources.counts["licences"][EVIL] = 2
    changed.packed.counts["sample licences"][EVIL] = 2
    changed.packed.counts["backends"]['{"fuse": "x: </style><script>1</script>"}'] = 1
    return changed


class Elements(HTMLParser):
    """What a page is made of, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_funnel_loses_what_the_report_says(facts: Facts) -> None:
    steps = sections.funnel(facts)
    clips, sources = facts.report["clips"], facts.report["sources"]
    assert (steps[0].items, steps[0].left) == (sources["in"], sources["done"])
    shots = [step for step in steps if step.unit != "sources"]
    assert shots[0].items == clips["found"]
    assert shots[-1].left == clips["kept"]
    for above, below in pairwise(shots):
        assert below.items == above.left
    lost = sum(loss.count for step in shots for loss in step.losses)
    assert lost == clips["rejected"] + clips["quarantined"]
    told = {loss.reason: loss.count for step in steps for loss in step.losses}
    assert told == facts.report["reasons"]
    assert all(loss.meaning and loss.mend for step in steps for loss in step.losses)


def test_losses_stand_in_the_stage_that_had_them(facts: Facts) -> None:
    changed = deepcopy(facts)
    found = changed.report["clips"]["found"]
    trim, select = changed.stage("trim"), changed.stage("select")
    assert trim is not None and select is not None
    trim.losses.update({("rejected", "trim.too_short"): 2, ("quarantined", "stage.error"): 1})
    select.losses["rejected", "select.below_min"] = 1
    for stage in changed.stages[3:]:
        stage.items -= 3 + (stage.stage == "pack")
    steps = {step.title: step for step in sections.funnel(changed)}
    assert [(loss.reason, loss.count) for loss in steps["Trimmed to clips"].losses] == [
        ("trim.too_short", 2),
        ("stage.error", 1),
    ]
    assert [band.verdict for band in steps["Trimmed to clips"].bands] == ["rejected", "quarantined"]
    assert steps["Trimmed to clips"].bands[0].width == pytest.approx(200 / found, abs=0.01)
    assert steps["Captioned and scored"].items == steps["Selected"].items == found - 3
    assert steps["Cut and packed"].left == found - 4


def test_the_stream_is_as_wide_as_what_goes_on(facts: Facts) -> None:
    for step in sections.funnel(facts):
        whole = step.items if step.unit == "sources" else facts.report["clips"]["found"]
        assert step.width == pytest.approx(100 * step.left / whole, abs=0.01)
        assert sum(loss.count for loss in step.losses) == step.items - step.left
        assert bool(step.bands) == bool(step.losses)


def test_every_clip_is_in_the_distributions(facts: Facts) -> None:
    clips = facts.report["clips"]
    for fate in ("kept", "rejected", "quarantined"):
        assert facts.clips.tally(f"seconds|{fate}").total == clips[fate]
    kept = facts.clips.tally("similarity|judged|kept")
    assert kept.total == clips["kept"] == facts.packed.counts["samples"]["all"]
    assert kept.quantile(0) >= 0.2  # the demo's threshold
    rejected = facts.clips.tally("similarity|judged|rejected")
    assert rejected.total == 0 or rejected.quantile(0) < 0.2


def test_work_has_items_seconds_and_processor_time(facts: Facts) -> None:
    rows = {row.stage: row for row in sections.work(facts)}
    assert rows["decode"].items == facts.report["sources"]["in"]
    assert rows["trim"].items == facts.report["clips"]["found"]
    for stage in ("decode", "transcribe", "pack"):
        assert rows[stage].seconds > 0
        assert rows[stage].cpu_seconds > 0
        assert rows[stage].rate == pytest.approx(rows[stage].items / rows[stage].seconds)
    assert sum(row.part for row in rows.values()) == pytest.approx(1)


def test_the_threshold_is_drawn_where_it_applies(facts: Facts) -> None:
    panels = {panel.title: panel for panel in sections.similarity_panels(facts)}
    assert [line.label for line in panels["Selected by: primary"].lines] == ["min 0.2"]
    assert panels["Caption v"].lines
    assert not panels["Caption a"].lines  # never a primary caption


def test_a_share_draws_the_score_of_the_last_that_was_kept(facts: Facts) -> None:
    changed = deepcopy(facts)
    for stage in changed.run["config"]["stages"]:
        if stage["stage"] == "select":
            stage["options"] = {"by": "v", "fraction": 0.5}
    changed.cutoff = 0.61
    panels = {panel.title: panel for panel in sections.similarity_panels(changed)}
    assert panels["Selected by: v"].lines[0].label == "best 0.5: 0.610"
    assert not panels["Caption avs"].lines


def test_the_page_stands_alone_and_holds_no_script(hostile: Facts) -> None:
    page = render(hostile)
    found = Elements(page)
    assert not found.tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "href", "style", "xlink:href"})
    assert page.count(EVIL) == 0
    assert found.text.count(EVIL) >= 8
    assert any(
        value and value.startswith("default-src 'none'") for name, value in found.attributes if name == "content"
    )


def test_the_page_tells_the_numbers(facts: Facts) -> None:
    text = " ".join(Elements(render(facts)).text.split())
    clips = facts.report["clips"]
    assert f"{clips['found']} shots found" in text
    assert f"{clips['kept']} clips kept" in text
    for reason in facts.report["reasons"]:
        assert reason in text
    assert "CMU PocketSphinx en-us BSD-2-Clause" in text
    assert "The embedded captioners of picture and sound never use such words" in text
    assert "undefined" not in text.lower()
    assert "nan" not in text.lower().split()


def test_the_same_run_gives_the_same_page(made_once: Path, tmp_path: Path) -> None:
    write_page(made_once, tmp_path / "a.html")
    write_page(made_once, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_an_interrupted_run_has_a_page(reference: Path) -> None:
    """What is not there yet is pending, and nothing divides by nothing."""
    for record in (reference / "_vidcap" / "ledger").glob("*.select.json"):
        record.unlink()
    for record in (reference / "_vidcap" / "ledger").glob("*.pack.json"):
        record.unlink()
    facts = gather(reference)
    assert facts.report["clips"]["pending"] > 0
    assert "pending" in Elements(render(facts)).text
    for record in (reference / "_vidcap" / "ledger").glob("*.json"):
        record.unlink()
    assert "0 shots found" in " ".join(Elements(render(gather(reference))).text.split())


def test_the_command_writes_the_page(made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.html"
    assert main(["report", str(made_once), "--html", str(target)]) == 0
    assert target.read_text().lstrip().startswith("<!doctype html>")
    assert capsys.readouterr().out == ""
    assert main(["report", str(made_once), "--html", str(target), "--json"]) == 2
    assert main(["report", str(tmp_path / "nothing"), "--html", str(target)]) == 2


def test_units_read_well() -> None:
    assert [length(s) for s in (2.25, 48, 130, 9000)] == ["2.2 s", "48 s", "2.2 min", "2.5 h"]
    assert [figure(v) for v in (0, float("nan"), 0.0123, 12.34, 12345)] == ["–", "–", "0.0123", "12.3", "12,345"]
    assert ticks("a `b<` c") == "a <code>b&lt;</code> c"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.mark.slow
def test_a_browser_runs_nothing_and_applies_the_style(browser: Any, hostile: Facts, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(render(hostile))
    browser.get(page.as_uri())
    assert browser.title == f"{EVIL}: report"
    assert browser.execute_script("return document.scripts.length + document.images.length") == 0
    # The policy allows the style sheet by its digest; a wrong one would leave the page bare.
    assert browser.execute_script("return getComputedStyle(document.querySelector('.tiles')).display") == "grid"
    kept = "return getComputedStyle(document.querySelector('rect.kept')).fill"
    assert browser.execute_script(kept) != "rgb(0, 0, 0)"
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert not [entry for entry in browser.get_log("browser") if "Content Security" in entry["message"]]


@pytest.mark.browser
def test_a_browser_shows_hostile_text_as_text(hostile: Facts, chromium: Any, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(hostile), encoding="utf-8")
    chromium.get_log("browser")
    chromium.get(page.as_uri())
    assert chromium.title != "broken"
    assert EVIL in chromium.find_element("tag name", "body").text
    assert (
        chromium.execute_script("return document.scripts.length + document.querySelectorAll('[onerror]').length") == 0
    )
    assert not [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    # The style sheet of the page is let through by its digest.
    assert chromium.execute_script("return getComputedStyle(document.body).marginTop") is not None
    wide = chromium.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
