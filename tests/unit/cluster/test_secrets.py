"""Which secrets there are, and that what is made fits what is there."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from forebay.broker.management import TopologySettings
from forebay.broker.topology import forebay_topology
from forebay.cluster.secrets import BROKER_ADMIN, SECRETS, Made, Secret, Texts, fill, fresh_words
from forebay.errors import ClusterError, ClusterUnavailable
from forebay.settings import BrokerSettings, SettingsGroup, StoreSettings
from forebay.store.initiation import InitiationSettings

NAMES = [secret.name for secret in SECRETS]


class Memory:
    """A shelf; `faster` is another one's secrets that appear just before they are made here."""

    def __init__(
        self, there: Mapping[str, Texts] | None = None, faster: Mapping[str, Texts] | None = None
    ) -> None:
        self.there: dict[str, Texts] = {name: dict(texts) for name, texts in (there or {}).items()}
        self.faster = dict(faster or {})

    async def read(self, name: str) -> Texts | None:
        return self.there.get(name)

    async def create(self, secret: Secret, texts: Texts) -> bool:
        if secret.name in self.faster:
            self.there[secret.name] = self.faster.pop(secret.name)
        if secret.name in self.there:
            return False
        self.there[secret.name] = texts
        return True


async def full() -> dict[str, Texts]:
    shelf = Memory()
    await fill(shelf)
    return shelf.there


def assert_they_fit(there: Mapping[str, Texts]) -> None:
    """Every password is the one that its server is told."""
    prepare, mongodb = there["forebay-prepare"], there["mongodb"]
    store = urlsplit(prepare["forebay_mongodb_url"])
    assert store.password == mongodb["forebay_mongodb_app_password"]
    assert mongodb["keyfile"] == mongodb["forebay_mongodb_keyfile_secret"]
    admin = urlsplit(prepare["forebay_rabbitmq_management_url"])
    assert there["rabbitmq"]["default_user.conf"] == (
        f"default_user = {admin.username}\ndefault_pass = {admin.password}\n"
    )
    for role in ("ingress", "worker", "reconciler"):
        url = urlsplit(there[f"forebay-{role}"]["forebay_amqp_url"])
        assert url.password == prepare[f"forebay_topology_{role}_password"]
        assert there[f"forebay-{role}"]["forebay_mongodb_url"] == store.geturl()
    monitor = urlsplit(there["forebay-monitor"]["host"])
    assert monitor.password == prepare["forebay_topology_monitor_password"]


async def test_the_secrets_are_those_that_the_manifests_mount() -> None:
    keys = {name: set(texts) for name, texts in (await full()).items()}
    urls = {"forebay_amqp_url", "forebay_mongodb_url"}
    assert keys == {
        "forebay-ingress": urls,
        "forebay-worker": urls,
        "forebay-reconciler": urls,
        "forebay-prepare": {
            "forebay_rabbitmq_management_url",
            "forebay_topology_ingress_password",
            "forebay_topology_worker_password",
            "forebay_topology_reconciler_password",
            "forebay_topology_monitor_password",
            "forebay_mongodb_url",
        },
        "forebay-monitor": {"host"},
        "rabbitmq": {"default_user.conf", "username", "password", "erlang-cookie"},
        "mongodb": {
            "keyfile",
            "forebay_mongodb_keyfile_secret",
            "forebay_mongodb_app_password",
            "forebay_mongodb_admin_password",
        },
    }


async def test_the_texts_say_where_the_servers_are() -> None:
    pw = dict.fromkeys(fresh_words(), "PW") | {"domain": ""}
    texts = {secret.name: secret.texts(pw) for secret in SECRETS}
    assert texts["forebay-worker"] == {
        "forebay_amqp_url": "amqp://forebay-worker:PW@rabbitmq:5672/forebay",
        "forebay_mongodb_url": (
            "mongodb://forebay:PW@mongodb:27017/?replicaSet=forebay&authSource=admin"
        ),
    }
    assert texts["forebay-monitor"] == {"host": "http://forebay-monitor:PW@rabbitmq:15672/forebay"}
    management = texts["forebay-prepare"]["forebay_rabbitmq_management_url"]
    assert management == "http://forebay-admin:PW@rabbitmq:15672"


async def test_who_asks_from_another_namespace_is_told_ours() -> None:
    shelf = Memory()
    await fill(shelf, "shop")
    monitor = urlsplit(shelf.there["forebay-monitor"]["host"])
    assert (monitor.hostname, monitor.port, monitor.path) == (
        "rabbitmq.shop.svc",
        15672,
        "/forebay",
    )
    assert_they_fit(shelf.there)
    others = [text for name in NAMES[:-1] for text in shelf.there[name].values()]
    assert not [text for text in others if "shop" in text]


@pytest.mark.parametrize(
    "host", ["rabbitmq", "rabbitmq.shop.svc", "rabbitmq.old.svc", "rabbitmq.shop.svc.cluster.local"]
)
async def test_a_monitors_secret_tells_its_password_whatever_the_namespace(host: str) -> None:
    whole = await full()
    whole["forebay-monitor"] = {"host": f"http://forebay-monitor:hunter2@{host}:15672/forebay"}
    del whole["forebay-prepare"]
    shelf = Memory(whole)
    await fill(shelf, "shop")
    assert shelf.there["forebay-prepare"]["forebay_topology_monitor_password"] == "hunter2"
    assert shelf.there["forebay-monitor"] == whole["forebay-monitor"]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("forebay-ingress", (BrokerSettings, StoreSettings)),
        ("forebay-worker", (BrokerSettings, StoreSettings)),
        ("forebay-reconciler", (BrokerSettings, StoreSettings)),
        ("forebay-prepare", (TopologySettings, StoreSettings)),
        ("mongodb", (InitiationSettings,)),
    ],
)
async def test_every_key_that_is_a_setting_is_read_by_a_group(
    name: str, groups: tuple[type[SettingsGroup], ...]
) -> None:
    known = {f"forebay_{field}" for group in groups for field in group.model_fields}
    keys = {key for key in (await full())[name] if key.startswith("forebay_")}
    assert keys
    assert keys <= known
    for role in forebay_topology().users:
        assert f"forebay_topology_{role.role}_password" in (await full())["forebay-prepare"]


async def test_what_is_made_at_once_fits_and_is_new_each_time() -> None:
    one, two = await full(), await full()
    assert_they_fit(one)
    for name in NAMES:
        said_alike = set(one[name].values()) & set(two[name].values())
        assert said_alike <= {BROKER_ADMIN}


async def test_the_words_need_no_quoting_and_are_long() -> None:
    words = fresh_words("shop")
    assert words.pop("domain") == ".shop.svc"
    assert len(set(words.values())) == len(words)
    key = words.pop("mongodb_key")
    # What mongod takes: 6 to 1024 characters of base64.
    assert len(key) == 1008
    assert all(word.isalnum() and len(word) >= 32 for word in words.values())


@pytest.mark.parametrize("count", range(1, len(NAMES)))
async def test_whatever_is_missing_is_made_to_fit_and_the_rest_is_left_alone(count: int) -> None:
    whole = await full()
    for missing in combinations(NAMES, count):
        shelf = Memory({name: texts for name, texts in whole.items() if name not in missing})
        made = await fill(shelf)
        assert {name for name, how in made.items() if how is Made.CREATED} == set(missing)
        assert_they_fit(shelf.there)
        for name in set(NAMES) - set(missing):
            assert shelf.there[name] == whole[name]


async def test_a_second_run_changes_nothing() -> None:
    whole = await full()
    shelf = Memory(whole)
    assert set((await fill(shelf)).values()) == {Made.UNCHANGED}
    assert shelf.there == whole


@pytest.mark.parametrize("count", range(1, len(NAMES) + 1))
async def test_of_two_runs_at_once_the_faster_one_decides(count: int) -> None:
    """The other run is ahead by `count` secrets, all of which appear in the middle of ours."""
    other = await full()
    for appear in combinations(NAMES, count):
        # Who makes one has made those before it.
        faster = {name: other[name] for name in NAMES[: NAMES.index(appear[-1]) + 1]}
        shelf = Memory(faster=faster)
        made = await fill(shelf)
        assert_they_fit(shelf.there)
        assert [name for name in NAMES if made[name] is Made.UNCHANGED] == list(faster)


async def test_line_breaks_around_a_text_do_not_matter() -> None:
    whole = await full()
    edited = {
        name: {key: f"{text.strip()}\n" for key, text in texts.items()}
        for name, texts in whole.items()
        if name != "forebay-worker"
    }
    shelf = Memory(edited)
    await fill(shelf)
    assert shelf.there["forebay-worker"] == whole["forebay-worker"]


async def test_secrets_that_do_not_agree_are_said_and_nothing_is_made() -> None:
    whole = await full()
    del whole["forebay-worker"], whole["forebay-monitor"]
    store = "mongodb://forebay:other@mongodb:27017/?replicaSet=forebay&authSource=admin"
    whole["forebay-ingress"] = {**whole["forebay-ingress"], "forebay_mongodb_url": store}
    shelf = Memory(whole)
    with pytest.raises(ClusterError, match=r"forebay-worker is missing.*do not agree") as said:
        await fill(shelf)
    assert "forebay-ingress" in str(said.value)
    assert whole["mongodb"]["forebay_mongodb_app_password"] not in str(said.value)
    assert shelf.there == whole


@pytest.mark.parametrize("text", ["", "amqps://broker.example/", "amqp://u:pw@rabbitmq:5672/x"])
async def test_a_secret_of_another_form_is_not_guessed_around(text: str) -> None:
    whole = await full()
    del whole["forebay-prepare"]
    whole["forebay-worker"] = {**whole["forebay-worker"], "forebay_amqp_url": text}
    shelf = Memory(whole)
    with pytest.raises(ClusterError, match=r"forebay-prepare is missing.*'worker'"):
        await fill(shelf)
    assert "forebay-prepare" not in shelf.there


async def test_an_own_secret_does_no_harm_while_nothing_is_missing_that_hangs_on_it() -> None:
    whole = await full()
    mine = {"forebay_amqp_url": "amqps://broker.example/", "forebay_mongodb_url": "mongodb://x/"}
    whole["forebay-worker"] = mine
    del whole["rabbitmq"], whole["forebay-monitor"]
    shelf = Memory(whole)
    await fill(shelf)
    assert shelf.there["forebay-worker"] == mine
    assert set(shelf.there) == set(NAMES)


async def test_a_shelf_that_takes_nothing_and_has_nothing_is_given_up() -> None:
    class Broken(Memory):
        async def create(self, _: Secret, __: Texts) -> bool:
            return False

    with pytest.raises(ClusterUnavailable, match="changed all the time"):
        await fill(Broken())


async def test_each_secret_can_be_given_to_its_reader() -> None:
    whole = await full()
    told = {key.removeprefix("forebay_"): text for key, text in whole["mongodb"].items()}
    settings = InitiationSettings(
        mongodb_members="mongodb-0.mongodb:27017",
        mongodb_keyfile_secret=SecretStr(told["mongodb_keyfile_secret"]),
    )
    assert settings.key == whole["mongodb"]["keyfile"]
    BrokerSettings(amqp_url=SecretStr(whole["forebay-worker"]["forebay_amqp_url"]))
