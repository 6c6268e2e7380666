"""What is in the image, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deploy.image.containers import IMAGE, LOAD_IMAGE, VERSION, Boxes, need_image

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

MOST_MB = 400
"""With a base of 164 MB it has 352; a third SDK or a forgotten cache would pass this."""
INSTALLERS = ("pip", "pip3", "uv", "gcc", "cc", "make", "git", "curl", "wget")
LOOK = """
import importlib.util, json, os, pathlib, shutil, ssl
home = pathlib.Path("/opt/forebay")
code = [p for p in home.rglob("*.py")]
print(json.dumps({
    "id": [os.getuid(), os.getgid()],
    "top": sorted(p.name for p in home.iterdir()),
    "code": len(code),
    "uncompiled": [str(p) for p in code if not os.path.exists(importlib.util.cache_from_source(p))],
    "writable": [str(p) for p in home.rglob("*") if os.access(p, os.W_OK) and not p.is_symlink()],
    "modules": [m for m in ("pip", "ensurepip", "setuptools") if importlib.util.find_spec(m)],
    "commands": [c for c in %r if shutil.which(c)],
    "lists": os.listdir("/var/lib/apt/lists") if os.path.isdir("/var/lib/apt/lists") else [],
    "caches": [str(p) for p in pathlib.Path("/var/cache/apt").rglob("*.deb")],
    "authorities": ssl.create_default_context().cert_store_stats()["x509_ca"],
}))
""" % (INSTALLERS,)  # noqa: UP031 - braces are the program's own


@pytest.fixture
async def inside(boxes: Boxes) -> dict[str, Any]:
    """What a process in the image sees."""
    code, said = await boxes.run("python", "-c", LOOK)
    assert code == 0, said
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def test_it_is_small(image: Any, figures: list[str]) -> None:
    megabytes = image.attrs["Size"] / 1e6
    layers = len(image.attrs["RootFS"]["Layers"])
    figures.append(f"{IMAGE}: {megabytes:.0f} MB in {layers} layers")
    assert megabytes < MOST_MB


def test_the_layer_that_changes_with_the_code_is_the_small_one(image: Any) -> None:
    sizes = [layer["Size"] for layer in image.history() if layer["Size"]]
    code, packages = sizes[:2]
    assert code < 10e6 < packages


def test_it_says_what_it_is(image: Any) -> None:
    config = image.attrs["Config"]
    labels = config["Labels"]
    assert config["User"] == "10001:10001"
    assert not config["Entrypoint"]
    assert labels["org.opencontainers.image.title"] == "forebay"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


async def test_it_holds_our_code_and_nothing_that_builds(inside: dict[str, Any]) -> None:
    assert inside["id"] == [10001, 10001]
    assert inside["top"] == [".venv", "loadtest"]
    assert inside["modules"] == []
    assert inside["commands"] == []
    assert inside["lists"] == []
    assert inside["caches"] == []
    assert inside["authorities"] > 50


async def test_all_code_is_compiled_and_none_can_be_changed(inside: dict[str, Any]) -> None:
    assert inside["code"] > 2000
    assert inside["uncompiled"] == []
    assert inside["writable"] == []


async def test_the_command_line_is_there(boxes: Boxes) -> None:
    code, said = await boxes.run("forebay", "version")
    assert (code, said.strip()) == (0, VERSION)


@pytest.mark.parametrize("name", ["search_worker", "webhook_worker"])
async def test_a_setting_that_is_missing_is_one_sentence_and_exit_2(
    boxes: Boxes, name: str
) -> None:
    code, said = await boxes.run("python", "-m", name)
    assert code == 2
    assert f"{name}: FOREBAY_" in said
    assert "_URL is not set" in said
    assert "Traceback" not in said


async def test_the_image_for_load_has_locust_and_its_callers(
    boxes: Boxes, docker_client: Any
) -> None:
    need_image(docker_client, LOAD_IMAGE)
    code, said = await boxes.run(
        "locust", "-f", "loadtest/locustfile.py", "--list", image=LOAD_IMAGE
    )
    assert code == 0
    assert "Caller" in said


async def test_the_image_for_load_is_the_image_and_more(boxes: Boxes, docker_client: Any) -> None:
    need_image(docker_client, LOAD_IMAGE)
    code, said = await boxes.run("forebay", "version", image=LOAD_IMAGE)
    assert (code, said.strip()) == (0, VERSION)
