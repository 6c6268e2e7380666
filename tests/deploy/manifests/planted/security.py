"""Pods that may do more than they need."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import (
    SERIOUS,
    Mistake,
    in_container,
    in_pod,
    in_secured,
    in_spec,
    volume,
)
from tests.deploy.manifests.rendering import Object
from tests.deploy.manifests.rules import security
from tests.deploy.manifests.workbench import Workbench


def bind(bench: Workbench) -> None:
    """Give the processes' account the rights of the one that makes secrets."""
    bench.get("RoleBinding", "init-secrets")["subjects"].append(
        {"kind": "ServiceAccount", "name": "forebay"}
    )


def cluster_role(bench: Workbench) -> None:
    """Ask for rights in the whole cluster."""
    bench.add({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
               "metadata": {"name": "forebay"}, "rules": []})  # fmt: skip


def secret(bench: Workbench) -> None:
    """A Secret with a password in a manifest."""
    bench.add({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rabbitmq"},
               "data": {"erlang-cookie": "c2VjcmV0"}})  # fmt: skip


def agent_rule(bench: Workbench, resource: str) -> Object:
    """What MongoDB's agents may do with one resource."""
    rules = bench.get("Role", "mongodb-kubernetes-appdb")["rules"]
    found: Object
    (found,) = (one for one in rules if one["resources"] == [resource])
    return found


MISTAKES = (
    Mistake(
        security.runs_as_a_plain_user,
        in_pod(lambda pod: pod["securityContext"].update(runAsUser=0)),
        "ingress",
    ),
    Mistake(
        security.runs_as_a_plain_user,
        in_pod(lambda pod: pod["securityContext"].pop("runAsNonRoot")),
        "ingress",
    ),
    Mistake(
        security.runs_as_a_plain_user, in_secured(lambda own: own.update(runAsUser=1000)), "1000"
    ),
    Mistake(
        security.drops_all_capabilities,
        in_secured(lambda own: own["capabilities"].update(add=["NET_RAW"])),
        "ingress",
    ),
    Mistake(
        security.drops_all_capabilities,
        in_secured(lambda own: own.pop("capabilities"), "llm-worker"),
        "llm-worker",
    ),
    Mistake(
        security.uses_the_default_seccomp_profile,
        in_pod(lambda pod: pod["securityContext"].pop("seccompProfile")),
        "ingress",
    ),
    Mistake(
        security.uses_the_default_seccomp_profile,
        in_secured(lambda own: own.update(seccompProfile={"type": "Unconfined"})),
        "ingress",
    ),
    Mistake(
        security.gains_no_privileges,
        in_secured(lambda own: own.pop("allowPrivilegeEscalation")),
        "ingress",
    ),
    Mistake(
        security.gains_no_privileges, in_secured(lambda own: own.update(privileged=True)), "ingress"
    ),
    Mistake(
        security.gains_no_privileges, in_pod(lambda pod: pod.update(hostNetwork=True)), "ingress"
    ),
    Mistake(
        security.gains_no_privileges,
        in_pod(lambda pod: pod["volumes"].append({"name": "all", "hostPath": {"path": "/"}})),
        "ingress",
    ),
    Mistake(
        security.gains_no_privileges,
        in_container(lambda one: one["ports"][0].update(hostPort=80)),
        "port of the node",
    ),
    Mistake(
        security.has_a_read_only_root,
        in_secured(lambda own: own.update(readOnlyRootFilesystem=False)),
        "ingress",
    ),
    Mistake(
        security.can_write_temporary_files,
        in_container(lambda one: one["volumeMounts"].pop()),
        "/tmp",
    ),
    Mistake(
        security.can_write_temporary_files,
        in_pod(lambda pod: volume(pod, "tmp")["emptyDir"].clear()),
        "sizeLimit",
    ),
    Mistake(
        security.keeps_away_from_the_kubernetes_api,
        in_pod(lambda pod: pod.pop("automountServiceAccountToken")),
        "ingress",
    ),
    Mistake(
        security.keeps_away_from_the_kubernetes_api,
        lambda bench: bench.pod("Job", "init-secrets").pop("serviceAccountName"),
        "the account default",
    ),
    Mistake(
        security.keeps_away_from_the_kubernetes_api,
        lambda bench: bench.get("ServiceAccount", "forebay").pop("automountServiceAccountToken"),
        "ServiceAccount/forebay",
    ),
    Mistake(
        security.keeps_away_from_the_kubernetes_api,
        lambda bench: bench.get("Role", "init-secrets")["rules"][0]["verbs"].append("delete"),
        "delete",
    ),
    Mistake(
        security.keeps_away_from_the_kubernetes_api,
        lambda bench: bench.get("Role", "init-secrets")["rules"][0].update(resources=["pods"]),
        "pods",
    ),
    Mistake(security.keeps_away_from_the_kubernetes_api, bind, "forebay"),
    Mistake(security.keeps_away_from_the_kubernetes_api, cluster_role, "ClusterRole/forebay"),
    Mistake(
        security.reads_only_the_secrets_that_it_makes,
        lambda bench: bench.get("Role", "init-secrets")["rules"][1].pop("resourceNames"),
        "all",
    ),
    Mistake(
        security.reads_only_the_secrets_that_it_makes,
        lambda bench: bench.get("Role", "init-secrets")["rules"][1]["resourceNames"].append("tls"),
        "tls",
    ),
    Mistake(
        security.touches_only_its_own_set,
        lambda bench: agent_rule(bench, "secrets").pop("resourceNames"),
        "'all'",
        SERIOUS,
    ),
    Mistake(
        security.touches_only_its_own_set,
        lambda bench: agent_rule(bench, "secrets")["resourceNames"].append("mongodb"),
        "'mongodb'",
        SERIOUS,
    ),
    Mistake(
        security.touches_only_its_own_set,
        lambda bench: agent_rule(bench, "pods").pop("resourceNames"),
        "of pods",
        SERIOUS,
    ),
    Mistake(
        # The fourth member could not say how far it is, and would never be ready.
        security.touches_only_its_own_set,
        in_spec("MongoDBCommunity", "mongodb", lambda spec: spec.update(members=5)),
        "mongodb-4",
        SERIOUS,
    ),
    Mistake(
        security.says_what_it_needs,
        in_container(lambda one: one["resources"]["requests"].pop("cpu")),
        "requests",
    ),
    Mistake(
        security.says_what_it_needs,
        in_container(lambda one: one["resources"]["limits"].update(cpu="1")),
        "limits",
    ),
    Mistake(
        security.says_what_it_needs,
        in_container(lambda one: one["resources"]["limits"].pop("memory")),
        "limits",
    ),
    Mistake(
        security.says_what_it_needs,
        in_container(lambda one: one["resources"]["limits"].update(memory="16Mi")),
        "below",
    ),
    Mistake(
        security.gets_secrets_as_files_only,
        in_container(
            lambda one: one["env"].append(
                {
                    "name": "FOREBAY_AMQP_URL",
                    "valueFrom": {"secretKeyRef": {"name": "forebay-ingress", "key": "x"}},
                }
            )
        ),
        "FOREBAY_AMQP_URL",
    ),
    Mistake(
        security.gets_secrets_as_files_only,
        in_container(lambda one: one["envFrom"].append({"secretRef": {"name": "x"}})),
        "whole Secret",
    ),
    Mistake(
        security.gets_secrets_as_files_only,
        in_pod(lambda pod: volume(pod, "secrets")["secret"].update(defaultMode=0o444)),
        "everybody",
    ),
    Mistake(security.holds_no_secret_itself, secret, "erlang-cookie"),
    Mistake(
        security.holds_no_secret_itself,
        lambda bench: bench.settings().update(
            FOREBAY_MONGODB_URL="mongodb://forebay:secret@mongodb"
        ),
        "FOREBAY_MONGODB_URL",
    ),
    Mistake(
        security.holds_no_secret_itself,
        lambda bench: bench.get("ConfigMap", "rabbitmq-config")["data"].update(
            {"x.conf": "default_pass = guest"}
        ),
        "x.conf",
    ),
    Mistake(
        security.holds_no_secret_itself,
        lambda bench: bench.set("Deployment", "llm-worker", "FOREBAY_LLM_API_KEY", "sk-1"),
        "FOREBAY_LLM_API_KEY",
    ),
    Mistake(
        security.holds_no_secret_itself,
        in_container(lambda one: one["command"].append("amqp://a:b@c")),
        "command",
    ),
    Mistake(
        security.lives_in_a_restricted_namespace,
        lambda bench: bench.get("Namespace", "forebay")["metadata"]["labels"].update(
            {security.ENFORCE: "baseline"}
        ),
        "Namespace/forebay",
    ),
    Mistake(
        security.lives_in_a_restricted_namespace,
        lambda bench: bench.get("Deployment", "ingress")["metadata"].pop("namespace"),
        "Deployment/ingress",
    ),
)
