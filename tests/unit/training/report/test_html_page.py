"""The page of a run in a real browser: wide and narrow, light and dark, without a server."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.browser import Browser
from support.contrast import CONTRASTS
from support.labeled_sets import evaluation_of, labeled_set, summary_of

from tagmill.tasks.base import Task, task_named, task_names
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT
from training.report.write import write_report

LABELS = {
    CLASSIFY: ("a category with a rather long name", "green", "red"),
    MULTILABEL: tuple(f"label {number}" for number in range(40)),
    SEGMENT: ("background", "hat", "shoe"),
}
WIDE, PHONE = (1280, 900), (360, 740)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    found = {}
    for task, labels in LABELS.items():
        run = tmp_path_factory.mktemp(task.name) / "a-run"
        run.mkdir()
        data = labeled_set(task, labels)
        command = f"tagmill train cnn --data {'/a/rather/long/folder' * 6} --out runs/a-run"
        write_report(run, summary_of(task, data) | {"command": command}, data, evaluation_of(task, data))
        found[task] = run / "report.html"
    return found


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("task", [task for name in task_names() if (task := task_named(name)).least_labels], ids=str)
def test_the_page_shows_everything_and_loads_nothing(
    browser: Browser, pages: dict[Task, Path], task: Task, size: tuple[int, int]
) -> None:
    browser.window(*size, phone=size == PHONE)
    loaded = browser.open(pages[task])
    assert loaded.problems == []
    assert loaded.requests == [pages[task].as_uri()]
    widths = browser.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) >= 5
    assert all(width > 150 for width in widths)
    elements = "[...document.querySelectorAll('h1, h2, h3, figure img, figcaption')]"
    visible = "e.checkVisibility() && e.getBoundingClientRect().height >= 10"
    assert browser.evaluate(f"{elements}.filter(e => !({visible})).length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_headings_are_nested_and_every_link_has_a_target(browser: Browser, pages: dict[Task, Path]) -> None:
    browser.open(pages[CLASSIFY])
    levels = browser.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browser.evaluate("[...document.links].every(a => document.querySelector(a.hash))")
    assert browser.evaluate("document.documentElement.lang") == "en"
    assert browser.evaluate("[...document.images].every(i => i.alt.length > 20)")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_enough_contrast(browser: Browser, pages: dict[Task, Path], dark: bool) -> None:
    browser.window(*WIDE, dark=dark)
    browser.open(pages[CLASSIFY])
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(18, 22, 29)") == dark
    contrasts = browser.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert contrasts[0][0] >= 4.5, contrasts[:3]


def test_tables_of_many_labels_are_folded(browser: Browser, pages: dict[Task, Path]) -> None:
    states = {}
    for task in (CLASSIFY, MULTILABEL):
        browser.open(pages[task])
        states[task] = browser.evaluate("document.querySelector('#labels details').open")
    assert states == {CLASSIFY: True, MULTILABEL: False}


def test_the_browser_of_these_tests_notices_problems(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<img src='missing.png'><script>console.error('on purpose'); nothing.at.all</script>")
    loaded = browser.open(page)
    problems = " ".join(loaded.problems)
    assert "on purpose" in problems
    assert "nothing is not defined" in problems
    assert "ERR_FILE_NOT_FOUND" in problems
    assert any(request.endswith("missing.png") for request in loaded.requests)
