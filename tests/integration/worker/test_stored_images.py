"""A run over a bucket, from its prefix to SQL: what is read, what is refused, and that no credentials are stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, select
from support.bundles import write_classifier
from support.image_fixtures import write_image
from support.s3_server import KEY, KEY_ID, S3Server
from support.shop import Shop

from producer.sources.open import open_sources, roots_of

SOURCE = "s3://shop/in/"


@pytest.fixture
def shop(engine: Engine, tmp_path: Path, s3_server: S3Server) -> Iterator[Shop]:
    (tmp_path / "shop").mkdir()
    shop = Shop(engine, tmp_path / "shop", write_classifier(tmp_path / "colors.onnx"))
    colors = {color: write_image(tmp_path / f"{color}.png", color).read_bytes() for color in ("red", "green", "blue")}
    s3_server.put("shop", {f"in/{color}/1 %20.png": data for color, data in colors.items()})
    s3_server.put("shop", {"private/1.png": colors["red"], "in/broken.png": b"no image"})
    yield shop
    shop.batches.close()


def test_a_prefix_is_tagged_and_an_unchanged_object_is_not_sent_again(shop: Shop) -> None:
    entries = list(open_sources([SOURCE]))
    first, second = (shop.tag(entries, *map(str, roots_of([SOURCE]))) for _ in range(2))
    assert (first.tagged, first.failures) == (3, {"not_an_image": 1})
    assert (second.tagged, second.inferences) == (3, 0)
    assert shop.rows("SELECT image_key, label FROM catalog_labels WHERE rank = 1 ORDER BY image_key") == [
        (f"{color}/1 %20.png", color) for color in ("blue", "green", "red")
    ]
    fetched = "SELECT sum(requests), sum(not_modified) FROM batch GROUP BY run_id ORDER BY run_id"
    assert shop.rows(fetched) == [(4, 0), (4, 3)]


def test_a_run_reads_only_the_prefixes_that_were_named(shop: Shop, s3_server: S3Server) -> None:
    entries = list(open_sources([SOURCE, "s3://shop/private/"]))
    s3_server.requests()
    assert shop.tag(entries, "s3://shop/in/red/", "s3://shop/priv").failures == {"forbidden_location": 4}
    assert s3_server.requests() == ["GET /shop/in/red/1 %20.png 200"]


def test_no_credentials_are_in_sql(shop: Shop, engine: Engine) -> None:
    shop.tag(list(open_sources([SOURCE])), SOURCE)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        stored = "".join(str(connection.execute(select(table)).all()) for table in tables.sorted_tables)
    assert "s3://shop/in/red" in stored
    assert KEY not in stored
    assert KEY_ID not in stored
