from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from pymongo import AsyncMongoClient, WriteConcern

from forebay.local.errors import LocalStackError
from forebay.local.mongodb import MongoServer, mongodb_version
from forebay.local.packages import ensure_rabbitmq
from forebay.local.ports import Ports
from forebay.local.rabbitmq import RabbitMQNode

OPERATED = Path(__file__).parents[3] / "deploy/k8s/components/rabbitmq-operator/rabbitmq.yaml"
_QUIET = Ports(lambda _: None)


@pytest.fixture(scope="module")
async def own_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitMQNode]:
    async with RabbitMQNode(tmp_path_factory.mktemp("node"), _QUIET) as entered:
        yield entered


async def _ask(node: RabbitMQNode, method: str, path: str, **more: object) -> tuple[int, object]:
    headers = {"Authorization": aiohttp.encode_basic_auth(node.user, node.password)}
    url = f"{node.management_url.partition('//')[0]}//{node.management_url.rpartition('@')[2]}"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, f"{url}/api/{path}", json=more) as answer,
    ):
        return answer.status, await answer.json() if method == "GET" else None


def _listening_on(pid: int) -> set[str]:
    """The local addresses (hexadecimal, as the kernel tells) on which a process listens."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def _started_by(node: RabbitMQNode, name: str) -> list[Path]:
    """Processes of that name in the session that the node leads."""
    return [
        stat.parent
        for stat in Path("/proc").glob("[0-9]*/stat")
        if f"({name})" in (text := stat.read_text())
        and text.split(")")[-1].split()[3] == str(node.pid)
    ]


def _gone(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_killed_node_comes_back_with_its_queues_ports_and_login(own_rabbitmq: RabbitMQNode):
    url, before = own_rabbitmq.amqp_url, own_rabbitmq.pid
    quorum = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
    assert (await _ask(own_rabbitmq, "PUT", "queues/%2f/kept", **quorum))[0] == 201
    await own_rabbitmq.kill()
    assert _gone(before)
    assert own_rabbitmq.pid is None
    await own_rabbitmq.start()
    assert own_rabbitmq.amqp_url == url
    status, queue = await _ask(own_rabbitmq, "GET", "queues/%2f/kept")
    assert status == 200
    assert isinstance(queue, dict)
    assert queue["type"] == "quorum"


async def test_a_node_is_told_what_every_broker_of_ours_is_told_but_fills_a_disk_further(
    own_rabbitmq: RabbitMQNode,
):
    keys = "consumer_timeout, vm_memory_high_watermark, disk_free_limit"
    asked = f"[element(2, application:get_env(rabbit, Key)) || Key <- [{keys}]]."
    told = await own_rabbitmq.control("eval", asked)
    assert told.strip() == '[1800000,{absolute,"600MB"},"64MB"]'
    bound = await own_rabbitmq.control("eval", "application:get_env(ra, wal_max_size_bytes).")
    assert bound.strip() == "{ok,67108864}"


async def test_a_broker_knows_every_line_that_the_operators_nodes_are_told(
    own_rabbitmq: RabbitMQNode, tmp_path: Path
):
    version = (await own_rabbitmq.control("eval", "rabbit:base_product_version().")).strip('"\n')
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 13):
        pytest.skip(f"RabbitMQ {version} cannot grow its queues")
    cluster = yaml.safe_load(OPERATED.read_text(encoding="utf-8"))
    (tmp_path / "told.conf").write_text(cluster["spec"]["rabbitmq"]["additionalConfig"])
    keys = ("enabled", "target_group_size", "interval")
    named = ", ".join(f"quorum_membership_reconciliation_{key}" for key in keys)
    understood = await own_rabbitmq.control(
        "eval",
        'Schema = filename:join([code:priv_dir(rabbit), "schema", "rabbit.schema"]),'
        f' Conf = cuttlefish_conf:file("{tmp_path}/told.conf"),'
        " Env = cuttlefish_generator:map(cuttlefish_schema:files([Schema]), Conf),"
        " Rabbit = proplists:get_value(rabbit, Env),"
        f" [proplists:get_value(Key, Rabbit) || Key <- [{named}]].",
    )
    assert understood.strip() == "[true,3,60000]"


async def test_a_stopped_node_is_gone_and_starts_again(own_rabbitmq: RabbitMQNode):
    before = own_rabbitmq.pid
    await own_rabbitmq.stop()
    assert _gone(before)
    await own_rabbitmq.start()
    assert own_rabbitmq.pid is not None


async def test_a_node_listens_on_loopback_only_and_without_a_port_mapper(
    own_rabbitmq: RabbitMQNode,
):
    assert _listening_on(own_rabbitmq.pid or 0) == {"0100007F"}
    assert not _started_by(own_rabbitmq, "epmd")


async def test_a_node_has_management_and_prometheus_and_no_guest(own_rabbitmq: RabbitMQNode):
    _, users = await _ask(own_rabbitmq, "GET", "users")
    assert isinstance(users, list)
    assert [user["name"] for user in users] == ["forebay-admin"]
    _, overview = await _ask(own_rabbitmq, "GET", "overview")
    assert isinstance(overview, dict)
    contexts = {listener["protocol"] for listener in overview["listeners"]}
    assert {"amqp", "http", "http/prometheus"} <= contexts


async def test_what_a_node_writes_with_its_password_only_its_owner_reads(
    own_rabbitmq: RabbitMQNode, tmp_path: Path
):
    async with RabbitMQNode(tmp_path / "second", _QUIET) as second:
        # Side by side: another name, other ports, another password.
        assert second.password != own_rabbitmq.password
        assert (await _ask(own_rabbitmq, "GET", "overview"))[0] == 200
        assert (await _ask(second, "GET", "overview"))[0] == 200
        for name in ("password", "rabbitmq.conf"):
            assert (tmp_path / "second" / name).stat().st_mode & 0o077 == 0


async def test_a_node_whose_port_was_taken_meanwhile_says_so(tmp_path: Path):
    node = RabbitMQNode(tmp_path, _QUIET)
    with socket.socket() as intruder:
        intruder.bind(("127.0.0.1", int(node.management_url.rpartition(":")[2])))
        intruder.listen()
        with pytest.raises(LocalStackError, match="another program took one of its ports"):
            await node.start()
    assert node.pid is None


async def test_an_installed_rabbitmq_is_not_installed_again():
    lines: list[str] = []
    assert (await ensure_rabbitmq(lines.append) / "sbin" / "rabbitmq-server").exists()
    assert lines == []


async def test_a_killed_mongod_comes_back_with_what_was_acknowledged(own_mongodb: MongoServer):
    before = own_mongodb.pid
    async with AsyncMongoClient(own_mongodb.url) as client:
        things = client.get_database("kept", write_concern=WriteConcern("majority", j=True)).things
        await things.insert_one({"_id": 1})
        await own_mongodb.kill()
        assert _gone(before)
        await own_mongodb.start()
        assert await things.count_documents({}) == 1


async def test_a_frozen_mongod_answers_nothing_until_it_is_thawed(own_mongodb: MongoServer):
    own_mongodb.freeze()
    try:
        async with AsyncMongoClient(own_mongodb.url, serverSelectionTimeoutMS=200) as client:
            with pytest.raises(Exception, match=r"timed out|Timeout"):
                await client.admin.command("ping")
    finally:
        own_mongodb.thaw()
    assert (await mongodb_version(own_mongodb.url))[0].isdigit()


async def test_a_mongod_listens_on_loopback_only(own_mongodb: MongoServer):
    assert _listening_on(own_mongodb.pid or 0) == {"0100007F"}


async def test_a_server_that_cannot_start_says_why(tmp_path: Path):
    ports = Ports(lambda _: None)
    first = MongoServer(tmp_path, ports)
    async with first:
        second = MongoServer(tmp_path, ports)  # the same data folder
        with pytest.raises(LocalStackError, match="mongod ended at start"):
            await second.start()


async def test_kept_data_start_again_on_another_port(tmp_path: Path) -> None:
    for value in (1, 2):
        async with MongoServer(tmp_path, _QUIET) as mongod, AsyncMongoClient(mongod.url) as client:
            numbers = client["kept"].get_collection(
                "numbers", write_concern=WriteConcern(w="majority")
            )
            await numbers.insert_one({"_id": value})
            assert await numbers.count_documents({}) == value
