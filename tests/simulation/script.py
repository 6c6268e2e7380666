"""The faults that are planned: what befalls the processes and the servers, and when.

Each takes effect or waits for a moment in which it can: a purge of empty queues is none. What found
no such moment before the faults end is counted as missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

from forebay.broker.envelope import Envelope, seal
from forebay.broker.topology import routing_key
from forebay.jobs import JobKind, JobState, Lane

from .callers import replay
from .provider import LEASE_S
from .roles import Ingress, Role, Worker

if TYPE_CHECKING:
    from .world import World

Fault = Callable[["World", Random], Awaitable[bool]]
"""Do it now; False when it would have no effect now."""
FAULTS: dict[str, Fault] = {}
AGAIN_S = 0.2
KINDS = (JobKind.SEARCH, JobKind.LLM, JobKind.WEBHOOK)
ROUTES = [(kind, lane) for kind in KINDS for lane in Lane]


def fault(name: str) -> Callable[[Fault], Fault]:
    """Name a fault."""

    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


class Script:
    """The faults of one history."""

    def __init__(self, world: World, chance: Random) -> None:
        self.missed = 0
        self._world = world
        self._chance = chance
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, count: int, within_s: float) -> None:
        """Plan so many within that time."""
        for name in self._chance.choices([*FAULTS], k=count):
            chance = Random(self._chance.random())
            happen = self._happen(name, chance, self._chance.uniform(0, within_s))
            self._tasks.append(self._world.spawn(happen, f"fault: {name}"))

    async def _happen(self, name: str, chance: Random, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while not await FAULTS[name](self._world, chance):
            await asyncio.sleep(AGAIN_S)
            if self._world.fates.calm:
                self.missed += 1
                return
        self._world.injected[f"script: {name}"] += 1

    async def ended(self) -> None:
        """Wait until each has happened, or can no more."""
        await asyncio.gather(*self._tasks)


async def _for_a_while(world: World, chance: Random, most_s: float) -> None:
    """As long as the fault lasts, and no longer than faults last at all."""
    left = chance.uniform(0.5, most_s)
    while left > 0 and not world.fates.calm:
        await asyncio.sleep(min(left, 0.5))
        left -= 0.5


def fault_of_a_process(
    name: str, of: type[Role] = Role
) -> Callable[[Callable[[World, Random, Role], Awaitable[None]]], None]:
    """Name a fault that befalls one process of these, whichever runs then."""

    def register(function: Callable[[World, Random, Role], Awaitable[None]]) -> None:
        async def befall(world: World, chance: Random) -> bool:
            if not (running := world.running(of)):
                return False
            await function(world, chance, chance.choice(running))
            return True

        FAULTS[name] = befall

    return register


@fault_of_a_process("process killed")
async def _kill(world: World, chance: Random, role: Role) -> None:
    del chance
    world.kill(role.process)


@fault_of_a_process("process frozen")
async def _freeze(world: World, chance: Random, role: Role) -> None:
    process = role.process
    process.frozen = True
    world.note(f"{process.name} is frozen")
    if chance.random() < 0.5:
        world.cut_off(process)
    await _for_a_while(world, chance, 5 * LEASE_S)
    process.frozen = False
    world.note(f"{process.name} goes on")
    if not process.dead:
        process.go_on()


@fault_of_a_process("process told to stop")
async def _stop(world: World, chance: Random, role: Role) -> None:
    del chance
    world.note(f"{role.process.name} is told to stop")
    world.loop.call_soon(role.ask_to_stop, context=role.process.context)


@fault("connections cut")
async def _cut(world: World, chance: Random) -> bool:
    del chance
    if not world.broker.held:
        return False
    world.note("the broker's connections are cut")
    world.broker.cut()
    return True


@fault("broker stopped")
async def _broker_away(world: World, chance: Random) -> bool:
    if not world.broker.up:
        return False
    world.note("the broker stops")
    world.broker.stop()
    await _for_a_while(world, chance, 8.0)
    world.broker.start()
    return True


@fault("queues purged")
async def _purge(world: World, chance: Random) -> bool:
    del chance
    if not any(world.broker.waiting(*route) for route in ROUTES):
        return False
    world.note("the queues are purged")
    world.broker.purge()
    world.letters.purged()
    return True


@fault("broker wiped")
async def _wipe(world: World, chance: Random) -> bool:
    del chance
    if not world.broker.held and not any(world.broker.waiting(*route) for route in ROUTES):
        return False
    world.note("the broker loses all its messages")
    world.broker.cut()
    world.broker.purge()
    world.letters.purged()
    return True


@fault("queue missing")
async def _missing(world: World, chance: Random) -> bool:
    route = chance.choice(ROUTES)
    world.note(f"no queue {route}")
    world.broker.missing.add(route)
    await _for_a_while(world, chance, 6.0)
    world.broker.declare()
    return True


@fault("queue not bound")
async def _unbound(world: World, chance: Random) -> bool:
    route = chance.choice(ROUTES)
    world.note(f"no binding {route}")
    world.broker.unbound.add(route)
    await _for_a_while(world, chance, 6.0)
    world.broker.unbound.discard(route)
    return True


@fault("queues full")
async def _full(world: World, chance: Random) -> bool:
    world.broker.max_length = chance.randrange(2)
    await _for_a_while(world, chance, 8.0)
    world.broker.max_length = None
    return True


@fault("broker blocks publishers")
async def _blocked(world: World, chance: Random) -> bool:
    world.broker.blocked = True
    await _for_a_while(world, chance, 8.0)
    world.broker.blocked = False
    return True


@fault("confirms lost")
async def _unconfirmed(world: World, chance: Random) -> bool:
    world.broker.confirms_lost = True
    await _for_a_while(world, chance, 6.0)
    world.broker.confirms_lost = False
    return True


@fault("dead letters refused")
async def _not_buried(world: World, chance: Random) -> bool:
    world.broker.dead_letters_refused = True
    await _for_a_while(world, chance, 6.0)
    world.broker.dead_letters_refused = False
    return True


@fault("old messages come again")
async def _again(world: World, chance: Random) -> bool:
    if not world.published:
        return False
    for message in chance.choices(world.published, k=chance.randint(1, 5)):
        world.note(f"a message for {world.name_of(message.job_id)} comes again")
        world.broker.put(message.kind, message.lane, seal(message, "again"))
    return True


@fault("foreign message")
async def _foreign(world: World, chance: Random) -> bool:
    kind, lane = chance.choice(ROUTES)
    body = chance.choice([b"{}", b"\xff", b'{"job_id":"job_nobody_knows","generation":1}'])
    key, sender = routing_key(kind, lane), world.letters.sender()
    envelope = Envelope(body, key, type="forebay.job.v1", correlation_id=sender)
    world.broker.put(kind, lane, envelope)
    return True


@fault("store away")
async def _store_away(world: World, chance: Random) -> bool:
    world.note("the store is away")
    world.store_away = True
    await _for_a_while(world, chance, 4 * LEASE_S)
    world.store_away = False
    return True


@fault_of_a_process("process cut off from the store")
async def _partition(world: World, chance: Random, role: Role) -> None:
    world.note(f"{role.process.name} is cut off from the store")
    role.wire.cut = True
    await _for_a_while(world, chance, 4 * LEASE_S)
    role.wire.cut = False


@fault_of_a_process("worker cut off from the broker", Worker)
async def _deaf(world: World, chance: Random, role: Role) -> None:
    del chance
    world.cut_off(role.process)


@fault("store's clock jumps")
async def _jump(world: World, chance: Random) -> bool:
    world.clock_jump_s += chance.choice([-5.0, -0.5, 0.5, 5.0])
    world.note(f"the store's clock is {world.clock_jump_s} s off")
    return True


@fault("job canceled")
async def _cancel(world: World, chance: Random) -> bool:
    stoppable = {JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING, JobState.RUNNING}
    jobs = [job for job in world.store.all() if job.state in stoppable]
    if not jobs:
        return False
    job = chance.choice(jobs)
    world.note(f"{world.name_of(job.id)} is canceled")
    await world.store.cancel(job.tenant, job.id)
    return True


@fault("job retried by hand")
async def _replay(world: World, chance: Random) -> bool:
    jobs = [job for job in world.store.all() if job.done and job.generation < 4]
    if not jobs:
        return False
    job = chance.choice(jobs)
    world.note(f"{world.name_of(job.id)} is retried by hand")
    ingresses = world.running(Ingress)
    await replay(world.store, chance.choice([None, *ingresses]), job)
    return True
