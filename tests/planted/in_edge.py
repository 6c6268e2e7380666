"""Bugs of the edge: what is let in, from whom, how slowly, and what may be called from here."""

from __future__ import annotations

from tests.planted.bug import Bug, Edit
from tests.planted.finders import CORE, HTTP, INGRESS

ROOM, BATCHES, SUBMISSION = "ingress/room.py", "ingress/batches.py", "ingress/submission.py"
PACE, TRANSPORT = "forebay/pace.py", "forebay/http/transport.py"
PROTOCOL, CONNECTIONS = "ingress/protocol.py", "ingress/connections.py"
WAITING_PLACES = "ingress/waiting_places.py"

_PRESSURE_BUGS = (
    Bug(
        "what came in since the census is forgotten",
        "I7",
        (Edit(ROOM, "        self._entered.update(wanted)\n", ""),),
        (INGRESS,),
    ),
    Bug(
        "a census of yesterday is believed",
        "I7",
        (Edit(ROOM, "        if is_first:\n", "        if False:\n"),),
        (INGRESS,),
    ),
    Bug(
        "a census holds for ever",
        "I7",
        (
            Edit(
                ROOM,
                "holds = self._clock() - self._heard_at < HOLDS_S",
                "holds = self._heard_at > 0",
            ),
        ),
        (INGRESS,),
    ),
    Bug(
        "a batch takes more than the room there is",
        "I7",
        (
            Edit(
                BATCHES,
                "wanted = self._room.wanted(*drafts.values())",
                "wanted = Counter[Route]()",
            ),
        ),
        (INGRESS,),
    ),
    Bug(
        "a known key is refused when it is full",
        "I9",
        (
            Edit(
                SUBMISSION,
                "                self._room.enter(wanted)\n            except",
                "            except",
            ),
            Edit(
                SUBMISSION,
                "            accepted = await self._store_once(job, origin)\n",
                "            self._room.enter(wanted)\n"
                "            accepted = await self._store_once(job, origin)\n",
            ),
        ),
        (INGRESS,),
    ),
    Bug(
        "a known key is refused when the quota of open jobs is used up",
        "I9",
        (
            Edit(
                SUBMISSION,
                "await places.enter_async_context(self._open_jobs.room(origin.key))\n"
                "                wanted",
                "wanted",
            ),
            Edit(
                SUBMISSION,
                "            accepted = await self._store_once(job, origin)\n",
                "            await places.enter_async_context(self._open_jobs.room(origin.key))\n"
                "            accepted = await self._store_once(job, origin)\n",
            ),
        ),
        (INGRESS,),
    ),
    Bug(
        "repeats of one job take the room of others",
        "I7",
        (
            Edit(
                SUBMISSION,
                "        if accepted.replayed:\n            self._room.leave(wanted)\n",
                "",
            ),
        ),
        (INGRESS,),
    ),
    Bug(
        "an idle time is taken for all that the workers bear",
        "I7",
        (Edit(PACE, "not 0 <= count < there.ready", "count < 0"),),
        (CORE,),
    ),
    Bug(
        "workers that are away are a rate of nearly nothing",
        "I7",
        (Edit(PACE, "            if count:\n", "            if True:\n"),),
        (CORE,),
    ),
)

_CONNECTION_BUGS = (
    Bug(
        "a head may take as long as it likes",
        "I7",
        (Edit(PROTOCOL, "now - self._head_since > settings.head_timeout_s", "False"),),
        (INGRESS,),
    ),
    Bug(
        "a byte between two requests keeps a connection for ever",
        "I7",
        (Edit(PROTOCOL, "if not self._in_message and self._head_since is None:", "if False:"),),
        (INGRESS,),
    ),
    Bug(
        "a body may go on after its answer",
        "I7",
        (Edit(PROTOCOL, "now - self._late_since > LATE_BODY_S", "False"),),
        (INGRESS,),
    ),
    Bug(
        "who takes nothing of an answer is waited for",
        "I7",
        (Edit(PROTOCOL, "now - self._stuck[0] > settings.write_timeout_s", "False"),),
        (INGRESS,),
    ),
    Bug(
        "who reads slowly is taken for who reads nothing",
        "I7",
        (Edit(PROTOCOL, "if 0 < waits <= waited - PROGRESS_BYTES:", "if False:"),),
        (INGRESS,),
    ),
    Bug(
        "slow callers take every place",
        "I7",
        (Edit(CONNECTIONS, "and not self._make_way()", "and True"),),
        (INGRESS,),
    ),
    Bug(
        "any number of connections is taken",
        "I7",
        (Edit(CONNECTIONS, "if len(self._open) >= self._most", "if False"),),
        (INGRESS,),
    ),
    Bug(
        "callers who wait take every place",
        "I7",
        (Edit(WAITING_PLACES, "SHARE = 0.8", "SHARE = 1.0"),),
        (INGRESS,),
    ),
    Bug(
        "one tenant takes every place there is to wait in",
        "I7",
        (Edit(WAITING_PLACES, "0 if caller.key is None else self._taken[caller.tenant]", "0"),),
        (INGRESS,),
    ),
)

_TEXT_BUGS = (
    Bug(
        "what a model wrote is read by a parser that refuses half of a character",
        "I3",
        (
            Edit(
                "ingress/routes/events.py",
                'text = json.loads(result).get("content")',
                'text = __import__("pydantic_core").from_json(result).get("content")',
            ),
        ),
        (INGRESS,),
    ),
)

_GUARD_BUGS = (
    Bug(
        "of a name's answers only the first is judged",
        "S2",
        (
            Edit(
                "forebay/addresses.py",
                "[judge(address) for address in addresses]",
                "[judge(address) for address in list(addresses)[:1]]",
            ),
        ),
        (HTTP,),
    ),
    Bug(
        "a name is judged once and connected to for ever",
        "S2",
        (Edit(TRANSPORT, "use_dns_cache=self._guard is None", "use_dns_cache=True"),),
        (HTTP,),
    ),
    Bug(
        "the socket is not judged",
        "S2",
        (Edit(TRANSPORT, "None if gates is None else gates.make_socket", "None"),),
        (HTTP,),
    ),
    Bug(
        "what a name resolves to is not judged",
        "S2",
        (
            Edit(
                TRANSPORT,
                "        if reason is not None:\n            raise AddressForbidden(reason)\n"
                "        if self._guard.allows",
                "        if self._guard.allows",
            ),
        ),
        (HTTP,),
    ),
)

EDGE_BUGS = (*_PRESSURE_BUGS, *_CONNECTION_BUGS, *_TEXT_BUGS, *_GUARD_BUGS)
