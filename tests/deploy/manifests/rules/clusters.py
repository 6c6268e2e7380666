"""The servers that operators run: what we ask of them, in their own kinds.

The labels of the pods are the operators' doing; they are facts about the releases that are named
in tests/deploy/schemas/README.md.
"""

from __future__ import annotations

from tests.deploy.manifests.objects import label, selects
from tests.deploy.manifests.rendering import Object, Render
from tests.deploy.manifests.rules.images import MOVING, tag_of

CLUSTERS = ("RabbitmqCluster", "MongoDBCommunity")


def clusters(render: Render) -> list[Object]:
    """The objects that an operator makes servers of."""
    return render.of_kind(*CLUSTERS)


def made_pods(cluster: Object) -> dict[str, str]:
    """The labels of the pods that its operator makes."""
    name = cluster["metadata"]["name"]
    if cluster["kind"] == "RabbitmqCluster":
        return {
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/component": "rabbitmq",
            "app.kubernetes.io/part-of": "rabbitmq",
        }
    template = cluster["spec"].get("statefulSet", {}).get("spec", {}).get("template", {})
    return {"app": f"{name}-svc", **template.get("metadata", {}).get("labels", {})}


def survives_the_loss_of_a_node(render: Render) -> list[str]:
    """Three servers on three nodes, of which a drain takes one at a time."""
    said = []
    for one in clusters(render):
        spec = one["spec"]
        count = spec.get("replicas") or spec.get("members") or 1
        if count < 3 or count % 2 == 0:
            said.append(f"{label(one)}: {count} members have no majority when one is away")
        if not _keeps_apart(spec):
            said.append(f"{label(one)}: its members may be on one node")
        budgets = [
            budget
            for budget in render.of_kind("PodDisruptionBudget")
            if selects(budget["spec"].get("selector"), made_pods(one))
        ]
        if [budget["spec"].get("maxUnavailable") for budget in budgets] != [1]:
            said.append(f"{label(one)}: a drain may take several of its members at once")
    return said


def _keeps_apart(spec: Object) -> bool:
    template = spec.get("statefulSet", {}).get("spec", {}).get("template", {}).get("spec", {})
    affinity = spec.get("affinity") or template.get("affinity") or {}
    rules = affinity.get("podAntiAffinity", {})
    return any(
        one["topologyKey"] == "kubernetes.io/hostname"
        for one in rules.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    )


def pins_what_operators_run(render: Render) -> list[str]:
    """An operator's default version changes with the operator."""
    said = []
    for one in clusters(render):
        version = one["spec"].get("version") or tag_of(one["spec"].get("image", ""))
        if not version or version in MOVING:
            said.append(f"{label(one)}: says no version")
    return said


def keeps_its_data(render: Render) -> list[str]:
    """A server has a volume of a stated size, and memory that is stated too."""
    said = []
    for one in clusters(render):
        if not _storage(one["spec"]):
            said.append(f"{label(one)}: does not say how much it stores")
        resources = _resources(one["spec"])
        for what in resources:
            if "memory" not in what.get("limits", {}) or "cpu" in what.get("limits", {}):
                said.append(f"{label(one)}: limits must name memory, and not cpu")
            if not {"cpu", "memory"} <= set(what.get("requests", {})):
                said.append(f"{label(one)}: requests must name cpu and memory")
        if not resources:
            said.append(f"{label(one)}: says no resources")
    return said


def _storage(spec: Object) -> bool:
    claims = spec.get("statefulSet", {}).get("spec", {}).get("volumeClaimTemplates", [])
    return bool(spec.get("persistence", {}).get("storage")) or any(
        one["spec"]["resources"]["requests"].get("storage") for one in claims
    )


def _resources(spec: Object) -> list[Object]:
    template = spec.get("statefulSet", {}).get("spec", {}).get("template", {}).get("spec", {})
    if template:
        return [one.get("resources", {}) for one in template.get("containers", [])]
    return [spec["resources"]] if "resources" in spec else []
