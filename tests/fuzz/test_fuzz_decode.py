"""Damaged images of every format give pixels or an error code: no crash, no hang, no growing memory."""

from itertools import islice

from fuzz.campaign import fuzz
from fuzz.mutation import mutated, originals

from tagmill.outcomes import ErrorCode

CODES = {
    ErrorCode.EMPTY,
    ErrorCode.NOT_AN_IMAGE,
    ErrorCode.UNSUPPORTED_FORMAT,
    ErrorCode.TRUNCATED,
    ErrorCode.CORRUPT,
    ErrorCode.TOO_MANY_PIXELS,
}


def test_every_damaged_image_has_an_outcome() -> None:
    findings = fuzz(mutated(seed=0), 400)
    assert findings.unexpected == []
    assert findings.outcomes.total() == 400
    assert {"tagged", ErrorCode.TRUNCATED, ErrorCode.CORRUPT, ErrorCode.NOT_AN_IMAGE} <= set(findings.outcomes)


def test_undamaged_images_are_all_tagged() -> None:
    files = originals()
    findings = fuzz(files, len(files))
    assert findings.outcomes == {"tagged": len(files)}


def test_the_same_seed_gives_the_same_files() -> None:
    assert list(islice(mutated(5), 60)) == list(islice(mutated(5), 60))
    assert list(islice(mutated(5), 60)) != list(islice(mutated(6), 60))


def test_a_file_signature_alone_has_an_outcome() -> None:
    starts = [data[:length] for data in originals() for length in (1, 4, 12, 20)]
    files = [data for start in starts for data in (start, start * 100)]
    findings = fuzz(files, len(files))
    assert findings.unexpected == []
    assert set(findings.outcomes) <= CODES
