"""The whole overlay `local`, brought up once for all tests here."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .cluster import Cluster
from .engine import Engine
from .objects import Manifest, Objects, pods_of, render

ROOT = Path(__file__).parents[3]
OVERLAY = ROOT / "deploy/k8s/overlays/local"
UP_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Up:
    """A cluster that came up, and what was seen by then."""

    cluster: Cluster
    seconds: float
    """From nothing until every pod was ready and every Job had succeeded."""
    restarts: dict[str, int]
    manifests: list[Manifest]


@pytest.fixture(scope="session")
def rendered() -> list[Manifest]:
    """The objects of the try-out; FOREBAY_IMAGE names another image than the manifests'."""
    text = json.dumps(render(OVERLAY, kubectl()))
    chosen = os.environ.get("FOREBAY_IMAGE")
    if chosen:
        text = re.sub(r'"forebay:[^"]+"', json.dumps(chosen), text)
    found: list[Manifest] = json.loads(text)
    return found


def kubectl() -> Path:
    """The command beside this Python, or on the path."""
    found = Path(sys.executable).parent / "kubectl"
    anywhere = shutil.which("kubectl")
    if found.exists():
        return found
    if anywhere is None:
        pytest.skip("needs kubectl (the dependency group `deploy` has it)")
    return Path(anywhere)


@pytest.fixture(scope="session")
async def image(rendered: list[Manifest]) -> str:
    """Forebay's image; skips when one of the images is not there, because none is pulled."""
    templates = [template for _, template in pods_of(Objects(rendered))]
    needed = {one["image"] for template in templates for one in template["spec"]["containers"]}
    async with Engine() as engine:
        missing = [name for name in sorted(needed) if not await engine.has_image(name)]
    if missing:
        pytest.skip(f"needs Docker images: {', '.join(missing)}")
    found: str = next(name for name in needed if name.startswith("forebay:"))
    return found


@pytest.fixture(scope="session")
async def up(
    rendered: list[Manifest], image: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Up]:
    """The whole system, from `kubectl apply -k` of the try-out."""
    async with Cluster(rendered, tmp_path_factory.mktemp("cluster"), image) as cluster:
        seconds = await cluster.until_complete(UP_WITHIN_S)
        restarts = {pod.name: pod.restarts for pod in cluster.pods}
        yield Up(cluster, seconds, restarts, rendered)
