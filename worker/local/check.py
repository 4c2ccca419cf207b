"""Measure the pictures of a file or folder in this process, and apply rules to them, with no database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from producer.sources.open import open_sources, roots_of
from tagmill.errors import NothingToDo
from tagmill.locations.redact import shown_uri
from tagmill.measuring import Measuring
from tagmill.records import Entry
from tagmill.rules.measures import PRODUCT_COPIES
from tagmill.rules.rule import Rule
from tagmill.search.violations import RuleCount, Violation
from tagmill.settings import Settings
from worker.inference.session_cache import NamedBundles
from worker.pictures.text_detector import require_measuring
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.tagger import build_tagger

#: pictures that are decoded at a time
_BATCH = 64


@dataclass
class Checked:
    """What was found."""

    measured: int = 0
    violations: list[Violation] = field(default_factory=list)
    #: key and reason of the images that could not be read
    failed: list[tuple[str, str]] = field(default_factory=list)

    def counts(self, rules: Sequence[Rule], examples: int = 3) -> list[RuleCount]:
        """Return how many pictures break each rule, as `count_violations` does."""
        found = []
        for rule in rules:
            keys = [one.image_key for one in self.violations if (one.rule_set, one.rule) == (rule.rule_set, rule.rule)]
            found.append(RuleCount(rule, len(keys), tuple(sorted(keys)[:examples])))
        return sorted(found, key=lambda one: (one.rule.severity != "error", -one.pictures))


def check_pictures(settings: Settings, source: str, rules: Sequence[Rule], with_text: bool) -> Checked:
    """Measure the images of a source, and apply the rules. Raise NothingToDo if there are none, and the
    errors of sources and of a missing extra.
    """
    measuring = Measuring(with_text)
    require_measuring(measuring)
    entries = list(open_sources([source]))
    if not entries:
        raise NothingToDo(f"{source}: no images in it")
    roots = tuple(str(root) for root in roots_of([source]))
    tagger = build_tagger(settings.model_copy(update={"broker_url": "memory://localhost/"}), NamedBundles({}))
    done, hashes = Checked(), dict[str, int]()
    values: dict[str, dict[str, float | None]] = {}
    try:
        for start in range(0, len(entries), _BATCH):
            chunk = entries[start : start + _BATCH]
            images = [BatchImage(number, entry.uri) for number, entry in enumerate(chunk)]
            for entry, image in zip(chunk, tagger.measure(images, roots, measuring), strict=True):
                shown = image.twin or image
                if shown.picture is None or shown.facts is None:
                    done.failed.append((entry.image_key, f"{shown.code}: {shown.detail}"))
                    continue
                hashes[entry.image_key] = shown.picture.phash
                values[entry.image_key] = _values(shown)
    finally:
        tagger.close()
    done.measured, copies = len(values), _copies(hashes)
    for entry in entries:
        if entry.image_key in values:
            known = values[entry.image_key] | {PRODUCT_COPIES: copies[entry.image_key]}
            done.violations += _violations(entry, known, rules)
    return done


def _values(image: BatchImage) -> dict[str, float | None]:
    """Return the measures of an image by their names in `tagmill.rules.measures`."""
    facts, picture = image.facts, image.picture
    assert facts is not None, "it was decoded"
    long, short = max(facts.width, facts.height), min(facts.width, facts.height)
    return {
        "long_side": long,
        "short_side": short,
        "megapixels": facts.width * facts.height / 1e6,
        "megabytes": facts.bytes / 1e6,
        "aspect": long / short,
        **{name: getattr(picture, name) for name in _OF_PICTURE},
    }


_OF_PICTURE = (
    *("white_border", "product_extent", "product_area", "sharpness", "brightness", "contrast", "frame"),
    *("text_share", "text_boxes"),
)


def _copies(hashes: Mapping[str, int]) -> dict[str, int]:
    """Return how many other keys in the same folder of keys show the same picture; `hashes` is by key."""
    groups = {key: (key.rpartition("/")[0], found) for key, found in hashes.items()}
    sizes = Counter(groups.values())
    return {key: sizes[group] - 1 if group[0] else 0 for key, group in groups.items()}


def _violations(entry: Entry, values: dict[str, float | None], rules: Sequence[Rule]) -> list[Violation]:
    return [
        Violation(
            *(entry.image_key, shown_uri(entry.uri), rule.rule_set, rule.rule, rule.severity, rule.measure),
            *(float(value), rule.bound, rule.detail),
        )
        for rule in rules
        if (value := values[rule.measure]) is not None and rule.is_broken_by(value)
    ]
