"""Secrets as text for kubectl."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from forebay.cli.verbs import app
from forebay.cluster.manifests import fresh_manifests
from forebay.cluster.secrets import SECRETS
from tests.command import forebay


async def test_the_command_prints_every_secret_as_yaml() -> None:
    done = await forebay("k8s", "init-secrets", "--namespace", "elsewhere")
    assert (done.code, done.err) == (0, "")
    objects = list(yaml.safe_load_all(done.out))
    assert [one["metadata"]["name"] for one in objects] == [secret.name for secret in SECRETS]
    for one, secret in zip(objects, SECRETS, strict=True):
        assert (one["apiVersion"], one["kind"], one["type"]) == ("v1", "Secret", "Opaque")
        assert one["metadata"]["namespace"] == "elsewhere"
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "forebay"
        assert set(one["stringData"]) == set(secret.patterns)
    texts = {one["metadata"]["name"]: one["stringData"] for one in objects}
    assert texts["rabbitmq"]["default_user.conf"].startswith("default_user = forebay-admin\n")
    assert texts["forebay-monitor"]["host"].endswith("@rabbitmq.elsewhere.svc:15672/forebay")


async def test_without_a_namespace_they_are_for_ours() -> None:
    done = await forebay("k8s", "init-secrets")
    objects = list(yaml.safe_load_all(done.out))
    assert {one["metadata"]["namespace"] for one in objects} == {"forebay"}
    assert objects[-1]["stringData"]["host"].endswith("@rabbitmq.forebay.svc:15672/forebay")


def test_the_values_are_new_at_every_call_and_the_text_says_so() -> None:
    one, two = fresh_manifests("forebay"), fresh_manifests("forebay")
    assert one != two
    assert "kubectl create -f -" in one.partition("---")[0]


@pytest.mark.parametrize("wrong", ["A", "a/b", "-a", "x" * 64, ""])
def test_a_namespace_that_is_none_is_exit_2(wrong: str) -> None:
    done = CliRunner().invoke(app, ["k8s", "init-secrets", f"--namespace={wrong}"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Invalid value for '--namespace'" in done.stderr


async def test_outside_of_a_pod_nothing_can_be_applied_and_that_is_said() -> None:
    done = await forebay("k8s", "init-secrets", "--apply")
    assert (done.code, done.out) == (2, "")
    assert "KUBERNETES_SERVICE_HOST" in done.err
