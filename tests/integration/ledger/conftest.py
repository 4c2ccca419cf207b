"""Fixtures of the ledger's tests."""

import pytest
from sqlalchemy import Engine
from support.ledger import new_model

from tagmill.registry.models import Model


@pytest.fixture
def model(engine: Engine) -> Model:
    """A registered classifier."""
    return new_model(engine)
