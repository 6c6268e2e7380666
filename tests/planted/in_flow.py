"""Bugs of what moves jobs: the workers, the ingress, the reconciler."""

from __future__ import annotations

from tests.planted.bug import Bug, Edit
from tests.planted.finders import (
    CORE,
    INGRESS,
    INGRESS_PROCESS,
    RECONCILER,
    SIMULATION,
    WORKER,
)

EXECUTION, CALL, POOL, VERDICT, ISOLATION = (
    f"forebay/worker/{name}.py" for name in ("execution", "call", "pool", "verdict", "isolation")
)
DOOR = "ingress/door.py"
PROCESS = "forebay/process.py"
RETRY = "forebay/retry.py"
RELAY, REFILLER, RESCUER, PRUNER, OUTBOX, LOOP, APP = (
    f"reconciler/{name}.py"
    for name in ("relay", "refiller", "rescuer", "pruner", "outbox", "loop", "app")
)
SUBMISSION, PUBLISHING = "ingress/submission.py", "ingress/publishing.py"
INGRESS_APP, SERVER = "ingress/app.py", "ingress/server.py"

_WRITE = "        written = await self._store_ending(job, verdict, attempt) is not None\n"

_WORKER_BUGS = (
    Bug(
        "a message is settled before the outcome is written",
        "I1",
        (Edit(EXECUTION, _WRITE, f"        await _settle(delivery, verdict)\n{_WRITE}"),),
        (WORKER, SIMULATION),
    ),
    Bug(
        "a message is given back before its job is",
        "I10",
        (
            Edit(
                EXECUTION,
                _WRITE,
                "        if verdict.event is Event.HANDED_BACK:\n"
                f"            await delivery.give_back()\n{_WRITE}",
            ),
        ),
        (WORKER,),
    ),
    Bug(
        "an attempt that lost its job buries the message",
        "I10",
        (
            Edit(
                EXECUTION,
                "        if written:\n            await _settle",
                "        if True:\n            await _settle",
            ),
        ),
        (WORKER,),
    ),
    Bug(
        "a message is acknowledged when it is claimed",
        "I1",
        (
            Edit(
                EXECUTION,
                "        await self._work(delivery, claim.job, abort)\n",
                "        await delivery.ack()\n"
                "        await self._work(delivery, claim.job, abort)\n",
            ),
        ),
        (WORKER, SIMULATION),
    ),
    Bug(
        "an outcome is written once or never",
        "I1",
        (
            Edit(
                EXECUTION,
                "self._patiently(self._store.finish, job.id, token, ending)\n"
                "        except Unstorable",
                "self._store.finish(job.id, token, ending)\n        except Unstorable",
            ),
        ),
        (WORKER, SIMULATION),
    ),
    Bug(
        "a claim that is asked again comes under another token",
        "I4",
        (Edit(EXECUTION, "            token,\n            suspects=", "            suspects="),),
        (WORKER,),
    ),
    Bug(
        "a worker does not renew its leases",
        "I4",
        (Edit(CALL, "until(job_id, self._lease_s / 3)", "until(job_id, 3600)"),),
        (WORKER,),
    ),
    Bug(
        "a worker does not hear that a job is to stop",
        "I4",
        (
            Edit(
                CALL,
                "if await self._stops.until(job_id, self._lease_s / 3):",
                "if await asyncio.sleep(self._lease_s / 3):",
            ),
        ),
        (WORKER,),
    ),
    Bug(
        "a call goes on after its lease is lost",
        "I4",
        (Edit(CALL, "                    raise LeaseGone", "                    continue"),),
        (WORKER,),
    ),
    Bug(
        "a call without an end is waited for",
        "I1",
        (Edit(CALL, "timeout=limit_s, return_when", "timeout=None, return_when"),),
        (WORKER,),
    ),
    Bug(
        "a call that was cut off is not counted",
        "I4",
        (
            Edit(
                VERDICT,
                "return Verdict(event=Event.HANDED_BACK)\n",
                "return Verdict(event=Event.HANDED_BACK, uncount=True)\n",
            ),
        ),
        (WORKER, SIMULATION),
    ),
    Bug(
        "a stop repeats a call that must not be repeated",
        "I4",
        (Edit(VERDICT, "if job.on_unknown is OnUnknown.FAIL:", "if False:"),),
        (WORKER,),
    ),
    Bug(
        "a stop acknowledges what it did not do",
        "I1",
        (
            Edit(
                POOL,
                'asyncio.create_task(delivery.give_back(), name="give back")',
                'asyncio.create_task(delivery.ack(), name="give back")',
            ),
        ),
        (WORKER,),
    ),
    Bug(
        "a worker takes on more calls than it may",
        "I7",
        (Edit(POOL, "while self.free > 0 and", "while"),),
        (WORKER,),
    ),
    Bug(
        "what can pass is tried again without end",
        "I4",
        (
            Edit(
                RETRY,
                "if not error.retryable or attempts >= max_attempts:",
                "if not error.retryable:",
            ),
        ),
        (CORE, WORKER),
    ),
    Bug(
        "what cannot pass is tried again",
        "I4",
        (
            Edit(
                RETRY,
                "if not error.retryable or attempts >= max_attempts:",
                "if attempts >= max_attempts:",
            ),
        ),
        (CORE,),
    ),
    Bug(
        "a provider's Retry-After is passed over",
        "I7",
        (Edit(RETRY, "if retry_after_s is None:", "if True:"),),
        (CORE,),
    ),
)

_SUSPECT_BUGS = (
    Bug(
        "a worker runs suspects beside each other",
        "I4",
        (Edit(ISOLATION, "mine = not self._taken", "mine = True"),),
        (WORKER, SIMULATION),
    ),
    Bug(
        "a worker does not ask whether a job is a suspect",
        "I4",
        (
            Edit(
                EXECUTION,
                "self._claim(message, suspects=False)",
                "self._claim(message, suspects=True)",
            ),
        ),
        (WORKER, SIMULATION),
    ),
)

_STOP_BUGS = (
    Bug(
        "a second signal is nothing new",
        "I7",
        (Edit(PROCESS, "            self.end_now.set()\n", "            self.drain.set()\n"),),
        (INGRESS,),
    ),
    Bug(
        "a drain does not hear a second signal",
        "I7",
        (
            Edit(
                POOL,
                "await asyncio.wait({hurry, done}, timeout",
                "await asyncio.wait({done}, timeout",
            ),
        ),
        (WORKER,),
    ),
    Bug(
        "an ingress that was told to stop is gone at once",
        "I7",
        (Edit(SERVER, "asyncio.timeout(self._lame_duck_s)", "asyncio.timeout(0)"),),
        (INGRESS, INGRESS_PROCESS),
    ),
    Bug(
        "an ingress that was told to stop does not let its connections go",
        "I7",
        (Edit(SERVER, "        self._ask_to_let_go()\n", ""),),
        (INGRESS,),
    ),
    Bug(
        "an ingress that was told to stop says that it is ready",
        "I7",
        (Edit(INGRESS_APP, "    services.readiness.leave()\n", ""),),
        (INGRESS_PROCESS,),
    ),
)

_RECONCILER_BUGS = (
    Bug(
        "the relay does not look for what nobody published",
        "I1",
        (
            Edit(
                RELAY,
                'more_left = await self._publish("unpublished", left)',
                "more_left = len(left) < 0",
            ),
        ),
        (RECONCILER,),
    ),
    Bug(
        "the relay does not look for what is due",
        "I1",
        (
            Edit(
                RELAY,
                "due = await self._store.queue_due(self._batch)",
                "due: Sequence[JobRef] = ()",
            ),
        ),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "the relay takes what was refused for published",
        "I1",
        (
            Edit(
                OUTBOX,
                "confirmed = [ref for ref, why_not in pairs if why_not is None]",
                "confirmed = [*refs]",
            ),
        ),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "the refiller refills nothing",
        "I1",
        (Edit(REFILLER, "for route in _ROUTES:", "for route in ():"),),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "the refiller refills queues that are not empty",
        "I10",
        (Edit(REFILLER, "if there == 0:", "if there is not None:"),),
        (RECONCILER,),
    ),
    Bug(
        "the refiller does not notice what was overtaken",
        "I1",
        (
            Edit(
                REFILLER,
                "more = await self._refill_overtaken(route) or more",
                "pass",
            ),
        ),
        (RECONCILER,),
    ),
    Bug(
        "the refiller does not notice that a queue is too short",
        "I1",
        (
            Edit(
                REFILLER,
                "more = await self._refill_short(route, there)\n",
                "more = False\n",
            ),
        ),
        (RECONCILER,),
    ),
    Bug(
        "the rescuer sends no letter for what it fails",
        "I10",
        (Edit(RESCUER, "for one in rescued if one.dead_lettered]", "for one in ()]"),),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "the pruner looks at the first results for ever",
        "I7",
        (Edit(PRUNER, "        self._after = pruned.reached\n", ""),),
        (RECONCILER,),
    ),
    Bug(
        "the rescuer leaves leases that ran out",
        "I1",
        (
            Edit(
                RESCUER,
                "rescued = await self._store.rescue(self._batch)",
                "rescued = await self._store.rescue(0)",
            ),
        ),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "the rescuer leaves jobs that are out of time",
        "I1",
        (Edit(RESCUER, "expired = await self._store.expire(self._batch)", "expired = 0"),),
        (RECONCILER,),
    ),
    Bug(
        "a loop ends with its first failure",
        "I1",
        (
            Edit(
                LOOP,
                "    except ForebayError as error:\n",
                "    except StopAsyncIteration as error:\n",
            ),
            Edit(LOOP, "    except Exception:\n", "    except LookupError:\n"),
        ),
        (RECONCILER, SIMULATION),
    ),
    *(
        Bug(
            f"the reconciler does not start its {loop}",
            "I1",
            (Edit(APP, f'        "{loop}": ({loop}.turn, settings.{loop}_every_s),\n', ""),),
            (RECONCILER,),
        )
        for loop in ("relay", "rescuer", "refiller", "pruner")
    ),
)

_INGRESS_BUGS = (
    Bug(
        "the 202 goes out before the commit",
        "I2",
        (
            Edit(
                SUBMISSION,
                "            if isinstance(await self._commit.insert(job), Inserted):\n",
                "            if asyncio.ensure_future(self._commit.insert(job)):\n",
            ),
        ),
        (INGRESS, SIMULATION),
    ),
    Bug(
        "another body under the same key is the same job",
        "I9",
        (
            Edit(
                SUBMISSION, "if held is None or held.idempotency == origin.idempotency:", "if True:"
            ),
        ),
        (INGRESS,),
    ),
    Bug(
        "accepts are taken without bound",
        "I7",
        (Edit(SUBMISSION, "if len(self._began) >= self._settings.max_pending:", "if False:"),),
        (INGRESS,),
    ),
    Bug(
        "a submission that will come too late is read all the same",
        "I7",
        (Edit(DOOR, "if services_of(request).desk.is_behind:", "if False:"),),
        (INGRESS,),
    ),
    Bug(
        "the ingress takes what was refused for published",
        "I1",
        (
            Edit(
                PUBLISHING,
                "zip(refs, outcomes, strict=True) if why_not is None]",
                "zip(refs, outcomes, strict=True)]",
            ),
        ),
        (INGRESS, SIMULATION),
    ),
)

FLOW_BUGS = (*_WORKER_BUGS, *_SUSPECT_BUGS, *_RECONCILER_BUGS, *_INGRESS_BUGS, *_STOP_BUGS)
