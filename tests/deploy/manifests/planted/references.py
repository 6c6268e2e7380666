"""Things that name what is not there."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import Mistake, in_container, in_pod, in_spec
from tests.deploy.manifests.rendering import Object
from tests.deploy.manifests.rules import references
from tests.deploy.manifests.workbench import Change


def mount(name: str) -> Change:
    """A further mount of the ingress."""
    return in_container(lambda one: one["volumeMounts"].append({"name": name, "mountPath": "/mnt"}))


def secrets_source(pod: Object) -> Object:
    """The secret that is mounted for the settings of a process."""
    (found,) = (one for one in pod["volumes"] if one["name"] == "secrets")
    return found["secret"]


MISTAKES = (
    Mistake(
        references.finds_its_settings,
        in_container(lambda one: one["envFrom"][0]["configMapRef"].update(name="settings")),
        "settings",
    ),
    Mistake(
        references.finds_its_settings,
        in_container(
            lambda one: one["env"].append(
                {
                    "name": "A",
                    "valueFrom": {
                        "configMapKeyRef": {
                            "name": one["envFrom"][0]["configMapRef"]["name"],
                            "key": "NONE",
                        }
                    },
                }
            )
        ),
        "NONE",
    ),
    Mistake(
        references.finds_its_secrets,
        in_pod(lambda pod: secrets_source(pod).update(secretName="forebay-ingres")),
        "forebay-ingres",
    ),
    Mistake(
        references.finds_its_secrets,
        in_pod(
            lambda pod: secrets_source(pod).update(
                items=[{"key": "amqp", "path": "forebay_amqp_url"}]
            )
        ),
        "no key amqp",
    ),
    Mistake(
        references.finds_its_secrets,
        in_pod(lambda pod: secrets_source(pod).update(optional=True)),
        "could start without",
    ),
    Mistake(
        references.finds_its_account,
        lambda bench: bench.remove("ServiceAccount", "forebay"),
        "forebay",
    ),
    Mistake(references.mounts_what_it_has, mount("data"), "mounts data"),
    Mistake(
        references.mounts_what_it_has,
        in_pod(lambda pod: pod["volumes"].append({"name": "rest", "emptyDir": {}})),
        "nobody mounts rest",
    ),
    Mistake(
        references.keeps_what_it_writes,
        in_spec("StatefulSet", "mongodb", lambda spec: spec.pop("volumeClaimTemplates")),
        "forgets",
    ),
    Mistake(
        references.keeps_what_it_writes,
        lambda bench: bench.container("StatefulSet", "mongodb").update(volumeMounts=[]),
        "/data/db",
    ),
    Mistake(
        references.services_reach_pods,
        in_spec(
            "Service",
            "forebay",
            lambda spec: spec["selector"].update({"app.kubernetes.io/component": "api"}),
        ),
        "Service/forebay",
    ),
    Mistake(
        references.services_reach_pods,
        in_spec(
            "Service", "forebay", lambda spec: spec["selector"].pop("app.kubernetes.io/component")
        ),
        "reconciler",
    ),
    Mistake(
        references.services_reach_pods,
        in_spec("Service", "forebay", lambda spec: spec["ports"][0].update(targetPort="web")),
        "port web",
    ),
    Mistake(
        references.has_the_service_it_names,
        lambda bench: bench.remove("Service", "mongodb"),
        "mongodb",
    ),
    Mistake(
        references.has_the_service_it_names,
        in_spec("Service", "mongodb", lambda spec: spec.pop("clusterIP")),
        "not headless",
    ),
    Mistake(
        references.names_ports_once,
        in_container(lambda one: one["ports"].append({"name": "http", "containerPort": 9})),
        "http",
    ),
)
