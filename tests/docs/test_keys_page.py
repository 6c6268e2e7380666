"""Every command of the page about keys does what it says, against an ingress that asks for keys."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import uuid
from string import Template

import aiohttp
import pytest

from forebay.keys import Token
from tests.docs.test_examples import ID, Reader, commands_of, understood
from tests.ingress_process import NOBODY, IngressProcess, environment, serving

PAGE = "docs/keys.md"
SECRET = re.compile(r"fb_[0-9a-f]{32}_[0-9a-f]{48}")


class KeyReader(Reader):
    """Types the commands too, and keeps the keys it is shown."""

    def __init__(self, ingress: IngressProcess, store: dict[str, str]) -> None:
        super().__init__(stack=None)  # type: ignore[arg-type]
        self._ingress = ingress
        self._env = environment(**store)
        self._keys = iter(("FOREBAY_API_KEY", "CHECKOUT_KEY"))
        self._held: dict[str, str] = {}

    def run(self, command: str) -> str:
        """What it prints; as a shell with the keys in its variables would run it."""
        command = command.replace("http://127.0.0.1:8080", self._ingress.url)
        command = ID.sub(lambda found: self.ids[found[0]], command)
        words = shlex.split(Template(command).safe_substitute(self._held))
        if words[0] == "forebay":
            words = [sys.executable, "-m", "forebay.cli", *words[1:]]
        done = subprocess.run(words, capture_output=True, check=True, timeout=40, env=self._env)
        said = done.stdout.decode()
        for token in SECRET.findall(said):
            self._held[next(self._keys)] = token
        return said


def without_secrets(text: str) -> str:
    return SECRET.sub("a key", text)


@pytest.mark.timeout(120)
async def test_every_command_about_keys_answers_as_its_page_shows(mongodb_url: str) -> None:
    store = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": f"page_{uuid.uuid4().hex[:8]}"}
    settings = {**store, "AMQP_URL": NOBODY, "INGRESS_AUTHENTICATION": "keys"}
    async with aiohttp.ClientSession() as session, serving(session, **settings) as ingress:
        reader = KeyReader(ingress, store)
        for command, shown in commands_of(PAGE):
            real = reader.run(command)
            if Token.read(shown.strip()) is not None:
                assert Token.read(real.strip()) is not None
                continue
            one, other = (understood(without_secrets(text)) for text in (shown, real))
            reader.compare(one, other, command)
