"""Bugs of the store. Most go into the real one and the fake alike, so that both suites see them."""

from __future__ import annotations

from tests.planted.bug import Bug, Edit
from tests.planted.finders import (
    DURABILITY,
    IN_MEMORY,
    INGRESS,
    MODEL,
    ON_MONGODB,
    SIMULATION,
    STORE,
)

UPDATES, SELECTIONS, MONGO, MEMORY, MOVES = (
    f"forebay/store/{name}.py"
    for name in ("updates", "selections", "mongo/__init__", "memory", "moves")
)
REFUSALS, RESULTS, INDEXES = (
    f"forebay/store/{name}.py" for name in ("refusals", "results", "indexes")
)
SUSPECTS = "forebay/store/suspects.py"
EXPRESSIONS = "forebay/store/expressions.py"
CLIENT, COMMIT = (f"forebay/store/{name}.py" for name in ("client", "group_commit"))
BOTH = (IN_MEMORY, ON_MONGODB)

_CLAIM_BUGS = (
    Bug(
        "a claim takes the job of a live lease",
        "I4",
        (
            Edit(
                UPDATES,
                '        is_in(LAPSABLE),\n        has_passed("lease.until"),\n',
                "        is_in(LAPSABLE),\n",
            ),
            Edit(REFUSALS, "job.state in LAPSABLE and not lapsed(job, now)", "False"),
        ),
        (*BOTH, MODEL, SIMULATION),
    ),
    Bug(
        "a claim does not count the attempt",
        "I4",
        (
            Edit(UPDATES, '"attempts": {"$add": ["$attempts", 1]},', '"attempts": "$attempts",'),
            Edit(MEMORY, "attempts=job.attempts + 1,", "attempts=job.attempts,"),
        ),
        (*BOTH, MODEL),
    ),
    Bug(
        "a claim allows one attempt too many",
        "I4",
        (
            Edit(
                UPDATES,
                'any_of(waits, lapsed),\n            {"$lt": ["$attempts", "$max_attempts"]}',
                'any_of(waits, lapsed),\n            {"$lte": ["$attempts", "$max_attempts"]}',
            ),
            Edit(REFUSALS, "job.attempts >= job.max_attempts", "job.attempts > job.max_attempts"),
        ),
        (*BOTH, MODEL, SIMULATION),
    ),
    Bug(
        "a claim starts a job that is out of time",
        "I4",
        (
            Edit(UPDATES, "            negated(_out_of_time()),\n", ""),
            Edit(REFUSALS, "if out_of_time(job, now):", "if False:"),
        ),
        BOTH,
    ),
    Bug(
        "a claim starts a job that was asked to stop",
        "I4",
        (
            Edit(
                UPDATES,
                "if steps.get(Event.LEASE_LOST) in CLAIMABLE",
                "if Event.LEASE_LOST in steps",
            ),
        ),
        (*BOTH, MODEL),
    ),
    Bug(
        "a claim obeys a message of another generation",
        "I4",
        (
            Edit(
                UPDATES,
                '        "generation": ref.generation,\n        **in_states(CLAIMABLE | LAPSABLE),',
                "        **in_states(CLAIMABLE | LAPSABLE),",
            ),
            Edit(REFUSALS, "if job.generation != generation:", "if False:"),
        ),
        (*BOTH, MODEL),
    ),
    Bug(
        "a claim repeats a lost call that must not be repeated",
        "I4",
        (
            Edit(UPDATES, '{"$eq": ["$on_unknown", OnUnknown.RETRY.value]},', ""),
            Edit(REFUSALS, "job.state in LAPSABLE and job.on_unknown is OnUnknown.FAIL", "False"),
        ),
        (*BOTH, MODEL, SIMULATION),
    ),
    Bug(
        "a retrying job is claimed before its time",
        "I7",
        (
            Edit(UPDATES, ', any_of(not_in({JobState.RETRYING}), has_come("not_before"))', ""),
            Edit(REFUSALS, "return job.state is JobState.RETRYING and", "return False and"),
        ),
        BOTH,
    ),
)

_SUSPECT_BUGS = (
    Bug(
        "a claim for no suspects takes one",
        "I4",
        (
            Edit(
                UPDATES,
                "*([] if suspects else [negated(suspect())]),",
                "*([] if suspects else []),",
            ),
            Edit(
                REFUSALS,
                "return Refusal.SUSPECT if not suspects and is_suspect(job) else None",
                "return None",
            ),
        ),
        (*BOTH, MODEL, SIMULATION),
    ),
    Bug(
        "a suspect is one after three lost workers",
        "I4",
        (Edit(SUSPECTS, "_MANY = 2\n", "_MANY = 3\n"),),
        (*BOTH, SIMULATION),
    ),
)

_LEASE_BUGS = (
    Bug(
        "an ending is written without the lease's token",
        "I3",
        (
            Edit(
                UPDATES,
                '{"_id": job_id, "lease.token": token, **in_states(states)}',
                '{"_id": job_id, **in_states(states)}',
            ),
            Edit(
                MEMORY,
                " and job.lease is not None and job.lease.token == token\n        return job if",
                " and job.lease is not None\n        return job if",
            ),
        ),
        (*BOTH, MODEL),
    ),
    Bug(
        "the rescuer goes by a job's age and not by its lease",
        "I4",
        (
            Edit(
                UPDATES,
                'return {**in_states(LEASED), **passed("lease.until")}',
                'age = {"$subtract": [NOW, "$started_at"]}\n'
                '    return {**in_states(LEASED), "$expr": {"$gte": [age, 60_000]}}',
            ),
            Edit(
                MEMORY,
                "job.state in updates.LEASED and lapsed(job, now)",
                "job.state in updates.LEASED and job.started_at is not None"
                " and now - job.started_at >= timedelta(seconds=60)",
            ),
        ),
        BOTH,
    ),
    Bug(
        "the rescuer goes by the process's clock",
        "I4",
        (
            Edit(
                EXPRESSIONS,
                '"$expr": {"$lte": [f"${field}", NOW]}}',
                '"$expr": {"$lte": [f"${field}", datetime.now(UTC)]}}',
            ),
        ),
        (STORE, DURABILITY),
    ),
    Bug(
        "the rescuer queues a job without an attempt left",
        "I1",
        (
            Edit(
                UPDATES,
                'spent = {"$gte": ["$attempts", "$max_attempts"]}',
                'spent = {"$lt": ["$attempts", 0]}',
            ),
            Edit(MOVES, "spent = job.attempts >= job.max_attempts", "spent = False"),
        ),
        (*BOTH, MODEL, SIMULATION),
    ),
    Bug(
        "the rescuer repeats a call that must not be repeated",
        "I4",
        (
            Edit(
                UPDATES,
                'unrepeatable = {"$eq": ["$on_unknown", OnUnknown.FAIL.value]}',
                'unrepeatable = {"$eq": ["$on_unknown", "never"]}',
            ),
            Edit(MOVES, "elif job.on_unknown is OnUnknown.FAIL:", "elif False:"),
        ),
        BOTH,
    ),
)

_TENANT_BUGS = (
    Bug(
        "a job is shown to another tenant",
        "I5",
        (
            Edit(MONGO, '{"tenant": tenant, "_id": job_id}', '{"_id": job_id}'),
            Edit(
                MEMORY,
                "return job if job is not None and job.tenant == tenant else None",
                "return job",
            ),
        ),
        (*BOTH, INGRESS),
    ),
    Bug(
        "a list shows the jobs of all tenants",
        "I5",
        (
            Edit(SELECTIONS, '        {"tenant": query.tenant},\n', "        {},\n"),
            Edit(MEMORY, "if job.tenant == query.tenant and ", "if "),
        ),
        BOTH,
    ),
    Bug(
        "an idempotency key finds another tenant's job",
        "I5",
        (
            Edit(
                MONGO,
                'condition = {"tenant": tenant, "idempotency.key":',
                'condition = {"idempotency.key":',
            ),
            Edit(
                MEMORY,
                "job_id = self._keys.get((tenant, key))",
                "job_id = next((i for (_, k), i in self._keys.items() if k == key), None)",
            ),
        ),
        BOTH,
    ),
    Bug(
        "a tenant can change another's job",
        "I5",
        (
            Edit(
                UPDATES,
                '{"_id": job_id, "tenant": tenant, **in_states(states)}',
                '{"_id": job_id, **in_states(states)}',
            ),
            Edit(
                MEMORY,
                'JobStore.retry`."""\n        job = await self.get(tenant, job_id)',
                'JobStore.retry`."""\n        job = self._jobs.get(job_id)',
            ),
            Edit(
                MEMORY,
                'JobStore.cancel`."""\n        job = await self.get(tenant, job_id)',
                'JobStore.cancel`."""\n        job = self._jobs.get(job_id)',
            ),
            Edit(
                MEMORY,
                'JobStore.forget`."""\n        job = await self.get(tenant, job_id)',
                'JobStore.forget`."""\n        job = self._jobs.get(job_id)',
            ),
        ),
        BOTH,
    ),
)

_KEEPING_BUGS = (
    Bug(
        "a write counts when one member has it, outside its journal",
        "I2",
        (
            Edit(
                CLIENT,
                '"w": "majority",\n        "journal": True,',
                '"w": 1,\n        "journal": False,',
            ),
        ),
        (DURABILITY,),
    ),
    Bug(
        "two jobs can have one idempotency key",
        "I9",
        (
            Edit(
                INDEXES,
                'find_by_key",\n        {"unique": True, ',
                'find_by_key",\n        {',
            ),
            Edit(
                MEMORY,
                "if self._keys.setdefault(key, job.id) != job.id:",
                "self._keys.setdefault(key, job.id)\n            if False:",
            ),
        ),
        (*BOTH, SIMULATION),
    ),
    Bug(
        "a job that the store did not take counts as stored",
        "I2",
        (
            Edit(
                COMMIT,
                "            _fail(batch, away)\n",
                "            del away\n            for accept in batch:\n"
                "                accept.answer.set_result(Inserted())\n",
            ),
            Edit(COMMIT, "from forebay.store import ", "from forebay.store import Inserted, "),
        ),
        (STORE, INGRESS, SIMULATION),
    ),
    Bug(
        "a caller that leaves takes its neighbors' commit along",
        "I2",
        (Edit(COMMIT, "return await asyncio.shield(answer)", "return await answer"),),
        (STORE,),
    ),
    Bug(
        "a late confirm hides a later stay in the queue",
        "I1",
        (
            Edit(
                UPDATES,
                'stay = {} if ref.queued_at is None else {"queued_at": ref.queued_at}',
                "stay: Document = {}",
            ),
            Edit(MOVES, "return abs(job.queued_at - ref.queued_at) < _MILLISECOND", "return True"),
        ),
        (*BOTH, SIMULATION),
    ),
    Bug(
        "a job handed back counts as published",
        "I1",
        (
            Edit(
                UPDATES,
                'gone = ["lease"] if target.terminal else ["lease", "published_at"]',
                'gone = ["lease"]',
            ),
            Edit(MOVES, "    after = after.evolve(published_at=None)\n", ""),
        ),
        BOTH,
    ),
    Bug(
        "a wait ends before its time",
        "I7",
        (
            Edit(
                UPDATES,
                'return {**in_states(DUE_FROM), **passed("not_before")}',
                "return in_states(DUE_FROM)",
            ),
            Edit(MEMORY, "and job.not_before and job.not_before <= now", "and job.not_before"),
        ),
        (*BOTH, MODEL),
    ),
    Bug(
        "a retry by hand keeps the generation",
        "I3",
        (
            Edit(
                UPDATES,
                '"generation": {"$add": ["$generation", 1]},',
                '"generation": "$generation",',
            ),
            Edit(MOVES, "generation=job.generation + 1,", "generation=job.generation,"),
        ),
        (*BOTH, MODEL, SIMULATION),
    ),
    Bug(
        "the pruner removes results that their jobs point to",
        "I3",
        (
            Edit(
                RESULTS,
                "if job_id in wanted and token not in wanted[job_id]",
                "if job_id in wanted",
            ),
            Edit(
                MEMORY,
                "return job is not None and token not in tokens(job)",
                "return job is not None",
            ),
        ),
        BOTH,
    ),
    Bug(
        "the pruner removes the result that is being written",
        "I3",
        (
            Edit(
                RESULTS, 'for name in ("lease", "result_ref") if', 'for name in ("result_ref",) if'
            ),
        ),
        (DURABILITY,),
    ),
)

STORE_BUGS = (*_CLAIM_BUGS, *_SUSPECT_BUGS, *_LEASE_BUGS, *_TENANT_BUGS, *_KEEPING_BUGS)
