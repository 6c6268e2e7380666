"""The topology as values."""

from __future__ import annotations

import re
import uuid

import pytest
from pydantic import SecretStr

from forebay.broker.management import TopologySettings, open_management
from forebay.broker.topology import HEARD, forebay_topology
from forebay.errors import ConfigurationError
from forebay.jobs import JobKind, Lane


def test_only_the_type_is_an_argument_and_every_queue_has_exactly_one_policy():
    topology = forebay_topology()
    for queue in topology.queues:
        assert queue.type == "quorum"
        matching = [one for one in topology.policies if re.search(one.pattern, queue.name)]
        assert len(matching) == 1, queue.name


def test_every_key_leads_to_its_queue_and_to_the_dead_queue_of_its_kind():
    bound = {(b.exchange, b.routing_key): b.queue for b in forebay_topology().bindings}
    for kind in JobKind:
        for lane in Lane:
            assert bound["forebay.jobs", f"{kind}.{lane}"] == f"forebay.{kind}.{lane}"
            assert bound["forebay.dead", f"{kind}.{lane}"] == f"forebay.dead.{kind}"


def test_at_least_once_dead_lettering_refuses_instead_of_dropping():
    jobs, dead = forebay_topology().policies
    assert jobs.definition["dead-letter-strategy"] == "at-least-once"
    assert jobs.definition["overflow"] == "reject-publish"
    assert {"max-length", "message-ttl"} <= set(dead.definition)


def test_a_message_that_kills_its_workers_is_not_delivered_for_ever():
    jobs, _ = forebay_topology().policies
    # Well above the attempts of a job by default, which the store counts.
    assert 10 <= int(jobs.definition["delivery-limit"]) <= 100


def test_a_service_may_configure_its_own_ear_only_and_names_do_not_match_by_accident():
    users = {user.role: user for user in forebay_topology().users}
    for role, user in users.items():
        hears = role in {"ingress", "worker"}
        assert bool(re.search(user.configure, f"{HEARD}.{uuid.uuid4().hex}")) == hears, role
        for other in ("forebay.jobs", "forebay.live", "forebay.search.default", HEARD, ""):
            assert not re.search(user.configure, other) or (user.configure, other) == ("^$", "")
    for lookalike in ("forebay.jobs2", "xforebay.jobs", "forebayXjobs", "forebay.dead"):
        assert not re.search(users["ingress"].write, lookalike)
        assert not re.search(users["reconciler"].write, lookalike) or lookalike == "forebay.dead"
    assert not re.search(users["worker"].read, "forebay.dead.search")


@pytest.mark.parametrize("url", ["nonsense", "amqp://u:p@host", "http://", "http://host:port"])
async def test_what_is_not_an_http_url_is_a_wrong_setting_and_not_repeated(url: str):
    settings = TopologySettings(rabbitmq_management_url=SecretStr(url))
    with pytest.raises(ConfigurationError, match="FOREBAY_RABBITMQ_MANAGEMENT_URL") as caught:
        async with open_management(settings):
            pass
    assert "u:p" not in str(caught.value)
