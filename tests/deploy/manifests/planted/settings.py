"""Processes that are told what they do not understand."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import SERIOUS, Mistake, in_container, in_pod
from tests.deploy.manifests.rendering import Object
from tests.deploy.manifests.rules import settings
from tests.deploy.manifests.workbench import Workbench


def pick(bench: Workbench) -> None:
    """A file in the secrets' folder that is no setting."""
    source = bench.pod("Deployment", "ingress")["volumes"]
    (volume,) = (one for one in source if one["name"] == "secrets")
    volume["secret"]["items"] = [{"key": "forebay_amqp_url", "path": "amqp_url"}]


def secrets_mount(container: Object) -> Object:
    """The mount of a container's secrets."""
    (found,) = (one for one in container["volumeMounts"] if one["name"] == "secrets")
    return found


def secrets_source(pod: Object) -> Object:
    """The secret that is mounted for the settings of a process."""
    (found,) = (one for one in pod["volumes"] if one["name"] == "secrets")
    return found["secret"]


MISTAKES = (
    Mistake(
        settings.sets_only_what_is_read,
        lambda bench: bench.settings().update(FOREBAY_LLM_CONCURENCY="5"),
        "FOREBAY_LLM_CONCURENCY",
    ),
    Mistake(
        settings.sets_only_what_is_read,
        lambda bench: bench.set("Deployment", "ingress", "FOREBAY_INGRESS_LAMEDUCK_S", "5"),
        "LAMEDUCK",
    ),
    Mistake(
        settings.arms_no_crash_point,
        lambda bench: bench.settings().update(FOREBAY_CRASHPOINT="worker.after_claim"),
        "FOREBAY_CRASHPOINT",
    ),
    Mistake(
        settings.arms_no_crash_point,
        lambda bench: bench.set("Deployment", "ingress", "FOREBAY_CRASHPOINT_LOG", "/tmp/hits"),
        "FOREBAY_CRASHPOINT_LOG kills it",
    ),
    Mistake(
        settings.sets_values_that_are_taken,
        lambda bench: bench.settings().update(FOREBAY_LLM_CONCURRENCY="many"),
        "FOREBAY_LLM_CONCURRENCY",
    ),
    Mistake(
        settings.sets_values_that_are_taken,
        lambda bench: bench.settings().update(FOREBAY_SEARCH_PREFETCH="500"),
        "prefetch",
    ),
    Mistake(
        settings.sets_values_that_are_taken,
        lambda bench: bench.settings().update(FOREBAY_SEARCH_SEARXNG_URL="providers:9080"),
        "FOREBAY_SEARCH_SEARXNG_URL",
    ),
    Mistake(
        settings.keeps_secrets_out_of_variables,
        lambda bench: bench.settings().update(FOREBAY_AMQP_URL="amqp://rabbitmq"),
        "FOREBAY_AMQP_URL",
    ),
    Mistake(
        settings.reads_secrets_where_they_are,
        in_container(lambda one: secrets_mount(one).update(mountPath="/run/secrets")),
        "no secret is mounted",
    ),
    Mistake(
        settings.reads_secrets_where_they_are,
        in_container(lambda one: secrets_mount(one).pop("readOnly")),
        "read-only",
    ),
    Mistake(
        settings.reads_secrets_where_they_are,
        in_container(lambda one: secrets_mount(one).update(subPath="a")),
        "subPath",
    ),
    Mistake(
        settings.reads_secrets_where_they_are,
        in_pod(lambda pod: secrets_source(pod).update(defaultMode=0o400)),
        "cannot read",
    ),
    Mistake(
        settings.reads_secrets_where_they_are,
        in_pod(lambda pod: pod["securityContext"].pop("fsGroup")),
        "cannot read",
    ),
    Mistake(settings.mounts_files_that_are_settings, pick, "amqp_url"),
    Mistake(
        settings.listens_where_it_is_probed,
        lambda bench: bench.settings().update(FOREBAY_PROBE_PORT="9091"),
        "9091",
    ),
    Mistake(
        settings.listens_where_it_is_probed,
        lambda bench: bench.settings().pop("FOREBAY_PROBE_HOST"),
        "127.0.0.1",
    ),
    Mistake(
        settings.listens_where_it_is_probed,
        lambda bench: bench.set("Deployment", "ingress", "FOREBAY_INGRESS_PORT", "8000"),
        "8000",
    ),
    Mistake(
        settings.listens_where_it_is_probed,
        lambda bench: bench.set("Deployment", "ingress", "FOREBAY_INGRESS_ALLOW_OPEN", "false"),
        "refuse",
    ),
    Mistake(
        settings.asks_for_keys_in_production,
        lambda bench: bench.settings().update(FOREBAY_INGRESS_AUTHENTICATION="open"),
        "may use it",
        SERIOUS,
    ),
    Mistake(
        settings.asks_for_keys_in_production,
        lambda bench: bench.set("Deployment", "ingress", "FOREBAY_INGRESS_ALLOW_OPEN", "true"),
        "may use it",
        SERIOUS,
    ),
    Mistake(
        settings.listens_where_it_is_probed,
        in_container(lambda one: one["command"].remove("--port=9080"), "providers"),
        "providers",
    ),
    Mistake(
        settings.names_services_that_exist,
        lambda bench: bench.settings().update(
            FOREBAY_SEARCH_SEARXNG_URL="http://providers:9090/searxng"
        ),
        "providers:9090",
    ),
    Mistake(
        settings.names_services_that_exist,
        lambda bench: bench.settings().update(FOREBAY_SEARCH_SEARXNG_URL="http://searxng/"),
        "searxng:80",
    ),
    Mistake(
        settings.names_services_that_exist,
        lambda bench: bench.settings().update(FOREBAY_CRAWLER_ALLOW_HOSTS="providers:9082"),
        "providers:9082",
    ),
    Mistake(
        settings.mounts_files_that_are_settings,
        lambda bench: bench.get("Secret", "forebay-llm-keys")["data"].update(
            forebay_llm_key="eA=="
        ),
        "FOREBAY_LLM_KEY",
    ),
    Mistake(
        settings.is_given_what_it_needs,
        in_pod(
            lambda pod: secrets_source(pod).update(
                items=[{"key": "forebay_amqp_url", "path": "forebay_amqp_url"}]
            )
        ),
        "FOREBAY_MONGODB_URL",
    ),
    Mistake(
        settings.is_given_what_it_needs,
        lambda bench: secrets_source(bench.pod("Job", "forebay-prepare")).update(
            secretName="forebay-worker"
        ),
        "FOREBAY_RABBITMQ_MANAGEMENT_URL",
    ),
    Mistake(
        settings.is_given_what_it_needs,
        lambda bench: bench.container("Job", "mongodb-initiate")["env"].pop(),
        "FOREBAY_MONGODB_MEMBERS",
    ),
)
