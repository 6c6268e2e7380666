from __future__ import annotations

from pathlib import Path

import pytest

from forebay.local.errors import LocalStackError
from forebay.local.servers import Origin, Servers, choose, servers

_URLS = {
    "FOREBAY_AMQP_URL": "amqp://u:canary@broker/",
    "FOREBAY_MONGODB_URL": "mongodb://u:canary@store/",
}


async def test_urls_come_first_and_that_is_said():
    origin, reason = await choose(_URLS)
    assert origin is Origin.URLS
    assert "because FOREBAY_AMQP_URL and FOREBAY_MONGODB_URL are set" in reason


@pytest.mark.parametrize("name", sorted(_URLS))
async def test_one_url_without_the_other_is_an_error_that_names_both(name: str):
    with pytest.raises(LocalStackError, match=r"is set and .* is not") as raised:
        await choose({name: _URLS[name]})
    assert all(one in str(raised.value) for one in _URLS)


@pytest.mark.parametrize("origin", list(Origin))
async def test_a_way_can_be_forced(origin: Origin):
    found, reason = await choose(_URLS | {"FOREBAY_SERVERS": origin.value})
    assert found is origin
    assert "as FOREBAY_SERVERS says" in reason


async def test_an_unknown_way_is_refused_with_the_three_there_are():
    with pytest.raises(LocalStackError, match="urls, docker or machine"):
        await choose({"FOREBAY_SERVERS": "podman"})


async def test_given_urls_are_taken_as_they_are(tmp_path: Path):
    lines: list[str] = []
    async with servers(tmp_path, environ=_URLS, speak=lines.append) as found:
        assert (found.amqp_url, found.mongodb_url) == tuple(_URLS.values())
        assert found.management_url == ""
        assert found.rabbitmq is None
    assert len(lines) == 1


async def test_forced_urls_that_are_missing_are_named_with_the_three_choices(tmp_path: Path):
    environ = {"FOREBAY_SERVERS": "urls"}
    with pytest.raises(LocalStackError, match=r"(?s)FOREBAY_AMQP_URL and .*Three ways"):
        async with servers(tmp_path, environ=environ, speak=lambda _: None):
            pytest.fail("there is no server")


def test_passwords_are_not_shown():
    found = Servers("amqp://u:canary@b/", "http://u:canary@b", "mongodb://u:canary@s/", Origin.URLS)
    assert "canary" not in repr(found)


async def test_docker_is_passed_over_where_no_daemon_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    origin, reason = await choose({})
    assert origin is Origin.MACHINE
    assert "because no Docker daemon answers" in reason


async def test_docker_that_is_asked_for_and_does_not_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(LocalStackError, match="Docker cannot be used: no Docker daemon answers"):
        async with servers(tmp_path, environ={"FOREBAY_SERVERS": "docker"}, speak=lambda _: None):
            pytest.fail("there is no daemon")
