"""The parts of a connection that need no broker."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelNotFoundEntity
from pydantic import SecretStr

from forebay import __version__
from forebay.broker.connection import Backoff, connection_name, open_link, redacted, translated
from forebay.errors import BrokerUnavailable, ConfigurationError, TopologyMissing
from forebay.settings import BrokerSettings


def test_the_name_reads_like_a_sentence():
    name = connection_name("search_worker")
    assert name == f"search_worker@{socket.gethostname()} ({__version__})"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:hunter2@host:5672/forebay?heartbeat=5", "amqp://user@host:5672/forebay"),
        ("amqp://host/forebay", "amqp://host/forebay"),
        ("amqp://user:hunter2@host:nonsense/", "an unreadable URL"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str):
    assert redacted(url) == shown


async def test_a_refused_connection_says_where_without_the_password():
    settings = BrokerSettings(amqp_url=SecretStr("amqp://user:hunter2@127.0.0.1:1/forebay"))
    with pytest.raises(BrokerUnavailable, match=r"amqp://user@127\.0\.0\.1:1/forebay") as caught:
        await open_link(settings, "test")
    assert "hunter2" not in str(caught.value)


async def test_a_url_that_the_library_cannot_read_is_no_reason_to_try_again():
    url = SecretStr("amqp://user:hunter2@two..dots:1/")
    with pytest.raises(ConfigurationError, match="FOREBAY_AMQP_URL") as caught:
        await open_link(BrokerSettings(amqp_url=url), "test")
    assert "hunter2" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


def test_backoff_grows_to_its_cap_and_begins_again():
    backoff = Backoff(1, 10, chance=lambda: 1.0)
    assert [backoff.next() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.next() == 1


def test_backoff_is_jittered_over_its_whole_range():
    chances = iter([0.0, 0.5, 0.25])
    backoff = Backoff(1, 10, chance=lambda: next(chances))
    assert [backoff.next() for _ in range(3)] == [0, 1, 1]


async def test_the_librarys_cancellation_is_a_loss_and_our_own_is_a_cancellation():
    # What waits on a dead channel gets a CancelledError although nobody canceled it.
    with (
        pytest.raises(BrokerUnavailable, match="publishing: the channel was lost"),
        translated("publishing"),
    ):
        raise asyncio.CancelledError

    async def work() -> None:
        with translated("working"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (ChannelNotFoundEntity("no queue"), TopologyMissing),
        (AMQPConnectionError("gone"), BrokerUnavailable),
        (TimeoutError(), BrokerUnavailable),
        (RuntimeError("Connection was not opened"), BrokerUnavailable),
    ],
)
def test_what_the_library_raises_becomes_ours(raised: Exception, becomes: type[Exception]):
    with pytest.raises(becomes, match=r"^working: "), translated("working"):
        raise raised
