"""Applying the topology to a real broker, and what its users may do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelClosed
from pydantic import SecretStr

from forebay.broker import DeadLetter, DeadReason, NotPublished
from forebay.broker.management import Change, declare
from forebay.broker.topology import Queue, forebay_topology
from forebay.errors import BrokerUnavailable
from forebay.jobs import JobKind, Lane
from tests.broker_world import PASSWORDS, RabbitWorld, consuming, eventually, message
from tests.command import begin, ended, forebay


async def test_applying_twice_changes_nothing(world: RabbitWorld):
    items = await declare(world.management, forebay_topology(world.vhost), PASSWORDS)
    assert {item.change for item in items} == {Change.UNCHANGED}
    kinds = Counter(item.what for item in items)
    assert (kinds["queue"], kinds["binding"], kinds["exchange"]) == (16, 24, 4)
    assert (kinds["user"], kinds["permission"], kinds["policy"]) == (4, 5, 2)


async def test_a_dry_run_says_it_and_does_not_do_it(world: RabbitWorld):
    topology = forebay_topology("never-made")
    items = await declare(world.management, topology, PASSWORDS, dry_run=True)
    assert {i.change for i in items if i.what in {"vhost", "queue", "policy"}} == {Change.CREATED}
    assert (await world.management.get("vhosts/never-made")).status_code == 404


async def test_what_differs_is_changed_and_only_that(world: RabbitWorld):
    topology = forebay_topology(world.vhost)
    jobs, dead = topology.policies
    stricter = replace(jobs, definition={**jobs.definition, "max-length": 5})
    new = {**PASSWORDS, "worker": SecretStr("another")}
    changed = replace(topology, description="another", policies=(stricter, dead))
    items = await declare(world.management, changed, new)
    assert {(i.what, i.name) for i in items if i.change is Change.CHANGED} == {
        ("vhost", world.vhost),
        ("policy", jobs.name),
        ("user", "forebay-worker"),
    }


async def test_a_user_without_password_is_not_made_and_that_is_said(world: RabbitWorld):
    items = await declare(
        world.management, forebay_topology(world.vhost), {**PASSWORDS, "monitor": None}
    )
    (skipped,) = [item for item in items if item.change is Change.SKIPPED]
    assert skipped.name == "forebay-monitor"
    assert "FOREBAY_TOPOLOGY_MONITOR_PASSWORD is not set" in skipped.detail


async def test_a_queue_of_another_type_is_a_conflict_not_a_silence(world: RabbitWorld):
    topology = replace(
        forebay_topology(world.vhost), queues=(Queue("forebay.llm.bulk", "classic"),)
    )
    items = await declare(world.management, topology, PASSWORDS)
    (conflict,) = [item for item in items if item.change is Change.CONFLICT]
    assert conflict.name == "forebay.llm.bulk"


async def test_the_policies_are_in_force_on_the_queues(world: RabbitWorld):
    for queue in forebay_topology().queues:
        found = await _told(world, queue.name)
        effective = found["effective_policy_definition"]
        assert found["type"] == "quorum"
        assert found["arguments"] == {"x-queue-type": "quorum"}
        if queue.name.startswith("forebay.dead."):
            assert {"max-length", "message-ttl"} <= set(effective)
        else:
            assert effective["delivery-limit"] == 20
            assert effective["dead-letter-strategy"] == "at-least-once"


async def _told(world: RabbitWorld, queue: str) -> dict[str, Any]:
    """What management says of a queue; it learns of the policy a few seconds late."""
    found: dict[str, Any] = {}

    async def complete() -> bool:
        answer = await world.management.get(f"queues/{world.vhost}/{queue}")
        found.update(answer.json())
        return "effective_policy_definition" in found

    await eventually(complete)
    return found


async def test_each_role_can_do_its_work(world: RabbitWorld):
    consumer = await world.consumer(user="worker")
    for role in ("ingress", "reconciler"):
        publisher = await world.publisher(role)
        assert list(await publisher.publish([message(1)])) == [None]
    letter = DeadLetter(message(2), DeadReason.ATTEMPTS_EXHAUSTED, "test")
    assert list(await publisher.bury([letter])) == [None]
    async with consuming(consumer) as received:
        first, second = await received.take(2)
        await first.ack()
        await second.dead_letter(DeadReason.UNKNOWN_JOB, "test")
    assert len(await world.dead(JobKind.SEARCH)) == 2


@pytest.mark.parametrize(
    ("role", "may_read", "may_write"),
    [
        ("ingress", (), ("forebay.jobs",)),
        ("reconciler", (), ("forebay.jobs", "forebay.dead")),
        ("worker", ("forebay.search.default",), ("forebay.dead",)),
        ("monitor", ("forebay.search.default", "forebay.dead.search"), ()),
    ],
)
async def test_a_role_may_do_nothing_else(
    world: RabbitWorld, role: str, may_read: tuple[str, ...], may_write: tuple[str, ...]
):
    connection = await aio_pika.connect(world.settings(role).amqp_url.get_secret_value())
    try:
        readable = [
            queue
            for queue in ("forebay.search.default", "forebay.dead.search")
            if await _may(connection, lambda c, q=queue: _read(c, q))
        ]
        writable = [
            exchange
            for exchange in ("forebay.jobs", "forebay.dead", "amq.direct")
            if await _may(connection, lambda c, e=exchange: _write(c, e))
        ]
        assert (tuple(readable), tuple(writable)) == (may_read, may_write)
        assert not await _may(connection, lambda c: c.declare_queue("mine"))
        assert not await _may(connection, lambda c: c.queue_delete("forebay.search.default"))
    finally:
        await connection.close()


async def _read(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).get(fail=False)


async def _write(channel: AbstractChannel, exchange: str) -> None:
    target = await channel.get_exchange(exchange, ensure=False)
    await target.publish(aio_pika.Message(b""), routing_key="nowhere")


async def _may(
    connection: AbstractConnection, work: Callable[[AbstractChannel], Awaitable[object]]
) -> bool:
    channel = await connection.channel()
    try:
        await work(channel)
    except ChannelClosed:
        return False
    return True


async def test_a_publisher_without_the_right_gets_outcomes_not_exceptions(world: RabbitWorld):
    publisher = await world.publisher("worker")
    assert list(await publisher.publish([message(1)])) == [NotPublished.UNAVAILABLE]


async def test_an_api_that_does_not_answer_is_said(world: RabbitWorld):
    await world.node.stop()
    try:
        with pytest.raises(BrokerUnavailable, match="does not answer") as caught:
            await declare(world.management, forebay_topology(world.vhost), PASSWORDS)
        assert world.node.password not in str(caught.value)
    finally:
        await world.node.start()


async def test_the_command_applies_and_says_so(world: RabbitWorld):
    told = {
        "RABBITMQ_MANAGEMENT_URL": world.node.management_url,
        "TOPOLOGY_WORKER_PASSWORD": "worker-pw",
    }
    done = await forebay("topology", "apply", "--json", **told)
    assert (done.code, done.err) == (0, "")
    items = json.loads(done.out)
    assert {"what": "vhost", "name": "forebay", "change": "created", "detail": ""} in items
    done = await forebay("topology", "apply", **told)
    assert done.code == 0
    assert "3 skipped" in done.out
    assert "created" not in done.out
    assert "worker-pw" not in done.out
    await world.management.delete("vhosts/forebay")


async def test_a_login_that_is_not_known_is_told_from_one_with_too_few_rights(world: RabbitWorld):
    user, password = f"m-{world.vhost}", "too-few-pw"
    base = world.node.management_url.partition("://")[2].rpartition("@")[2]
    for tags, tried, said in (
        ("monitoring", password, "the user in FOREBAY_RABBITMQ_MANAGEMENT_URL must be an admin"),
        ("", password, "the user in FOREBAY_RABBITMQ_MANAGEMENT_URL must be an administrator"),
        ("administrator", "wrong-pw", "the management API does not know this user or password"),
    ):
        await world.management.put(f"users/{user}", json={"password": password, "tags": tags})
        url = f"http://{user}:{tried}@{base}"
        done = await forebay("topology", "apply", RABBITMQ_MANAGEMENT_URL=url)
        assert done.code == 1
        assert done.err.startswith(f"forebay: {said}")
        assert "-pw" not in done.err
    await world.management.delete(f"users/{user}")


async def test_the_command_names_a_missing_setting_and_exits_2():
    done = await forebay("topology", "apply")
    assert (done.code, done.out) == (2, "")
    assert "FOREBAY_RABBITMQ_MANAGEMENT_URL" in done.err
    assert done.err.count("\n") == 1
    done = await forebay("topology", "apply", RABBITMQ_MANAGEMENT_URL="nonsense")
    assert done.code == 2


async def test_the_command_says_when_nobody_answers_and_exits_1():
    url = "http://u:secret@127.0.0.1:1"
    done = await forebay("topology", "apply", RABBITMQ_MANAGEMENT_URL=url)
    assert done.code == 1
    assert "does not answer" in done.err
    assert "secret" not in done.err


async def test_the_command_waits_for_a_broker_that_comes_late(world: RabbitWorld):
    await world.node.stop()
    started = False
    url = world.node.management_url
    waiting = await begin("topology", "apply", "--wait", "120", RABBITMQ_MANAGEMENT_URL=url)
    try:
        assert waiting.stderr is not None
        line = (await waiting.stderr.readline()).decode()
        assert line.startswith("forebay: waiting: the management API at http://127.0.0.1:")
        assert world.node.password not in line
        await world.node.start()
        started = True
        done = await ended(waiting)
        assert done.code == 0, done.err
        assert "created" in done.out
    finally:
        if not started:
            await world.node.start()
    await world.management.delete("vhosts/forebay")


async def test_the_command_says_for_what_it_waited_in_vain():
    url = "http://u:secret@127.0.0.1:1"
    done = await forebay("topology", "apply", "--wait", "1", RABBITMQ_MANAGEMENT_URL=url)
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("forebay: waited 1 s in vain: the management API at http://127.0.0.1:1/")
    assert "secret" not in done.err


def test_every_kind_and_lane_has_its_queue():
    names = {queue.name for queue in forebay_topology().queues}
    assert {f"forebay.{kind}.{lane}" for kind in JobKind for lane in Lane} <= names
