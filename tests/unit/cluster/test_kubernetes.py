"""Making Secrets over the Kubernetes API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from forebay.cli.cluster import fill_cluster
from forebay.cluster.kubernetes import Account, Cluster, open_cluster
from forebay.cluster.secrets import SECRETS, Made, fill
from forebay.errors import ClusterError, ClusterUnavailable, ConfigurationError
from tests.kubernetes_by_hand import Api, refused, serving

NAMES = {secret.name for secret in SECRETS}
FIRST = SECRETS[0]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def cluster(api: Api) -> AsyncIterator[Cluster]:
    assert api.account is not None
    async with open_cluster(api.account, "forebay") as opened:
        yield opened


async def test_what_is_missing_is_made_and_a_second_run_changes_nothing(
    api: Api, cluster: Cluster
) -> None:
    assert set((await fill(cluster)).values()) == {Made.CREATED}
    before = {name: api.texts(name) for name in NAMES}
    assert set(api.secrets) == NAMES
    worker = api.secrets["forebay-worker"]
    assert (worker["kind"], worker["type"]) == ("Secret", "Opaque")
    assert worker["metadata"]["namespace"] == "forebay"
    assert worker["metadata"]["labels"]["app.kubernetes.io/name"] == "forebay"
    api.asked.clear()
    assert set((await fill(cluster)).values()) == {Made.UNCHANGED}
    assert {name: api.texts(name) for name in NAMES} == before
    assert not [line for line in api.asked if line.startswith("POST")]


@pytest.mark.parametrize("done", range(1, len(SECRETS)))
async def test_a_run_that_died_half_way_is_completed_by_the_next(
    api: Api, cluster: Cluster, done: int
) -> None:
    api.failing = [refused(404, "NotFound", "") for _ in SECRETS]
    api.failing += [web.json_response({}, status=500)]
    with pytest.raises(ClusterUnavailable):
        await fill(cluster)
    await fill(cluster)
    whole = {name: api.texts(name) for name in NAMES}
    for secret in SECRETS[done:]:
        del api.secrets[secret.name]
    made = await fill(cluster)
    assert sum(how is Made.CREATED for how in made.values()) == len(SECRETS) - done
    shared = ("forebay-ingress", "forebay-worker", "forebay-reconciler", "forebay-monitor")
    for name in shared:
        assert api.texts(name) == whole[name]


async def test_one_that_somebody_else_makes_meanwhile_is_left_alone(
    api: Api, cluster: Cluster
) -> None:
    await fill(cluster)
    theirs = api.texts(FIRST.name)
    # We look and it is not there; by the time we make it, it is.
    api.failing = [refused(404, "NotFound", "")]
    made = await fill(cluster)
    assert made[FIRST.name] is Made.UNCHANGED
    assert api.texts(FIRST.name) == theirs


async def test_the_token_is_read_for_every_call(api: Api, cluster: Cluster) -> None:
    assert api.account is not None
    assert await cluster.read(FIRST.name) is None
    api.tokens = {"token-2"}
    with pytest.raises(ClusterError, match="401"):
        await cluster.read(FIRST.name)
    (api.account.folder / "token").write_text("token-2")
    assert await cluster.read(FIRST.name) is None


@pytest.mark.parametrize("refusal", [(403, "Forbidden"), (422, "Invalid"), (404, "NotFound")])
async def test_a_refusal_is_said_in_the_words_of_the_api_without_a_value(
    api: Api, cluster: Cluster, refusal: tuple[int, str]
) -> None:
    api.failing = [refused(*refusal, 'User "x" cannot create resource "secrets"')]
    with pytest.raises(ClusterError, match=f"refused to create.*{refusal[0]}.*User") as said:
        await cluster.create(FIRST, {"a": "hunter2"})
    assert not isinstance(said.value, ClusterUnavailable)
    assert "hunter2" not in str(said.value)


@pytest.mark.parametrize(
    "answer",
    [
        refused(500, "InternalError", "etcd"),
        web.Response(status=503, text="a proxy"),
        refused(429, "TooManyRequests", ""),
        # Several wrote at once what a quota counts: not the same as being there.
        refused(409, "Conflict", "Operation cannot be fulfilled on resourcequotas"),
        web.json_response(["not an object"], status=502),
    ],
)
async def test_what_will_pass_is_told_from_a_refusal(
    api: Api, cluster: Cluster, answer: web.Response
) -> None:
    api.failing = [answer]
    with pytest.raises(ClusterUnavailable):
        await cluster.create(FIRST, {"a": "b"})


async def test_a_value_that_is_no_text_is_as_good_as_none(api: Api, cluster: Cluster) -> None:
    api.secrets[FIRST.name] = {"data": {"a": "/w==", "b": "?", "c": "eA=="}}
    assert await cluster.read(FIRST.name) == {"a": "", "b": "", "c": "x"}
    api.secrets[FIRST.name] = {"data": None}
    assert await cluster.read(FIRST.name) == {}


async def test_a_server_of_another_ca_is_not_told_the_token(api: Api, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with serving(other) as impostor:
        assert api.account is not None
        assert impostor.account is not None
        confused = Account(impostor.account.url, api.account.folder)
        async with open_cluster(confused, "forebay") as cluster:
            with pytest.raises(ClusterUnavailable, match="certificate"):
                await cluster.read(FIRST.name)
        assert impostor.asked == []


async def test_nobody_there_is_unavailable(api: Api) -> None:
    assert api.account is not None
    async with open_cluster(Account("https://127.0.0.1:1", api.account.folder), "x") as cluster:
        with pytest.raises(ClusterUnavailable, match=r"https://127\.0\.0\.1:1 does not answer"):
            await cluster.read(FIRST.name)


async def test_what_a_pod_is_told_is_where_the_api_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST"):
        Account.of_pod({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    (tmp_path / "token").write_text("t")
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST"):
        Account.of_pod({}, tmp_path)
    told = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert Account.of_pod(told, tmp_path).url == "https://10.0.0.1:6443"
    told = {"KUBERNETES_SERVICE_HOST": "fd00::1"}
    account = Account.of_pod(told, tmp_path)
    assert account.url == "https://[fd00::1]:443"
    with pytest.raises(ConfigurationError, match=r"ca\.crt cannot be used"):
        async with open_cluster(account, "x"):
            pass


async def test_the_secrets_are_made_in_the_namespace_of_the_pod_unless_another_is_said(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, "shop") as api:
        assert api.account is not None
        namespace = api.account.folder / "namespace"
        with pytest.raises(ConfigurationError, match="say --namespace"):
            await fill_cluster(api.account, None)
        namespace.write_text("\n")
        with pytest.raises(ConfigurationError, match="say --namespace"):
            await fill_cluster(api.account, None)
        namespace.write_text("shop\n")
        await fill_cluster(api.account, None)
        assert api.secrets["forebay-worker"]["metadata"]["namespace"] == "shop"
        assert "@rabbitmq.shop.svc:" in api.texts("forebay-monitor")["host"]
        namespace.write_text("elsewhere\n")
        assert set((await fill_cluster(api.account, "shop")).values()) == {Made.UNCHANGED}
