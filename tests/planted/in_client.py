"""Bugs of the Python client: a caller would lose, double or misread what the service did right."""

from __future__ import annotations

from tests.planted.bug import Bug, Edit
from tests.planted.finders import CLIENT

JOBS, BATCHES, EVENTS, LINES, PATIENCE, SUBMISSIONS, WEBHOOKS, WEBHOOK_VIEWS = (
    f"forebay/client/{name}.py"
    for name in (
        *("jobs", "batches", "events", "lines", "patience", "submissions"),
        *("webhooks", "webhook_views"),
    )
)

CLIENT_BUGS = (
    Bug(
        "the client repeats a submission without a key",
        "I9",
        (
            Edit(
                JOBS,
                "headers = JSON | (key_header(idempotency_key) if idempotency_key else new_key())",
                "headers = dict(JSON)",
            ),
        ),
        (CLIENT,),
    ),
    Bug(
        "the client repeats a batch with fewer lines",
        "I9",
        (Edit(SUBMISSIONS, "self._made.append(line)", "pass"),),
        (CLIENT,),
    ),
    Bug(
        "the client runs a job again whatever became of it",
        "C",
        (Edit(JOBS, '{"generation": str(seen.generation)}', "{}"),),
        (CLIENT,),
    ),
    Bug(
        "the client passes over Retry-After",
        "I7",
        (Edit(PATIENCE, "wish = trouble.retry_after_s", "wish = None"),),
        (CLIENT,),
    ),
    Bug(
        "the client repeats what does not pass",
        "I7",
        (Edit(PATIENCE, "if not trouble.passing or ", "if "),),
        (CLIENT,),
    ),
    Bug(
        "a broken stream begins anew",
        "C",
        (Edit(EVENTS, "if self._last_id:", "if False:"),),
        (CLIENT,),
    ),
    Bug(
        "a piece that is missing in a stream is not noticed",
        "C",
        (Edit(EVENTS, "if index != self._length:", "if False:"),),
        (CLIENT,),
    ),
    Bug(
        "what a former attempt wrote stays in the text",
        "C",
        (Edit(EVENTS, "self._written, self._length = [], 0", "pass"),),
        (CLIENT,),
    ),
    Bug(
        "results come twice when their stream breaks",
        "C",
        (Edit(BATCHES, "if line.id > last_id:", "if True:"),),
        (CLIENT,),
    ),
    Bug(
        "half a line of results is taken for a whole one",
        "C",
        (
            Edit(
                LINES,
                "            begun = [other]\n",
                "            begun = [other]\n    yield b''.join(begun)\n",
            ),
        ),
        (CLIENT,),
    ),
    Bug(
        "a lost answer makes a second webhook endpoint",
        "C",
        (Edit(WEBHOOKS, "text_of(body), headers=JSON, once=True", "text_of(body), headers=JSON"),),
        (CLIENT,),
    ),
    Bug(
        "a webhook's secret is in a dump of its view",
        "C",
        (Edit(WEBHOOK_VIEWS, 'when_used="json"', 'when_used="always"'),),
        (CLIENT,),
    ),
    Bug(
        "a delivery that is sent again because of a lost answer is an error",
        "C",
        (
            Edit(
                WEBHOOKS,
                "        except Conflict as refused:\n            if not refused.repeated:",
                "        except Conflict as refused:\n            if refused:",
            ),
        ),
        (CLIENT,),
    ),
)
