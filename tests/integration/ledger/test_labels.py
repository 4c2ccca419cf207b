"""Labels and masks come back as they were written, whatever their number, from the views and from the results."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from support.ledger import batches, digest, new_run, result_for, take

from producer.output.read.runs import read_results
from producer.output.read.texts import is_ascii
from tagmill.db import rle_code
from tagmill.db.schema import LABELS
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model

#: characters of COCO's compressed run lengths
CHARACTERS = "".join(map(chr, range(48, 112)))


def write(engine: Engine, model: Model, answers: list[tuple[tuple[tuple[str, float], ...], tuple[Mask, ...]]]) -> int:
    """Write one image per answer, in one batch; return the run."""
    run_id = new_run(engine, model, images=len(answers), batch_size=len(answers))
    claimed = take(engine, batches(engine, run_id)[0])
    assert claimed is not None
    shas = [digest(f"image {number}") for number in range(len(answers))]
    result = BatchResult(
        [Outcome(at, sha256=sha) for at, sha in enumerate(shas)],
        [ImageRow(sha, 8, 8, "JPEG", 100) for sha in shas],
        [InferenceRow(sha, model.sha256, "CPU", *answer) for sha, answer in zip(shas, answers, strict=True)],
    )
    assert complete(engine, claimed, result, "worker")
    return run_id


@pytest.mark.parametrize(
    ("key", "uri", "ascii_only"),
    [("a", "/a.jpg", True), ("\uc0c1\uc810/1", "/a.jpg", False), ("a", "/\uc0ac\uc9c4.jpg", False)],
)
def test_a_run_knows_whether_its_text_is_ascii(
    engine: Engine, model: Model, key: str, uri: str, ascii_only: bool
) -> None:
    entries = [*(Entry(f"{number}", f"/{number}") for number in range(70)), Entry(key, uri)]
    run_id = create_run(engine, "test", entries, [model], [], 64, "tagmill")
    create_run(engine, "test", [Entry("\uc0c1", "/\uc0c1")], [model], [], 64, "tagmill")
    assert is_ascii(engine, [run_id], [model]) == ascii_only
    assert not is_ascii(engine, [run_id], [replace(model, labels=("\ubaa8\uc790",))])


def labels(count: int) -> tuple[tuple[str, float], ...]:
    return tuple((f"label {(7 * number) % 31}", 1.0 - number / 32) for number in range(count))


def test_labels_of_any_number_are_listed_best_first(engine: Engine, model: Model) -> None:
    counts = [0, 1, LABELS - 1, LABELS, LABELS + 1, 3 * LABELS, 31]
    run_id = write(engine, model, [(labels(count), ()) for count in counts])
    for image, count in zip(read_results(engine, run_id, [model]), counts, strict=True):
        assert image.labels == ({"shirts": list(labels(count))} if count else {})
    with engine.connect() as connection:
        for number, count in enumerate(counts):
            found = connection.execute(
                text("SELECT rank, label, score FROM catalog_labels WHERE image_key = :key ORDER BY rank"),
                {"key": f"key-{number}"},
            ).all()
            assert [tuple(row) for row in found] == [(rank, *one) for rank, one in enumerate(labels(count), 1)]
        behind = connection.execute(text("SELECT count(*) FROM further_label")).scalar_one()
    assert behind == sum(max(0, count - LABELS) for count in counts)


def test_a_query_by_label_finds_every_rank(engine: Engine, model: Model) -> None:
    write(engine, model, [(labels(12), ())])
    with engine.connect() as connection:
        for rank, (label, score) in enumerate(labels(12), 1):
            for least in (0.0, score):
                found = connection.execute(
                    text("SELECT image_key, rank FROM catalog_labels WHERE label = :label AND score >= :least"),
                    {"label": label, "least": least},
                ).all()
                assert found == [("key-0", rank)]


def test_a_segmenter_has_masks_and_no_labels(engine: Engine, model: Model) -> None:
    masks = tuple(
        Mask(name, rle, 8, 9, share, (0.5, 1.0, 4.25, 5.0), 0.75)
        for name, rle, share in (("hat", CHARACTERS, 0.25), ("shoe", CHARACTERS[::-1], 0.5), ("bag", "", 0.25))
    )
    run_id = write(engine, model, [((), masks), ((), ())])
    first, second = read_results(engine, run_id, [model])
    assert (first.labels, second.labels, second.masks) == ({}, {}, {})
    assert first.masks == {"shirts": [masks[1], masks[2], masks[0]]}  # the largest first, then by name
    columns = "label, rle, height, width, area_share, box_left, box_top, box_right, box_bottom, score"
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM catalog_labels")).scalar_one() == 0
        found = connection.execute(text(f"SELECT image_key, {columns} FROM catalog_masks ORDER BY label")).all()
    assert [tuple(row) for row in found] == [
        ("key-0", one.label, one.rle, 8, 9, one.area_share, *one.box, one.score)
        for one in sorted(masks, key=lambda one: one.label)
    ]


def test_a_result_that_was_known_keeps_its_further_labels_and_masks(engine: Engine, model: Model) -> None:
    write(engine, model, [(labels(9), (Mask("hat", "00", 8, 8, 0.5, (0.0, 0.0, 1.0, 1.0), 0.9),))])
    claimed = take(engine, batches(engine, new_run(engine, model, images=1))[0])
    assert claimed is not None
    again = result_for(claimed, digest("image 0"))
    other = replace(again.inferences[0], labels=tuple((f"other {number}", 0.5) for number in range(8)))
    assert complete(engine, claimed, replace(again, inferences=[other]), "worker")
    with engine.connect() as connection:
        found = connection.execute(text("SELECT label FROM catalog_labels ORDER BY rank")).scalars().all()
        assert found == [label for label, _ in labels(9)]
        assert connection.execute(text("SELECT label, score FROM catalog_masks")).all() == [("hat", 0.9)]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_unpacks_run_lengths_as_python_does(engine: Engine) -> None:
    with engine.connect() as connection:

        def unpacked(words: str) -> str:
            statement = text("SELECT tagmill_rle(CAST(:packed AS bytea))")
            return str(connection.execute(statement, {"packed": rle_code.pack(words)}).scalar_one())

        @settings(max_examples=300)
        @given(st.text(CHARACTERS))
        def is_the_same(words: str) -> None:
            assert unpacked(words) == words

        is_the_same()
        for words in ("", *CHARACTERS, CHARACTERS, CHARACTERS * 500):
            assert unpacked(words) == words
        assert connection.execute(text("SELECT tagmill_rle(NULL)")).scalar_one() is None
