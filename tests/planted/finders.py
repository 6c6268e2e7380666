"""The suites that look for planted bugs, in the order of what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finder:
    """A selection of the tests, as pytest takes it."""

    name: str
    arguments: tuple[str, ...]
    limit_s: float = 900.0
    """A run that takes longer proves nothing."""
    own_servers: bool = False
    """It needs the command line of its broker, so it starts servers of its own."""

    @property
    def options(self) -> list[str]:
        """What else it is told, whichever tests are chosen."""
        return [one for one in self.arguments if one.startswith("--")]

    @property
    def path(self) -> Path:
        """What it needs in the checkout."""
        return Path(self.arguments[0])


CORE = Finder("core", ("tests/unit/core",))
BROKER = Finder("broker", ("tests/unit/broker",))
RECONCILER = Finder("reconciler", ("tests/unit/reconciler",))
STORE = Finder("store", ("tests/unit/store",))
CLIENT = Finder("client", ("tests/unit/client",))
WORKER = Finder("worker", ("tests/unit/worker",))
WEBHOOK_WORKER = Finder("webhook worker", ("tests/unit/webhook_worker",))
INGRESS = Finder("ingress", ("tests/unit/ingress", "-k", "not test_docs"))
HTTP = Finder("http and its address guard", ("tests/unit/http",))
IN_MEMORY = Finder("store contract in memory", ("tests/contract/store", "-k", "memory"))
ON_MONGODB = Finder("store contract on MongoDB", ("tests/contract/store", "-k", "pymongo"))
FAKE_BROKER = Finder("broker contract on the fake", ("tests/contract/broker", "-k", "fake"))
ON_RABBITMQ = Finder("broker contract on RabbitMQ", ("tests/contract/broker", "-k", "rabbitmq"))
DURABILITY = Finder(
    "durability of MongoDB",
    ("tests/integration/store", "-k", "(test_durability or test_prune) and not motor"),
)
SIMULATION = Finder("simulation", ("tests/simulation", "-k", "no_history", "--histories=1000"))
"""More than CI plays: some bugs show in one history of three hundred only."""
MODEL = Finder("model", ("tests/model",))
INGRESS_PROCESS = Finder(
    "ingress as a process", ("tests/integration/ingress", "-k", "lame_duck or second_signal")
)
ALARMS = Finder(
    "alarms and cuts on RabbitMQ",
    ("tests/contract/broker", "-k", "rabbitmq and (alarm or cut)"),
    own_servers=True,
)
FAULTS = Finder(
    "faults of a broker of its own",
    ("tests/integration/broker/test_faults.py", "-k", "frozen or canceled or deleted or deaf"),
)

FINDERS = (
    CORE,
    BROKER,
    RECONCILER,
    STORE,
    CLIENT,
    HTTP,
    WORKER,
    WEBHOOK_WORKER,
    INGRESS,
    IN_MEMORY,
    FAKE_BROKER,
    DURABILITY,
    ON_MONGODB,
    ON_RABBITMQ,
    MODEL,
    INGRESS_PROCESS,
    SIMULATION,
    ALARMS,
    FAULTS,
)
