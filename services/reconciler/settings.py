"""How often each loop of the reconciler turns, and how much it takes at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from forebay.settings import SettingsGroup


class ReconcilerSettings(SettingsGroup):
    """The loops' pace. Each loop is safe to run in several reconcilers at once."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_RECONCILER_")

    relay_every_s: Annotated[float, Field(gt=0)] = 0.5
    """How often the relay looks; a job that waits for its time starts at most this late."""
    rescuer_every_s: Annotated[float, Field(gt=0)] = 1.0
    """How often the rescuer looks for leases that ran out and time limits that passed."""
    census_every_s: Annotated[float, Field(gt=0)] = 5.0
    """How often open jobs are counted, for the metrics and for the bound on how long jobs wait."""
    publish_after_s: Annotated[float, Field(ge=0)] = 5.0
    """A queued job is the relay's when nobody confirmed its message for this long.

    Too short, and a busy ingress and the relay publish the same jobs: at 2 s a burst of 500 on a
    starved machine was published nearly twice.
    """
    refiller_every_s: Annotated[float, Field(gt=0)] = 10.0
    """How often the refiller compares the store with the queues."""
    lost_after_s: Annotated[float, Field(gt=0)] = 40.0
    """A job that waits this long for a worker while its queue is empty is published again."""
    notifier_every_s: Annotated[float, Field(gt=0)] = 1.0
    """How often the notifier looks for jobs with an end of which nobody was told by webhook."""
    notify_after_s: Annotated[float, Field(ge=0)] = 2.0
    """How long the worker that ended a job has to make its webhook deliveries itself."""
    pruner_every_s: Annotated[float, Field(gt=0)] = 30.0
    """How often the pruner looks at a batch of the large results for what no job points to.

    At 30 s and a batch of 500 it sees 1.4 million pieces (of 1 MiB at most) in a day.
    """
    batch: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Jobs taken at once by a turn."""
