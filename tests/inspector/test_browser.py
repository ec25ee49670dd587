"""The pages in a real browser: hostile text stays text, filters, keys, seeking, the rejected beside the kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile_run
import pytest
from command import wait_for as wait
from local_page import local_page

from vidcap.inspector.entries import Borders
from vidcap.inspector.export import write_html
from vidcap.inspector.index import ShardIndex
from vidcap.inspector.pictures import clip_pictures

pytestmark = pytest.mark.browser


class Page:
    """What a person sees and does."""

    def __init__(self, window: Any, address: str) -> None:
        self.window, self.address = window, address

    def load(self) -> Page:
        self.window.get(self.address)
        self.window.get_log("browser")
        wait(self.captions)
        return self

    def js(self, code: str, *arguments: Any) -> Any:
        return self.window.execute_script(code, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The texts of the elements that are on screen, or would be after scrolling."""
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter((e) => e.getClientRects().length).map((e) => e.textContent)",
            selector,
        )
        return found

    def captions(self) -> list[str]:
        return self.texts("#samples .card .caption")

    def press(self, *keys: str) -> None:
        """To whatever has the focus, as a keyboard does: the page may draw that element again at any moment."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            ActionChains(self.window).send_keys(getattr(Keys, key, key)).perform()

    def type(self, name: str, text: str) -> None:
        from selenium.webdriver.common.by import By

        field = self.window.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)

    def choose(self, name: str, value: str) -> None:
        self.js(
            "const f = document.querySelector(`[name=${arguments[0]}]`); f.value = arguments[1];"
            "for (const kind of ['input', 'change']) f.dispatchEvent(new Event(kind, {bubbles: true}))",
            name,
            value,
        )

    @property
    def viewing(self) -> str:
        return str(
            self.js("const v = document.getElementById('viewer'); return v.open ? v.getAttribute('aria-label') : ''")
        )


def borders_of(folder: Path, records: list[Any]) -> Borders:
    clip = next(iter(ShardIndex([folder]).samples(0).values()))
    with clip.open("mp4") as file:
        return hostile_run.hostile_borders(records, clip_pictures(file, 4.0)[0].jpeg)


@pytest.fixture(scope="module", params=["file", "server"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browser")
    records = hostile_run.write_hostile(folder / "shards")
    borders = borders_of(folder, records)
    if request.param == "file":
        index = ShardIndex([folder])
        write_html(folder / "x.html", index, title=hostile_run.EVIL, number=6, clip_bytes=10**6, borders=borders)
        yield (folder / "x.html").as_uri()
    else:
        with local_page(folder, borders=borders) as found:
            yield found


@pytest.fixture
def page(chromium: Any, address: str) -> Page:
    return Page(chromium, address).load()


def test_hostile_text_stays_text_everywhere(page: Page) -> None:
    assert hostile_run.EVIL in page.captions()[0]
    page.press("j", "ENTER")
    wait(lambda: page.viewing)
    shown = "".join(page.texts("#viewer"))
    assert shown.count("<script>window.owned=1</script>") >= 9  # captions, transcript, meta, models, source
    page.press("ESCAPE")
    wait(lambda: not page.viewing)
    page.press("2")
    wait(lambda: page.texts("#borders .card"))
    page.js("document.querySelector('#borders .stopped .open').click()")
    assert hostile_run.EVIL in "".join(page.texts("#viewer .verdict"))
    assert page.js("return window.owned") is None
    assert page.js("return document.querySelectorAll('img[onerror], svg, #viewer script, .card script').length") == 0
    loud = [
        line
        for line in page.window.get_log("browser")
        if line["level"] == "SEVERE" and "/stopped/" not in line["message"]
    ]
    assert not loud


def test_the_policy_stops_a_script_that_got_in(page: Page) -> None:
    """Were a text ever taken for markup, the browser itself would not run it."""
    with pytest.raises(Exception, match="TrustedHTML"):
        page.js("document.body.innerHTML = '<img src=x onerror=window.owned=1>'")
    page.js(
        "document.body.append(document.createElement('img')); document.body.lastChild.setAttribute('src', 'http://127.0.0.1:9/x')"
    )
    wait(lambda: [line for line in page.window.get_log("browser") if "Content Security Policy" in line["message"]])
    assert page.js("return window.owned") is None


def test_filters_narrow_the_sheet(page: Page) -> None:
    assert len(page.captions()) == 6
    page.type("text", "N3 hums")
    wait(lambda: page.captions() == ["bar n3 hums"])
    assert page.texts("#status") == ["1 of 6 samples"]
    page.type("text", "")
    page.choose("language", "fr")
    wait(lambda: page.captions() == ["bar n1 hums", "bar n3 hums", "bar n5 hums"])
    page.type("low", "0.3")
    page.choose("sort", "highest")
    wait(lambda: page.captions() == ["bar n5 hums", "bar n3 hums"])
    page.js("document.querySelector('[type=reset]').click()")
    wait(lambda: len(page.captions()) == 6)
    page.type("text", "no such thing")
    wait(lambda: page.texts("#status") == ["No sample matches."])


def test_the_keyboard_is_enough(page: Page) -> None:
    keys = page.js("return [...document.querySelectorAll('.open')].map((e) => e.dataset.key)")
    page.press("j", "j", "j", "k")
    assert page.js("return document.activeElement.dataset.key") == keys[1]
    page.press("ARROW_RIGHT", "ENTER")
    wait(lambda: page.viewing == f"Clip {keys[2]}")
    page.press("j")
    wait(lambda: page.viewing == f"Clip {keys[3]}")
    page.press("ARROW_LEFT", "k")
    wait(lambda: page.viewing == f"Clip {keys[1]}")
    page.press("ESCAPE")
    wait(lambda: not page.viewing)
    wait(lambda: page.js("return document.activeElement.dataset.key") == keys[1])
    page.press("/", "n", "4")
    wait(lambda: page.captions() == ["bar n4 hums"])
    page.press("ESCAPE", "?")
    wait(lambda: page.texts("#help h2") == ["Keys"])
    page.press("?")
    wait(lambda: not page.texts("#help h2"))
    page.press("2")
    wait(lambda: page.texts("#borders h2"))


def test_transcript_times_seek_the_player(page: Page) -> None:
    page.js("document.querySelectorAll('.open')[2].click()")
    wait(lambda: page.js("return document.querySelector('video').readyState") >= 1)
    assert page.js("return document.querySelector('video').duration") == pytest.approx(hostile_run.SECONDS, abs=0.1)
    page.js("document.querySelectorAll('.word')[5].click()")
    assert page.js("return document.querySelector('video').currentTime") == pytest.approx(2.5)
    wait(lambda: page.js("return !document.querySelector('video').seeking"))
    assert page.texts(".word.now") == [hostile_run.SPEECH.split()[5]]
    page.js("document.querySelector('.line .time').click()")
    assert page.js("return document.querySelector('video').currentTime") == pytest.approx(0.0)
    page.js("document.querySelectorAll('.frames button')[5].click()")
    assert page.js("return document.querySelector('video').currentTime") > 3
    assert page.js("return document.querySelector('video').error") is None


def test_the_rejected_stand_beside_the_kept(page: Page) -> None:
    page.choose("reason", "select.below_min")
    wait(lambda: page.texts("#borders .border"))
    assert page.texts("#borders .border .threshold") == ["threshold similarity primary 0.08 · kept is above it"]
    assert page.texts("#borders .column h3") == ["rejected, 7 in all", "kept"]
    assert page.texts("#borders .badge.out") == ["0.05"]
    assert page.texts("#borders .badge.in") == ["0.1", "0.2"]
    # One question, for the page may draw its columns again in between.
    left, right = page.js(
        "return [...document.querySelectorAll('#borders .column')].map((c) => c.getBoundingClientRect().left)"
    )
    assert right > left + 300
    wait(
        lambda: page.js(
            "return document.querySelector('#borders .stopped img.poster, #borders .stopped img.frame')?.naturalWidth"
        )
    )
    page.type("text", "n2")
    wait(lambda: page.texts("#borders .badge.in") == ["0.2"])
    assert page.texts("#borders .badge.out") == []


def test_captions_of_all_kinds_stand_side_by_side(page: Page) -> None:
    page.js("document.querySelectorAll('.open')[1].click()")
    # One question: all of them move down when the clip above is there.
    tops = page.js("return [...document.querySelectorAll('.caption-card')].map((c) => c.getBoundingClientRect().top)")
    assert (len(tops), len(set(tops))) == (5, 1)
    assert page.texts(".caption-card p:not(.sub)") == [
        "bar n1 moves",
        "a hum",
        hostile_run.SPEECH,
        "–",
        "bar n1 hums",
    ]


@pytest.mark.parametrize("width", [390, 768])
def test_nothing_is_wider_than_a_small_screen(page: Page, width: int) -> None:
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        wait(lambda: page.js("return screen.width") == width)
        assert page.js("return document.documentElement.scrollWidth") <= width
        page.press("2")
        wait(lambda: page.texts("#borders .card"))
        assert page.js("return document.documentElement.scrollWidth") <= width
        page.js("document.querySelector('#borders .open').click()")
        assert page.js("const v = document.getElementById('viewer'); return v.scrollWidth - v.clientWidth") <= 0
    finally:
        page.window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
