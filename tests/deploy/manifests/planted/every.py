"""All planted mistakes."""

from __future__ import annotations

from tests.deploy.manifests.planted import (
    broker,
    clusters,
    images,
    lifecycle,
    probes,
    references,
    scaling,
    security,
    settings,
)
from tests.deploy.manifests.planted.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = (
    *broker.MISTAKES,
    *clusters.MISTAKES,
    *images.MISTAKES,
    *lifecycle.MISTAKES,
    *probes.MISTAKES,
    *references.MISTAKES,
    *scaling.MISTAKES,
    *security.MISTAKES,
    *settings.MISTAKES,
)
