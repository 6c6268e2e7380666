"""What the pages about deployment tell a reader to type is there: paths, names, verbs, keys."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
import yaml
from pydantic import ValidationError

from forebay.cli.verbs import app
from forebay.cluster.secrets import SECRETS
from forebay.jobs import JobKind
from forebay.requests import CrawlRequest, LlmRequest, SearchRequest
from forebay.telemetry.metrics import Metrics
from scripts.reference_pages import ROOT, settings_groups
from tests.deploy.manifests.network import NAMESPACE_NAME, End, Flow, allowed, ends, policies
from tests.deploy.manifests.objects import pods
from tests.deploy.manifests.rendering import KUBECTL, Object, Render, render
from tests.deploy.manifests.workbench import changed

from .commands import PAGES, Command, blocks, exists, of_program, overlay_of_the_reader, text

TRY_OUT, PRODUCTION = "k8s", "k8s/overlays/production"
OURS = "deploy/k8s/overlays/ours"
KEYS = {f"forebay-{kind}-keys" for kind in ("search", "crawler", "llm")}
"""Secrets that the reader makes."""
SHORT = {
    "deploy": "deployment", "deployments": "deployment", "svc": "service", "pods": "pod",
    "jobs": "job", "secrets": "secret", "scaledobjects": "scaledobject",
}  # fmt: skip
KINDS = {"deployment", "statefulset", "service", "job", "secret", "scaledobject", "pod"}


def names_in(one: Render) -> set[tuple[str, str]]:
    found = {(each["kind"].lower(), each["metadata"]["name"]) for each in one.objects}
    for each in one.of_kind("StatefulSet"):
        found |= {("pod", f"{each['metadata']['name']}-0")}
    return found


@cache
def known() -> set[tuple[str, str]]:
    secrets = {secret.name for secret in SECRETS} | KEYS
    made = names_in(render(TRY_OUT)) | names_in(render(PRODUCTION))
    return made | {("secret", name) for name in secrets}


def objects_of(command: Command) -> list[tuple[str, str]]:
    """What a kubectl command names, as kind and name; `logs` and `exec` mean a pod."""
    words = [SHORT.get(word, word) for word in _without_values(command)]
    found = []
    for word in words:
        kind, slash, name = word.partition("/")
        if slash and SHORT.get(kind, kind) in KINDS and not name.startswith("<"):
            found.append((SHORT.get(kind, kind), name))
    named = next((n for n, word in enumerate(words) if word in KINDS), None)
    verb = words[1] if len(words) > 1 else ""
    if named is not None and verb not in {"create", "run"} and "--all" not in command.words:
        found += [(words[named], name) for name in words[named + 1 :] if re.match("[a-z]", name)]
    if verb == "exec" and "/" not in words[2]:
        found.append(("pod", words[2]))
    return found


def _without_values(command: Command) -> list[str]:
    """The words without options and what belongs to them."""
    takes = {"-n", "--namespace", "-o", "-k", "-f", "-c", "--username", "--password"}
    words, skip = [], False
    for word in command.words:
        if word in {"--", ">", "<"}:
            break
        if not skip and not word.startswith("-"):
            words.append(word)
        skip = word in takes
    return words


def test_the_pages_have_commands_to_check() -> None:
    assert len(of_program("kubectl")) > 25
    assert len([name for one in of_program("kubectl") for name in objects_of(one)]) > 15
    assert of_program("forebay")
    assert len(of_program("curl")) > 5


@pytest.mark.parametrize("page", PAGES)
def test_every_path_is_there(page: str) -> None:
    paths = re.findall(r"(?<![\w/.-])((?:deploy|docs|tests|loadtest|scripts)/[\w./-]+)", text(page))
    missing = [path for path in paths if not exists(path) and "/ours" not in path]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page}: {target}"


def anchors(file: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


def test_every_object_a_command_names_is_in_the_manifests() -> None:
    unknown = [
        f"{command}: {kind} {name}"
        for command in of_program("kubectl")
        for kind, name in objects_of(command)
        if (kind, name) not in known()
    ]
    assert unknown == []


def test_a_name_that_is_not_there_would_be_seen() -> None:
    typed = Command("here", ("kubectl", "-n", "forebay", "rollout", "status", "deployment", "gone"))
    assert objects_of(typed) == [("deployment", "gone")]
    assert ("deployment", "gone") not in known()
    slashed = Command("here", ("kubectl", "logs", "job/gone"))
    assert objects_of(slashed) == [("job", "gone")]


def test_commands_work_in_the_namespace_of_the_manifests() -> None:
    for command in of_program("kubectl"):
        namespace = command.option("-n", "--namespace")
        # `my-app` stands for a caller's.
        assert namespace in {None, "forebay", "my-app"}, command
        if namespace is None:
            assert {"apply", "create", "delete", "label", "run", "kubectl"} & set(
                command.words[:2]
            ) - {"kubectl"} or len(command.words) == 1, command


def test_every_kustomization_that_is_applied_renders(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    subprocess.run(["bash", "-euc", overlay_of_the_reader()], cwd=tmp_path, check=True)
    named = {one.option("-k") for one in of_program("kubectl") if "-k" in one.words} - {None}
    assert OURS in named
    for folder in sorted(str(one) for one in named):
        done = subprocess.run(
            [KUBECTL, "kustomize", tmp_path / folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        if folder == OURS:
            check_overlay_of_the_reader(list(yaml.safe_load_all(done.stdout)))


def check_overlay_of_the_reader(objects: list[Object]) -> None:
    """Its settings arrive, its image is used, and the quota holds."""
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    (settings,) = (
        one["data"]
        for (kind, _), one in by_name.items()
        if kind == "ConfigMap" and "FOREBAY_LLM_CONCURRENCY" in one["data"]
    )
    scaled = by_name["ScaledObject", "llm-worker"]
    concurrency = int(settings["FOREBAY_LLM_CONCURRENCY"])
    quota = int(scaled["metadata"]["annotations"]["forebay.dev/provider-quota"])
    assert 2 * scaled["spec"]["maxReplicaCount"] * concurrency <= quota
    worker = by_name["Deployment", "llm-worker"]["spec"]["template"]["spec"]["containers"][0]
    assert worker["image"].startswith("registry.example.com/forebay:")


def test_forwarded_ports_are_ports_of_the_service() -> None:
    forwards = [one for one in of_program("kubectl") if "port-forward" in one.words]
    assert forwards
    for command in forwards:
        service = command.plain[-2].removeprefix("service/")
        port = int(command.plain[-1].rpartition(":")[2])
        found = render(TRY_OUT).find("Service", service)
        assert found is not None, command
        assert port in {one["port"] for one in found["spec"]["ports"]}, command


def test_keys_that_are_read_are_keys_of_the_secret() -> None:
    keys = {secret.name: set(secret.patterns) for secret in SECRETS}
    reads = [
        one for one in of_program("kubectl") if "jsonpath" in str(one) and "secret" in one.words
    ]
    assert reads
    for command in reads:
        name = command.plain[command.plain.index("secret") + 1]
        (key,) = re.findall(r"\.data\.(.+)\}", command.option("-o") or "")
        assert key.replace("\\", "") in keys[name], command


def test_secrets_that_the_reader_makes_are_read_by_a_worker() -> None:
    creates = [one for one in of_program("kubectl") if "generic" in one.words]
    assert {one.plain[one.plain.index("generic") + 1] for one in creates} == KEYS
    settings = {name.lower() for name in setting_names()}
    for command in creates:
        literal = command.option("--from-literal")
        assert literal is not None
        assert literal.partition("=")[0] in settings, command


def test_the_table_of_secrets_is_complete() -> None:
    table = text("docs/deploy.md").partition("secrets: begin")[2].partition("secrets: end")[0]
    shown = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            name, keys, _ = line.strip("| ").split(" | ")
            shown[name.strip("`")] = set(re.findall(r"`([^`]+)`", keys))
    assert shown == {secret.name: set(secret.patterns) for secret in SECRETS}


def test_claims_are_those_of_the_servers() -> None:
    (server,) = (
        one
        for one in render(TRY_OUT).of_kind("StatefulSet")
        if one["metadata"]["name"] == "mongodb"
    )
    (own,) = server["spec"]["volumeClaimTemplates"]
    assert f"persistentVolumeClaimName: {own['metadata']['name']}-mongodb-0\n" in text(
        "docs/backup.md"
    )
    (claim,) = manifests_in("docs/backup.md", "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == f"{own['metadata']['name']}-mongodb-0"
    assert {key: claim["spec"][key] for key in own["spec"]} == own["spec"]
    (operated,) = render(PRODUCTION).of_kind("MongoDBCommunity")
    (theirs,) = operated["spec"]["statefulSet"]["spec"]["volumeClaimTemplates"]
    assert f"`{theirs['metadata']['name']}-mongodb-0`" in text("docs/backup.md")


def manifests_in(page: str, kind: str) -> list[Object]:
    """The objects that a page gives to `kubectl create`."""
    scripts = "\n".join(textwrap.dedent(block) for block in blocks(page))
    texts = re.findall(r"<<'END'\n(.*?)\nEND\n", scripts, re.DOTALL)
    return [one for one in map(yaml.safe_load, texts) if one["kind"] == kind]


def test_the_container_that_dumps_is_there() -> None:
    of_mongodb = [
        one for one in of_program("kubectl") if "exec" in one.words and "mongodb-0" in one.words
    ]
    named = {one.option("-c") for one in of_mongodb}
    server = render(TRY_OUT).find("StatefulSet", "mongodb")
    assert server is not None
    assert named == {one["name"] for one in server["spec"]["template"]["spec"]["containers"]}


def test_every_verb_of_the_command_line_is_there() -> None:
    for command in all_forebay_commands():
        node: Any = typer.main.get_command(app)
        rest = list(command)
        while rest and hasattr(node, "commands") and rest[0] in node.commands:
            node = node.commands[rest.pop(0)]
        assert not hasattr(node, "commands"), f"forebay {' '.join(command)}"
        options = {name for parameter in node.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, command


def all_forebay_commands() -> list[list[str]]:
    """Those typed plainly, and those at the end of `docker run ... forebay:0.1.0 forebay ...`."""
    typed = of_program("forebay", "docs/operations.md")
    plain = [list(one.words[1:]) for one in typed if len(one.words) > 1]
    inside = [
        list(one.words[one.words.index("forebay") + 1 :])
        for one in of_program("docker")
        if one.words[1] == "run" and "forebay" in one.words
    ]
    return plain + inside


def test_every_curl_asks_for_what_the_api_has() -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    models = {"/v1/search": SearchRequest, "/v1/crawl": CrawlRequest, "/v1/llm": LlmRequest}
    for command in of_program("curl"):
        (url,) = (word for word in command.words if word.startswith("http"))
        path = re.sub(r"job_[0-9a-f]+", "{job_id}", re.sub(r"^http://[^/]+|\?.*$", "", url))
        body = command.option("-d")
        method = command.option("-X") or ("POST" if body else "GET")
        assert method.lower() in paths[path], command
        if path in models and command.page != "README.md":  # the README shows mistakes too
            assert body is not None
            models[path].model_validate_json(body)


def test_a_wrong_body_would_be_seen() -> None:
    with pytest.raises(ValidationError):
        SearchRequest.model_validate_json('{"qeury": "hydro power"}')


def setting_names() -> set[str]:
    return {
        f"{group.model_config.get('env_prefix', '')}{name}".upper()
        for group in settings_groups()
        for name in group.model_fields
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_is_one(page: str) -> None:
    named = set(re.findall(r"\bFOREBAY_[A-Z0-9_]+\b", text(page)))
    every = setting_names() | {f"FOREBAY_{kind.upper()}" for kind in JobKind}
    # What compose.yaml asks for is no setting of a process.
    every |= {"FOREBAY_SECRETS_DIR", *re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text())}
    assert {one for one in named if not one.endswith("_")} <= every


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_is_one(page: str) -> None:
    metrics = {
        sample
        for metric in Metrics().registry.collect()
        for sample in (metric.name, f"{metric.name}_total")
    }
    keys = {key for secret in SECRETS for key in secret.patterns}
    words = set(re.findall(r"`(forebay_\w+)", text(page)))
    assert words - metrics - keys == set()


def test_labels_of_namespaces_are_those_of_the_policies() -> None:
    policies = json.dumps(render(PRODUCTION).of_kind("NetworkPolicy"))
    named = set(re.findall(r"(forebay\.dev/may-\w+)=true", text("docs/deploy.md")))
    assert named == {"forebay.dev/may-submit", "forebay.dev/may-scrape"}
    for label in named:
        assert f'"{label}": "true"' in policies


def test_composition_has_the_services_and_profiles() -> None:
    composed: Mapping[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    profiles = {name for one in composed["services"].values() for name in one.get("profiles", ())}
    said = text("docs/deploy.md").partition("## Docker Compose")[2].partition("\n## ")[0]
    assert set(re.findall(r"--scale (\w+)=", said)) <= set(composed["services"])
    for profile in profiles:
        assert f"--profile {profile} " in said


def test_images_and_jobs_are_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    for page in ("docs/deploy.md", "docs/backup.md"):
        tags = set(re.findall(r"(?<![\w/-])forebay:([\w.]+)", text(page)))
        assert tags <= {version[1]}
        jobs = set(re.findall(r"[a-z]+-v(\d+-\d+-\d+)", text(page)))
        assert jobs <= {version[1].replace(".", "-")}


def test_every_component_of_production_is_described() -> None:
    production = yaml.safe_load((ROOT / "deploy" / PRODUCTION / "kustomization.yaml").read_text())
    listed = {Path(one).name for one in production["components"]}
    assert (
        set(
            re.findall(
                r"^\| `([\w-]+)` \| .* \| .* \|$",
                text("docs/deploy.md").partition("### Secrets")[0],
                re.MULTILINE,
            )
        )
        == listed
    )


def test_the_policy_for_a_receiver_in_the_cluster_opens_it_to_webhooks_alone() -> None:
    (shown,) = (one for one in blocks("docs/deploy.md") if "name: webhooks-to-the-shop" in one)
    where = changed(render(PRODUCTION), lambda bench: bench.add(yaml.safe_load(shown)))
    shop = End("shop", "10.244.9.9", {"app": "shop"}, "my-app", {NAMESPACE_NAME: "my-app"})
    callers = {
        name
        for name, source in ends(where).items()
        if allowed(policies(where), Flow(source, shop, 8000))
    }
    assert callers == {"webhook-worker"}
    assert "FOREBAY_WEBHOOK_ALLOW_HOSTS=shop.my-app:8000" in text("docs/deploy.md")


def test_the_operators_are_those_whose_schemas_are_checked() -> None:
    schemas = (ROOT / "tests" / "deploy" / "schemas" / "README.md").read_text(encoding="utf-8")
    checked = set(re.findall(r"^\| `.*\| (.+) ([\d.]+) \|$", schemas, re.MULTILINE))
    steps = text("docs/deploy.md").partition("**1. The operators**")[2].partition("**2.")[0]
    shown = re.findall(r"^\| ([\w ]+) \| ([\d.]+) \| (.*) \|$", steps, re.MULTILINE)
    assert {(name, version) for name, version, _ in shown} == checked
    for _, version, how in shown:
        assert version in how or "http" not in how


def test_the_try_out_asks_for_no_more_than_is_said() -> None:
    said = re.search(r"at most (\d+) cores? and (\d+) GB", text("docs/deploy.md"))
    assert said is not None
    cores = memory = 0.0
    for pod in pods(render(TRY_OUT)):
        for container in pod.containers:
            requests = container.spec["resources"]["requests"]
            copies = pod.owner["spec"].get("replicas", 1)
            cores += copies * amount(requests["cpu"])
            memory += copies * amount(requests["memory"])
    assert 0 < cores <= int(said[1])
    assert 0 < memory <= int(said[2]) * 1e9


def amount(quantity: str) -> float:
    """A Kubernetes quantity, in cores or bytes."""
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(quantity)).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}[unit]
