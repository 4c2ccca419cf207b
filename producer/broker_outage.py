"""What a producer says if the broker does not answer while a run is published."""

from collections.abc import Iterator
from contextlib import contextmanager

from kombu.exceptions import OperationalError

from tagmill.errors import BrokerRefusedError, ServiceDown, first_line


@contextmanager
def explain_broker_outage(run_id: int) -> Iterator[None]:
    """Say, if the broker does not answer or refuses, that the run is in SQL: submitting again doubles it."""
    advice = (
        f"run {run_id} is in SQL, do not submit it again: "
        "workers take it up once TAGMILL_BROKER_URL answers, or at once after `tagmill run reconcile`"
    )
    try:
        yield
    except OperationalError as error:
        raise ServiceDown(f"the broker does not answer ({first_line(error)}); {advice}") from error
    except BrokerRefusedError as error:
        raise BrokerRefusedError(f"{error}; {advice}") from error
