"""All planted bugs.

The promises they break (docs/guarantees.md):

I1   every accepted job reaches exactly one terminal state
I2   no accepted job is missing from the store
I3   at most one stored result per job, and one if and only if it succeeded
I4   at most `max_attempts` calls, none for a job that is over or out of time, none without need
I5   nothing of one tenant reaches another
I6   every end that somebody asked about is told, under one id, signed by its owner's secret
I7   work in flight stays bounded, and refusals are obeyed
I9   the same Idempotency-Key is the same job
S2   no address that is denied is called
I10  after quiet no message is left and nothing waits to be published
C    what the client promises (docs/client.md)
"""

from __future__ import annotations

from tests.planted.bug import Bug
from tests.planted.in_access import ACCESS_BUGS
from tests.planted.in_broker import BROKER_BUGS
from tests.planted.in_client import CLIENT_BUGS
from tests.planted.in_edge import EDGE_BUGS
from tests.planted.in_flow import FLOW_BUGS
from tests.planted.in_store import STORE_BUGS
from tests.planted.in_webhooks import WEBHOOK_BUGS

BUGS: tuple[Bug, ...] = (
    *STORE_BUGS,
    *FLOW_BUGS,
    *EDGE_BUGS,
    *BROKER_BUGS,
    *WEBHOOK_BUGS,
    *ACCESS_BUGS,
    *CLIENT_BUGS,
)
