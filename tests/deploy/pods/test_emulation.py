"""Hand-made pods: what a manifest asks for is what its process meets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from .cluster import Cluster
from .controllers import Deployment, Job
from .objects import Manifest
from .services import PROPAGATION_S

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

SAY_WHAT_IS_THERE = """
import json, os, pathlib, stat
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
def mode(path):
    found = os.stat(path)
    return [oct(stat.S_IMODE(found.st_mode)), found.st_uid, found.st_gid]
def written(path):
    try:
        pathlib.Path(path).write_text("water")
    except OSError as error:
        return type(error).__name__ + str(error.errno)
    return "written"
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), sorted(os.getgroups())],
    "capabilities": int(status["CapEff"], 16), "no_new_privileges": int(status["NoNewPrivs"]),
    "seccomp": int(status["Seccomp"]), "host": os.uname().nodename,
    "secret": mode("/secrets/key"), "public": mode("/configuration/below/text"),
    "data": mode("/data"), "tmp": mode("/tmp"),
    "root": written("/new"), "in_tmp": written("/tmp/new"), "in_data": written("/data/new"),
    "in_secret": written("/secrets/key"),
    "env": {name: os.environ.get(name) for name in ("ALL", "ONE", "POD", "IP", "LATER")},
    "token": sorted(os.listdir("/var/run/secrets/kubernetes.io/serviceaccount")),
}))
"""
FAIL_ONCE = """
import pathlib, sys
before = pathlib.Path("/tmp/before")
sys.exit(0 if before.exists() else before.write_text("once") and 3)
"""
ECHO_UNTIL_KILLED = """
import signal, socketserver
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(64):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("0.0.0.0", 7000), Echo).serve_forever()
"""
GRACE_S = 8
CONTEXT = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def container(image: str, code: str, **more: Any) -> Manifest:
    return {"name": "c", "image": image, "command": ["python", "-c", code],
            "securityContext": CONTEXT, **more}  # fmt: skip


def job(name: str, spec: Manifest) -> Manifest:
    template = {"metadata": {"labels": {"job": name}}, "spec": spec}
    return {"kind": "Job", "metadata": {"name": name, "namespace": "n"},
            "spec": {"template": template, "backoffLimit": 3}}  # fmt: skip


def facts(image: str) -> Manifest:
    env = [
        {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "one"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LATER", "value": "$(ONE) and $$(ONE)"},
    ]
    mounts = {"secrets": "/secrets", "configuration": "/configuration", "data": "/data",
              "tmp": "/tmp"}  # fmt: skip
    sources = [
        {"configMap": {"name": "settings", "items": [{"key": "one", "path": "below/text"}]}},
        {"secret": {"name": "nowhere", "optional": True}},
    ]
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": True,
        "securityContext": {"runAsUser": 10001, "runAsGroup": 10001, "runAsNonRoot": True,
                            "fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(
            image, SAY_WHAT_IS_THERE, env=env, envFrom=[{"configMapRef": {"name": "settings"}}],
            volumeMounts=[{"name": k, "mountPath": v} for k, v in mounts.items()],
        )],
        "volumes": [
            {"name": "secrets", "secret": {"secretName": "secret", "defaultMode": 0o400}},
            {"name": "configuration", "projected": {"sources": sources}},
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    }  # fmt: skip


def failing_once(image: str) -> Manifest:
    tmp = {"name": "tmp", "mountPath": "/tmp"}
    return {
        "restartPolicy": "OnFailure",
        "containers": [container(image, FAIL_ONCE, volumeMounts=[tmp])],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def echo(image: str) -> list[Manifest]:
    labels = {"app": "echo"}
    served = container(
        image,
        ECHO_UNTIL_KILLED,
        ports=[{"name": "echo", "containerPort": 7000}],
        readinessProbe={"tcpSocket": {"port": "echo"}, "periodSeconds": 1},
        lifecycle={"preStop": {"sleep": {"seconds": 2}}},
    )
    pod = {"containers": [served], "terminationGracePeriodSeconds": GRACE_S}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        {"kind": "Deployment", "metadata": {"name": "echo", "namespace": "n"},
         "spec": {"replicas": 1, "strategy": strategy, "template": template}},
        {"kind": "Service", "metadata": {"name": "echo", "namespace": "n"},
         "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "echo"}]}},
        {"kind": "Service", "metadata": {"name": "nobody", "namespace": "n"},
         "spec": {"selector": {"app": "none"}, "ports": [{"port": 80}]}},
    ]  # fmt: skip


@pytest.fixture(scope="module")
async def small(image: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    manifests = [
        {"kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "n"},
         "data": {"one": "1", "ALL": "all"}},
        {"kind": "Secret", "metadata": {"name": "secret", "namespace": "n"},
         "stringData": {"key": "hidden"}},
        job("facts", facts(image)), job("again", failing_once(image)), *echo(image),
    ]  # fmt: skip
    async with Cluster(manifests, tmp_path_factory.mktemp("small"), image) as cluster:
        await cluster.until_complete(120)
        yield cluster


async def test_a_process_meets_what_its_manifest_says(small: Cluster):
    told: Job = small.workload("Job", "facts")
    (pod,) = told.pods
    found = json.loads(pod.logs["c"])
    assert found["ids"][:2] == [10001, 10001]
    assert set(found["ids"][2]) - {10001} == {2000}
    assert (found["capabilities"], found["no_new_privileges"], found["seccomp"]) == (0, 1, 2)
    assert found["host"] == pod.name
    assert found["env"] == {
        "ALL": "all", "ONE": "1", "POD": pod.name, "IP": pod.ip, "LATER": "1 and $(ONE)",
    }  # fmt: skip
    assert found["token"] == ["ca.crt", "namespace", "token"]


async def test_volumes_belong_to_the_fs_group_and_only_some_can_be_written(small: Cluster):
    (pod,) = small.workload("Job", "facts").pods
    found = json.loads(pod.logs["c"])
    # 0400 was asked for: kubelet gives the group what the owner has, so that the process can read.
    assert found["secret"] == ["0o440", 0, 2000]
    assert found["public"] == ["0o644", 0, 2000]
    assert found["data"] == ["0o2777", 0, 2000]
    assert found["tmp"] == ["0o2777", 0, 2000]
    assert (found["in_tmp"], found["in_data"]) == ("written", "written")
    assert found["root"] == "OSError30"  # EROFS
    assert found["in_secret"] in {"OSError30", "PermissionError13"}


async def test_a_job_that_failed_is_tried_again_with_its_volumes(small: Cluster):
    (pod,) = small.workload("Job", "again").pods
    assert pod.phase == "Succeeded"
    assert [ending.exit_code for ending in pod.endings] == [3, 0]


async def test_a_service_with_nobody_behind_it_refuses(small: Cluster):
    with pytest.raises(ConnectionRefusedError):
        async with _connected(small, "nobody"):
            pytest.fail("somebody is there")


async def test_an_old_connection_lives_on_while_new_ones_go_to_the_new_pod(small: Cluster):
    echoes: Deployment = small.workload("Deployment", "echo")
    await small.until_complete(60)
    (old,) = echoes.current
    async with _connected(small, "echo") as (reader, writer):
        echoes.restart()
        await small.until(lambda: old.terminating, 60, "the old pod is asked to end")
        began = asyncio.get_running_loop().time()
        await small.until(lambda: _gone_from(small, old.ip), 30, "the endpoint is gone")
        assert asyncio.get_running_loop().time() - began >= PROPAGATION_S - 0.2
        assert await _echoed(reader, writer)
        async with _connected(small, "echo") as new:
            assert await _echoed(*new)
        await old.ended()
        assert await reader.read(1) == b""
    (ending,) = old.endings
    assert (ending.killed, ending.exit_code) == (True, 137)
    assert GRACE_S - 0.5 < ending.took_s < GRACE_S + 4


@asynccontextmanager
async def _connected(
    small: Cluster, service: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host = small.url(service).removeprefix("http://").partition(":")[0]
    reader, writer = await asyncio.open_connection(host, 80)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"water")
    return await reader.readexactly(5) == b"water"


def _gone_from(small: Cluster, ip: str) -> bool:
    return ip not in json.dumps(small.endpoints("echo"))
