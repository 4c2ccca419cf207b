"""The page of a run in a real browser: wide and narrow, light and dark, by mouse and by keyboard, and on paper."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from support.browser import Browser, PageLoad
from support.contrast import CONTRASTS
from support.reported import KINDS, Reported, add_reported_run

from producer.report.write import Report, ReportOptions, write_report
from tagmill.db.schema import duplicate_image, picture
from tagmill.settings import Settings

WIDE, PHONE = (1280, 900), (390, 844)
MANY = 2000
HOSTILE = (
    "<script>document.title='pwned'</script>",
    "</script><img src=x onerror=\"document.title='pwned'\">",
    "\"><svg onload='document.title=1'>'",
    "a\u202egnp.exe\u2066\u200f",
)
IMAGES = [
    Reported("sure hat", "hat", 0.98, extra=json.dumps({"brand": "<b>Acme</b>", "price": 12.5})),
    Reported("unsure hat", "hat", 0.40),
    Reported("a shoe", "shoe", 0.80, masks=False),
    Reported("wrong shoe", "shoe", 0.95),
    Reported("cut off", None, detail="<i>ends</i> at row 12"),
    *(Reported(key, KINDS[2], 0.7) for key in HOSTILE),
]
TRUTH = {"sure hat": ("hat",), "unsure hat": ("hat",), "a shoe": ("shoe",), "wrong shoe": ("hat",)}


@contextmanager
def no_bar(title: str, total: int) -> Iterator[Any]:
    yield lambda: None


def report(engine: Engine, run_id: int, path: Path, **options: Any) -> Report:
    return write_report(engine, run_id, path, Settings(), ReportOptions(**options), no_bar)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    run_id = add_reported_run(database, folder / "images", IMAGES)
    add_copies(database, run_id)
    report(database, run_id, folder / "report.html", truth=TRUTH)
    return folder / "report.html"


def add_copies(engine: Engine, run_id: int) -> None:
    """Say that the first two images of a run are one picture, as `tagmill duplicates` says it."""
    with engine.begin() as connection:
        ids = connection.execute(
            text("SELECT image_id FROM tagged_entry WHERE run_id = :run ORDER BY position LIMIT 2"), {"run": run_id}
        ).scalars()
        for image_id, (kind, bits) in zip(ids, (("first", None), ("picture", 3)), strict=True):
            row = {"run_id": run_id, "group_id": 1, "image_id": image_id, "kind": kind, "found_at": 0.0}
            connection.execute(insert(duplicate_image).values(**row, distance=bits, similarity=bits and 0.97))
            measures = dict.fromkeys(("phash", "phash_mirrored", "frame", "white_border"), 0)
            measures |= {"sharpness": 50, "brightness": 0.9, "contrast": 0.8, "version": 1}
            connection.execute(insert(picture).values(image_id=image_id, product_from="frame", **measures))


@pytest.fixture(scope="module")
def large_page(database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    images = [Reported(f"key-{n:05}", KINDS[n % 3], 0.5 + n / MANY / 2) for n in range(MANY)]
    run_id = add_reported_run(database, folder / "images", images)
    report(database, run_id, folder / "report.html")
    return folder / "report.html"


def opened(browser: Browser, page: Path, size: tuple[int, int] = WIDE, *, dark: bool = False) -> PageLoad:
    browser.window(*size, phone=size == PHONE, dark=dark)
    loaded = browser.open(page)
    assert browser.evaluate("document.documentElement.dataset.ready") == "yes"
    browser.evaluate("document.getElementById('images').scrollIntoView({behavior: 'instant'})")
    drawn(browser)
    return loaded


def drawn(browser: Browser) -> None:
    """Wait until the page has drawn what changed."""
    browser.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def keys(browser: Browser) -> list[str]:
    """Return the keys of the cells that are elements, in their order."""
    return browser.evaluate("[...document.querySelectorAll('.cell .key[title]')].map(e => e.title)")


def choose(browser: Browser, field: str, value: str) -> None:
    """Set a field of the filters, and wait until the page has filtered."""
    script = f"const field = document.getElementById({field!r}); field.value = {value!r};"
    browser.evaluate(f"(() => {{ {script} field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()")
    drawn(browser)


def press(browser: Browser, key: str) -> None:
    code = {"key": key, "code": key, "windowsVirtualKeyCode": {"Enter": 13, "Escape": 27}.get(key, 0)}
    text = {"text": "\r"} if key == "Enter" else {}
    browser.command("Input.dispatchKeyEvent", type="keyDown", **code, **text)
    browser.command("Input.dispatchKeyEvent", type="keyUp", **code)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_page_loads_nothing_fits_the_window_and_shows_images_with_outlines(
    browser: Browser, page: Path, size: tuple[int, int]
) -> None:
    loaded = opened(browser, page, size)
    assert loaded.problems == []
    assert loaded.requests == [page.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    shown = browser.evaluate("[...document.querySelectorAll('.cell img')].map(i => [i.naturalWidth, i.naturalHeight])")
    assert shown
    assert {tuple(one) for one in shown} == {(48, 64)}
    assert browser.evaluate("document.querySelectorAll('.cell svg path.line').length") >= 2
    assert "100.0%" not in browser.evaluate("document.querySelector('.tiles').textContent")
    assert "75.0%" in browser.evaluate("document.querySelector('.tiles').textContent")


def test_keys_labels_and_values_of_suppliers_are_text(browser: Browser, page: Path) -> None:
    opened(browser, page)
    assert browser.evaluate("document.title").startswith("Run ")
    choose(browser, "order", "manifest")
    assert set(HOSTILE[:3]) <= set(keys(browser))
    assert browser.evaluate("document.querySelectorAll('main b, main i, main script, #grid script').length") == 0
    assert browser.evaluate("document.scripts.length") == 4
    browser.evaluate("document.querySelector('.cell button').click()")
    facts = browser.evaluate("document.getElementById('viewer-facts').innerText")
    assert "</script><b>dress</b>" in facts
    assert "brand\n<b>Acme</b>\nprice\n12.5" in facts
    # A mark that turns the direction of the text around ends with its element.
    assert browser.evaluate("getComputedStyle(document.querySelector('.cell .key bdi')).unicodeBidi") == "isolate"
    text = page.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "https://***@shop/list.csv" in text


def test_images_are_found_by_key_label_score_outcome_and_truth(browser: Browser, page: Path) -> None:
    opened(browser, page)
    choose(browser, "search", "HAT")
    assert sorted(keys(browser)) == ["sure hat", "unsure hat"]
    choose(browser, "search", "")
    choose(browser, "outcome", "truncated")
    assert keys(browser) == ["cut off"]
    choose(browser, "outcome", "")
    choose(browser, "label", "1")
    assert sorted(keys(browser)) == ["a shoe", "wrong shoe"]
    choose(browser, "least", "0.9")
    assert keys(browser) == ["wrong shoe"]
    assert browser.evaluate("document.getElementById('status').textContent") == "1 of 9 images"
    choose(browser, "search", "nothing like this")
    assert browser.evaluate("document.getElementById('empty').checkVisibility()")
    browser.evaluate("document.querySelector('#filters [type=reset]').click()")
    drawn(browser)
    assert len(keys(browser)) == len(IMAGES)
    choose(browser, "truth", "~wrong")
    assert keys(browser) == ["wrong shoe"]
    choose(browser, "model", "1")
    assert keys(browser) == []


def test_wrong_images_are_first_where_the_truth_is_known_then_the_least_certain(browser: Browser, page: Path) -> None:
    opened(browser, page)
    assert keys(browser)[:2] == ["wrong shoe", "unsure hat"]
    choose(browser, "order", "certain")
    assert keys(browser)[0] == "sure hat"
    choose(browser, "order", "uncertain")
    assert keys(browser)[0] == "unsure hat"
    assert keys(browser)[-1] == "cut off"
    choose(browser, "order", "manifest")
    assert keys(browser)[:5] == [found.key for found in IMAGES[:5]]


def test_a_link_to_a_mix_up_shows_its_images(browser: Browser, page: Path) -> None:
    opened(browser, page)
    browser.evaluate("document.querySelector('#accuracy a.to-images').click()")
    drawn(browser)
    assert keys(browser) == ["wrong shoe"]
    browser.evaluate("document.querySelector('#failures a.to-images').click()")
    drawn(browser)
    assert keys(browser) == ["cut off"]


def test_outlines_are_switched_off_and_single_masks_in_the_larger_view(browser: Browser, page: Path) -> None:
    opened(browser, page)
    visible = "[...document.querySelectorAll('.cell svg')].filter(e => e.checkVisibility()).length"
    assert browser.evaluate(visible) > 0
    browser.evaluate("document.getElementById('outlines').click()")
    assert browser.evaluate(visible) == 0
    browser.evaluate("document.getElementById('outlines').click()")
    browser.evaluate("document.querySelector('.cell button').click()")
    legend = browser.evaluate("[...document.querySelectorAll('.of-masks label')].map(e => e.textContent)")
    assert legend == ["cloth", "sole"]
    shapes = "[...document.querySelectorAll('#viewer-image g')].map(e => getComputedStyle(e).display !== 'none')"
    assert browser.evaluate(shapes) == [True, True]
    browser.evaluate("document.querySelector('.of-masks input').click()")
    assert browser.evaluate(shapes) == [False, True]


def test_activation_maps_are_switched_on_in_the_grid_and_in_the_larger_view(browser: Browser, page: Path) -> None:
    opened(browser, page)
    shown = "[...document.querySelectorAll('{where} .map image')].filter(e => e.checkVisibility()).length"
    in_grid, in_viewer = shown.format(where=".cell"), shown.format(where="#viewer-image")
    assert browser.evaluate(in_grid) == 0
    browser.evaluate("document.getElementById('maps').click()")
    drawn(browser)
    assert browser.evaluate(in_grid) == browser.evaluate("document.querySelectorAll('.cell img').length") > 0
    # It covers the picture, which is 48 x 64 pixels in a square cell, and nothing beside it.
    box = "document.querySelector('.cell {0}').getBoundingClientRect().{1}"
    ratio = browser.evaluate(f"{box.format('.map image', 'width')} / {box.format('.map image', 'height')}")
    assert ratio == pytest.approx(0.75, abs=0.02)
    assert browser.evaluate(box.format(".map image", "height")) == pytest.approx(
        browser.evaluate(box.format(".shot", "height")), abs=1
    )
    alpha = """(async () => {
        const image = new Image(); image.src = document.querySelector('.cell .map image').getAttribute('href');
        await image.decode();
        const canvas = document.createElement('canvas'); canvas.width = image.width; canvas.height = image.height;
        const drawing = canvas.getContext('2d'); drawing.drawImage(image, 0, 0);
        const alphaAt = (x, y) => drawing.getImageData(x * image.width, y * image.height, 1, 1).data[3];
        return [alphaAt(0.02, 0.9), alphaAt(0.98, 0.1)];
    })()"""
    weakest, strongest = browser.evaluate(alpha)
    assert weakest == 0
    assert 100 < strongest < 200
    browser.evaluate("document.querySelector('.cell button').click()")
    assert browser.evaluate(in_viewer) == 1
    browser.evaluate("document.querySelector('.map-switch input').click()")
    assert browser.evaluate(in_viewer) == 0


def test_groups_of_copies_are_shown_with_their_evidence_and_in_the_grid(browser: Browser, page: Path) -> None:
    opened(browser, page)
    assert browser.evaluate("[...document.querySelectorAll('article .members img')].map(i => i.naturalWidth)") == [
        48,
        48,
    ]
    said = browser.evaluate("document.querySelector('article.group').innerText")
    assert "2 images" in said
    assert "same picture\n3 of 64 bits differ, similarity 0.970" in said
    browser.evaluate("document.querySelector('article.group a').click()")
    drawn(browser)
    assert keys(browser) == ["sure hat", "unsure hat"]


def test_broken_rules_are_shown_with_examples(browser: Browser, page: Path) -> None:
    opened(browser, page)
    said = browser.evaluate("[...document.querySelectorAll('#rules summary')].map(e => e.textContent)")
    assert "2 images (100.0%): the background is not pure white (RGB 255, 255, 255)" in said
    browser.evaluate("document.querySelector('#rules details').open = true")
    shown = "[...document.querySelectorAll('#rules details[open] .members .key')].map(e => e.textContent)"
    assert browser.evaluate(shown) == ["sure hat", "unsure hat"]


def test_the_grid_and_the_larger_view_work_by_keyboard(browser: Browser, page: Path) -> None:
    opened(browser, page)
    focused = "document.activeElement.querySelector('.key[title]')?.title"
    browser.evaluate("document.querySelector('.cell button[tabindex=\"0\"]').focus()")
    first, second = keys(browser)[:2]
    assert browser.evaluate(focused) == first
    press(browser, "ArrowRight")
    assert browser.evaluate(focused) == second
    press(browser, "Enter")
    title = "document.getElementById('viewer-title').textContent"
    assert browser.evaluate("document.getElementById('viewer').open")
    assert browser.evaluate(title) == second
    press(browser, "ArrowLeft")
    assert browser.evaluate(title) == first
    press(browser, "Escape")
    drawn(browser)
    assert not browser.evaluate("document.getElementById('viewer').open")
    assert browser.evaluate(focused) == first
    assert browser.evaluate("document.querySelectorAll('.cell button[tabindex=\"0\"]').length") == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_enough_contrast(browser: Browser, page: Path, dark: bool) -> None:
    opened(browser, page, dark=dark)
    browser.evaluate("for (const e of document.querySelectorAll('details')) e.open = true")
    contrasts = browser.evaluate(CONTRASTS)
    assert len(contrasts) > 60
    assert contrasts[0][0] >= 4.5, contrasts[:3]


def test_headings_are_nested_links_have_targets_and_fields_have_names(browser: Browser, page: Path) -> None:
    opened(browser, page)
    levels = browser.evaluate(
        "[...document.querySelectorAll('main h2, main h3, main h4')].map(e => Number(e.tagName[1]))"
    )
    assert all(after - before <= 1 for before, after in pairwise([1, *levels]))
    assert browser.evaluate("[...document.links].filter(a => a.hash).every(a => document.querySelector(a.hash))")
    unnamed = "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length && !e.ariaLabel).length"
    assert browser.evaluate(unnamed) == 0


def test_a_histogram_shows_one_label_with_its_threshold(browser: Browser, page: Path) -> None:
    opened(browser, page)
    change = "s.value = '0'; s.dispatchEvent(new Event('change'))"
    browser.evaluate(f"(() => {{ const s = document.querySelector('.histogram select'); {change}; }})()")
    assert "threshold, 0.750" in browser.evaluate("document.querySelector('.histogram .said').textContent")
    heights = browser.evaluate(
        "[...document.querySelector('.histogram svg').querySelectorAll('rect')].map(r => r.getAttribute('height') > 0)"
    )
    assert [number for number, tall in enumerate(heights) if tall] == [8, 19]


def test_paper_gets_the_images_and_no_controls(browser: Browser, page: Path) -> None:
    opened(browser, page)
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate("document.querySelectorAll('.cell').length") == len(IMAGES)
    assert not browser.evaluate("document.getElementById('filters').checkVisibility()")
    assert browser.evaluate("getComputedStyle(document.querySelector('.cell')).position") == "static"
    browser.command("Emulation.setEmulatedMedia", media="")
    assert browser.evaluate("getComputedStyle(document.querySelector('.cell')).position") == "absolute"


def test_a_page_without_images_says_so_and_keeps_its_charts(browser: Browser, database: Engine, page: Path) -> None:
    alone = page.with_name("alone.html")
    report(database, 1, alone, images=0)
    assert opened(browser, alone).problems == []
    assert "without images" in browser.evaluate("document.getElementById('status').textContent")
    assert not browser.evaluate("document.getElementById('filters').checkVisibility()")
    assert browser.evaluate("document.querySelectorAll('.histogram').length") == 2


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_two_thousand_images_scroll_with_few_elements(
    browser: Browser, large_page: Path, size: tuple[int, int]
) -> None:
    loaded = opened(browser, large_page, size)
    assert loaded.problems == []
    jump = "scrollTo({{top: document.documentElement.scrollHeight * {part}, behavior: 'instant'}})"
    seen: set[str] = set()
    for part in (0.3, 0.6, 1):
        browser.evaluate(jump.format(part=part))
        drawn(browser)
        now = keys(browser)
        assert 4 <= len(now) < 120
        assert seen.isdisjoint(now)
        seen.update(now)
        boxes = browser.evaluate("[...document.querySelectorAll('.cell')].map(e => e.getBoundingClientRect().top)")
        assert any(0 <= top < size[1] for top in boxes)
    assert f"key-{MANY - 1:05}" in seen
