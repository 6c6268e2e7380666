"""Which jobs may be what kills their workers, so that they do not take others along.

Theory of operation. A job can kill the process that works on it: an input that exhausts the
memory, or crashes a library. Whatever runs beside it then loses an attempt too, and after a few
rounds every neighbor would have failed with it. From the outside all of them look alike: their
leases ran out. So a job that lost its worker *twice in a row* is a suspect, and a worker runs at
most one suspect at a time, beside any number of others. The guilty one then dies with nobody who
was there the last times; the others run one by one and succeed.

Once in a row is enough when the attempt to come is the last: a neighbor must not lose that one.

Why not always once: an ordinary crash, a killed node or a store that was away for longer than a
lease takes an attempt from everything in flight, and running all of that one by one would make the
recovery as slow as a single call after another. Twice in a row is rare by chance.

What it costs, and its limits:

- a job that shares its worker with a guilty one loses at most two attempts to it, and never its
  last one to a suspect if it is one itself. A job with one attempt alone (`max_attempts` 1), or
  with one left after failures of its own, has nothing to lose first: it shares its neighbor's fate.
- while one suspect runs, the others of this worker wait in the store, unclaimed and uncounted.
- snoozed and handed back attempts say nothing about the job and are passed over. Generations are
  not told apart: a job that is retried by hand after it killed its workers is a suspect at once.

The rule stands here twice, for the memory store and for the database; the contract suite holds the
two to the same answers.
"""

from __future__ import annotations

from forebay.jobs import Job
from forebay.store.documents import Document

_LOST = "lease_lost"
_SAYS_NOTHING = ("snoozed", "handed_back")
_MANY = 2


def is_suspect(job: Job) -> bool:
    """Whether the attempt to come should run without another suspect beside it.

    The job is as it is before that attempt's claim; a lease that it still has is a lost one.
    """
    lost = 0 if job.lease is None else 1
    for attempt in reversed(job.history):
        if attempt.outcome == _LOST:
            lost += 1
        elif attempt.outcome not in _SAYS_NOTHING:
            break
    last = job.attempts + 1 >= job.max_attempts
    return lost >= (1 if last else _MANY)


def suspect() -> Document:
    """The same as an expression of the database."""
    outcome = "$$this.outcome"
    counted = {
        "$reduce": {
            "input": "$history",
            "initialValue": 0,
            "in": {
                "$switch": {
                    "branches": [
                        {"case": {"$eq": [outcome, _LOST]}, "then": {"$add": ["$$value", 1]}},
                        {"case": {"$in": [outcome, [*_SAYS_NOTHING]]}, "then": "$$value"},
                    ],
                    "default": 0,
                }
            },
        }
    }
    lost_now = {"$cond": [{"$gt": ["$lease", None]}, 1, 0]}
    last = {"$gte": [{"$add": ["$attempts", 1]}, "$max_attempts"]}
    return {"$gte": [{"$add": [counted, lost_now]}, {"$cond": [last, 1, _MANY]}]}
