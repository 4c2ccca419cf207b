"""Where the model store may be."""

from pathlib import Path

import pytest

from tagmill.locations.schemes import StoredLocation
from tagmill.stores.address import StoreAddress, parse_address


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("models", Path("models")),
        ("/srv/models", Path("/srv/models")),
        ("file:///srv/my%20models", Path("/srv/my models")),
        ("s3://shop/models/", StoredLocation("s3", "shop", "models")),
        ("gs://shop", StoredLocation("gs", "shop", "")),
        ("sftp://Models.internal:22/srv", StoredLocation("sftp", "models.internal:22", "srv")),
        ("abfs://container/models", StoredLocation("abfs", "container", "models")),
    ],
)
def test_a_folder_or_a_location_is_accepted(given: str, found: StoreAddress) -> None:
    assert parse_address(given) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "must be a folder"),
        ("s3:/shop", "must begin with s3://"),
        ("https://shop.example/models", "cannot be written to"),
        ("s3://key:secret@shop/models", "holds a login"),
        ("abfs://key:secret@shop/models", "holds a login"),
        ("s3://shop/../models", "part"),
        ("zip://a.zip::s3://shop/a.zip", "names no place"),
    ],
)
def test_what_cannot_be_a_model_store_is_refused_without_showing_it(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        parse_address(given)
    assert "secret" not in str(refused.value)
