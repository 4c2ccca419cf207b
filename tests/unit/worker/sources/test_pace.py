"""The pace of a host: cut when it refuses, longer when it answers, and nothing for a host that never refuses."""

import math

from worker.sources.pace import FULL_SPEED, MAX_PAUSE, MIN_RATE, Paces


def _asked_until_refused(paces: Paces, allowed: int, now: float) -> None:
    """Have the host answer as many requests as it allows, and refuse one."""
    for _ in range(allowed):
        paces.answered("h", now)
    assert paces.refused("h", now, now, None, certain=True)


def _simulate(paces: Paces, limit: int, seconds: float) -> tuple[int, int]:
    """Ask a host that allows `limit` requests in any second as fast as the pace lets; return answers and refusals."""
    now, answered, refused = 1000.0, 0, 0
    recent: list[float] = []
    while now < 1000.0 + seconds:
        now = max(now, paces.turn_at("h"))
        assert paces.take_turn("h", now)
        recent = [moment for moment in recent if now - moment < 1]
        if len(recent) < limit:
            recent.append(now)
            paces.answered("h", now + 0.001)
            answered += 1
        else:
            paces.refused("h", now, now + 0.001, 1.0, certain=True)
            refused += 1
        now += 0.002
    return answered, refused


def test_a_host_that_never_refuses_is_never_paced() -> None:
    paces = Paces()
    for number in range(1000):
        assert paces.take_turn("h", number / 1e6)
        paces.answered("h", number / 1e6)


def test_the_rate_after_a_refusal_is_a_part_of_what_the_host_let_through() -> None:
    paces = Paces()
    _asked_until_refused(paces, 10, 5.0)
    assert not paces.take_turn("h", 5.0)
    assert 5 + 1 / 7.5 < paces.turn_at("h") < 5 + 1 / 6.5
    assert paces.take_turn("other", 5.0)


def test_refusals_of_requests_that_were_under_way_cut_once() -> None:
    paces = Paces()
    _asked_until_refused(paces, 100, 5.0)
    turn = paces.turn_at("h")
    for _ in range(20):
        paces.refused("h", 4.9, 5.01, None, certain=True)
    assert paces.turn_at("h") == turn


def test_a_host_with_a_limit_is_used_well_and_seldom_refuses() -> None:
    answered, refused = _simulate(Paces(), 5, 300.0)
    assert answered > 0.75 * 5 * 300
    assert refused < 0.05 * answered


def test_the_pace_follows_a_limit_that_is_lifted() -> None:
    paces = Paces()
    _simulate(paces, 5, 60.0)
    now = 2000.0
    for _ in range(10_000):
        now = max(now, paces.turn_at("h"))
        paces.take_turn("h", now)
        paces.answered("h", now)
    turns = [paces.take_turn("h", now) for _ in range(100)]
    assert all(turns)
    assert now < 2000 + 60
    assert FULL_SPEED > 100


def test_retry_after_pauses_the_host_up_to_a_limit() -> None:
    paces = Paces()
    paces.refused("h", 5.0, 5.0, 30.0, certain=True)
    assert paces.turn_at("h") == 35.0
    paces.refused("h", 5.0, 6.0, 1e9, certain=True)
    assert paces.turn_at("h") == 6.0 + MAX_PAUSE


def test_503_means_too_busy_only_of_a_host_that_often_says_so_and_answers_too() -> None:
    down, broken, limited = Paces(), Paces(), Paces()
    assert not any(down.refused("h", 5.0, 5.0, None, certain=False) for _ in range(50))
    for number in range(300):
        broken.answered("h", 5.0)
        assert number % 100 or not broken.refused("h", 5.0, 5.0, None, certain=False)
    limited.answered("h", 5.0)
    assert [limited.refused("h", 5.0, 5.0, None, certain=False) for _ in range(4)] == [False, False, True, True]


def test_images_are_given_up_when_the_host_has_only_refused_for_long() -> None:
    paces = Paces()
    assert paces.hopeless_at("h", 5.0, 20.0, tried=False) == math.inf
    paces.refused("h", 5.0, 5.0, None, certain=True)
    assert paces.hopeless_at("h", 5.0, 20.0, tried=True) == 25.0
    paces.answered("h", 9.0)
    assert paces.hopeless_at("h", 5.0, 20.0, tried=True) == math.inf
    paces.refused("h", 10.0, 10.0, 60.0, certain=True)
    assert paces.hopeless_at("h", 5.0, 20.0, tried=True) == 70.0 + 20.0
    paces.refused("h", 70.0, 70.0, 60.0, certain=True)  # only the first pause since the last answer is added
    assert paces.hopeless_at("h", 5.0, 20.0, tried=True) == 70.0 + 20.0


def test_a_host_that_never_answered_gets_its_pause_for_images_not_tried_yet() -> None:
    paces = Paces()
    paces.refused("h", 5.0, 5.0, 60.0, certain=True)
    assert paces.hopeless_at("h", 5.0, 20.0, tried=True) == 25.0
    assert paces.hopeless_at("h", 5.0, 20.0, tried=False) == 65.0 + 20.0


def test_the_rate_never_falls_below_its_minimum() -> None:
    paces = Paces()
    for now in range(100):
        paces.refused("h", float(now), float(now), None, certain=True)
    assert paces.turn_at("h") <= 99 + 1 / MIN_RATE + 1e-9
