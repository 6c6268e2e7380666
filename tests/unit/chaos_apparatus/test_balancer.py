from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

from forebay.testing.polling import until
from tests.chaos.balancer import balancing


@dataclass
class Ingress:
    """Ready or not, or it does not even say so."""

    status: int = 200
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def readyz(self, _: web.Request) -> web.Response:
        await self.answers.wait()
        return web.Response(status=self.status)

    def server(self) -> TestServer:
        self.answers.set()
        app = web.Application()
        app.router.add_get("/readyz", self.readyz)
        return TestServer(app)


async def test_one_that_does_not_answer_keeps_nobody_from_seeing_that_another_leaves():
    leaving, cold = Ingress(), Ingress()
    async with leaving.server() as one, cold.server() as other:
        urls = [str(server.make_url("")).rstrip("/") for server in (one, other)]
        async with balancing(urls) as balancer:

            async def both_are_ready() -> bool:
                return balancer.ready == set(urls)

            async def the_leaving_one_is_out() -> bool:
                return urls[0] not in balancer.ready

            await until(both_are_ready, 5)
            cold.answers.clear()
            leaving.status = 503
            # The other one still counts: its silence is given up only after a second.
            await until(the_leaving_one_is_out, 5)
            assert balancer.ready == {urls[1]}
