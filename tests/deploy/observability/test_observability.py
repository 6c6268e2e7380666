"""Alerts, dashboard and scraping: what they name exists, and the rules fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from forebay.errors import ErrorCode
from forebay.jobs import Event
from forebay.telemetry.metrics import Metrics
from scripts.reference_pages import settings_groups
from tests.deploy.compose.resolved import compose

ROOT = Path(__file__).parents[3]
HERE = ROOT / "deploy" / "observability"
DASHBOARD = json.loads((HERE / "grafana" / "dashboards" / "forebay.json").read_text())
ALERTS = yaml.safe_load((HERE / "alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
_WORDS = {"le", "job", "instance"}
"""Labels that Prometheus itself brings."""


def expressions() -> list[str]:
    """Every query of the alerts and of the dashboard."""
    panels = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    ]
    return [rule["expr"] for rule in RULES] + panels


@cache
def samples() -> dict[str, set[str]]:
    """Every series that Prometheus can ask for, with its labels."""
    found: dict[str, set[str]] = {}
    ours = Metrics()
    named = {
        one._name: set(one._labelnames) for one in vars(ours).values() if hasattr(one, "_name")
    }
    metrics: list[Metric] = list(ours.registry.collect())
    for metric in metrics:
        labels = named[metric.name]
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for ending in endings.get(metric.type, [""]):
            found[f"{metric.name}{ending}"] = labels
    return found


def unknown(expression: str) -> list[str]:
    """The metrics and labels in a query that no process has."""
    known = samples()
    names = set(re.findall(r"\bforebay_\w+", expression))
    labels = set().union(*(known.get(name, set()) for name in names)) | _WORDS
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    asked = {word.strip() for group in grouped for word in group.split(",")}
    asked |= {
        word
        for group in re.findall(r"\{([^}]*)\}", expression)
        for word in re.findall(r"(\w+)\s*[=!]", group)
    }
    return sorted(names - known.keys()) + sorted(asked - labels)


def test_every_metric_and_label_that_is_asked_for_exists() -> None:
    assert len(expressions()) > 25
    assert not {expression: wrong for expression in expressions() if (wrong := unknown(expression))}


@pytest.mark.parametrize(
    "planted",
    [
        "sum(forebay_jobs_opened)",
        "sum by (lan) (forebay_jobs_open)",
        'forebay_jobs_open{kinds="llm"}',
    ],
)
def test_a_metric_or_label_that_does_not_exist_is_seen(planted: str) -> None:
    assert unknown(planted)


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for one in expressions() for name in re.findall(r"\bforebay_\w+", one)}
    shown |= {name.removesuffix("_bucket") for name in shown}
    hidden = {
        metric.name
        for metric in Metrics().registry.collect()
        if not {metric.name, f"{metric.name}_total"} & shown
    }
    assert not hidden


def test_the_codes_in_alerts_are_codes_of_ours() -> None:
    asked = {
        code
        for rule in RULES
        for text in re.findall(r'code=~?"([^"]+)"', rule["expr"])
        for code in text.split("|")
    }
    problems = (ROOT / "docs" / "errors.md").read_text()
    assert asked
    assert all(code in list(ErrorCode) or f"| `{code}` |" in problems for code in asked)


def test_the_outcomes_in_queries_are_those_that_attempts_have() -> None:
    asked = {
        outcome
        for one in expressions()
        for braces in re.findall(r"forebay_attempts_total\{([^}]*)\}", one)
        for text in re.findall(r'outcome!?=~?"([^"]+)"', braces)
        for outcome in text.split("|")
    }
    assert {"succeeded", "retry_later", "failed"} <= asked
    assert asked <= {event.value.replace(" ", "_") for event in Event}


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}


def _scraped() -> dict[str, int]:
    """Host name and port of everything that is scraped in compose."""
    found: dict[str, int] = {}
    for job in yaml.safe_load((HERE / "prometheus.yml").read_text())["scrape_configs"]:
        for one in job.get("dns_sd_configs", ()):
            found |= dict.fromkeys(one["names"], one["port"])
        for one in job.get("static_configs", ()):
            found |= {
                host: int(port) for host, _, port in (t.partition(":") for t in one["targets"])
            }
    return found


def test_every_process_is_scraped_on_its_port() -> None:
    services = compose()["services"]
    probed = {
        name: int(service["environment"]["FOREBAY_PROBE_PORT"])
        for name, service in services.items()
        if "FOREBAY_PROBE_PORT" in (service.get("environment") or {}) and name != "ingress"
    }
    (ingress,) = [group for group in settings_groups() if group.__name__ == "IngressSettings"]
    port: Any = ingress.model_fields["port"].default
    assert _scraped() == {**probed, "ingress": port, "rabbitmq": 15692}


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    provisioning = HERE / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    (variable,) = DASHBOARD["templating"]["list"]
    assert variable["current"]["value"] == source["uid"]
    assert source["url"].startswith("http://prometheus:")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "forebay.yaml").read_text())[
        "providers"
    ]
    mounted = [volume["target"] for volume in compose()["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def promtool(*arguments: str | Path) -> str:
    """Prometheus' own check; skipped where it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian's package prometheus)")
    command = [found, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_prometheus_reads_its_configuration_and_the_alerts() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "config", HERE / "prometheus.yml")


def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", Path(__file__).parent / "alerts_test.yml")


def test_the_cluster_has_the_same_alerts() -> None:
    """`deploy/k8s/components/monitoring` holds them as an object, which kustomize cannot make."""
    manifest = ROOT / "deploy" / "k8s" / "components" / "monitoring" / "alerts.yaml"
    rule = yaml.safe_load(manifest.read_text())
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == ALERTS
