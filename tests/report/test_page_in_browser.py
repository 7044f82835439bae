"""The page at work in headless Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, find_chromium

pytestmark = pytest.mark.browser

PICTURE = "document.getElementById('picture').toDataURL()"


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        told = "no Chromium here: `apt-get install chromium` lets this test run"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    browser = Browser(executable, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def comparison_page(compared: Path) -> Path:
    return compared / "compare.html"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly loaded and drawn; at the end nothing has been complained of."""
    browser.open(page)
    wait_for_picture(browser)
    yield browser
    assert browser.faults == []


def wait_for_picture(browser: Browser) -> None:
    # a canvas nobody has drawn on is 300 pixels wide
    browser.wait_for("document.getElementById('picture').width !== 300")


def changed_picture(browser: Browser, before: str) -> str:
    browser.evaluate(f"window.before = {before!r}")
    browser.wait_for(f"{PICTURE} !== window.before")
    return browser.evaluate(PICTURE)


def column(browser: Browser, number: int) -> list[str]:
    rows = "[...document.querySelectorAll('#scans tbody tr')]"
    return browser.evaluate(f"{rows}.map((row) => row.children[{number}].dataset.value)")


def test_the_picture_holds_an_image_and_outlines_in_colour(opened):
    colours = opened.evaluate(
        """(() => {
            const canvas = document.getElementById('picture');
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let gray = 0, coloured = 0;
            for (let i = 0; i < data.length; i += 4) {
                const [r, g, b] = data.slice(i, i + 3);
                if (Math.max(r, g, b) - Math.min(r, g, b) > 60) coloured++;
                else if (r > 30) gray++;
            }
            return [gray, coloured];
        })()"""
    )
    assert colours[0] > 10_000
    assert colours[1] > 200


def test_the_slider_changes_the_picture_and_its_caption(opened):
    before = opened.evaluate(PICTURE)
    caption = opened.evaluate("document.getElementById('caption').textContent")
    opened.evaluate(
        "(() => { const s = document.getElementById('slice'); s.value = Number(s.value) + 1;"
        " s.dispatchEvent(new Event('input')); })()"
    )
    changed_picture(opened, before)
    assert opened.evaluate("document.getElementById('caption').textContent") != caption


def test_arrow_keys_go_a_slice_on_and_back(opened):
    before = opened.evaluate(PICTURE)
    place = opened.evaluate("Number(document.getElementById('slice').value)")
    opened.press("ArrowRight")
    after = changed_picture(opened, before)
    assert opened.evaluate("Number(document.getElementById('slice').value)") == place + 1
    opened.press("ArrowLeft")
    assert changed_picture(opened, after) == before


@pytest.mark.parametrize("control", ["[data-organ='0']", "#show-truth", "#show-prediction"])
def test_a_switch_takes_outlines_off_and_puts_them_back(opened, control):
    before = opened.evaluate(PICTURE)
    opened.evaluate(f'document.querySelector("{control}").click()')
    after = changed_picture(opened, before)
    opened.evaluate(f'document.querySelector("{control}").click()')
    assert changed_picture(opened, after) == before


def test_keys_switch_an_organ_and_the_prediction(opened):
    before = opened.evaluate(PICTURE)
    opened.press("1")
    assert opened.evaluate("document.querySelector('[data-organ]').checked") is False
    before = changed_picture(opened, before)
    opened.press("p")
    changed_picture(opened, before)


def test_another_scan_can_be_chosen_by_key_and_from_the_table(opened):
    before = opened.evaluate(PICTURE)
    opened.press("n")
    after = changed_picture(opened, before)
    assert opened.evaluate("document.getElementById('scan').value") == "1"
    opened.evaluate("document.querySelector('button[data-scan=\"0\"]').click()")
    assert changed_picture(opened, after) == before


def test_a_column_head_sorts_the_scans_both_ways(opened):
    names = column(opened, 0)
    opened.evaluate("document.querySelectorAll('#scans th button')[2].click()")
    dice = [float(value) for value in column(opened, 2)]
    assert dice == sorted(dice)
    opened.evaluate("document.querySelectorAll('#scans th button')[2].click()")
    assert [float(value) for value in column(opened, 2)] == sorted(dice, reverse=True)
    state = "document.querySelectorAll('#scans th')[2].getAttribute('aria-sort')"
    assert opened.evaluate(state) == "descending"
    assert sorted(column(opened, 0)) == sorted(names)
    opened.evaluate("document.querySelectorAll('#scans th button')[0].click()")
    assert column(opened, 0) == sorted(names)


@pytest.mark.parametrize("name", ["page", "evaluated_page", "comparison_page"])
def test_nothing_sticks_out_on_a_phone(browser, request, name):
    browser.open(request.getfixturevalue(name))
    browser.resize(390, 844)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser.faults == []


def test_variants_and_their_intervals_are_seen_whole_on_a_phone(browser, evaluated_page):
    browser.open(evaluated_page)
    browser.resize(390, 844)
    assert browser.evaluate("document.getElementById('variants').getBoundingClientRect().right") <= 390


def test_what_does_not_fit_on_a_phone_can_be_scrolled_to(browser, comparison_page):
    browser.open(comparison_page)
    browser.resize(390, 844)
    hidden = browser.evaluate(
        """[...document.querySelectorAll('table, .gallery')].filter((one) => {
            const box = one.closest('.scroll');
            return one.getBoundingClientRect().right > innerWidth && box.scrollWidth <= box.clientWidth;
        }).length"""
    )
    assert hidden == 0


def test_the_comparison_shows_its_table_picture_and_curves(browser, comparison_page):
    browser.open(comparison_page)
    browser.resize(1280, 900)
    browser.wait_for("document.querySelector('.gallery').complete")
    assert browser.evaluate("document.querySelector('.gallery').naturalWidth") == 34 + 3 * 340 + 3 * 6
    assert browser.evaluate("document.querySelectorAll('#comparison tbody tr').length") == 2
    assert browser.evaluate("document.querySelectorAll('#curves polyline').length") == 2 * 3 * 5
    # on a desk the whole table is seen at once
    fits = "(() => { const box = document.querySelector('.scroll'); return box.scrollWidth <= box.clientWidth; })()"
    assert browser.evaluate(fits)
    assert browser.faults == []


def test_every_control_has_a_name(opened):
    unnamed = opened.evaluate(
        """[...document.querySelectorAll('input, select, button')].filter((control) =>
            !(control.labels && control.labels.length) && !control.textContent.trim() &&
            !control.getAttribute('aria-label')).length"""
    )
    assert unnamed == 0
