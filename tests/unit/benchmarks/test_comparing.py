"""The parts of the benchmarks: jobs, ratios within rounds, tables and the chart."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.__main__ import DAFT, LOADER, RAW, RAY, TAGMILL, medians
from benchmarks.support import raw
from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.chart import draw
from benchmarks.support.comparing import Comparison, compare, table
from benchmarks.support.contenders import Contender, Script, Tagmill
from benchmarks.support.job import Job, Timed
from benchmarks.worker import cpu


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Forty small images for the simple CNN."""
    folder = tmp_path_factory.mktemp("bench")
    files = write_set("small", folder, 40)
    return Job([str(file) for file in files], [str(make_bundle("simple-cnn", folder, folder / "small"))], 2)


def test_no_two_images_of_a_set_have_the_same_bytes_and_each_is_written_once(tmp_path: Path) -> None:
    first = write_set("small", tmp_path, 100)
    assert len({file.read_bytes() for file in first}) == 100
    times = [file.stat().st_mtime_ns for file in first]
    assert write_set("small", tmp_path, 100) == first
    assert [file.stat().st_mtime_ns for file in first] == times
    formats = [Image.open(file).format for file in write_set("mix", tmp_path, 3)]
    assert formats == ["JPEG", "PNG", "WEBP"]


@pytest.mark.parametrize("part", ["both", "decode", "infer", "plain"])
def test_the_raw_limit_processes_every_image(job: Job, part: str) -> None:
    timed = raw.measure(job, part)
    assert timed.images == 40
    assert timed.seconds > 0


def test_a_contender_of_this_project_and_a_script_process_every_image(job: Job) -> None:
    with Tagmill("tagmill", job.bundles) as own, Script("embedded", "support.embedded") as embedded:
        for contender in (own, embedded):
            timed = contender.measure(job)
            assert timed.images == 40
            assert timed.seconds > 0


class Clocked(Contender):
    """A contender that takes two seconds to start and `slower` seconds for each 10 images."""

    def __init__(self, name: str, slower: int = 1) -> None:
        super().__init__(name)
        self.slower = slower

    def measure(self, job: Job) -> Timed:
        return Timed(len(job.files), 2 + len(job.files) * self.slower / 10)


class Stopped(Contender):
    """A contender whose clock stands still."""

    def measure(self, job: Job) -> Timed:
        return Timed(len(job.files), 1.0)


def test_contenders_take_turns_and_are_compared_within_rounds(tmp_path: Path) -> None:
    said: list[str] = []
    job = Job([str(number) for number in range(40)], [], 1)
    found = compare("forty images", [Clocked("tagmill"), Clocked("peer", slower=2)], job, 4, 2, said.append)
    assert [line.split(": ")[1].split(" ")[0] for line in said] == ["tagmill", "peer", "peer", "tagmill"]
    assert found.ratios("tagmill", "peer") == [2.0, 2.0]
    assert found.ratios("tagmill", "peer", whole=True) == [(2 + 8) / (2 + 4)] * 2
    draw([found], "tagmill", tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as chart:
        assert chart.width > 800


def test_a_steady_rate_leaves_out_the_start() -> None:
    job = Job([str(number) for number in range(40)], [], 1)
    found = compare("t", [Clocked("one")], job, 20, 2, lambda _: None)
    assert found.steady == {"one": [10.0, 10.0]}
    assert found.whole == {"one": [40 / 6, 40 / 6]}
    with pytest.raises(RuntimeError, match="two: 40 images took no longer than 20; use more images"):
        compare("t", [Stopped("two")], job, 20, 1, lambda _: None)


def test_a_table_has_the_median_and_the_range_of_the_ratios() -> None:
    found = Comparison("t", {"tagmill": [10.0, 20.0, 30.0], "peer": [5.0, 20.0, 10.0]}, {"tagmill": [9], "peer": [3]})
    assert table(found, "tagmill").splitlines()[2:] == [
        "| tagmill | 20 | 1 | 9 | 1 |",
        "| peer | 10 | 2.00 [1.00-3.00] | 3 | 3.00 [3.00-3.00] |",
    ]


def test_the_json_names_each_ratio_steady_and_of_the_whole_run() -> None:
    names = [TAGMILL, RAW, DAFT, RAY, LOADER]
    found = Comparison("t", {name: [10.0] for name in names}, {name: [4.0] for name in names})
    assert medians(found) == {
        f"tagmill/{peer}{words}": 1.0
        for peer in ("raw", "daft", "ray", "dataloader-ort")
        for words in ("", " whole run")
    }


def test_a_script_that_fails_reports_its_error(job: Job) -> None:
    with Script("raw", "support.raw", "nonsense") as script, pytest.raises(RuntimeError, match=r"raw ended with 1:\n"):
        script.measure(job)


def test_cpu_time_between_two_readings_includes_threads_that_started_in_between() -> None:
    assert [cpu.role_of(name) for name in ("decode", "infer-2", "ThreadPoolExecutor-0_1", "reaper", "")] == [
        "worker: open, hash, decode",
        "worker: inference",
        "worker: tasks, with its side of SQL",
        "worker: looking for lost work",
        cpu.REST,
    ]
    before = {("PostgreSQL", 1): 5, ("PostgreSQL", 2): 7, ("Redis", 3): 1}
    after = {("PostgreSQL", 1): 9, ("PostgreSQL", 4): 2, ("Redis", 3): 1}
    assert cpu.between(before, after) == {"PostgreSQL": 6, "Redis": 0}


def test_shares_of_cpu_time_exclude_the_raw_limit() -> None:
    lines = cpu.table({"Redis": [1.0, 3.0, 2.0], cpu.IDLE: [6.0], cpu.RAW: [4.0]}).splitlines()
    assert lines[2:] == [
        "| Redis | 2.00 [1.00-3.00] | 25.0% |",
        "| idle | 6.00 [6.00-6.00] | 75.0% |",
        "| raw limit | 4.00 [4.00-4.00] |  |",
    ]
