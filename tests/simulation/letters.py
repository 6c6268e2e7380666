"""The dead letters that somebody owes: who hears that a job is one must send a letter for it.

A letter is tried once (docs/guarantees.md): it may be lost with the process that owes it, on its
way, or at a broker that refuses it. What must not be is a process that lives, knows of a dead job
and sends nothing; or a letter for a job that did not end so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from forebay.broker.envelope import Envelope

from .virtual_loop import SimProcess

Letter = tuple[str, int]
"""Of a job in one generation."""


class Letters:
    """Who owes which."""

    def __init__(self) -> None:
        self.due: dict[Letter, None] = {}
        """Of every job that ever ended as a dead letter."""
        self.sent = 0
        self._foreign: dict[str, None] = {}
        """Messages that nobody can work on, by their correlation ids; each must be buried."""
        self._senders = (f"foreign {n}" for n in itertools.count(1))
        self._owed: dict[Letter, SimProcess] = {}

    def owe(self, letter: Letter, process: SimProcess) -> None:
        """A process heard that the job is a dead letter."""
        self._owed[letter] = process

    def send(self, letters: Iterable[Letter]) -> None:
        """They are on their way; what becomes of them there is the broker's, or a fault's."""
        for letter in letters:
            self.sent += 1
            self._owed.pop(letter, None)

    def owed(self) -> dict[Letter, SimProcess]:
        """What processes that live still have to send."""
        return {letter: owing for letter, owing in self._owed.items() if owing.up}

    def sender(self) -> str:
        """The correlation id of a foreign message to come, by which it is known again."""
        sender = next(self._senders)
        self._foreign[sender] = None
        return sender

    def purged(self) -> None:
        """What is in the queues is gone, foreign or not."""
        self._foreign.clear()

    def unburied(self, buried: Iterable[Envelope]) -> list[str]:
        """The foreign messages that are in no dead queue."""
        there = {letter.correlation_id for letter in buried}
        return [sender for sender in self._foreign if sender not in there]
