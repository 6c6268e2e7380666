"""When a consumer is deaf."""

from __future__ import annotations

from forebay.broker.watchdog import Look, Verdict, Watchdog, WatchTiming

DEAF = {"waiting": 1, "free": 1, "received": 0}


def verdicts(*looks: Look) -> list[Verdict]:
    watchdog = Watchdog(WatchTiming())
    return [watchdog.judge(look) for look in looks]


def test_messages_free_slots_and_no_delivery_for_a_minute_is_deaf():
    found = verdicts(*(Look(**DEAF, at=at) for at in (0, 15, 30, 45, 59, 60)))
    assert found == [Verdict.FINE] * 5 + [Verdict.REBUILD]


def test_two_rebuilds_in_vain_are_the_end():
    found = verdicts(*(Look(**DEAF, at=at) for at in range(0, 240, 15)))
    assert [one for one in found if one is not Verdict.FINE][:3] == [
        Verdict.REBUILD, Verdict.REBUILD, Verdict.GIVE_UP,
    ]  # fmt: skip


def test_a_delivery_begins_the_count_anew():
    watchdog = Watchdog(WatchTiming())
    assert watchdog.judge(Look(**DEAF, at=0)) is Verdict.FINE
    for received, at in enumerate(range(60, 600, 59), start=1):
        assert watchdog.judge(Look(waiting=9, free=1, received=received, at=at)) is Verdict.FINE


def test_a_delivery_forgives_earlier_rebuilds():
    watchdog = Watchdog(WatchTiming())
    found = []
    for n in range(5):
        watchdog.judge(Look(waiting=1, free=1, received=n, at=n * 1000))
        found.append(watchdog.judge(Look(waiting=1, free=1, received=n, at=n * 1000 + 60)))
    assert found == [Verdict.REBUILD] * 5


def test_a_busy_consumer_or_an_empty_queue_is_fine():
    busy = [Look(waiting=9, free=0, received=5, at=at) for at in range(0, 600, 15)]
    idle = [Look(waiting=0, free=9, received=5, at=at) for at in range(0, 600, 15)]
    assert set(verdicts(*busy)) == set(verdicts(*idle)) == {Verdict.FINE}


def test_the_minute_counts_from_when_it_began():
    found = verdicts(
        Look(**DEAF, at=0),
        Look(waiting=0, free=1, received=0, at=50),
        Look(**DEAF, at=65),
        Look(**DEAF, at=124),
        Look(**DEAF, at=125),
    )
    assert found == [Verdict.FINE] * 4 + [Verdict.REBUILD]
