"""The small port of workers and reconciler."""

from __future__ import annotations

import socket

import httpx
import pytest

from forebay.errors import ConfigurationError
from forebay.probes import Probes
from forebay.settings import ProbeSettings
from forebay.telemetry.metrics import Metrics


async def test_liveness_asks_nobody_and_readiness_says_why_not() -> None:
    reasons: list[str | None] = ["not consuming", None]
    async with (
        Probes(ProbeSettings(), Metrics(), lambda: reasons[0]) as probes,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{probes.port}", trust_env=False) as client,
    ):
        assert (await client.get("/livez")).text == "ok\n"
        waiting = await client.get("/readyz")
        assert (waiting.status_code, waiting.text) == (503, "not consuming\n")
        reasons.pop(0)
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.text) == (200, "ok\n")


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.attempts.labels("search", "succeeded", "").inc()
    async with (
        Probes(ProbeSettings(), metrics, lambda: None) as probes,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{probes.port}", trust_env=False) as client,
    ):
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'forebay_attempts_total{code="",kind="search",outcome="succeeded"} 1.0' in answer.text


async def test_a_taken_port_is_said_plainly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"FOREBAY_PROBE_PORT: cannot .*:{port} "):
            async with Probes(ProbeSettings(probe_port=port), Metrics(), lambda: None):
                pass
