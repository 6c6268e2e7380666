"""What a pod may not do: the `restricted` pod security standard, and more."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping

from tests.deploy.manifests.made_secrets import made_secrets
from tests.deploy.manifests.objects import (
    containers,
    label,
    labels_of,
    pods,
    sources,
    volumes,
)
from tests.deploy.manifests.rendering import Object, Render

OUR_USER = 10001
MAY: Mapping[str, Mapping[str, set[str]]] = {
    "init-secrets": {"secrets": {"get", "create"}},
    # What MongoDB's operator gives its members' agents where it runs them itself: they read how
    # their set is made up, say in their own pod how far they are, and end it for a new version.
    "mongodb-kubernetes-appdb": {"secrets": {"get"}, "pods": {"get", "patch", "delete"}},
}
"""Which accounts may speak to the Kubernetes API, and the least that each of them needs."""
OPERATORS = {"mongodb-kubernetes-appdb"}
"""Accounts of pods that an operator makes; those pods do not say that they want a token."""
NO_SECRET = "simulated"
ENFORCE = "pod-security.kubernetes.io/enforce"


def runs_as_a_plain_user(render: Render) -> list[str]:
    """No container is root, and ours are the image's own user."""
    said = []
    for one in containers(render):
        user, group = one.security("runAsUser"), one.security("runAsGroup")
        if one.security("runAsNonRoot") is not True:
            said.append(f"{one.name}: runAsNonRoot is not true")
        if not user or not group:
            said.append(f"{one.name}: runAsUser and runAsGroup must be set, and not to 0")
        elif one.ours and (user, group) != (OUR_USER, OUR_USER):
            said.append(f"{one.name}: runs as {user}:{group}, the image's user is {OUR_USER}")
    return said


def drops_all_capabilities(render: Render) -> list[str]:
    """A process that listens above port 1024 needs none."""
    said = []
    for one in containers(render):
        capabilities = one.spec.get("securityContext", {}).get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            said.append(f"{one.name}: capabilities must be drop: [ALL], and none added")
    return said


def uses_the_default_seccomp_profile(render: Render) -> list[str]:
    """System calls that no ordinary process makes are refused."""
    return [
        f"{one.name}: seccompProfile is not RuntimeDefault"
        for one in containers(render)
        if (one.security("seccompProfile") or {}).get("type") != "RuntimeDefault"
    ]


def gains_no_privileges(render: Render) -> list[str]:
    """No setuid program helps, and nothing of the node is shared."""
    said = []
    for one in containers(render):
        own = one.spec.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            said.append(f"{one.name}: allowPrivilegeEscalation is not false, or it is privileged")
        if any("hostPort" in port for port in one.spec.get("ports", [])):
            said.append(f"{one.name}: takes a port of the node")
    for pod in pods(render):
        shared = {"hostNetwork", "hostPID", "hostIPC"} & {key for key in pod.spec if pod.spec[key]}
        if shared or any("hostPath" in one for one in pod.spec.get("volumes", [])):
            said.append(f"{pod.name}: shares the node's network, processes or files")
    return said


def has_a_read_only_root(render: Render) -> list[str]:
    """What must be written has a volume."""
    return [
        f"{one.name}: readOnlyRootFilesystem is not true"
        for one in containers(render)
        if one.spec.get("securityContext", {}).get("readOnlyRootFilesystem") is not True
    ]


def can_write_temporary_files(render: Render) -> list[str]:
    """Python wants /tmp for large bodies; an emptyDir without a limit can fill its node."""
    said = []
    for one in containers(render):
        mounted = volumes(one)
        if one.ours and "emptyDir" not in mounted.get("/tmp", {}):
            said.append(f"{one.name}: has no emptyDir at /tmp")
        said += [
            f"{one.name}: the emptyDir at {path} has no sizeLimit"
            for path, volume in mounted.items()
            if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit")
        ]
    return said


def keeps_away_from_the_kubernetes_api(render: Render) -> list[str]:
    """No pod gets a token but those whose work it is, and their roles allow just that."""
    said = []
    for pod in pods(render):
        account = pod.spec.get("serviceAccountName", "default")
        if pod.spec.get("automountServiceAccountToken") is not False and account not in MAY:
            said.append(f"{pod.name}: has a token of the account {account}")
    for one in render.of_kind("ServiceAccount"):
        needed = one["metadata"]["name"] in OPERATORS
        if one.get("automountServiceAccountToken") is not False and not needed:
            said.append(f"{label(one)}: automountServiceAccountToken is not false")
    said += [
        f"{label(one)}: is for the whole cluster"
        for one in render.of_kind("ClusterRole", "ClusterRoleBinding")
    ]
    for binding in render.of_kind("RoleBinding"):
        role = render.find(binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for subject in binding.get("subjects", []):
            said += [f"{label(binding)}: {why}" for why in _too_much(role, subject)]
    return said


def _too_much(role: Object | None, subject: Object) -> Iterator[str]:
    may = MAY.get(subject["name"]) if subject["kind"] == "ServiceAccount" else None
    if may is None or role is None:
        yield f"gives rights to {subject['kind']} {subject['name']}"
        return
    for rule in role["rules"]:
        for resource in rule.get("resources", ["?"]):
            verbs = set(rule["verbs"]) - may.get(resource, set())
            if verbs or rule.get("apiGroups") != [""]:
                yield f"allows {sorted(verbs)} on {resource}"


def reads_only_the_secrets_that_it_makes(render: Render) -> list[str]:
    """Who makes the first secrets may read those, to complete what is there, and no others."""
    made = set(made_secrets())
    return [
        f"{label(role)}: may read {sorted(names)} and not just {sorted(made)}"
        for role in render.of_kind("Role")
        if role["metadata"]["name"] not in OPERATORS
        for rule in role["rules"]
        if "get" in rule["verbs"] and (names := set(rule.get("resourceNames", ["all"]))) != made
    ]


def touches_only_its_own_set(render: Render) -> list[str]:
    """An operator's pods have rights on the Secret and the pods of their set, by name."""
    named: dict[str, set[str]] = {"secrets": set(), "pods": set()}
    for one in render.of_kind("MongoDBCommunity"):
        name = one["metadata"]["name"]
        named["secrets"].add(f"{name}-config")
        named["pods"] |= {f"{name}-{number}" for number in range(one["spec"]["members"])}
    return [
        f"{label(role)}: may touch {sorted(names)} of {resource} and not just {sorted(own)}"
        for role in render.of_kind("Role")
        if role["metadata"]["name"] in OPERATORS
        for rule in role["rules"]
        for resource in rule["resources"]
        if (names := set(rule.get("resourceNames", ["all"]))) != (own := named.get(resource, set()))
    ]


def says_what_it_needs(render: Render) -> list[str]:
    """Requests for the scheduler, a memory limit for the neighbours, no processor limit.

    A processor limit stops a process that may have the core for nothing, and slows probes.
    """
    said = []
    for one in containers(render):
        resources = one.spec.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        if not {"cpu", "memory"} <= set(requests):
            said.append(f"{one.name}: requests must name cpu and memory")
        if "memory" not in limits or "cpu" in limits:
            said.append(f"{one.name}: limits must name memory, and not cpu")
        elif "memory" in requests and quantity(limits["memory"]) < quantity(requests["memory"]):
            said.append(f"{one.name}: its memory limit is below its request")
    return said


def quantity(text: str | int) -> float:
    """A Kubernetes quantity as a number: `512Mi`, `250m`, `1`."""
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * (units[unit] if unit else 1)


def gets_secrets_as_files_only(render: Render) -> list[str]:
    """A variable is seen by every child process and in every dump; a file is not."""
    said = []
    for one in containers(render):
        said += [
            f"{one.name}: {variable['name']} is a secret in a variable"
            for variable in one.spec.get("env", [])
            if "secretKeyRef" in variable.get("valueFrom", {})
        ]
        if any("secretRef" in source for source in one.spec.get("envFrom", [])):
            said.append(f"{one.name}: a whole Secret is put into its variables")
        for path, volume in volumes(one).items():
            modes = [volume.get(kind, {}).get("defaultMode") for kind in ("secret", "projected")]
            if sources(volume, "secret") and any(mode and mode & 0o007 for mode in modes):
                said.append(f"{one.name}: the secrets at {path} can be read by everybody")
    return said


_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s:@]+@")
_IN_TEXT = re.compile(
    r"(?i)(?<![a-z])(default_pass|password|passwd|secret|token|api_key|keyfile_secret)\s*[=:]\s*\S"
)
_NAMES = re.compile(r"(?i)(PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|COOKIE|KEYFILE_SECRET)$")


def holds_no_secret_itself(render: Render) -> list[str]:
    """No password is in a manifest: every Secret is made in the cluster, or by its operator."""
    said = [why for one in render.of_kind("Secret") for why in _contents(one)]
    for one in render.of_kind("ConfigMap"):
        for key, text in (one.get("data") or {}).items():
            if _is_secret(key, text):
                said.append(f"{label(one)}: {key} looks like a secret")
    for container in containers(render):
        said += [
            f"{container.name}: {variable['name']} looks like a secret"
            for variable in container.spec.get("env", [])
            if _is_secret(variable["name"], variable.get("value", ""))
        ]
        if any(_IN_URL.search(word) for word in container.words):
            said.append(f"{container.name}: a password in its command")
    return said


def _contents(secret: Object) -> Iterator[str]:
    """The simulated providers take any key; theirs says that it is none."""
    texts = dict(secret.get("stringData") or {})
    for key, text in (secret.get("data") or {}).items():
        texts[key] = base64.b64decode(text).decode("utf-8", "replace")
    for key, text in texts.items():
        if text != NO_SECRET:
            yield f"{label(secret)}: {key} is in a manifest"


def _is_secret(name: str, text: str) -> bool:
    named = bool(_NAMES.search(name)) and bool(text)
    return named or bool(_IN_URL.search(text)) or bool(_IN_TEXT.search(text))


def lives_in_a_restricted_namespace(render: Render) -> list[str]:
    """The namespace refuses what the rules above forbid, should a later manifest forget them."""
    names = {one["metadata"]["name"] for one in render.of_kind("Namespace")}
    lax = [
        f"{label(one)}: {ENFORCE} is not restricted"
        for one in render.of_kind("Namespace")
        if labels_of(one).get(ENFORCE) != "restricted"
    ]
    return lax + [
        f"{label(one)}: is in no namespace of its own render"
        for one in render.objects
        if one["kind"] not in {"Namespace", "ClusterRole", "ClusterRoleBinding"}
        and one["metadata"].get("namespace") not in names
    ]
