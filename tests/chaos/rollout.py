"""A version is tried as shadow and canary, promoted and rolled back by commands, while three workers tag a catalog.

Run it with `PYTHONPATH=tests python -m chaos.rollout --images 10000 --workers 3`. The second version gives every image
another label than the first, so that each label shows which version it is of.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos.audit import audit_run, lost_images
from chaos.catalog import Catalog, draw_catalog
from chaos.cluster import Cluster, Services
from chaos.display import Display
from chaos.journal import read_journal
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from support.bundles import write_classifier
from support.processes import tagmill, tagmill_json, wait_until

from tagmill.db.connection import reading
from tagmill.db.schema import BatchStatus
from tagmill.ledger.batches.leases import ROLLOUT_SECONDS
from tagmill.ledger.runs.progress import run_progress
from tagmill.registry.rollout.share import point_of

SHARE = 0.1
FORMER, TRIED = "chaos@1", "chaos@2"
#: share of the images after which each command is given
SHADOW_AT, CANARY_AT, PROMOTE_AT = 0.05, 0.4, 0.7
#: how far a count may be from its mean, in standard deviations: 1 of 1,000 counts is further away by chance
DEVIATIONS = 3.29
#: seconds until a run that does not go on is given up
LONGEST_SECONDS = 1800.0
#: what a worker logs if a version fails
FAILURES = ("batch_failed", "batch_crashed", "shadow_failed", "canary_failed", "Traceback")
_SHOWN = "SELECT image_key, version, label, score FROM catalog_labels WHERE model = 'chaos' AND rank = 1"
#: keys of the catalog that have a result of the second version
_TRIED_KEYS = """
SELECT count(*) FROM catalog_entry JOIN result USING (image_id) JOIN model ON model.id = result.model_id
WHERE model.version = 2
"""
_ENTRIES = """
SELECT batch.id AS batch, entry.image_key AS key, canary.model_id IS NOT NULL AS shown,
    EXISTS (SELECT FROM result JOIN model ON model.id = result.model_id
            WHERE result.image_id = tagged.image_id AND model.version = 2) AS tried
FROM entry JOIN tagged_entry AS tagged USING (run_id, position)
LEFT JOIN canary_entry AS canary USING (run_id, position)
JOIN batch ON batch.run_id = entry.run_id AND position BETWEEN batch.first_position AND batch.last_position
"""


@dataclass(frozen=True)
class Command:
    """A command that was given. Times are Unix seconds."""

    words: str
    began: float
    ended: float
    #: images that had an outcome before
    done: int
    #: what was seen in the views after it
    seen: str = ""


@dataclass(frozen=True)
class Trial:
    """The images that were tagged while all workers knew of a trial, and before the next command."""

    name: str
    images: int
    #: with a result of the second version
    tried: int
    #: that its share holds, by the hash of their keys
    in_share: int
    #: whether these are the same ones
    same: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """The counts between which a share of so many images lies, but for chance."""
        mean, spread = self.images * SHARE, DEVIATIONS * math.sqrt(self.images * SHARE * (1 - SHARE))
        return mean - spread, mean + spread

    @property
    def good(self) -> bool:
        """Whether exactly the images of the share were tried, and the share is what was asked for."""
        low, high = self.bounds
        return self.same and self.images > 0 and low <= self.tried <= high


class Rollout:
    """The commands of an operator while a run goes on, and what the views show."""

    def __init__(self, cluster: Cluster, run: int) -> None:
        self._cluster = cluster
        self._run = run
        self.commands: list[Command] = []
        #: what must hold and did not
        self.wrong: list[str] = []

    def give(self, *words: object, see: Callable[[], str] = lambda: "", expect: int = 0) -> None:
        """Give a command, and look at the views as soon as it has ended."""
        done, began = run_progress(self._cluster.engine, self._run).tagged, time.time()
        tagmill(*words, env=self._cluster.env, expect=expect)
        ended = time.time()
        shown = " ".join(word if len(word := str(one)) < 30 else "..." for one in words)
        self.commands.append(Command(shown, began, ended, done, see()))

    def wait(self, share: float, images: int) -> None:
        """Wait until that share of the images has an outcome."""
        wait_until(
            lambda: run_progress(self._cluster.engine, self._run).tagged >= share * images,
            LONGEST_SECONDS,
            f"{share:.0%} of the images",
        )

    def shown(self) -> dict[str, tuple[int, str, float]]:
        """Return version, label and score that the catalog shows for each key."""
        with reading(self._cluster.engine) as connection:
            rows = connection.execute(text(_SHOWN)).all()
        self.require(len(rows) == len({row.image_key for row in rows}), "a key was shown twice")
        return {row.image_key: (row.version, row.label, row.score) for row in rows}

    def see(self, former: dict[str, tuple[int, str, float]]) -> str:
        """Return how many keys show each version, and check that those of the first one are as they were."""
        now = self.shown()
        counts = Counter(version for version, _, _ in now.values())
        self.require(
            all(now[key] == was for key, was in former.items() if now[key][0] == 1), "a label of chaos@1 changed"
        )
        return ", ".join(f"{counts[version]:,} of chaos@{version}" for version in sorted(counts))

    def require(self, holds: bool, otherwise: str) -> None:
        """Note what did not hold."""
        if not holds:
            self.wrong.append(otherwise)


def main() -> int:
    """Print what was seen. Return 1 if a batch failed, a result had a wrong version, or a view showed a wrong label."""
    options = _options()
    display = Display()
    with tempfile.TemporaryDirectory(prefix="tagmill-rollout-") as made, Services() as services:
        display.log_versions(services)
        folder = Path(made)
        catalog = draw_catalog(folder / "catalog", options.images, options.seed)
        first = write_classifier(folder / "first.onnx")
        second = write_classifier(folder / "second.onnx", sharpness=-20.0)
        with Cluster(services, folder / "rollout", first, options.workers, {}, options.delay) as cluster:
            wrong = _roll_out(cluster, catalog, second, options.images, display)
    for what in wrong:
        print(f"wrong: {what}")
    print("rollout: wrong" if wrong else "rollout: no batch failed, and each result and view named the right version")
    return 1 if wrong else 0


def _roll_out(cluster: Cluster, catalog: Catalog, second: Path, images: int, display: Display) -> list[str]:
    tagmill("model", "promote", FORMER, env=cluster.env)
    submit = ("--model", "chaos", "--batch-size", 16, "--allow-root", catalog.root)
    run = int(tagmill_json("submit", catalog.manifest, *submit, env=cluster.env)["run"])
    operator = Rollout(cluster, run)
    with display.progress("rollout", images):
        operator.wait(SHADOW_AT, images)
        operator.give("model", "add", second, "--name", "chaos")
        operator.give("model", "shadow", TRIED, "--share", "10%")
        operator.wait(CANARY_AT, images)
        former = operator.shown()
        operator.give("model", "diff", FORMER, TRIED, "--run", run, see=lambda: operator.see(former))
        operator.give("model", "canary", TRIED, "--share", "10%", see=lambda: operator.see(former))
        operator.wait(PROMOTE_AT, images)
        operator.give("model", "promote", TRIED, expect=6, see=lambda: operator.see(former))  # they do not agree
        forced = ("--force", "--reason", "it is a test of this")
        operator.give("model", "promote", TRIED, *forced, see=lambda: operator.see(former))
        with reading(cluster.engine) as connection:
            tried = connection.execute(text(_TRIED_KEYS)).scalar_one()
        operator.give("model", "rollback", "chaos", see=lambda: operator.see(former))
        shown = operator.shown()
        operator.require({version for version, _, _ in shown.values()} == {1}, "chaos@2 is shown after the rollback")
        operator.require(former.items() <= shown.items(), "a label is not the former one after the rollback")
        operator.require(tried > 0, "no key was shown of chaos@2")
        operator.require(not run_progress(cluster.engine, run).ended, "the run was over: take a longer --delay")
        operator.wait(1.0, images)
    audit = audit_run(cluster.engine, run, images)
    lost = lost_images(cluster.engine, run, images)
    operator.require(audit.tagged == images and not lost, f"{audit.tagged} images are tagged, {lost} lost")
    operator.require(not audit.redone, f"{audit.redone} images took a second attempt")
    for worker in cluster.workers:
        for event in FAILURES:
            operator.require(event not in worker.log, f"{event} is in the log of {worker.name}")
    trials = _trials(cluster, operator)
    for trial in trials:
        operator.require(trial.good, f"{trial.name}: {trial.tried} of {trial.images} images were tried")
    versions = _check_versions(cluster, operator, run, images)
    _show(operator, trials, versions, audit.seconds)
    return operator.wrong


def _trials(cluster: Cluster, operator: Rollout) -> list[Trial]:
    """Count the images of each trial, in the batches that were claimed and done during it."""
    began = {one.words.split()[1]: one for one in reversed(operator.commands)}
    ends = {"shadow": began["canary"].began, "canary": began["promote"].ended}
    with reading(cluster.engine) as connection:
        entries = connection.execute(text(_ENTRIES)).all()
    journal = read_journal(cluster.engine)
    trials = []
    for name, end in ends.items():
        start = began[name].ended + ROLLOUT_SECONDS
        during = {
            number
            for number, steps in journal.items()
            if all(start < step.at < end for step in steps) and steps[-1].status is BatchStatus.DONE
        }
        found = [entry for entry in entries if entry.batch in during]
        tried = {entry.key for entry in found if entry.tried}
        in_share = {entry.key for entry in found if point_of("chaos", entry.key) < SHARE}
        shown = {entry.key for entry in found if entry.shown}
        same = tried == in_share and shown == (tried if name == "canary" else set())
        trials.append(Trial(name, len(found), len(tried), len(in_share), same))
    return trials


def _check_versions(cluster: Cluster, operator: Rollout, run: int, images: int) -> Counter[int]:
    """Count the versions that the results of the run name: of the second one, what the canary showed."""
    lines = tagmill("results", run, "--format", "jsonl", env=cluster.env).stdout.splitlines()
    found = {line["image_key"]: line["models"]["chaos"]["version"] for line in map(json.loads, lines)}
    with reading(cluster.engine) as connection:
        shown = {entry.key for entry in connection.execute(text(_ENTRIES)) if entry.shown}
    operator.require(len(found) == len(lines) == images, f"{len(lines)} results for {images} images")
    second = {key for key, version in found.items() if version == 2}
    operator.require(second == shown, "results name another version than the one that was shown")
    return Counter(found.values())


def _show(operator: Rollout, trials: list[Trial], versions: Counter[int], seconds: float) -> None:
    console = Console(width=140, highlight=False)
    table = Table("command", "images done", "seconds", "the catalog then shows", box=SIMPLE_HEAD)
    for one in operator.commands:
        table.add_row(f"tagmill {one.words}", f"{one.done:,}", f"{one.ended - one.began:.1f}", one.seen)
    console.print(table)
    table = Table("trial", "images meanwhile", "tried", "in the share", "10 % but for chance", box=SIMPLE_HEAD)
    for trial in trials:
        low, high = trial.bounds
        counts = (trial.images, trial.tried, trial.in_share)
        table.add_row(trial.name, *(f"{count:,}" for count in counts), f"{math.ceil(low):,} to {math.floor(high):,}")
    console.print(table)
    named = ", ".join(f"{count:,} of chaos@{version}" for version, count in sorted(versions.items()))
    console.print(f"results of the run: {named}; {seconds:.0f} s from the first claim to the last result")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos.rollout", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="5000 and more: a gate needs 100 that both tagged")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.15, help="additional seconds per image, for a longer run")
    parser.add_argument("--seed", type=int, default=1, help="seed of the pictures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
