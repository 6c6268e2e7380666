"""Bugs of the way to RabbitMQ and back."""

from __future__ import annotations

from tests.planted.bug import Bug, Edit
from tests.planted.finders import ALARMS, BROKER, FAKE_BROKER, FAULTS, ON_RABBITMQ

FAKE, ENVELOPE = "forebay/testing/broker.py", "forebay/broker/envelope.py"
CONNECTION, KEEPER, SENDER, SETTLING, SUBSCRIPTION, TOPOLOGY, WATCHDOG = (
    f"forebay/broker/{name}.py"
    for name in (
        "connection", "lane_keeper", "sender", "settling", "subscription", "topology", "watchdog",
    )
)  # fmt: skip

_PUBLISHING_BUGS = (
    Bug(
        "messages are published without `mandatory`",
        "I1",
        (
            Edit(
                SENDER,
                "envelope.routing_key, mandatory=True)",
                "envelope.routing_key, mandatory=False)",
            ),
        ),
        (ON_RABBITMQ,),
    ),
    Bug(
        "a returned message counts as published",
        "I1",
        (Edit(CONNECTION, "on_return_raises=confirms", "on_return_raises=False"),),
        (ON_RABBITMQ,),
    ),
    Bug(
        "messages are published without confirms",
        "I1",
        (
            Edit(
                CONNECTION,
                "publisher_confirms=confirms, on_return_raises=confirms",
                "publisher_confirms=False, on_return_raises=False",
            ),
        ),
        (ON_RABBITMQ,),
    ),
    Bug(
        "a refused message counts as published",
        "I1",
        (Edit(SENDER, "            return NotPublished.NACKED\n", "            return None\n"),),
        (ON_RABBITMQ,),
    ),
    Bug(
        "a full queue drops its oldest message",
        "I10",
        (Edit(TOPOLOGY, '"overflow": "reject-publish"', '"overflow": "drop-head"'),),
        (ON_RABBITMQ,),
    ),
    Bug(
        "a blocked connection is not noticed",
        "I7",
        (Edit(SENDER, "if await link.blocked():", "if False:"),),
        (ALARMS,),
    ),
    Bug(
        "a channel is used again after a publish that was given up",
        "I1",
        (
            Edit(
                SENDER,
                "        except TimeoutError:\n            route.retired.set()\n",
                "        except TimeoutError:\n",
            ),
            Edit(
                SENDER,
                "        except asyncio.CancelledError:\n            route.retired.set()\n",
                "        except asyncio.CancelledError:\n",
            ),
        ),
        (FAULTS,),
    ),
)

_CONSUMING_BUGS = (
    Bug(
        "messages are given out without a bound",
        "I7",
        (
            Edit(
                SUBSCRIPTION,
                "set_qos(prefetch_count=self.terms.prefetch)",
                "set_qos(prefetch_count=0)",
            ),
        ),
        (ON_RABBITMQ,),
    ),
    Bug(
        "a message can be settled twice",
        "I10",
        (Edit(SETTLING, "        if self._settled:\n", "        if False:\n"),),
        (ON_RABBITMQ,),
    ),
    Bug(
        "dead letters are dropped",
        "I10",
        (
            Edit(
                SETTLING,
                "(refused,) = await self._dead_letters.send(DEAD_EXCHANGE, [letter])",
                "refused = None",
            ),
        ),
        (ON_RABBITMQ,),
    ),
    Bug(
        "a dead letter does not say why",
        "I10",
        (Edit(ENVELOPE, '        "x-forebay-reason": reason.value,\n', ""),),
        (BROKER, FAKE_BROKER, ON_RABBITMQ),
    ),
    Bug(
        "the fake broker takes dead letters and forgets them",
        "I10",
        (Edit(FAKE, "        self._dead[kind].append(letter)\n", ""),),
        (FAKE_BROKER,),
    ),
    Bug(
        "a dead letter that was refused is gone",
        "I10",
        (Edit(SETTLING, "        if refused is None:\n", "        if True:\n"),),
        (ON_RABBITMQ,),
    ),
    Bug(
        "a message that kills its workers comes back without end",
        "I10",
        (Edit(TOPOLOGY, '                "delivery-limit": DELIVERY_LIMIT,\n', ""),),
        (BROKER,),
    ),
    Bug(
        "nobody looks whether a consumer is deaf",
        "I1",
        (Edit(KEEPER, "match await self._look(subscription):", "match Verdict.FINE:"),),
        (FAULTS,),
    ),
    Bug(
        "a deaf consumer is taken for an idle one",
        "I1",
        (Edit(WATCHDOG, "if look.at - self._since < self._timing.deaf_after_s:", "if True:"),),
        (BROKER, FAULTS),
    ),
    Bug(
        "a consumer that the broker canceled is not missed",
        "I1",
        (
            Edit(
                SUBSCRIPTION,
                ".on_consumer_cancel_callbacks.add(self._on_gone)",
                "",
            ),
        ),
        (FAULTS,),
    ),
)

BROKER_BUGS = (*_PUBLISHING_BUGS, *_CONSUMING_BUGS)
