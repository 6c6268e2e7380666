"""How pods come and go: rollouts, evictions, drains, and time enough for each."""

from __future__ import annotations

from forebay.broker.connection import CLOSE_WITHIN_S
from forebay.worker.pool import HAND_BACK_S
from ingress.settings import IngressSettings
from tests.deploy.manifests.known_settings import WORKERS, in_container, worker_group
from tests.deploy.manifests.objects import (
    Container,
    Pod,
    containers,
    label,
    long_lived,
    pods,
    selects,
)
from tests.deploy.manifests.rendering import Object, Render
from tests.deploy.manifests.rules.clusters import clusters, made_pods
from tests.deploy.manifests.rules.images import VERSION

SLEEP_S = 5
"""How long endpoint lists may take to forget a pod, in seconds; shorter, and new connections come
to an ingress that has stopped listening."""
HOST_KEY, ZONE_KEY = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
STABLE = {f"app.kubernetes.io/{part}" for part in ("name", "component", "instance", "part-of")}
"""Labels that no new version changes; a selector can never be changed."""


def can_be_evicted_one_by_one(render: Render) -> list[str]:
    """Each workload has one disruption budget of its own that lets a node be drained."""
    budgets = render.of_kind("PodDisruptionBudget")
    workloads = list(long_lived(render))
    said = []
    for pod in workloads:
        own = [one for one in budgets if selects(one["spec"].get("selector"), pod.labels)]
        if len(own) != 1:
            said.append(f"{pod.name}: has {len(own)} disruption budgets and needs one")
        said += [f"{label(one)}: {why}" for one in own if (why := _blocks(one, pod))]
    for one in budgets:
        count = sum(selects(one["spec"].get("selector"), pod.labels) for pod in workloads)
        if count != 1 and not _of_a_cluster(render, one):
            said.append(f"{label(one)}: is for {count} workloads and not for one")
    return said


def _of_a_cluster(render: Render, budget: Object) -> bool:
    """Whether it is for the pods that an operator makes of one of its objects."""
    return any(selects(budget["spec"]["selector"], made_pods(one)) for one in clusters(render))


def _blocks(budget: Object, pod: Pod) -> str | None:
    spec = budget["spec"]
    if "minAvailable" in spec:
        return "says minAvailable, which blocks or frees everything when replicas change"
    if str(spec.get("maxUnavailable")) in {"0", "0%", "None"}:
        return "allows no eviction"
    if spec["maxUnavailable"] != 1:
        return f"allows {spec['maxUnavailable']} pods of {pod.name} to go at once"
    alone = pod.owner["spec"].get("replicas") == 1  # it may be evicted in any state
    if not alone and spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
        return "keeps a broken pod on a node that is drained"
    return None


def is_spread(render: Render) -> list[str]:
    """Copies go to different nodes and zones where there are some, and still start where not."""
    said = []
    for pod in long_lived(render):
        constraints = pod.spec.get("topologySpreadConstraints", [])
        own = [one for one in constraints if selects(one.get("labelSelector"), pod.labels)]
        keys = {one["topologyKey"] for one in own}
        ours = pod.labels.get("app.kubernetes.io/name") == "forebay"
        needed = {HOST_KEY, ZONE_KEY} if ours else {HOST_KEY}
        if not needed <= keys:
            said.append(f"{pod.name}: is not spread over {sorted(needed)}")
        if any(one.get("whenUnsatisfiable") != "ScheduleAnyway" for one in own):
            said.append(f"{pod.name}: would not start on a cluster of one node")
        said += [f"{pod.name}: {why}" for one in own if (why := _mixed(one))]
    return said


def _mixed(constraint: Object) -> str | None:
    """Counting other workloads' pods as one's own spreads nothing."""
    exact = constraint["labelSelector"].get("matchLabels", {})
    keys = {*exact, *constraint.get("matchLabelKeys", [])}
    return None if "app.kubernetes.io/component" in keys else "is spread among other workloads"


def leaves_its_callers_time(render: Render) -> list[str]:
    """An ingress goes on until nobody sends to it: it sleeps, then it is a lame duck."""
    said = []
    for one in containers(render):
        if one.module != "ingress":
            continue
        if _sleep_s(one) < SLEEP_S:
            said.append(f"{one.name}: its preStop sleep is shorter than {SLEEP_S} s")
        lame_duck = getattr(in_container(render, one, IngressSettings), "lame_duck_s", 0)
        if lame_duck < 1:
            said.append(f"{one.name}: FOREBAY_INGRESS_LAME_DUCK_S lets no idle connection end")
    return said


def _sleep_s(one: Container) -> float:
    return float(
        one.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    )


def replaces_pods_carefully(render: Render) -> list[str]:
    """Of the ingress nothing is missing meanwhile; of a worker nothing is there twice.

    A worker that ends finishes its calls beside its successor, and the quota has room for that
    much. A surge would come on top of it.
    """
    said = []
    for pod in long_lived(render):
        module = next((one.module for one in pod.containers if one.module), None)
        spec = pod.owner["spec"]
        rolling = spec.get("strategy", {}).get("rollingUpdate", {})
        if module in WORKERS and (rolling.get("maxSurge"), rolling.get("maxUnavailable")) != (0, 1):
            said.append(f"{pod.name}: a worker is replaced one by one, with maxSurge: 0")
        if module == "ingress" and rolling.get("maxUnavailable") != 0:
            said.append(f"{pod.name}: maxUnavailable of the ingress is not 0")
        if module == "ingress" and spec.get("replicas", 2) < 2:
            said.append(f"{pod.name}: one ingress alone is away whenever its node is")
    return said


def finishes_its_longest_call(render: Render) -> list[str]:
    """A worker's grace period is at least its longest call."""
    said = []
    for one in containers(render):
        if one.module in WORKERS:
            settings = in_container(render, one, worker_group(one.module))
            if settings.grace_s < settings.timeout_s:
                said.append(
                    f"{one.name}: has {settings.grace_s:g} s of grace, a call may take "
                    f"{settings.timeout_s:g} s"
                )
    return said


def has_time_to_end(render: Render) -> list[str]:
    """A pod is killed later than everything that its process may still have to do."""
    said = []
    for one in containers(render):
        if not one.long_lived:
            continue
        has = one.pod.spec.get("terminationGracePeriodSeconds", 30)
        if has <= (needs := ending_s(render, one)):
            said.append(f"{one.name}: is killed after {has} s and may need {needs:g} s to end")
    return said


def ending_s(render: Render, one: Container) -> float:
    """How long a container may take from the order to end until it has ended, in seconds."""
    sleep = _sleep_s(one)
    if one.module in WORKERS:
        # The consumer's connection and the one for dead letters are closed one after the other.
        return (
            sleep
            + in_container(render, one, worker_group(one.module)).grace_s
            + HAND_BACK_S
            + 2 * CLOSE_WITHIN_S
        )
    if one.module == "ingress":
        ingress = in_container(render, one, IngressSettings)
        lame_duck = getattr(ingress, "lame_duck_s", 0)
        # Open requests, then the last group commit, then what is still to be published.
        ending = 2 * ingress.grace_s + ingress.accept_timeout_s + CLOSE_WITHIN_S
        return float(sleep + lame_duck + ending)
    return sleep + CLOSE_WITHIN_S


def selects_by_stable_labels(render: Render) -> list[str]:
    """A selector cannot be changed later, so no label in it may change with a version."""
    said = []
    for pod in long_lived(render):
        exact = pod.owner["spec"]["selector"].get("matchLabels", {})
        if not selects(pod.owner["spec"]["selector"], pod.labels):
            said.append(f"{pod.name}: its selector does not match its pods")
        if changing := sorted(set(exact) - STABLE):
            said.append(f"{pod.name}: its selector holds {changing}")
        others = [one.name for one in pods(render) if selects({"matchLabels": exact}, one.labels)]
        if others != [pod.name]:
            said.append(f"{pod.name}: its selector takes the pods of {others}")
    return said


def is_labelled(render: Render) -> list[str]:
    """Everything says what it belongs to, its pods too."""
    said = []
    for pod in pods(render):
        for where, labels in (
            ("", pod.owner["metadata"].get("labels", {})),
            ("its pods: ", pod.labels),
        ):
            said += [
                f"{pod.name}: {where}no label app.kubernetes.io/{key}"
                for key in ("name", "component", "part-of")
                if not labels.get(f"app.kubernetes.io/{key}")
            ]
    return said


def jobs_end_and_go(render: Render) -> list[str]:
    """A Job ends, removes itself, and is another one in the next version: it is immutable."""
    said = []
    version = f"v{VERSION.replace('.', '-')}"
    for one in render.of_kind("Job"):
        spec = one["spec"]
        if "ttlSecondsAfterFinished" not in spec or "backoffLimit" not in spec:
            said.append(f"{label(one)}: ttlSecondsAfterFinished and backoffLimit must be set")
        if spec["template"]["spec"].get("restartPolicy") not in {"OnFailure", "Never"}:
            said.append(f"{label(one)}: its pods are started for ever")
        ours = any(container.ours for container in Pod(one, spec["template"]).containers)
        if ours and not one["metadata"]["name"].endswith(version):
            said.append(
                f"{label(one)}: its image changes with the version, so its name ends {version}"
            )
    return said


def leaves_replicas_to_one(render: Render) -> list[str]:
    """Who is scaled by something else does not say how many it is: applying would reset it."""
    said = []
    targets: dict[str, list[str]] = {}
    for one in render.of_kind("ScaledObject", "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        name = f"{target.get('kind', 'Deployment')}/{target['name']}"
        targets.setdefault(name, []).append(label(one))
    for name, scalers in targets.items():
        kind, _, short = name.partition("/")
        workload = render.find(kind, short)
        if workload is None:
            said.append(f"{scalers[0]}: there is no {name}")
        elif "replicas" in workload["spec"]:
            said.append(f"{name}: says its replicas, and so does {scalers[0]}")
        if len(scalers) > 1:
            said.append(f"{name}: is scaled by {scalers}")
    return said
