"""KEDA's ScaledObjects against the topology, the settings and the provider's quota."""

from __future__ import annotations

from forebay.broker.topology import VHOST, forebay_topology, queue_name
from forebay.jobs import JobKind, Lane
from forebay.settings import WorkerSettings
from tests.deploy.manifests.known_settings import WORKERS, in_container, worker_group
from tests.deploy.manifests.made_secrets import keys_of_made_secrets
from tests.deploy.manifests.objects import Container, Pod, label
from tests.deploy.manifests.rendering import Object, Render

QUOTA = "forebay.dev/provider-quota"
"""How many calls in flight a provider bears; the manifest says it."""


def scales_workers_by_their_queues(render: Render) -> list[str]:
    """A worker has one trigger for each of its lanes' queues, and none for another's."""
    said = []
    exist = {queue.name for queue in forebay_topology().queues}
    for one in render.of_kind("ScaledObject"):
        kind = _kind(render, one)
        if kind is None:
            said.append(f"{label(one)}: scales nothing that takes jobs")
            continue
        asked = [_said(trigger, "queueName") for trigger in one["spec"]["triggers"]]
        wanted = [queue_name(kind, lane) for lane in Lane]
        said += [f"{label(one)}: there is no queue {name}" for name in asked if name not in exist]
        if sorted(asked) != sorted(wanted):
            said.append(f"{label(one)}: watches {sorted(asked)} and not {sorted(wanted)}")
    return said


def asks_rabbitmq_over_http(render: Render) -> list[str]:
    """Over HTTP the length counts what is being worked on; over AMQP only what waits."""
    said = []
    for one in render.of_kind("ScaledObject"):
        for trigger in one["spec"]["triggers"]:
            queue = f"{label(one)}: the trigger of {_said(trigger, 'queueName')}"
            for key, value in (
                ("protocol", "http"),
                ("mode", "QueueLength"),
                ("vhostName", VHOST),
            ):
                if _said(trigger, key) != value:
                    said.append(f"{queue} has {key} {_said(trigger, key)!r} and not {value!r}")
            if trigger["type"] != "rabbitmq" or trigger.get("metricType", "AverageValue") != (
                "AverageValue"
            ):
                said.append(f"{queue} is not a rabbitmq trigger of AverageValue")
            if {"host", "hostFromEnv", "password", "username"} & set(trigger["metadata"]):
                said.append(f"{queue} names its login itself")
            said += [f"{queue}: {why}" for why in _login(render, trigger)]
    return said


def _login(render: Render, trigger: Object) -> list[str]:
    name = trigger.get("authenticationRef", {}).get("name", "")
    found = render.find("TriggerAuthentication", name)
    if found is None:
        return [f"there is no TriggerAuthentication {name!r}"]
    made = keys_of_made_secrets()
    return [
        f"{label(found)} reads {one['key']} of the Secret {one['name']}, which nobody makes"
        for one in found["spec"].get("secretTargetRef", [])
        if one["key"] not in made.get(one["name"], set())
    ]


def asks_for_no_replica_for_what_it_holds(render: Render) -> list[str]:
    """The messages that a replica holds by itself are less than what asks for another one."""
    said = []
    for one in render.of_kind("ScaledObject"):
        if (settings := _settings(render, one)) is None:
            continue
        for trigger in one["spec"]["triggers"]:
            value = float(_said(trigger, "value") or 0)
            if value < settings.prefetch_or_default:
                said.append(
                    f"{label(one)}: asks for another replica at {value:g} messages; one holds "
                    f"{settings.prefetch_or_default}"
                )
    return said


def stays_within_the_providers_quota(render: Render) -> list[str]:
    """All replicas, twice, call at most as often at once as the provider bears.

    A Deployment does not count pods that end. In a rollout every old one may still finish its calls
    when every new one has begun.
    """
    said = []
    for one in render.of_kind("ScaledObject"):
        quota = one["metadata"].get("annotations", {}).get(QUOTA)
        settings = _settings(render, one)
        if quota is None or settings is None:
            said.append(f"{label(one)}: does not say {QUOTA}")
            continue
        most = int(one["spec"].get("maxReplicaCount", 100))
        calls = 2 * most * settings.concurrency
        if calls > int(quota):
            said.append(f"{label(one)}: up to {calls} calls in flight, the provider bears {quota}")
        said += [f"{label(one)}: {why}" for why in _bounds(one["spec"], most)]
    return said


def _bounds(spec: Object, most: int) -> list[str]:
    least = spec.get("minReplicaCount", 0)
    said = []
    if not 1 <= least <= most:
        # From none to one takes a poll and a cold start, which an interactive job would wait for.
        said.append(f"between {least} and {most} replicas")
    fallback = spec.get("fallback", {})
    if not least <= fallback.get("replicas", -1) <= most:
        said.append("does not say what to do when RabbitMQ does not answer")
    elif fallback.get("behavior") != "currentReplicasIfHigher":
        # Otherwise a broker that is away for a moment ends replicas in the middle of a backlog.
        said.append("scales down when RabbitMQ does not answer")
    return said


def scales_every_worker_or_none(render: Render) -> list[str]:
    """Where KEDA scales one kind, a kind that it does not scale was forgotten."""
    scaled = {_kind(render, one) for one in render.of_kind("ScaledObject")}
    missing = sorted(set(JobKind) - scaled) if scaled else []
    return [f"{render.name}: no ScaledObject for {kind}" for kind in missing]


def leaves_the_workers_to_keda(render: Render) -> list[str]:
    """KEDA makes the autoscalers of the workers; another one beside it would fight with it."""
    workers = {worker.pod.owner["metadata"]["name"] for worker in _workers(render)}
    return [
        f"{label(one)}: scales {one['spec']['scaleTargetRef']['name']}, which is KEDA's"
        for one in render.of_kind("HorizontalPodAutoscaler")
        if one["spec"]["scaleTargetRef"]["name"] in workers
    ]


def _said(trigger: Object, key: str) -> str:
    return str(trigger["metadata"].get(key, ""))


def _workers(render: Render) -> list[Container]:
    return [
        container
        for one in render.of_kind("Deployment")
        for container in Pod(one, one["spec"]["template"]).containers
        if container.module in WORKERS
    ]


def _worker(render: Render, scaled: Object) -> Container | None:
    name = scaled["spec"]["scaleTargetRef"]["name"]
    workers = (one for one in _workers(render) if one.pod.owner["metadata"]["name"] == name)
    return next(workers, None)


def _kind(render: Render, scaled: Object) -> JobKind | None:
    worker = _worker(render, scaled)
    return WORKERS[worker.module] if worker and worker.module else None


def _settings(render: Render, scaled: Object) -> WorkerSettings | None:
    worker = _worker(render, scaled)
    if worker is None or worker.module is None:
        return None
    return in_container(render, worker, worker_group(worker.module))
